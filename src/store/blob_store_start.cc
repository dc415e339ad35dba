// How a BlobStore starts from what is on disk, stays recoverable, and closes.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/parallel.h"
#include "base/side_thread.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "store/blob_path.h"
#include "store/blob_store.h"
#include "store/index.h"
#include "store/scan.h"

namespace casement {
namespace {

// Where O_PATH suffices, as for the starting points of *at() calls.
constexpr int kDirectoryFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW;

constexpr size_t kOpenBlobsMax = 4096;
// The daemon wants descriptors for other things too.
constexpr size_t kDescriptorsDivisor = 4;

// A directory changed so short before its stamp was taken may change again
// without its time changing: kernels before 6.13 take the time from a clock
// that ticks 100 times a second.
constexpr int64_t kStampAgeNsMin = 2'000'000'000;

// Entries copied for the index before others get the lock.
constexpr size_t kIndexSlotsAtOnce = 1024;

// How far ahead of the entry that is added its successors' memory is fetched.
constexpr size_t kPrefetchedEntries = 16;

std::string ReadBootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

size_t DefaultOpenBlobsMax() {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return std::min<size_t>(kOpenBlobsMax, limit.rlim_cur / kDescriptorsDivisor);
}

void LogToStandardError(absl::string_view line) {
  std::fprintf(stderr, "casement: %.*s\n", static_cast<int>(line.size()),
               line.data());
}

}  // namespace

BlobStore::BlobStore(Disk& disk, const Clock& clock, Options options)
    : disk_(disk), clock_(clock), options_(std::move(options)) {
  if (options_.open_blobs_max == 0) {
    options_.open_blobs_max = DefaultOpenBlobsMax();
  }
  if (options_.log == nullptr) options_.log = LogToStandardError;
  if (options_.boot_id.empty()) options_.boot_id = ReadBootId();
}

BlobStore::~BlobStore() {
  CloseRecent();
  if (!is_started_ || is_read_only_) return;
  const absl::Status synced = SyncAndWriteIndex(/*is_closing=*/true);
  if (!synced.ok()) {
    options_.log(absl::StrCat("closing the store: ", synced.message()));
  }
}

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(Disk& disk,
                                                           const Clock& clock,
                                                           Options options) {
  const std::string directory = options.directory;
  std::unique_ptr<BlobStore> store(
      new BlobStore(disk, clock, std::move(options)));
  const absl::Status started = store->Start();
  if (!started.ok()) return Annotate(started, "store ", directory);
  return store;
}

absl::Status BlobStore::Start() {
  ASSIGN_OR_RETURN(directory_, disk_.Open(AT_FDCWD, options_.directory,
                                          O_RDONLY | O_DIRECTORY, 0));
  RETURN_IF_ERROR(LockDirectory());
  ASSIGN_OR_RETURN(block_bytes_, disk_.BlockBytes(directory_.get()));
  RETURN_IF_ERROR(MakeParts());
  RETURN_IF_ERROR(ClearScratch());
  UniqueFd empty(memfd_create("casement-empty-blob", MFD_CLOEXEC));
  if (!empty.valid()) return ErrnoStatus(errno, "memfd_create");
  empty_.reset(new OpenBlob(nullptr, UINT32_MAX, Digest(), std::move(empty)));
  RETURN_IF_ERROR(LoadBlobs());
  is_started_ = true;
  if (is_read_only_) return absl::OkStatus();
  const int64_t excess = ledger_.Total() - options_.capacity_bytes;
  if (excess > 0) FreeOnDisk(excess);
  // So that a power loss finds an index of this boot.
  MutexLock sync_lock(sync_mu_);
  last_sync_ = clock_.Now();
  const absl::Status synced =
      needs_index_ ? SyncLocked(/*is_closing=*/false) : absl::OkStatus();
  // A full disk must not keep a store from reading.
  if (!synced.ok()) options_.log(synced.message());
  return absl::OkStatus();
}

absl::Status BlobStore::LockDirectory() {
  absl::StatusOr<UniqueFd> file =
      disk_.Open(directory_.get(), "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  if (ErrnoOf(file.status()) == EROFS) {
    is_read_only_ = true;
    file = disk_.Open(directory_.get(), "lock", kBlobOpenFlags, 0);
    // Nobody can write to it, so that nobody can be in the way either.
    if (ErrnoOf(file.status()) == ENOENT) return absl::OkStatus();
  }
  if (!file.ok()) return file.status();
  const absl::Status locked =
      disk_.Lock(file->get(), (is_read_only_ ? LOCK_SH : LOCK_EX) | LOCK_NB);
  if (ErrnoOf(locked) == EWOULDBLOCK) {
    char pid[32] = {};
    absl::StatusOr<size_t> count =
        disk_.Read(file->get(), absl::MakeSpan(pid, sizeof(pid) - 1), 0);
    return absl::FailedPreconditionError(
        absl::StrCat("in use by another casementd (pid ",
                     count.ok() && *count > 0 ? pid : "unknown", ")"));
  }
  RETURN_IF_ERROR(locked);
  lock_ = *std::move(file);
  if (is_read_only_) return absl::OkStatus();
  // Only for the message above; a full disk must not keep a store from reading.
  disk_.Truncate(lock_.get(), 0).IgnoreError();
  disk_.Write(lock_.get(), absl::StrCat(getpid()), 0).status().IgnoreError();
  return absl::OkStatus();
}

absl::Status BlobStore::MakeParts() {
  for (const char* part : {"cas", kScratchName}) {
    if (is_read_only_) break;
    const absl::Status made = disk_.MakeDirectory(directory_.get(), part, 0700);
    if (!made.ok() && ErrnoOf(made) != EEXIST) return made;
  }
  absl::StatusOr<UniqueFd> cas =
      disk_.Open(directory_.get(), "cas", kDirectoryFlags, 0);
  // A read-only medium without any blobs is an empty store.
  if (is_read_only_ && ErrnoOf(cas.status()) == ENOENT) return absl::OkStatus();
  if (!cas.ok()) return cas.status();
  cas_ = *std::move(cas);
  SpreadShards();
  return absl::OkStatus();
}

// See StartUpload().
void BlobStore::SpreadShards() {
  if (is_read_only_) return;
  const absl::StatusOr<UniqueFd> cas =
      disk_.Open(cas_.get(), ".", O_RDONLY | O_DIRECTORY, 0);
  if (cas.ok()) disk_.SpreadDirectories(cas->get()).IgnoreError();
}

// Scratch files have no names as a rule (O_TMPFILE).
absl::Status BlobStore::ClearScratch() {
  if (is_read_only_) return absl::OkStatus();
  disk_.Unlink(directory_.get(), kNewIndexName).IgnoreError();
  std::vector<std::string> names;
  RETURN_IF_ERROR(disk_.ReadDirectory(
      directory_.get(), kScratchName,
      [&](absl::string_view name, unsigned char) {
        names.push_back(absl::StrCat(kScratchName, "/", name));
      }));
  for (const std::string& name : names) {
    const absl::Status unlinked = disk_.Unlink(directory_.get(), name);
    if (!unlinked.ok()) options_.log(unlinked.message());
  }
  return absl::OkStatus();
}

// The store's own files, and what lies beside them. The shards account for
// themselves.
absl::Status BlobStore::AccountParts() {
  const auto account = [this](const std::string& path) -> int64_t {
    const absl::StatusOr<struct stat> attributes =
        disk_.StatPath(directory_.get(), path);
    if (!attributes.ok()) return 0;
    ledger_.Add(Owner::kIndex, int64_t{attributes->st_blocks} * 512);
    return int64_t{attributes->st_blocks} * 512;
  };
  account(".");
  std::vector<std::string> names;
  const auto keep = [&](absl::string_view name, unsigned char) {
    names.emplace_back(name);
  };
  RETURN_IF_ERROR(disk_.ReadDirectory(directory_.get(), ".", keep));
  for (const std::string& name : names) {
    const int64_t bytes = account(name);
    MutexLock sync_lock(sync_mu_);
    if (name == kIndexName) index_bytes_ = bytes;
    if (name == kNewIndexName) new_index_bytes_ = bytes;
    MutexLock scratch_lock(scratch_mu_);
    if (name == kScratchName) scratch_directory_bytes_ = bytes;
  }
  if (!cas_.valid()) return absl::OkStatus();
  names.clear();
  RETURN_IF_ERROR(disk_.ReadDirectory(directory_.get(), "cas", keep));
  for (const std::string& name : names) {
    if (IsShardName(name)) continue;
    account(absl::StrCat("cas/", name));
    options_.log(absl::StrCat("left alone cas/", name, ": it is no shard"));
  }
  return absl::OkStatus();
}

absl::Status BlobStore::LoadBlobs() {
  RETURN_IF_ERROR(AccountParts());
  if (!cas_.valid()) return absl::OkStatus();
  std::array<bool, kShardCount> is_trusted = {};
  bool may_be_torn = true;
  const absl::Status loaded = LoadIndex(is_trusted, may_be_torn);
  if (!loaded.ok()) {
    if (ErrnoOf(loaded) != ENOENT) {
      options_.log(absl::StrCat("the index is of no use: ", loaded.message()));
    }
    is_trusted.fill(false);
    may_be_torn = true;
    MutexLock lock(mu_);
    for (size_t i = 0; i < slots_.size(); ++i) {
      slots_.at(i).is_confirmed = false;
    }
  }
  needs_index_ = may_be_torn;
  return ScanShards(is_trusted, may_be_torn);
}

absl::Status BlobStore::LoadIndex(std::array<bool, kShardCount>& is_trusted,
                                  bool& may_be_torn) {
  ASSIGN_OR_RETURN(IndexReader reader,
                   IndexReader::Open(disk_, directory_.get()));
  const IndexHeader& header = reader.header();
  may_be_torn = header.boot_id != options_.boot_id;
  for (size_t number = 0; number < kShardCount; ++number) {
    const ShardStamp& stamp = header.shards[number];
    const absl::StatusOr<struct stat> attributes =
        disk_.StatPath(cas_.get(), ShardName(number));
    is_trusted[number] = attributes.ok() && S_ISDIR(attributes->st_mode) &&
                         stamp.modified_ns == ModifiedNs(*attributes) &&
                         stamp.changed_ns == ChangedNs(*attributes) &&
                         (stamp.is_durable != 0 || !may_be_torn);
    MutexLock shard_lock(shards_[number].mu);
    if (is_trusted[number]) {
      shards_[number].foreign_bytes = stamp.foreign_bytes;
    }
  }
  {
    MutexLock lock(mu_);
    slots_.Reserve(header.entries);
  }
  // The next block is read and checked while one is added.
  absl::StatusOr<std::vector<IndexEntry>> entries = reader.Next();
  SideThread reading;
  for (;;) {
    RETURN_IF_ERROR(entries.status());
    if (entries->empty()) return absl::OkStatus();
    absl::StatusOr<std::vector<IndexEntry>> next;
    reading.Run([&] { next = reader.Next(); });
    AddIndexed(*entries, is_trusted);
    reading.Wait();
    entries = std::move(next);
  }
}

void BlobStore::AddIndexed(const std::vector<IndexEntry>& entries,
                           const std::array<bool, kShardCount>& is_trusted) {
  int64_t allocated_bytes = 0;
  MutexLock lock(mu_);
  for (size_t i = 0; i < entries.size(); ++i) {
    const IndexEntry& entry = entries[i];
    // Most of the time goes to memory that no cache has.
    const size_t ahead = std::min(i + kPrefetchedEntries, entries.size() - 1);
    slots_.Prefetch(entries[ahead].digest);
    Slot* const slot = slots_.TryInsert(entry.digest, NextTick());
    if (slot == nullptr) continue;
    slot->changed_ns = entry.changed_ns;
    slot->is_durable = entry.changed_ns != 0;
    slot->is_confirmed = is_trusted[ShardOf(entry.digest)];
    slots_.SetAllocated(*slot, entry.allocated_bytes);
    allocated_bytes += entry.allocated_bytes;
    if (!slot->is_durable) fresh_.push_back(slots_.IdOf(*slot));
  }
  ledger_.Add(Owner::kBlobs, allocated_bytes);
}

// With a few threads: after a power loss there may be much to hash.
absl::Status BlobStore::ScanShards(
    const std::array<bool, kShardCount>& is_trusted, bool may_be_torn) {
  ScanOptions options;
  options.log = options_.log;
  options.may_be_torn = [this, may_be_torn](const FoundBlob& found) {
    if (!may_be_torn) return false;
    MutexLock lock(mu_);
    const Slot* const slot = slots_.Find(found.digest);
    return slot == nullptr || !slot->is_durable ||
           slot->changed_ns != found.changed_ns;
  };
  Mutex added_mu;
  std::vector<FoundBlob> added;
  RETURN_IF_ERROR(ParallelFor(kShardCount, CoreCount(), [&](size_t shard) {
    if (is_trusted[shard]) return absl::OkStatus();
    ASSIGN_OR_RETURN(const ShardScan found,
                     ScanShard(disk_, cas_.get(), shard, options));
    MutexLock lock(added_mu);
    TakeScan(found, shard, added);
    return absl::OkStatus();
  }));
  AddFound(added);
  DropUnconfirmed();
  AccountShards();
  return absl::OkStatus();
}

void BlobStore::TakeScan(const ShardScan& scan, size_t shard,
                         std::vector<FoundBlob>& added) {
  damaged_.fetch_add(static_cast<int64_t>(scan.torn.size()));
  {
    MutexLock shard_lock(shards_[shard].mu);
    shards_[shard].foreign_bytes = scan.foreign_bytes;
  }
  MutexLock lock(mu_);
  is_changed_ = true;
  for (const FoundBlob& found : scan.blobs) {
    Slot* const slot = slots_.Find(found.digest);
    if (slot == nullptr || slot->is_confirmed) {
      if (slot == nullptr) added.push_back(found);
      continue;
    }
    slot->is_confirmed = true;
    if (slot->changed_ns != found.changed_ns) {
      if (slot->is_durable) fresh_.push_back(slots_.IdOf(*slot));
      slot->is_durable = false;
      slot->changed_ns = found.changed_ns;
    }
    SetAllocatedLocked(*slot, AllocatedAtStart(found, slot->is_durable));
  }
}

int64_t BlobStore::AllocatedAtStart(const FoundBlob& found,
                                    bool is_final) const {
  if (is_final) return found.allocated_bytes;
  return std::max(found.allocated_bytes,
                  EstimateBytes(found.digest.size_bytes()));
}

// Later publications than those in the index, in their order.
void BlobStore::AddFound(std::vector<FoundBlob>& added) {
  std::sort(added.begin(), added.end(),
            [](const FoundBlob& a, const FoundBlob& b) {
              return a.changed_ns < b.changed_ns;
            });
  MutexLock lock(mu_);
  for (const FoundBlob& found : added) {
    Slot& slot = slots_.Insert(found.digest, NextTick());
    slot.changed_ns = found.changed_ns;
    slot.is_confirmed = true;
    SetAllocatedLocked(slot, AllocatedAtStart(found, /*is_final=*/false));
    fresh_.push_back(slots_.IdOf(slot));
  }
}

// What the index knew and the scan did not find.
void BlobStore::DropUnconfirmed() {
  MutexLock lock(mu_);
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_.at(i);
    if (slot.state != Slot::State::kResident || slot.is_confirmed) continue;
    ledger_.Remove(Owner::kBlobs, slot.allocated_bytes);
    slots_.StartEviction(slot);
    slots_.FinishEviction(slot);
    slots_.Free(slot);
  }
}

void BlobStore::AccountShards() {
  for (size_t number = 0; number < kShardCount; ++number) {
    Shard& shard = shards_[number];
    MutexLock shard_lock(shard.mu);
    SettleDirectoryLocked(shard, number);
    shard.exists = shard.directory_bytes > 0;
    ledger_.Add(Owner::kIndex, shard.foreign_bytes);
  }
}

absl::Status BlobStore::Maintain() {
  if (is_read_only_) return absl::OkStatus();
  EvictToLowWatermark();
  MutexLock sync_lock(sync_mu_);
  if (clock_.Now() - last_sync_ < options_.sync_interval) {
    return absl::OkStatus();
  }
  {
    MutexLock lock(mu_);
    if (!is_changed_) return absl::OkStatus();
  }
  return SyncLocked(/*is_closing=*/false);
}

absl::Status BlobStore::Sync() {
  return is_read_only_ ? absl::OkStatus()
                       : SyncAndWriteIndex(/*is_closing=*/false);
}

absl::Status BlobStore::SyncAndWriteIndex(bool is_closing) {
  MutexLock sync_lock(sync_mu_);
  return SyncLocked(is_closing);
}

absl::Status BlobStore::SyncLocked(bool is_closing) {
  last_sync_ = clock_.Now();
  std::vector<BlobId> fresh;
  {
    MutexLock lock(mu_);
    fresh.swap(fresh_);
    is_changed_ = false;
  }
  absl::Status synced = disk_.SyncFileSystem(directory_.get());
  if (synced.ok()) {
    SettleFresh(fresh);
    synced = WriteIndex(is_closing);
  } else {
    MutexLock lock(mu_);
    fresh_.insert(fresh_.end(), fresh.begin(), fresh.end());
  }
  if (!synced.ok()) {
    MutexLock lock(mu_);
    is_changed_ = true;
  }
  return synced;
}

// Now that they are written back, what they allocate is final.
void BlobStore::SettleFresh(const std::vector<BlobId>& fresh) {
  const auto resident = [this](BlobId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Slot* const slot = slots_.Get(id);
    const bool is_resident =
        slot != nullptr && slot->state == Slot::State::kResident;
    return is_resident ? slot : nullptr;
  };
  for (const BlobId id : fresh) {
    Digest digest;
    {
      MutexLock lock(mu_);
      const Slot* const slot = resident(id);
      if (slot == nullptr) continue;
      digest = slot->digest;
    }
    const absl::StatusOr<struct stat> attributes =
        disk_.StatPath(cas_.get(), BlobPath(digest));
    if (!attributes.ok()) continue;
    MutexLock lock(mu_);
    Slot* const slot = resident(id);
    if (slot == nullptr) continue;
    slot->is_durable = true;
    slot->changed_ns = ChangedNs(*attributes);
    SetAllocatedLocked(*slot, int64_t{attributes->st_blocks} * 512);
  }
}

IndexHeader BlobStore::MakeIndexHeader(bool is_closing, int64_t now_ns) {
  IndexHeader header;
  header.boot_id = options_.boot_id;
  for (size_t number = 0; number < kShardCount; ++number) {
    Shard& shard = shards_[number];
    MutexLock shard_lock(shard.mu);
    const absl::StatusOr<struct stat> attributes =
        disk_.StatPath(cas_.get(), ShardName(number));
    if (!attributes.ok()) continue;
    ShardStamp& stamp = header.shards[number];
    stamp.foreign_bytes = shard.foreign_bytes;
    stamp.changed_ns = ChangedNs(*attributes);
    stamp.is_durable = 1;
    const int64_t modified_ns = ModifiedNs(*attributes);
    // Nothing changes any more once the store is closing.
    if (is_closing || modified_ns < now_ns - kStampAgeNsMin) {
      stamp.modified_ns = modified_ns;
    }
  }
  return header;
}

absl::Status BlobStore::WriteIndex(bool is_closing) {
  const absl::StatusOr<int64_t> written = WriteNewIndex(is_closing);
  if (!written.ok()) {
    const absl::Status unlinked = disk_.Unlink(directory_.get(), kNewIndexName);
    // Else it stays accounted until the next one takes its place.
    if (unlinked.ok() || ErrnoOf(unlinked) == ENOENT) {
      ledger_.Remove(Owner::kIndex, std::exchange(new_index_bytes_, 0));
    }
    return Annotate(written.status(), "writing the index");
  }
  ledger_.Add(Owner::kIndex, *written - new_index_bytes_ - index_bytes_);
  new_index_bytes_ = 0;
  index_bytes_ = *written;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> BlobStore::WriteNewIndex(bool is_closing) {
  ASSIGN_OR_RETURN(IndexWriter writer,
                   IndexWriter::Start(disk_, directory_.get()));
  // Stamps first: what changes after them makes them not fit.
  IndexHeader header = MakeIndexHeader(is_closing, writer.started_ns());
  const std::vector<BlobId> order = OldestFirst(header);
  const int64_t bytes = EstimateBytes(IndexWriter::BytesOf(order.size()));
  ledger_.Add(Owner::kIndex, bytes - std::exchange(new_index_bytes_, bytes));
  RETURN_IF_ERROR(AddEntries(order, writer));
  return writer.Finish(header);
}

// Marks the shards that have blobs which are not durable.
std::vector<BlobId> BlobStore::OldestFirst(IndexHeader& header) {
  struct Place {
    uint64_t used;
    BlobId id;
  };
  std::vector<Place> places;
  for (size_t begin = 0, end = 0;; begin = end) {
    MutexLock lock(mu_);
    end = std::min(begin + kIndexSlotsAtOnce, slots_.size());
    for (size_t i = begin; i < end; ++i) {
      const Slot& slot = slots_.at(i);
      if (slot.state != Slot::State::kResident) continue;
      places.push_back({slot.used, slots_.IdOf(slot)});
      if (!slot.is_durable) {
        header.shards[ShardOf(slot.digest)].is_durable = 0;
      }
    }
    if (begin == end) break;
  }
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return a.used < b.used; });
  std::vector<BlobId> order;
  order.reserve(places.size());
  for (const Place& place : places) order.push_back(place.id);
  return order;
}

absl::Status BlobStore::AddEntries(const std::vector<BlobId>& order,
                                   IndexWriter& writer) {
  std::vector<IndexEntry> entries;
  for (size_t begin = 0; begin < order.size(); begin += kIndexSlotsAtOnce) {
    const size_t end = std::min(begin + kIndexSlotsAtOnce, order.size());
    entries.clear();
    {
      MutexLock lock(mu_);
      for (size_t i = begin; i < end; ++i) {
        const Slot* const slot = slots_.Get(order[i]);
        if (slot == nullptr || slot->state != Slot::State::kResident) continue;
        entries.push_back({slot->digest, slot->allocated_bytes,
                           slot->is_durable ? slot->changed_ns : 0});
      }
    }
    for (const IndexEntry& entry : entries) {
      RETURN_IF_ERROR(writer.Add(entry));
    }
  }
  return absl::OkStatus();
}

}  // namespace casement
