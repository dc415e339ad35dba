#include "store/directory_table.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status.h"
#include "casement/digest.h"
#include "model/directory.h"
#include "store/blob_store.h"
#include "store/damaged.h"
#include "store/missing.h"
#include "store/missing_search.h"

namespace casement {
namespace {

// At most 2^64 - 1: shared digests can make more paths than that.
uint64_t SaturatingAdd(uint64_t a, uint64_t b) {
  return b > std::numeric_limits<uint64_t>::max() - a
             ? std::numeric_limits<uint64_t>::max()
             : a + b;
}

// As often as it names them.
std::vector<Digest> FilesOf(const Directory& directory) {
  std::vector<Digest> files;
  for (const Directory::Entry& entry : directory.entries()) {
    if (entry.type == EntryType::kFile) files.push_back(entry.digest);
  }
  return files;
}

absl::Status NoRemote() {
  return absl::FailedPreconditionError(
      "inputs from a remote cache: the daemon was started without --remote");
}

absl::StatusOr<std::shared_ptr<const Directory>> ParseDirectory(
    const Digest& digest, absl::string_view bytes) {
  absl::StatusOr<std::shared_ptr<const Directory>> directory =
      Directory::Parse(bytes);
  if (!directory.ok()) {
    return Annotate(directory.status(), digest.ToString(),
                    " is no valid Directory");
  }
  return directory;
}

absl::StatusOr<std::shared_ptr<const Directory>> ReadDirectory(
    BlobStore& store, const Digest& digest) {
  if (digest.size_bytes() > kDirectoryBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        digest.ToString(), " is no Directory: ", kDirectoryBytesMax,
        " bytes are the most"));
  }
  absl::StatusOr<std::string> bytes = store.Read(digest, kDirectoryBytesMax);
  if (absl::IsNotFound(bytes.status())) return bytes.status();
  // A wrong Directory does more harm than a wrong file, and is small.
  if (absl::IsDataLoss(bytes.status()) ||
      (bytes.ok() && Digest::Of(*bytes) != digest)) {
    store.DropDamaged(digest);
    return DamagedBlobStatus(digest, "it was a Directory");
  }
  if (!bytes.ok()) return bytes.status();
  return ParseDirectory(digest, *bytes);
}

}  // namespace

InternedDirectory::~InternedDirectory() {
  std::vector<std::shared_ptr<const InternedDirectory>> doomed;
  doomed.swap(children_);
  while (!doomed.empty()) {
    const std::shared_ptr<const InternedDirectory> last =
        std::move(doomed.back());
    doomed.pop_back();
    // There are no weak pointers, so that nobody else can be about to share
    // the last reference.
    if (last == nullptr || last.use_count() > 1) continue;
    for (auto& child : last->children_) {
      if (child != nullptr) doomed.push_back(std::move(child));
    }
    last->children_.clear();
  }
}

std::vector<const InternedDirectory*> DirectoriesOf(
    std::vector<const InternedDirectory*> tops) {
  std::vector<const InternedDirectory*> found;
  absl::flat_hash_set<const InternedDirectory*> seen(tops.begin(), tops.end());
  while (!tops.empty()) {
    const InternedDirectory& directory = *tops.back();
    tops.pop_back();
    found.push_back(&directory);
    const std::vector<Directory::Entry>& entries =
        directory.directory().entries();
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].type != EntryType::kDirectory) continue;
      const InternedDirectory* const child = directory.child(i).get();
      if (seen.insert(child).second) tops.push_back(child);
    }
  }
  return found;
}

std::vector<Digest> BlobsOf(const InternedDirectory& root) {
  std::vector<Digest> blobs;
  for (const InternedDirectory* const one : DirectoriesOf({&root})) {
    blobs.push_back(one->digest());
    const std::vector<Digest> files = FilesOf(one->directory());
    blobs.insert(blobs.end(), files.begin(), files.end());
  }
  return blobs;
}

ClosureLease::ClosureLease(ClosureLease&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)),
      root_(std::move(other.root_)) {}

ClosureLease& ClosureLease::operator=(ClosureLease&& other) noexcept {
  std::swap(table_, other.table_);
  std::swap(root_, other.root_);
  return *this;
}

ClosureLease::~ClosureLease() {
  if (table_ != nullptr) table_->Return(root_);
}

// Fetches the Directories of a closure that are not here, each as soon as it
// is known: as many exchanges, one after the other, as the closure is deep. Has
// `files`, if there is one, look for their files meanwhile. Keeps the
// Directories, known ones excepted, and leases on them.
class DirectoryTable::Gatherer {
 public:
  Gatherer(DirectoryTable& table, MissingSearch* files)
      : table_(table), files_(files) {}

  // To be called once.
  absl::Status Gather(const Digest& root) {
    std::vector<Digest> wanted = {root};
    seen_.insert(root);
    for (;;) {
      std::vector<Digest> below;
      for (const Digest& digest : LeaseOrFetch(wanted)) {
        RETURN_IF_ERROR(Read(digest, below));
      }
      if (below.empty()) {
        if (fetching_ == 0) break;
        RETURN_IF_ERROR(TakeSome(below));
      }
      wanted.swap(below);
    }
    return missing_.empty() ? absl::OkStatus() : MissingBlobsStatus(missing_);
  }

  // nullptr if it was known.
  std::shared_ptr<const Directory> Find(const Digest& digest) const {
    const auto found = gathered_.find(digest);
    return found != gathered_.end() ? found->second : nullptr;
  }

  // All of them that were not known.
  std::vector<Digest> Digests() const {
    std::vector<Digest> digests;
    for (const auto& [digest, directory] : gathered_) digests.push_back(digest);
    return digests;
  }

 private:
  struct Arrival {
    Digest digest;
    // nullptr if it is in the store.
    absl::StatusOr<std::shared_ptr<const Directory>> directory;
  };
  // What the fetcher's threads say, even when nobody wants to know any more.
  struct Arrivals {
    Mutex mu;  // A leaf.
    CondVar some;
    std::vector<Arrival> list ABSL_GUARDED_BY(mu);
  };

  // Those that are not known and in the store. The others are on their way
  // then.
  std::vector<Digest> LeaseOrFetch(const std::vector<Digest>& digests) {
    std::vector<Digest> here;
    std::vector<Digest> absent;
    for (const Digest& digest : digests) {
      if (IsKnown(digest)) continue;
      table_.store_.LeaseAwaited({&digest, 1}, leases_);
      (table_.store_.Contains(digest) ? here : absent).push_back(digest);
    }
    fetching_ += absent.size();
    table_.fetcher_->WantBytes(
        absent, [this](const Digest& digest) { return TakerFor(digest); });
    return here;
  }

  // Parses in the fetcher's threads, which are several.
  BlobFetcher::Take TakerFor(const Digest& digest) const {
    return [arrivals = arrivals_,
            digest](const absl::StatusOr<const absl::string_view*>& bytes) {
      absl::StatusOr<std::shared_ptr<const Directory>> directory = nullptr;
      if (!bytes.ok()) {
        // Shares nothing with the fetcher's, as in BlobAnswers.
        directory = WithCode(bytes.status().code(), bytes.status());
      } else if (*bytes != nullptr) {
        directory = ParseDirectory(digest, **bytes);
      }
      MutexLock lock(arrivals->mu);
      arrivals->list.push_back({digest, std::move(directory)});
      arrivals->some.NotifyAll();
    };
  }

  // Waits for some; those they lead to are added to `below`.
  absl::Status TakeSome(std::vector<Digest>& below) {
    std::vector<Arrival> arrived;
    {
      MutexLock lock(arrivals_->mu);
      while (arrivals_->list.empty()) arrivals_->some.Wait(arrivals_->mu);
      arrived.swap(arrivals_->list);
    }
    fetching_ -= arrived.size();
    for (const Arrival& arrival : arrived) {
      if (absl::IsNotFound(arrival.directory.status())) {
        missing_.push_back(arrival.digest);
        continue;
      }
      RETURN_IF_ERROR(arrival.directory.status());
      if (*arrival.directory == nullptr) {
        RETURN_IF_ERROR(Read(arrival.digest, below));
      } else {
        RETURN_IF_ERROR(Keep(arrival.digest, *arrival.directory, below));
      }
    }
    return absl::OkStatus();
  }

  bool IsKnown(const Digest& digest) const {
    MutexLock lock(table_.mu_);
    return table_.nodes_.contains(digest);
  }

  // It is in the store, and leased.
  absl::Status Read(const Digest& digest, std::vector<Digest>& below) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Directory> directory,
                     table_.Load(digest));
    return Keep(digest, directory, below);
  }

  absl::Status Keep(const Digest& digest,
                    const std::shared_ptr<const Directory>& directory,
                    std::vector<Digest>& below) {
    for (const Directory::Entry& entry : directory->entries()) {
      if (entry.type == EntryType::kDirectory) {
        if (seen_.insert(entry.digest).second) below.push_back(entry.digest);
      } else if (entry.type == EntryType::kFile && files_ != nullptr) {
        files_->Add(entry.digest);
      }
    }
    if (static_cast<int64_t>(seen_.size()) >
        table_.options_.closure_directories_max) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the tree has more than ", table_.options_.closure_directories_max,
          " distinct Directories"));
    }
    gathered_.emplace(digest, directory);
    return absl::OkStatus();
  }

  DirectoryTable& table_;
  MissingSearch* const files_;
  absl::flat_hash_set<Digest> seen_;
  size_t fetching_ = 0;
  const std::shared_ptr<Arrivals> arrivals_ = std::make_shared<Arrivals>();
  std::vector<Digest> missing_;
  absl::flat_hash_map<Digest, std::shared_ptr<const Directory>> gathered_;
  std::vector<Lease> leases_;
};

// Reads what is below a root that is not known yet, with a stack of its own
// instead of recursion, and holds leases on it until it is interned. Known
// Directories below it are held by a count.
class DirectoryTable::Loader {
 public:
  // What is gathered is not read; files that are not here are awaited if they
  // are found.
  struct Remote {
    const Gatherer& gathered;
    MissingSearch& files;
  };

  explicit Loader(DirectoryTable& table,
                  std::optional<Remote> remote = std::nullopt)
      : table_(table), remote_(remote) {}

  // Gives up what was not interned.
  ~Loader() {
    Remains remains;
    {
      MutexLock lock(table_.mu_);
      for (const Digest& digest : held_) {
        --table_.nodes_.at(digest).loaders;
        table_.ReleaseLocked(digest, remains);
      }
    }
    const uint64_t now = table_.store_.NextTick();
    for (auto& [digest, loaded] : loaded_) {
      std::move(loaded.leases.begin(), loaded.leases.end(),
                std::back_inserter(remains.leases));
    }
    table_.store_.GiveBack(std::move(remains.leases), now);
  }

  // To be called once.
  absl::StatusOr<ClosureLease> LoadAndLease(const Digest& root) {
    RETURN_IF_ERROR(Load(root));
    return Commit(root);
  }

 private:
  struct Loaded {
    std::shared_ptr<const Directory> directory;
    std::vector<Lease> leases;
    // nullptr until all below it is loaded.
    std::shared_ptr<const InternedDirectory> interned;
  };
  struct Frame {
    Digest digest;
    size_t next = 0;  // The entry to look at.
  };

  absl::Status Load(const Digest& root) {
    RETURN_IF_ERROR(Visit(root));
    while (!stack_.empty()) {
      const Digest digest = stack_.back().digest;
      const Loaded& loaded = loaded_.at(digest);
      const std::vector<Directory::Entry>& entries =
          loaded.directory->entries();
      size_t& next = stack_.back().next;
      while (next < entries.size() &&
             entries[next].type != EntryType::kDirectory) {
        ++next;
      }
      if (next < entries.size()) {
        const Digest child = entries[next++].digest;
        RETURN_IF_ERROR(Visit(child));
        continue;
      }
      stack_.pop_back();
      RETURN_IF_ERROR(Intern(digest));
    }
    return CheckFit();
  }

  ClosureLease Commit(const Digest& root) ABSL_LOCKS_EXCLUDED(table_.mu_) {
    MutexLock lock(table_.mu_);
    for (const Digest& digest : order_) {
      Loaded& loaded = loaded_.at(digest);
      const auto [place, is_new] = table_.nodes_.try_emplace(digest);
      if (!is_new) continue;  // Another thread was faster.
      place->second.interned = std::move(loaded.interned);
      place->second.leases = std::move(loaded.leases);
      loaded.leases.clear();
      table_.interned_bytes_ += digest.size_bytes();
      for (const Directory::Entry& entry : loaded.directory->entries()) {
        if (entry.type == EntryType::kDirectory) {
          ++table_.nodes_.at(entry.digest).count;
        }
      }
    }
    return table_.LeaseKnownLocked(table_.nodes_.at(root));
  }

  absl::Status Visit(const Digest& digest) {
    const auto found = loaded_.find(digest);
    if (found != loaded_.end()) {
      // SHA-256 allows no cycle; a damaged disk that nobody noticed might.
      if (found->second.interned == nullptr && !missing_.contains(digest)) {
        return absl::InvalidArgumentError(
            absl::StrCat("Directory ", digest.ToString(), " contains itself"));
      }
      return absl::OkStatus();
    }
    if (HoldKnown(digest)) return absl::OkStatus();
    if (++directories_ > table_.options_.closure_directories_max) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the tree has more than ", table_.options_.closure_directories_max,
          " distinct Directories"));
    }
    Loaded& loaded = loaded_[digest];
    if (remote_.has_value()) loaded.directory = remote_->gathered.Find(digest);
    if (loaded.directory != nullptr) {
      // It may be on its way to the store. Its files have been looked for.
      std::vector<Digest> awaited = FilesOf(*loaded.directory);
      awaited.push_back(digest);
      table_.store_.LeaseAwaited(awaited, loaded.leases);
    } else {
      if (!LeaseInto(digest, loaded)) return absl::OkStatus();
      ASSIGN_OR_RETURN(loaded.directory, ReadDirectory(table_.store_, digest));
      LeaseFiles(loaded);
    }
    stack_.push_back({digest});
    return absl::OkStatus();
  }

  bool HoldKnown(const Digest& digest) {
    MutexLock lock(table_.mu_);
    const auto node = table_.nodes_.find(digest);
    if (node == table_.nodes_.end()) return false;
    if (known_.try_emplace(digest, node->second.interned).second) {
      ++node->second.count;
      ++node->second.loaders;
      held_.push_back(digest);
    }
    return true;
  }

  void LeaseFiles(Loaded& loaded) {
    const std::vector<Digest> files = FilesOf(*loaded.directory);
    if (!remote_.has_value()) {
      for (const Digest& digest : files) LeaseInto(digest, loaded);
      return;
    }
    table_.store_.LeaseAwaited(files, loaded.leases);
    for (const Digest& digest : files) remote_->files.Add(digest);
  }

  bool LeaseInto(const Digest& digest, Loaded& loaded) {
    absl::StatusOr<Lease> lease = table_.store_.LeaseBlob(digest);
    if (lease.ok()) {
      loaded.leases.push_back(*std::move(lease));
      return true;
    }
    if (missing_.insert(digest).second) {
      missing_order_.push_back(digest);
      missing_bytes_ = SaturatingAdd(
          missing_bytes_, table_.store_.EstimateBytes(digest.size_bytes()));
    }
    return false;
  }

  const std::shared_ptr<const InternedDirectory>& Child(const Digest& digest) {
    const auto known = known_.find(digest);
    return known != known_.end() ? known->second : loaded_.at(digest).interned;
  }

  // All below it is loaded. With something missing only that is looked for.
  absl::Status Intern(const Digest& digest) {
    Loaded& loaded = loaded_.at(digest);
    std::shared_ptr<InternedDirectory> interned(new InternedDirectory());
    interned->digest_ = digest;
    interned->directory_ = loaded.directory;
    const std::vector<Directory::Entry>& entries = loaded.directory->entries();
    interned->children_.resize(entries.size());
    interned->numbers_.reserve(entries.size());
    for (size_t i = 0; i < entries.size(); ++i) {
      interned->numbers_.push_back(interned->paths_);
      if (entries[i].type == EntryType::kDirectory) {
        interned->children_[i] = Child(entries[i].digest);
      }
      Count(entries[i], interned->children_[i].get(), *interned);
    }
    if (interned->paths_ > table_.options_.closure_paths_max) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the tree has more than ",
                       table_.options_.closure_paths_max, " paths"));
    }
    loaded.interned = std::move(interned);
    order_.push_back(digest);
    return absl::OkStatus();
  }

  // `child` is nullptr if it is missing.
  static void Count(const Directory::Entry& entry,
                    const InternedDirectory* child, InternedDirectory& sum) {
    sum.paths_ =
        SaturatingAdd(sum.paths_, child == nullptr ? 1 : child->paths_);
    if (entry.type == EntryType::kFile) {
      sum.files_ = SaturatingAdd(sum.files_, 1);
      sum.file_bytes_ =
          SaturatingAdd(sum.file_bytes_, entry.digest.size_bytes());
    } else if (child != nullptr) {
      sum.files_ = SaturatingAdd(sum.files_, child->files_);
      sum.file_bytes_ = SaturatingAdd(sum.file_bytes_, child->file_bytes_);
    }
  }

  absl::Status CheckFit() {
    if (missing_.empty() && !remote_.has_value()) return absl::OkStatus();
    // What is here is leased by now, the closure's own and that of others; so
    // is what is awaited.
    const uint64_t capacity = table_.store_.GetStats().capacity_bytes;
    const auto leased = [this] {
      return static_cast<uint64_t>(table_.store_.LeasedBytes());
    };
    while (SaturatingAdd(leased(), missing_bytes_) > capacity) {
      if (table_.GiveUpIdleLeases(UINT64_MAX)) continue;
      return ErrnoStatus(
          ENOSPC, "the tree cannot fit the store: ", missing_bytes_,
          " bytes are missing, ", leased(), " of ", capacity, " are in use");
    }
    if (!missing_.empty()) return MissingBlobsStatus(missing_order_);
    ASSIGN_OR_RETURN(const std::vector<Digest> nowhere,
                     remote_->files.Finish());
    // Some may have come another way since they were asked for.
    const std::vector<Digest> lacking = table_.store_.Awaited(nowhere);
    return lacking.empty() ? absl::OkStatus() : MissingBlobsStatus(lacking);
  }

  DirectoryTable& table_;
  const std::optional<Remote> remote_;
  std::vector<Frame> stack_;
  absl::flat_hash_map<Digest, Loaded> loaded_;
  std::vector<Digest> order_;  // Of loaded_: children before parents.
  absl::flat_hash_map<Digest, std::shared_ptr<const InternedDirectory>> known_;
  std::vector<Digest> held_;  // The keys of known_.
  absl::flat_hash_set<Digest> missing_;
  std::vector<Digest> missing_order_;
  uint64_t missing_bytes_ = 0;
  int64_t directories_ = 0;
};

DirectoryTable::DirectoryTable(BlobStore& store, Options options,
                               BlobFetcher* fetcher)
    : store_(store), options_(options), fetcher_(fetcher) {}

DirectoryTable::~DirectoryTable() {
  GiveUpAllIdleLeases();
  MutexLock lock(mu_);
  CASEMENT_CHECK(nodes_.empty());  // All ClosureLeases are gone.
}

absl::Status DirectoryTable::FetchDirectories(const Digest& root) {
  if (fetcher_ == nullptr) return NoRemote();
  Gatherer gatherer(*this, nullptr);
  absl::Status status = gatherer.Gather(root);
  if (status.ok()) status = fetcher_->FetchAll(gatherer.Digests());
  return Annotate(status, "tree ", root.ToString());
}

absl::StatusOr<ClosureLease> DirectoryTable::LeaseClosure(const Digest& root,
                                                          InputsFrom from) {
  if (from == InputsFrom::kRemote && fetcher_ == nullptr) return NoRemote();
  std::optional<ClosureLease> known;
  {
    MutexLock lock(mu_);
    const auto node = nodes_.find(root);
    if (node != nodes_.end()) known = LeaseKnownLocked(node->second);
  }
  absl::StatusOr<ClosureLease> lease =
      known.has_value() ? *std::move(known) : LeaseNew(root, from);
  if (!lease.ok()) {
    return Annotate(lease.status(), "input root ", root.ToString());
  }
  // Somebody else may have leased it as one that is yet to come.
  if (from == InputsFrom::kStore && store_.GetStats().awaited > 0) {
    const std::vector<Digest> missing = MissingOf(*lease);
    if (!missing.empty()) return MissingBlobsStatus(missing);
  }
  TrimIdle();
  return lease;
}

absl::StatusOr<ClosureLease> DirectoryTable::LeaseNew(const Digest& root,
                                                      InputsFrom from) {
  if (from == InputsFrom::kStore) return Loader(*this).LoadAndLease(root);
  const BlobFetcher::Haste haste(*fetcher_);
  MissingSearch files(*fetcher_);
  Gatherer gatherer(*this, &files);
  RETURN_IF_ERROR(gatherer.Gather(root));
  files.Ask();  // The answer comes while leases are taken.
  return Loader(*this, Loader::Remote{gatherer, files}).LoadAndLease(root);
}

std::vector<Digest> DirectoryTable::MissingOf(const ClosureLease& lease) {
  std::vector<Digest> files;
  for (const InternedDirectory* const one :
       DirectoriesOf({lease.root().get()})) {
    const std::vector<Digest> some = FilesOf(one->directory());
    files.insert(files.end(), some.begin(), some.end());
  }
  return store_.Missing(files);
}

ClosureLease DirectoryTable::LeaseKnownLocked(Node& node) {
  ++node.count;
  ++node.root_leases;
  if (node.idle_since != 0) {
    EndIdlenessLocked(node);
    --node.count;  // Not the last: see above.
  }
  ClosureLease lease;
  lease.table_ = this;
  lease.root_ = node.interned;
  return lease;
}

void DirectoryTable::EndIdlenessLocked(Node& node) {
  idle_.erase(node.idle_since);
  node.idle_since = 0;
}

void DirectoryTable::Return(
    const std::shared_ptr<const InternedDirectory>& root) {
  {
    MutexLock lock(mu_);
    Node& node = nodes_.at(root->digest());
    CASEMENT_CHECK(node.root_leases > 0);
    // The last lease's count becomes that of the idle root.
    if (--node.root_leases == 0) {
      node.idle_since = store_.NextTick();
      idle_[node.idle_since] = root->digest();
    } else {
      --node.count;
    }
  }
  TrimIdle();
}

void DirectoryTable::ReleaseLocked(const Digest& digest, Remains& remains) {
  std::vector<Digest> released = {digest};
  while (!released.empty()) {
    const auto place = nodes_.find(released.back());
    released.pop_back();
    CASEMENT_CHECK(place != nodes_.end() && place->second.count > 0);
    Node& node = place->second;
    if (--node.count > 0) continue;
    for (const Directory::Entry& entry : node.interned->directory().entries()) {
      if (entry.type == EntryType::kDirectory) released.push_back(entry.digest);
    }
    interned_bytes_ -= node.interned->digest().size_bytes();
    remains.directories.push_back(std::move(node.interned));
    std::move(node.leases.begin(), node.leases.end(),
              std::back_inserter(remains.leases));
    nodes_.erase(place);
  }
}

bool DirectoryTable::GiveUpOldestLocked(uint64_t used_before, Remains& remains,
                                        uint64_t& used) {
  if (idle_.empty() || idle_.begin()->first >= used_before) return false;
  used = idle_.begin()->first;
  const Digest digest = idle_.begin()->second;
  EndIdlenessLocked(nodes_.at(digest));
  ReleaseLocked(digest, remains);
  return true;
}

bool DirectoryTable::GiveUpIdleLeases(uint64_t used_before) {
  Remains remains;
  uint64_t used = 0;
  {
    MutexLock lock(mu_);
    if (!GiveUpOldestLocked(used_before, remains, used)) return false;
  }
  store_.GiveBack(std::move(remains.leases), used);
  return true;
}

void DirectoryTable::GiveUpAllIdleLeases() {
  while (GiveUpIdleLeases(UINT64_MAX)) {
  }
}

void DirectoryTable::TrimIdle() {
  const auto is_over = [this] {
    MutexLock lock(mu_);
    return interned_bytes_ > options_.interned_bytes_max;
  };
  while (is_over() && GiveUpIdleLeases(UINT64_MAX)) {
  }
}

absl::StatusOr<std::shared_ptr<const Directory>> DirectoryTable::Load(
    const Digest& digest) {
  if (!store_.Contains(digest)) {
    return absl::Status(absl::StatusCode::kNotFound, "");
  }
  {
    MutexLock lock(mu_);
    std::shared_ptr<const Directory> directory;
    if (const auto node = nodes_.find(digest); node != nodes_.end()) {
      directory = node->second.interned->directory_;
    } else if (const auto found = loaded_.find(digest);
               found != loaded_.end()) {
      directory = found->second.lock();
    }
    if (directory != nullptr) {
      store_.Touch(digest);
      return directory;
    }
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const Directory> directory,
                   ReadDirectory(store_, digest));
  MutexLock lock(mu_);
  // Now and then, so that it costs little for each: those nobody uses go.
  if (loaded_.size() >= loaded_sweep_size_) {
    absl::erase_if(loaded_,
                   [](const auto& pair) { return pair.second.expired(); });
    loaded_sweep_size_ = std::max<size_t>(64, 2 * loaded_.size());
  }
  loaded_[digest] = directory;
  return directory;
}

void DirectoryTable::CheckInvariants() const {
  MutexLock lock(mu_);
  absl::flat_hash_map<Digest, uint64_t> counts;
  int64_t bytes = 0;
  size_t idle = 0;
  for (const auto& [digest, node] : nodes_) {
    bytes += digest.size_bytes();
    counts[digest] +=
        node.root_leases + node.loaders + (node.idle_since != 0 ? 1 : 0);
    if (node.idle_since != 0) {
      ++idle;
      CASEMENT_CHECK(idle_.at(node.idle_since) == digest);
    }
    size_t files = 0;
    for (const Directory::Entry& entry : node.interned->directory().entries()) {
      if (entry.type == EntryType::kDirectory) ++counts[entry.digest];
      if (entry.type == EntryType::kFile) ++files;
    }
    CASEMENT_CHECK(node.leases.size() == files + 1);
  }
  for (const auto& [digest, node] : nodes_) {
    CASEMENT_CHECK(node.count > 0 && node.count == counts[digest]);
  }
  CASEMENT_CHECK(counts.size() == nodes_.size());
  CASEMENT_CHECK(idle == idle_.size() && bytes == interned_bytes_);
}

}  // namespace casement
