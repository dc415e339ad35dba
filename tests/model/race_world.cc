#include "model/race_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>  // NOLINT
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "model/directory.h"
#include "store/blob_path.h"
#include "support/store_fixture.h"
#include "vfs/root_directory.h"
#include "vfs/sandbox.h"
#include "vfs/shown.h"

#ifndef CASEMENT_MUTEX_IS_STEPPED
#error "the model must be compiled with tests/model/stepped first in its path"
#endif

namespace casement {
namespace {

// Sizes that take no block, a part of one, and several.
constexpr size_t kSizes[] = {5000, 100, 20000, 4096};

void CloseDirectory(DIR* directory) { closedir(directory); }

std::string StoreFolder(bool is_on_disk) {
  const bool has_memory = std::filesystem::is_directory("/dev/shm");
  return is_on_disk || !has_memory ? std::filesystem::temp_directory_path()
                                   : "/dev/shm";
}

// Of all files below `path`, by name.
void AddAllocated(const std::string& path,
                  std::map<std::string, int64_t>& bytes) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return;
  bytes[path] = status.st_blocks * 512;
  if (!S_ISDIR(status.st_mode)) return;
  const std::unique_ptr<DIR, void (*)(DIR*)> directory(opendir(path.c_str()),
                                                       CloseDirectory);
  while (const dirent* entry = readdir(directory.get())) {
    const absl::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    AddAllocated(absl::StrCat(path, "/", name), bytes);
  }
}

}  // namespace

RaceWorld::RaceWorld(Options options)
    : options_(std::move(options)),
      folder_(StoreFolder(options_.is_on_disk)),
      kernel_(options_.data_path) {
  for (int i = 0; i < options_.blobs; ++i) {
    bytes_.push_back(BytesOf(i + 1, kSizes[i % std::size(kSizes)]));
    digests_.push_back(Digest::Of(bytes_.back()));
  }
  OpenStore(int64_t{1} << 30);
  for (int i = 0; i < options_.blobs; ++i) {
    CASEMENT_CHECK(store_->Put(digests_[i], bytes_[i]).ok());
  }
  if (options_.has_tree) {
    DirectoryBuilder root;
    for (int i = 0; i < options_.blobs; ++i) {
      root.AddFile(absl::StrCat("f", i), digests_[i], i % 2 == 1);
    }
    const std::string message = root.Build();
    root_digest_ = Digest::Of(message);
    CASEMENT_CHECK(store_->Put(root_digest_, message).ok());
  }
  if (options_.spare_bytes > 0) {
    const int64_t total = store_->ledger().Total();
    store_.reset();
    OpenStore(total + options_.spare_bytes);
  }
  Build();
  disk_.FailIf(options_.fail);
}

RaceWorld::~RaceWorld() {
  disk_.FailIf(nullptr);
  // As Daemon does.
  sandboxes_->ReleaseAll();
  store_->SetListener({});
  views_->Stop();
  nodes_.Clear();
  vfs_.reset();
  sandboxes_.reset();
  views_.reset();
  directories_.reset();
  disk_.Die();  // Nobody needs the index.
  store_.reset();
}

void RaceWorld::OpenStore(int64_t capacity_bytes) {
  auto store = BlobStore::Open(disk_, clock_,
                               {.directory = folder_.path(),
                                .capacity_bytes = capacity_bytes,
                                .open_blobs_max = 2,
                                .zombie_grace = absl::Milliseconds(1),
                                .log =
                                    [this](absl::string_view line) {
                                      EXPECT_TRUE(MayFail() || disk_.is_dead())
                                          << "logged: " << line;
                                    },
                                .boot_id = "this boot"});
  CASEMENT_CHECK(store.ok());
  store_ = *std::move(store);
}

// As Daemon::BuildFileSystem().
void RaceWorld::Build() {
  directories_ =
      std::make_unique<DirectoryTable>(*store_, DirectoryTable::Options{});
  views_ = std::make_shared<Views>(ViewContext{.store = *store_,
                                               .directories = *directories_,
                                               .nodes = nodes_,
                                               .notifier = kernel_,
                                               .data_path = options_.data_path,
                                               .uid = geteuid(),
                                               .gid = getegid(),
                                               .started = {}});
  views_->Start();
  const auto fixed = [](InodeId id) {
    return Attributes{.number = id, .mode = S_IFDIR | 0555, .links = 2};
  };
  // Few, so that files are closed and opened again.
  scratch_files_ = std::make_unique<ScratchFiles>(*store_, /*open_max=*/1);
  sandboxes_ = std::make_shared<SandboxDirectory>(
      SandboxContext{.store = *store_,
                     .scratch_files = *scratch_files_,
                     .directories = *directories_,
                     .nodes = nodes_,
                     .notifier = kernel_,
                     .clock = clock_,
                     .data_path = options_.data_path},
      SandboxDirectory::Options{.path = "/no mount here/sandbox",
                                .attributes = fixed(kSandboxesId)});
  sandboxes_->Start();
  std::make_shared<RootDirectory>(
      fixed(kRootId), *store_, nodes_,
      std::vector<std::pair<std::string, InodeId>>{
          {"cas", kCasId}, {"sandbox", kSandboxesId}, {"tree", kTreeId}})
      ->Start();
  vfs_ = std::make_unique<FileSystem>(nodes_);
  kernel_.Mount(*vfs_);
  store_->SetListener(
      {.published =
           [this](const Digest& digest) { views_->OnPublished(digest); },
       .evicted = [this](const Digest& digest) { views_->OnEvicted(digest); },
       .give_up_idle_leases =
           [this](uint64_t used_before) {
             return directories_->GiveUpIdleLeases(used_before);
           }});
}

void RaceWorld::Run(
    std::vector<std::pair<std::string, std::function<void()>>> tasks,
    Scheduler::Chooser choose) {
  Scheduler scheduler(
      std::move(choose), [this] { Look(); }, options_.is_fine);
  for (auto& [name, body] : tasks) scheduler.Add(name, std::move(body));
  scheduler.Add("notifier", [this] { kernel_.Serve(); });
  scheduler.Run(/*servers=*/1, [this] {
    sandboxes_->DropStashes();
    kernel_.Stop();
  });
  history_ = scheduler.History();
  steps_ = scheduler.steps();
  CheckEnd();
}

// Looking.

void RaceWorld::Look() {
  LookAt([this] { store_->CheckInvariants(); });
  LookAt([this] { directories_->CheckInvariants(); });
  LookAt([this] { views_->CheckInvariants(); });
  for (const auto& [name, sandbox] : live_) {
    const std::shared_ptr<Area> area = sandbox.lock();
    if (area == nullptr) continue;
    LookAt([&] { dynamic_cast<const Sandbox&>(*area).CheckInvariants(); });
  }
  LookAtBytes();
  LookAtAccount();
  EXPECT_TRUE(store_->GetStats().damaged == 0 || MayFail());
}

// What is guarded by a lock that a task holds is looked at after a later step.
void RaceWorld::LookAt(const std::function<void()>& check) {
  try {
    check();
  } catch (const Scheduler::Busy&) {
  }
}

// G4: at every step, for who has the file itself.
void RaceWorld::LookAtBytes() {
  for (const Held* held : held_) {
    const std::string& bytes = bytes_[held->blob];
    if (held->map != nullptr) {
      EXPECT_EQ(absl::string_view(held->map, bytes.size()), bytes);
    }
    if (held->file.passthrough == nullptr) continue;
    std::string read(bytes.size() + 1, '\0');
    const ssize_t count =
        pread(held->file.passthrough->fd(), read.data(), read.size(), 0);
    EXPECT_EQ(count, static_cast<ssize_t>(bytes.size()));
    read.resize(bytes.size());
    EXPECT_EQ(read, bytes);
  }
}

// G3. The walk is what takes the most time: only when there can be more than
// there was, or when it matters.
void RaceWorld::LookAtAccount() {
  const int64_t accounted = store_->ledger().Total();
  if (disk_.HasGrown() || writers_ > 0 || accounted < allocated_bytes_) {
    allocated_bytes_ = Allocated();
  }
  if (accounted >= allocated_bytes_) return;
  std::string files;
  for (const auto& [name, bytes] : AllocatedByFile()) {
    absl::StrAppend(&files, "  ", bytes, " ", name, "\n");
  }
  Ledger& ledger = store_->ledger();
  ADD_FAILURE() << "G3: accounted are " << accounted << ": "
                << ledger.Get(Owner::kBlobs) << " of blobs, "
                << ledger.Get(Owner::kZombies) << " of zombies, "
                << ledger.Get(Owner::kUploads) << " of uploads, "
                << ledger.Get(Owner::kScratch) << " of scratch; allocated "
                << allocated_bytes_ << ":\n"
                << files;
}

int64_t RaceWorld::Allocated() const {
  int64_t sum = 0;
  for (const auto& [name, bytes] : AllocatedByFile()) sum += bytes;
  return sum;
}

// What has no name any more is called after its number.
std::map<std::string, int64_t> RaceWorld::AllocatedByFile() const {
  std::map<std::string, int64_t> bytes;
  AddAllocated(folder_.path(), bytes);
  struct stat store {};
  CASEMENT_CHECK(stat(folder_.path().c_str(), &store) == 0);
  const std::unique_ptr<DIR, void (*)(DIR*)> fds(opendir("/proc/self/fd"),
                                                 CloseDirectory);
  while (const dirent* entry = readdir(fds.get())) {
    struct stat status {};
    if (fstat(atoi(entry->d_name), &status) != 0) continue;  // NOLINT
    if (!S_ISREG(status.st_mode) || status.st_dev != store.st_dev) continue;
    if (status.st_nlink > 0) continue;
    bytes[absl::StrCat("inode ", status.st_ino)] = status.st_blocks * 512;
  }
  return bytes;
}

// All tasks have closed what they opened and released what they made.
void RaceWorld::CheckEnd() {
  disk_.FailIf(nullptr);
  CASEMENT_CHECK(held_.empty());
  // G2: the kernel was told of what was evicted, and has forgotten it.
  EXPECT_EQ(store_->ledger().Get(Owner::kZombies), 0) << "G2";
  EXPECT_EQ(store_->GetStats().zombies, 0) << "G2";
  EXPECT_EQ(store_->ledger().Get(Owner::kUploads), 0);
  EXPECT_EQ(store_->ledger().Get(Owner::kScratch), 0);
  CheckFiles();
  kernel_.Shrink();
  // G12: nothing is leased any more but what is idle.
  directories_->GiveUpAllIdleLeases();
  EXPECT_EQ(store_->GetStats().leased_blobs, 0) << "G12";
  store_->EvictUnleased();
  EXPECT_EQ(kernel_.nodes(), 0u);
  EXPECT_EQ(nodes_.size(), 4) << "the fixed directories";
  EXPECT_EQ(store_->ledger().Get(Owner::kBlobs), 0) << "G2";
  EXPECT_EQ(store_->ledger().Get(Owner::kZombies), 0) << "G2";
  CheckFiles();
  Look();
  if (MayFail() || !options_.is_synced) return;
  ASSERT_TRUE(store_->Sync().ok());
  EXPECT_EQ(store_->ledger().Total(), Allocated()) << "G1";
}

// Exactly the resident blobs are on disk, with their bytes.
void RaceWorld::CheckFiles() {
  std::set<std::string> resident;
  for (const BlobStore::Listed& listed : store_->List(0, 1000)) {
    resident.insert(listed.digest.ToString());
  }
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder_.path() + "/cas")) {
    if (entry.is_directory()) continue;
    const std::string name = entry.path().filename();
    EXPECT_EQ(resident.erase(name), 1u) << "an orphan: " << name;
    std::string bytes(std::filesystem::file_size(entry.path()), '\0');
    std::ifstream(entry.path()).read(bytes.data(), bytes.size());
    EXPECT_EQ(Digest::Of(bytes).ToString(), name) << "G9";
    struct stat status {};
    ASSERT_EQ(stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0444u) << "G6";
  }
  EXPECT_EQ(resident.size(), 0u) << "no file: " << *resident.begin();
}

// Acting.

std::string RaceWorld::CasPath(int blob, bool is_executable) const {
  return absl::StrCat("cas/", digests_[blob].ToString(),
                      is_executable ? ".exec" : "");
}
std::string RaceWorld::TreePath(int blob) const {
  return absl::StrCat("tree/", root_digest_.ToString(), "/f", blob);
}
std::string RaceWorld::SandboxPath(const std::string& name, int blob) const {
  return absl::StrCat("sandbox/", name, "/f", blob);
}

// Full of what is in use, or of a disk that fails.
void RaceWorld::ExpectPut(const absl::Status& put) {
  if (put.ok() || MayFail()) return;
  EXPECT_EQ(ErrnoOf(put), ENOSPC) << put;
  EXPECT_GT(options_.spare_bytes, 0) << put;
}

void RaceWorld::Put(int blob) {
  ExpectPut(store_->Put(digests_[blob], bytes_[blob]));
}

void RaceWorld::UploadTwice(int blob) {
  const absl::string_view bytes = bytes_[blob];
  for (const bool is_whole : {false, true}) {
    auto upload = store_->StartUpload(digests_[blob]);
    if (!upload.ok()) return ExpectPut(upload.status());
    absl::Status written = (*upload)->Write(bytes.substr(0, 50));
    if (is_whole) {
      if (written.ok()) written = (*upload)->Write(bytes.substr(50));
      if (written.ok()) written = (*upload)->Commit();
    }
    if (!written.ok()) return ExpectPut(written);
  }
}

void RaceWorld::Evict(int blob) {
  const absl::Status evicted = store_->Evict(digests_[blob]);
  if (MayFail()) return;
  EXPECT_TRUE(evicted.ok() || absl::IsNotFound(evicted) ||
              absl::IsFailedPrecondition(evicted))
      << evicted;
}

void RaceWorld::EvictUnleased() { store_->EvictUnleased(); }

void RaceWorld::Stat(const std::string& path) {
  const absl::Status found = kernel_.Stat(path);
  EXPECT_TRUE(found.ok() || ErrnoOf(found) == ENOENT || MayFail()) << found;
}

void RaceWorld::InterruptedStat(const std::string& path) {
  kernel_.InterruptedStat(path);
}

void RaceWorld::Sync() {
  const absl::Status synced = store_->Sync();
  EXPECT_TRUE(synced.ok() || MayFail()) << synced;
}

RaceWorld::HeldPtr RaceWorld::Open(const std::string& path, int blob,
                                   bool must_be_there) {
  absl::StatusOr<FakeKernel::File> file = kernel_.Open(path, O_RDONLY);
  if (!file.ok()) {
    const bool is_missing = ErrnoOf(file.status()) == ENOENT;
    EXPECT_TRUE((is_missing && !must_be_there) || MayFail())
        << path << ": " << file.status();
    return nullptr;
  }
  auto held = std::make_shared<Held>();
  held->file = *std::move(file);
  held->blob = blob;
  held_.push_back(held.get());
  Read(held);
  return held;
}

void RaceWorld::Map(const HeldPtr& held) {
  if (held == nullptr || held->file.passthrough == nullptr) return;
  void* const map = mmap(nullptr, bytes_[held->blob].size(), PROT_READ,
                         MAP_SHARED, held->file.passthrough->fd(), 0);
  CASEMENT_CHECK(map != MAP_FAILED);
  held->map = static_cast<const char*>(map);
}

void RaceWorld::Read(const HeldPtr& held) {
  if (held != nullptr) ExpectBytes(kernel_.Read(held->file), held->blob);
}

void RaceWorld::ExpectBytes(const absl::StatusOr<std::string>& read, int blob) {
  if (!read.ok()) {
    EXPECT_TRUE(MayFail()) << "G4: " << read.status();
    return;
  }
  EXPECT_TRUE(*read == bytes_[blob]) << "G4: other bytes";
}

void RaceWorld::Close(HeldPtr held) {
  if (held == nullptr) return;
  Read(held);
  if (held->map != nullptr) {
    munmap(const_cast<char*>(held->map),  // NOLINT: for munmap(2).
           bytes_[held->blob].size());
  }
  held_.remove(held.get());
  kernel_.Close(std::move(held->file));
}

Lease RaceWorld::LeaseBlob(int blob) {
  absl::StatusOr<Lease> lease = store_->LeaseBlob(digests_[blob]);
  if (!lease.ok()) return Lease();
  CheckLeased(blob);
  return *std::move(lease);
}

// G4, G11: whatever is evicted or stored again.
void RaceWorld::CheckLeased(int blob) {
  EXPECT_TRUE(store_->Contains(digests_[blob]));
  const auto blob_file = store_->OpenDigest(digests_[blob]);
  EXPECT_TRUE(blob_file.ok() || MayFail()) << blob_file.status();
}

std::string RaceWorld::CreateSandbox(InputsPolicy inputs, bool may_reuse) {
  const absl::StatusOr<SandboxInfo> info =
      sandboxes_->Create({.root = root_digest_, .inputs = inputs}, may_reuse);
  if (!info.ok()) {
    EXPECT_TRUE(absl::IsFailedPrecondition(info.status()) || MayFail() ||
                options_.spare_bytes > 0)
        << info.status();
    return "";
  }
  // For its invariants.
  const absl::StatusOr<Entry> entry = vfs_->Lookup(kSandboxesId, info->name);
  CASEMENT_CHECK(entry.ok() && entry->id != 0);
  live_[info->name] = nodes_.Find(entry->id)->area;
  vfs_->Forget(entry->id, 1);
  return info->name;
}

void RaceWorld::WriteInSandbox(const std::string& name, int blob) {
  ++writers_;  // Not through Disk.
  auto file = kernel_.Open(SandboxPath(name, blob), O_WRONLY);
  if (!file.ok()) {
    EXPECT_TRUE(MayFail() || options_.spare_bytes > 0) << file.status();
    --writers_;
    return;
  }
  // The same bytes, so that readers need not know of it.
  const absl::Status written = kernel_.Write(*file, bytes_[blob]);
  EXPECT_TRUE(written.ok() || MayFail() || options_.spare_bytes > 0) << written;
  kernel_.Close(*std::move(file));
  --writers_;
}

void RaceWorld::CollectFromSandbox(const std::string& name, int blob) {
  const std::string path = absl::StrCat("f", blob);
  const auto collected = sandboxes_->Collect(name, {path}, /*force=*/true,
                                             /*stored=*/nullptr);
  if (!collected.ok()) {
    EXPECT_TRUE(MayFail() || options_.spare_bytes > 0) << collected.status();
    return;
  }
  ASSERT_EQ(collected->outputs.size(), 1u);
  EXPECT_EQ(collected->outputs[0].digest, digests_[blob]);
}

void RaceWorld::ReleaseSandbox(const std::string& name, bool stash) {
  const absl::Status released = sandboxes_->Release(name, stash);
  EXPECT_TRUE(released.ok()) << released;
}

}  // namespace casement
