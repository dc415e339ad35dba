#include "store/action_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/check.h"
#include "base/quote.h"
#include "base/status.h"
#include "store/action_blobs.h"
#include "store/blob_path.h"
#include "store/missing.h"
#include "store/scan.h"

namespace casement {
namespace {

constexpr char kDirectoryName[] = "actions";
// Renamed over the result that it replaces.
constexpr char kNewName[] = "new";
// The last digit is the version of the format.
constexpr absl::string_view kMagic("CASEACT1", 8);
constexpr size_t kHeaderBytes = 8 + sizeof(uint64_t);
constexpr int64_t kCapacityShare = 64;
// What adding a name to a directory can allocate, as for blobs.
constexpr int64_t kDirectoryGrowthBlocks = 3;

// Of the action as well, so that files cannot change places.
std::string Checksum(const Digest& action, absl::string_view message) {
  const std::string name = action.ToString();
  const uint64_t seed = XXH3_64bits(name.data(), name.size());
  const uint64_t sum =
      XXH3_64bits_withSeed(message.data(), message.size(), seed);
  return std::string(reinterpret_cast<const char*>(&sum), sizeof(sum));
}

// The message in a file's bytes; nullopt if it is not whole.
std::optional<absl::string_view> MessageIn(absl::string_view bytes,
                                           const Digest& action) {
  if (bytes.size() < kHeaderBytes) return std::nullopt;
  const absl::string_view message = bytes.substr(kHeaderBytes);
  if (bytes.substr(0, kHeaderBytes) !=
      absl::StrCat(kMagic, Checksum(action, message))) {
    return std::nullopt;
  }
  return message;
}

}  // namespace

ActionCache::ActionCache(Disk& disk, BlobStore& store, Options options)
    : disk_(disk), store_(store), options_(std::move(options)) {
  if (options_.bytes_max == 0) {
    options_.bytes_max = store_.GetStats().capacity_bytes / kCapacityShare;
  }
  if (options_.log == nullptr) {
    options_.log = [](absl::string_view line) {
      std::fprintf(stderr, "casement: %.*s\n", static_cast<int>(line.size()),
                   line.data());
    };
  }
}

absl::StatusOr<std::unique_ptr<ActionCache>> ActionCache::Open(
    Disk& disk, BlobStore& store, Options options) {
  const std::string directory = options.directory;
  std::unique_ptr<ActionCache> cache(
      new ActionCache(disk, store, std::move(options)));
  const absl::Status started = cache->Start();
  if (!started.ok()) {
    return Annotate(started, "store ", directory, "/", kDirectoryName);
  }
  return cache;
}

absl::Status ActionCache::Start() {
  const std::string path =
      absl::StrCat(options_.directory, "/", kDirectoryName);
  MutexLock write_lock(write_mu_);
  bool is_new = false;
  if (!store_.is_read_only()) {
    const absl::Status made = disk_.MakeDirectory(AT_FDCWD, path, 0700);
    if (!made.ok() && ErrnoOf(made) != EEXIST) return made;
    is_new = made.ok();
  }
  absl::StatusOr<UniqueFd> directory =
      disk_.Open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
  if (store_.is_read_only() && ErrnoOf(directory.status()) == ENOENT) {
    return absl::OkStatus();
  }
  if (!directory.ok()) return directory.status();
  directory_ = *std::move(directory);
  ASSIGN_OR_RETURN(const struct stat attributes, disk_.Stat(directory_.get()));
  directory_bytes_ = int64_t{attributes.st_blocks} * 512;
  // If it was there, the store has accounted for it, but not for its files.
  if (is_new) store_.ledger().Add(Owner::kIndex, directory_bytes_);
  return Scan();
}

absl::Status ActionCache::Scan() {
  std::vector<std::string> names;
  RETURN_IF_ERROR(disk_.ReadDirectory(
      directory_.get(), ".", [&](absl::string_view name, unsigned char) {
        names.emplace_back(name);
      }));
  struct Found {
    int64_t modified_ns;
    Digest action;
    int64_t allocated_bytes;
  };
  std::vector<Found> found;
  for (const std::string& name : names) {
    const absl::StatusOr<struct stat> attributes =
        disk_.StatPath(directory_.get(), name);
    if (ErrnoOf(attributes.status()) == ENOENT) continue;
    RETURN_IF_ERROR(attributes.status());
    const int64_t allocated = int64_t{attributes->st_blocks} * 512;
    if (name == kNewName && !store_.is_read_only()) {
      store_.ledger().Add(Owner::kIndex, allocated);
      new_bytes_ = allocated;
      RemoveNew().IgnoreError();
      continue;
    }
    const absl::StatusOr<Digest> action = Digest::Parse(name);
    if (!action.ok() || !S_ISREG(attributes->st_mode)) {
      store_.ledger().Add(Owner::kIndex, allocated);
      options_.log(absl::StrCat("left alone ", kDirectoryName, "/",
                                QuoteName(name), ": it is no result"));
      continue;
    }
    found.push_back(
        {.modified_ns = ModifiedNs(*attributes),
         .action = *action,
         .allocated_bytes =
             std::max(allocated, store_.EstimateBytes(attributes->st_size))});
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return a.modified_ns < b.modified_ns;
  });
  for (const Found& file : found) {
    store_.ledger().Add(Owner::kIndex, file.allocated_bytes);
    Add(file.action, file.allocated_bytes);
  }
  // It may have been opened with higher limits.
  if (store_.is_read_only()) return absl::OkStatus();
  if (const absl::Status made = MakeRoom(0, 0); !made.ok()) {
    options_.log(absl::StrCat("dropping old results: ", made.message()));
  }
  return absl::OkStatus();
}

void ActionCache::Add(const Digest& action, int64_t allocated_bytes) {
  const uint64_t number = next_number_++;
  MutexLock lock(mu_);
  ForgetLocked(action);
  order_.push_back(action);
  results_[action] = {.allocated_bytes = allocated_bytes,
                      .number = number,
                      .place = std::prev(order_.end())};
  bytes_ += allocated_bytes;
}

uint64_t ActionCache::Touch(const Digest& action) {
  MutexLock lock(mu_);
  const auto found = results_.find(action);
  if (found == results_.end()) return 0;
  order_.splice(order_.end(), order_, found->second.place);
  return found->second.number;
}

absl::StatusOr<std::string> ActionCache::ReadFile(const Digest& action) {
  ReaderLock file_lock(file_mu_);
  ASSIGN_OR_RETURN(
      const UniqueFd fd,
      disk_.Open(directory_.get(), action.ToString(), kBlobOpenFlags, 0));
  ASSIGN_OR_RETURN(const struct stat attributes, disk_.Stat(fd.get()));
  if (!S_ISREG(attributes.st_mode) ||
      attributes.st_size >
          options_.result_bytes_max + static_cast<int64_t>(kHeaderBytes)) {
    return absl::DataLossError("no file of ours");
  }
  std::string bytes(attributes.st_size, '\0');
  for (size_t done = 0; done < bytes.size();) {
    ASSIGN_OR_RETURN(const size_t count,
                     disk_.Read(fd.get(), absl::MakeSpan(bytes).subspan(done),
                                static_cast<int64_t>(done)));
    if (count == 0) return absl::DataLossError("cut");
    done += count;
  }
  return bytes;
}

// DataLoss for what is not one of ours, or not whole.
absl::StatusOr<ActionCache::Result> ActionCache::ReadResult(
    const Digest& action) {
  const absl::StatusOr<std::string> bytes = ReadFile(action);
  if (ErrnoOf(bytes.status()) == ENOENT || ErrnoOf(bytes.status()) == ELOOP) {
    return absl::DataLossError("gone");
  }
  if (!bytes.ok()) return bytes.status();
  const std::optional<absl::string_view> message = MessageIn(*bytes, action);
  Result result;
  if (!message.has_value() ||
      !result.ParseFromArray(message->data(),
                             static_cast<int>(message->size()))) {
    return absl::DataLossError("torn");
  }
  return result;
}

absl::StatusOr<ActionCache::Result> ActionCache::Get(const Digest& action) {
  const uint64_t number = Touch(action);
  if (number == 0) return absl::NotFoundError("");
  absl::StatusOr<Result> result = ReadResult(action);
  if (absl::IsDataLoss(result.status())) {
    options_.log(absl::StrCat("the result of action ", action.ToString(),
                              " is of no use: ", result.status().message()));
    Drop(action, number);
    return absl::NotFoundError("");
  }
  if (!result.ok()) {
    return Annotate(result.status(), "result of action ", action.ToString());
  }
  const absl::StatusOr<std::vector<Digest>> missing =
      MissingBlobsOf(store_, *result);
  if (absl::IsInvalidArgument(missing.status()) ||
      (missing.ok() && !missing->empty())) {
    Drop(action, number);
    return absl::NotFoundError("");
  }
  if (!missing.ok()) {
    return Annotate(missing.status(), "result of action ", action.ToString());
  }
  return result;
}

absl::Status ActionCache::Put(const Digest& action, const Result& result) {
  const std::string what = absl::StrCat("result of action ", action.ToString());
  const std::string message = result.SerializeAsString();
  if (static_cast<int64_t>(message.size()) > options_.result_bytes_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": more than ", options_.result_bytes_max, " bytes"));
  }
  const absl::StatusOr<std::vector<Digest>> missing =
      MissingBlobsOf(store_, result);
  if (!missing.ok()) return Annotate(missing.status(), what);
  if (!missing->empty()) return Annotate(MissingBlobsStatus(*missing), what);
  MutexLock write_lock(write_mu_);
  return Annotate(
      WriteResult(action,
                  absl::StrCat(kMagic, Checksum(action, message), message)),
      what);
}

absl::Status ActionCache::WriteResult(const Digest& action,
                                      absl::string_view bytes) {
  // Before anything goes for it.
  if (store_.is_read_only()) {
    return ErrnoStatus(EROFS, "the store is on read-only media");
  }
  const int64_t estimate = store_.EstimateBytes(bytes.size());
  if (estimate > options_.bytes_max) {
    return ErrnoStatus(ENOSPC, "no room: results take at most ",
                       options_.bytes_max, " bytes");
  }
  RETURN_IF_ERROR(MakeRoom(1, estimate));
  RETURN_IF_ERROR(store_.ReserveScratch(estimate));
  absl::Status written = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_) {
    ASSIGN_OR_RETURN(const UniqueFd fd, store_.NewScratchFile());
    RETURN_IF_ERROR(WriteAll(disk_, fd.get(), bytes, /*offset=*/0));
    return Publish(fd.get(), action, estimate);
  }();
  // First the bytes go, then their account.
  if (!written.ok()) store_.ledger().Remove(Owner::kScratch, estimate);
  return written;
}

absl::Status ActionCache::Publish(int fd, const Digest& action,
                                  int64_t estimate) {
  ASSIGN_OR_RETURN(const struct stat attributes, disk_.Stat(fd));
  const int64_t allocated =
      std::max(estimate, int64_t{attributes.st_blocks} * 512);
  RETURN_IF_ERROR(RemoveNew());
  const int64_t growth =
      kDirectoryGrowthBlocks * store_.EstimateBytes(/*size_bytes=*/1);
  store_.ledger().Add(Owner::kIndex, growth);
  absl::Status linked = disk_.Link(fd, directory_.get(), action.ToString());
  if (ErrnoOf(linked) == EEXIST) linked = Replace(fd, action, allocated);
  SettleDirectory();
  store_.ledger().Remove(Owner::kIndex, growth);
  RETURN_IF_ERROR(linked);
  store_.ledger().Add(Owner::kIndex, allocated - estimate);
  store_.ledger().Move(Owner::kScratch, Owner::kIndex, estimate);
  Add(action, allocated);
  return absl::OkStatus();
}

// At no time is there no result: others may be asking for it.
absl::Status ActionCache::Replace(int fd, const Digest& action,
                                  int64_t allocated_bytes) {
  absl::Status linked = disk_.Link(fd, directory_.get(), kNewName);
  if (ErrnoOf(linked) == EEXIST) {
    // Somebody put it there.
    RETURN_IF_ERROR(disk_.Unlink(directory_.get(), kNewName));
    linked = disk_.Link(fd, directory_.get(), kNewName);
  }
  RETURN_IF_ERROR(linked);
  const absl::Status renamed = [&] {
    WriterLock file_lock(file_mu_);
    return disk_.Rename(directory_.get(), kNewName, action.ToString());
  }();
  if (renamed.ok()) return absl::OkStatus();
  store_.ledger().Add(Owner::kIndex, allocated_bytes);
  new_bytes_ = allocated_bytes;
  // If it cannot go now, then before the next one.
  RemoveNew().IgnoreError();
  return renamed;
}

absl::Status ActionCache::RemoveNew() {
  if (new_bytes_ == 0) return absl::OkStatus();
  const absl::Status unlinked = disk_.Unlink(directory_.get(), kNewName);
  if (!unlinked.ok() && ErrnoOf(unlinked) != ENOENT) return unlinked;
  store_.ledger().Remove(Owner::kIndex, std::exchange(new_bytes_, 0));
  return absl::OkStatus();
}

void ActionCache::SettleDirectory() {
  const absl::StatusOr<struct stat> attributes = disk_.Stat(directory_.get());
  if (!attributes.ok()) return;
  const int64_t bytes = int64_t{attributes->st_blocks} * 512;
  store_.ledger().Add(Owner::kIndex,
                      bytes - std::exchange(directory_bytes_, bytes));
}

absl::Status ActionCache::MakeRoom(size_t results, int64_t bytes) {
  for (;;) {
    Digest oldest;
    {
      MutexLock lock(mu_);
      if (results_.size() + results <= options_.results_max &&
          bytes_ + bytes <= options_.bytes_max) {
        return absl::OkStatus();
      }
      // Nothing but what is to come has no room: WriteResult() has looked.
      if (order_.empty()) return absl::OkStatus();
      oldest = order_.front();
    }
    RETURN_IF_ERROR(Remove(oldest));
  }
}

// The file goes first: a result without one is dropped when it is read.
absl::Status ActionCache::Remove(const Digest& action) {
  {
    WriterLock file_lock(file_mu_);
    const absl::Status unlinked =
        disk_.Unlink(directory_.get(), action.ToString());
    if (!unlinked.ok() && ErrnoOf(unlinked) != ENOENT) return unlinked;
  }
  MutexLock lock(mu_);
  ForgetLocked(action);
  return absl::OkStatus();
}

void ActionCache::ForgetLocked(const Digest& action) {
  const auto found = results_.find(action);
  if (found == results_.end()) return;
  const int64_t bytes = found->second.allocated_bytes;
  order_.erase(found->second.place);
  results_.erase(found);
  bytes_ -= bytes;
  store_.ledger().Remove(Owner::kIndex, bytes);
}

void ActionCache::Drop(const Digest& action, uint64_t number) {
  if (store_.is_read_only()) return;
  MutexLock write_lock(write_mu_);
  {
    MutexLock lock(mu_);
    const auto found = results_.find(action);
    if (found == results_.end() || found->second.number != number) return;
  }
  // If it cannot go now, then the next time.
  Remove(action).IgnoreError();
}

ActionCache::Stats ActionCache::GetStats() const {
  MutexLock lock(mu_);
  return {.results = static_cast<int64_t>(results_.size()), .bytes = bytes_};
}

void ActionCache::CheckInvariants() const {
  MutexLock lock(mu_);
  CASEMENT_CHECK(order_.size() == results_.size());
  int64_t bytes = 0;
  for (const Digest& action : order_) {
    const auto found = results_.find(action);
    CASEMENT_CHECK(found != results_.end());
    bytes += found->second.allocated_bytes;
  }
  CASEMENT_CHECK(bytes == bytes_);
  CASEMENT_CHECK(results_.size() <= options_.results_max);
}

}  // namespace casement
