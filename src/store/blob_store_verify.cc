// How a BlobStore is checked: BlobStore::Verify().
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>  // NOLINT
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/parallel.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "model/hasher.h"
#include "store/blob_path.h"
#include "store/blob_store.h"
#include "store/disk_share.h"
#include "store/quarantine.h"

namespace casement {
namespace {

// SHA-256 at about 2 GB/s a core: two are faster than most disks, and leave the
// others to those who work.
constexpr int kThreads = 2;
constexpr size_t kBlobsAtOnce = 256;
constexpr size_t kPieceBytes = size_t{256} << 10;
// How soon a verification that waits for its share notices that it is over.
constexpr absl::Duration kSleepMax = absl::Milliseconds(50);

// A clock that never goes back.
absl::Duration SinceBoot() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

// What says that we lack something, and nothing about the blob.
bool IsOurOwnFault(const absl::Status& status) {
  const std::optional<int> error_number = ErrnoOf(status);
  return error_number == EMFILE || error_number == ENFILE ||
         error_number == ENOMEM;
}

}  // namespace

// What the threads of one Verify() share.
class BlobStore::Verification {
 public:
  Verification(const VerifyOptions& options, const BlobStore& store,
               Quarantine* quarantine)
      : options_(options),
        bytes_in_all_(store.GetStats().size_bytes),
        end_(store.ListEnd()),
        quarantine_(quarantine),
        share_(options.disk_share_percent) {}

  bool repairs() const { return options_.repair || quarantine_ != nullptr; }
  Quarantine* quarantine() const { return quarantine_; }

  // Waits until a piece may be read; EndPiece() must follow.
  absl::Status BeginPiece() {
    for (;;) {
      if (options_.is_cancelled && options_.is_cancelled()) {
        return absl::CancelledError("the verification was cancelled");
      }
      const absl::Duration wait = share_.TryBegin(SinceBoot());
      if (wait <= absl::ZeroDuration()) return absl::OkStatus();
      absl::SleepFor(std::min(wait, kSleepMax));
    }
  }
  void EndPiece() { share_.End(SinceBoot()); }

  void AddProgress(int64_t bytes) {
    MutexLock lock(mu_);
    report_.bytes += bytes;
    if (options_.progress) options_.progress(report_.bytes, bytes_in_all_);
  }

  // The next blobs to look at; none at the end, or after End().
  std::vector<Listed> Next(const BlobStore& store) {
    MutexLock lock(mu_);
    if (is_over_) return {};
    std::vector<Listed> blobs = store.List(position_, kBlobsAtOnce);
    if (!blobs.empty()) position_ = blobs.back().position + 1;
    while (!blobs.empty() && blobs.back().position >= end_) blobs.pop_back();
    return blobs;
  }
  void End() {
    MutexLock lock(mu_);
    is_over_ = true;
  }
  void Report(const std::function<void(VerifyReport&)>& add) {
    MutexLock lock(mu_);
    add(report_);
  }
  VerifyReport Finish() {
    MutexLock lock(mu_);
    std::sort(report_.damaged.begin(), report_.damaged.end());
    return std::move(report_);
  }

 private:
  const VerifyOptions& options_;
  const int64_t bytes_in_all_;
  const uint64_t end_;  // Or writers could keep it busy for ever.
  Quarantine* const quarantine_;
  DiskShare share_;
  // Taken for a piece of work and for its result.
  Mutex mu_;
  uint64_t position_ ABSL_GUARDED_BY(mu_) = 0;
  VerifyReport report_ ABSL_GUARDED_BY(mu_);
  bool is_over_ ABSL_GUARDED_BY(mu_) = false;
};

absl::StatusOr<BlobStore::VerifyReport> BlobStore::Verify(
    const VerifyOptions& options) {
  if (options.disk_share_percent < 1 || options.disk_share_percent > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("disk share: ", options.disk_share_percent,
                     " is not from 1 to 100 percent"));
  }
  std::optional<Quarantine> quarantine;
  if (!options.quarantine.empty()) {
    std::vector<std::string> forbidden = {options_.directory};
    if (!options.mount.empty()) forbidden.push_back(options.mount);
    ASSIGN_OR_RETURN(quarantine,
                     Quarantine::Open(disk_, options.quarantine, forbidden));
  }
  Verification verification(options, *this,
                            quarantine.has_value() ? &*quarantine : nullptr);
  RETURN_IF_ERROR(ParallelFor(kThreads, kThreads, [&](size_t) {
    absl::Status status = VerifySome(verification);
    if (!status.ok()) verification.End();
    return status;
  }));
  VerifyReport report = verification.Finish();
  RETURN_IF_ERROR(CompareLedger(report));
  return report;
}

absl::Status BlobStore::VerifySome(Verification& verification) {
  for (;;) {
    const std::vector<Listed> blobs = verification.Next(*this);
    if (blobs.empty()) return absl::OkStatus();
    for (const Listed& blob : blobs) {
      RETURN_IF_ERROR(VerifyBlob(blob.digest, verification));
    }
  }
}

// The blob is referred to meanwhile, which does not count as use, so that what
// is dropped is the publication that was hashed and no later one.
absl::Status BlobStore::VerifyBlob(const Digest& digest,
                                   Verification& verification) {
  if (digest.size_bytes() == 0) {  // Served from memory.
    verification.Report([](VerifyReport& report) { ++report.blobs; });
    return absl::OkStatus();
  }
  for (;;) {
    const absl::StatusOr<BlobRef> blob = Ref(digest);
    if (!blob.ok()) return absl::OkStatus();  // Evicted meanwhile.
    const absl::StatusOr<UniqueFd> file =
        disk_.Open(cas_.get(), BlobPath(digest), kBlobOpenFlags, 0);
    if (IsOurOwnFault(file.status())) return file.status();
    bool is_good = false;
    if (file.ok()) {
      ASSIGN_OR_RETURN(is_good, Rehash(file->get(), digest, verification));
    }
    // What was looked at may have been gone, or another publication's.
    if (!is_good && !IsResident(blob->id())) continue;
    verification.Report([&](VerifyReport& report) {
      ++report.blobs;
      if (!is_good) report.damaged.push_back(digest);
    });
    if (!is_good && verification.repairs()) {
      RepairBlob(*blob, digest, file.ok() ? file->get() : -1, verification);
    }
    return absl::OkStatus();
  }
}

absl::StatusOr<bool> BlobStore::Rehash(int fd, const Digest& digest,
                                       Verification& verification) {
  const absl::StatusOr<struct stat> attributes = disk_.Stat(fd);
  if (IsOurOwnFault(attributes.status())) return attributes.status();
  if (!attributes.ok() || !S_ISREG(attributes->st_mode)) return false;
  const auto buffer = std::make_unique<char[]>(kPieceBytes);
  Hasher hasher;
  for (;;) {
    RETURN_IF_ERROR(verification.BeginPiece());
    const absl::StatusOr<size_t> count = disk_.Read(
        fd, absl::MakeSpan(buffer.get(), kPieceBytes), hasher.size_bytes());
    if (count.ok()) hasher.Update(absl::string_view(buffer.get(), *count));
    verification.EndPiece();
    if (IsOurOwnFault(count.status())) return count.status();
    // What cannot be read cannot be served either.
    if (!count.ok() || hasher.size_bytes() > digest.size_bytes()) return false;
    if (*count == 0) return hasher.Finish() == digest;
    verification.AddProgress(static_cast<int64_t>(*count));
  }
}

bool BlobStore::IsResident(BlobId id) const {
  MutexLock lock(mu_);
  const Slot* const slot = const_cast<SlotTable&>(slots_).Get(id);
  return slot != nullptr && slot->state == Slot::State::kResident;
}

// Nothing is dropped that should be kept and could not be.
void BlobStore::RepairBlob(const BlobRef& blob, const Digest& digest, int fd,
                           Verification& verification) {
  bool is_moved = false;
  if (verification.quarantine() != nullptr && fd >= 0) {
    // What somebody put in a blob's place, and is no file, has no bytes to
    // keep.
    const absl::StatusOr<struct stat> attributes = disk_.Stat(fd);
    is_moved = attributes.ok() && S_ISREG(attributes->st_mode);
  }
  if (is_moved) {
    const absl::Status kept = verification.quarantine()->Keep(fd, digest);
    if (!kept.ok()) {
      verification.Report([&](VerifyReport& report) {
        report.stays.Update(
            Annotate(kept, "moving ", digest.ToString(), " aside"));
      });
      return;
    }
  }
  if (!EvictId(blob.id(), EvictReason::kDamage).ok()) return;
  // It is nobody's blob any more, and no directory of ours keeps others out.
  if (is_moved) disk_.ChangeMode(fd, 0400).IgnoreError();
  verification.Report([&](VerifyReport& report) {
    ++report.dropped;
    if (is_moved) ++report.moved;
  });
}

// A file that the walk finds was accounted when it began, or added meanwhile:
// bytes are accounted before they are allocated, and given back after they are
// free.
absl::Status BlobStore::CompareLedger(VerifyReport& report) {
  const int64_t added = ledger_.Added();
  const int64_t before = ledger_.Total();
  ASSIGN_OR_RETURN(report.allocated_bytes, WalkAllocated());
  report.accounted_bytes = std::max(before, ledger_.Total());
  const int64_t most = before + (ledger_.Added() - added);
  report.unaccounted_bytes =
      std::max<int64_t>(report.allocated_bytes - most, 0);
  return absl::OkStatus();
}

// As du(1) sees the store: its directories and everything in them.
absl::StatusOr<int64_t> BlobStore::WalkAllocated() {
  int64_t bytes = 0;
  // First, so that what gets its name meanwhile is counted once.
  absl::flat_hash_set<ino_t> nameless;
  RETURN_IF_ERROR(AddNameless(nameless, bytes));
  const auto add = [&](const std::string& path) {
    // What went meanwhile allocates nothing.
    const absl::StatusOr<struct stat> attributes =
        disk_.StatPath(directory_.get(), path);
    if (!attributes.ok()) return false;
    if (!nameless.contains(attributes->st_ino)) {
      bytes += int64_t{attributes->st_blocks} * 512;
    }
    return S_ISDIR(attributes->st_mode);
  };
  std::vector<std::string> directories = {"."};
  add(".");
  while (!directories.empty()) {
    const std::string directory = std::move(directories.back());
    directories.pop_back();
    std::vector<std::string> names;
    const absl::Status listed =
        disk_.ReadDirectory(directory_.get(), directory,
                            [&](absl::string_view name, unsigned char) {
                              names.emplace_back(name);
                            });
    if (ErrnoOf(listed) == ENOENT) continue;
    RETURN_IF_ERROR(listed);
    for (const std::string& name : names) {
      std::string path = absl::StrCat(directory, "/", name);
      if (add(path)) directories.push_back(std::move(path));
    }
  }
  return bytes;
}

// Uploads, scratch files and zombies have no name, but we have them open.
absl::Status BlobStore::AddNameless(absl::flat_hash_set<ino_t>& found,
                                    int64_t& bytes) {
  ASSIGN_OR_RETURN(const struct stat store, disk_.Stat(directory_.get()));
  std::vector<std::string> names;
  RETURN_IF_ERROR(disk_.ReadDirectory(
      AT_FDCWD, "/proc/self/fd", [&](absl::string_view name, unsigned char) {
        names.emplace_back(name);
      }));
  for (const std::string& name : names) {
    // By a descriptor of our own: its owner may close the other at any time.
    const absl::StatusOr<UniqueFd> file =
        disk_.Open(AT_FDCWD, absl::StrCat("/proc/self/fd/", name), O_PATH, 0);
    if (IsOurOwnFault(file.status())) return file.status();
    if (!file.ok()) continue;
    const absl::StatusOr<struct stat> attributes = disk_.Stat(file->get());
    if (!attributes.ok() || !S_ISREG(attributes->st_mode) ||
        attributes->st_nlink != 0 || attributes->st_dev != store.st_dev) {
      continue;
    }
    if (found.insert(attributes->st_ino).second) {
      bytes += int64_t{attributes->st_blocks} * 512;
    }
  }
  return absl::OkStatus();
}

}  // namespace casement
