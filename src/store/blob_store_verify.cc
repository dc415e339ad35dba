// How a BlobStore is checked: BlobStore::Verify().
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "store/blob_path.h"
#include "store/blob_store.h"
#include "store/scan.h"

namespace casement {
namespace {

// SHA-256 at about 2 GB/s a core: two are faster than most disks, and leave the
// others to those who work.
constexpr int kThreads = 2;
constexpr size_t kBlobsAtOnce = 256;

}  // namespace

// What the threads of one Verify() share.
struct BlobStore::Verification {
  bool repair;
  const std::function<void(int64_t, int64_t)>& progress;
  int64_t bytes_in_all;
  // Taken for a piece of work and for its result.
  Mutex mu;
  uint64_t position ABSL_GUARDED_BY(mu) = 0;
  VerifyReport report ABSL_GUARDED_BY(mu);
  absl::Status status ABSL_GUARDED_BY(mu);
};

absl::StatusOr<BlobStore::VerifyReport> BlobStore::Verify(
    bool repair, const std::function<void(int64_t, int64_t)>& progress) {
  Verification verification = {repair, progress, GetStats().size_bytes};
  std::vector<std::thread> threads;
  for (int i = 1; i < kThreads; ++i) {
    threads.emplace_back([&] { VerifySome(verification); });
  }
  VerifySome(verification);
  for (std::thread& thread : threads) thread.join();
  MutexLock lock(verification.mu);
  RETURN_IF_ERROR(verification.status);
  VerifyReport& report = verification.report;
  // While others write, the account before or after the walk may be the lower.
  const int64_t accounted = ledger_.Total();
  ASSIGN_OR_RETURN(report.allocated_bytes, WalkAllocated());
  report.accounted_bytes = std::max(accounted, ledger_.Total());
  std::sort(report.damaged.begin(), report.damaged.end());
  return std::move(report);
}

void BlobStore::VerifySome(Verification& verification) {
  for (;;) {
    std::vector<Listed> blobs;
    {
      MutexLock lock(verification.mu);
      if (!verification.status.ok()) return;
      blobs = List(verification.position, kBlobsAtOnce);
      if (blobs.empty()) return;
      verification.position = blobs.back().position + 1;
    }
    for (const Listed& blob : blobs) {
      const absl::Status status = VerifyBlob(blob.digest, verification);
      if (status.ok()) continue;
      MutexLock lock(verification.mu);
      verification.status.Update(status);
      return;
    }
  }
}

absl::Status BlobStore::VerifyBlob(const Digest& digest,
                                   Verification& verification) {
  // Not by OpenDigest(): that counts as a use.
  const std::string path = BlobPath(digest);
  const absl::StatusOr<UniqueFd> fd =
      disk_.Open(cas_.get(), path, O_RDONLY | O_NOFOLLOW, 0);
  if (ErrnoOf(fd.status()) == EMFILE || ErrnoOf(fd.status()) == ENFILE) {
    return fd.status();
  }
  // Evicted meanwhile.
  if (!fd.ok() && !Contains(digest)) return absl::OkStatus();
  bool is_good = false;
  if (fd.ok()) {
    const absl::StatusOr<Digest> hashed =
        HashFile(disk_, fd->get(), [&](int64_t bytes) {
          MutexLock lock(verification.mu);
          verification.report.bytes += bytes;
          if (verification.progress) {
            verification.progress(verification.report.bytes,
                                  verification.bytes_in_all);
          }
        });
    is_good = hashed.ok() && *hashed == digest;
  }
  if (!is_good && verification.repair) DropDamaged(digest);
  MutexLock lock(verification.mu);
  ++verification.report.blobs;
  if (!is_good) verification.report.damaged.push_back(digest);
  return absl::OkStatus();
}

// As du(1) sees the store: its directories and everything in them.
absl::StatusOr<int64_t> BlobStore::WalkAllocated() {
  int64_t bytes = 0;
  const auto add = [&](const std::string& path) {
    // What went meanwhile allocates nothing.
    const absl::StatusOr<struct stat> attributes =
        disk_.StatPath(directory_.get(), path);
    if (attributes.ok()) bytes += int64_t{attributes->st_blocks} * 512;
    return attributes.ok() && S_ISDIR(attributes->st_mode);
  };
  std::vector<std::string> directories = {"."};
  add(".");
  while (!directories.empty()) {
    const std::string directory = std::move(directories.back());
    directories.pop_back();
    std::vector<std::string> names;
    RETURN_IF_ERROR(
        disk_.ReadDirectory(directory_.get(), directory,
                            [&](absl::string_view name, unsigned char) {
                              names.emplace_back(name);
                            }));
    for (const std::string& name : names) {
      std::string path = absl::StrCat(directory, "/", name);
      if (add(path)) directories.push_back(std::move(path));
    }
  }
  return bytes;
}

}  // namespace casement
