// A store in a directory of its own, on a disk that can be made to fail.
#ifndef CASEMENT_TESTS_SUPPORT_STORE_FIXTURE_H_
#define CASEMENT_TESTS_SUPPORT_STORE_FIXTURE_H_

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>  // NOLINT
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
#include "casement/digest.h"
#include "gtest/gtest.h"
#include "store/blob_path.h"
#include "store/blob_store.h"
#include "support/fake_clock.h"
#include "support/fake_disk.h"
#include "support/temp_directory.h"

namespace casement {

// `size` bytes that depend on `seed`.
inline std::string BytesOf(int seed, size_t size = 100) {
  std::string bytes = absl::StrCat(seed, ":");
  uint64_t state = static_cast<uint64_t>(seed) * 2654435761u + 1;
  while (bytes.size() < size) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    bytes.push_back(static_cast<char>(state >> 56));
  }
  bytes.resize(size);
  return bytes;
}

// Allocated bytes of a directory and all in it, as du(1) counts.
inline int64_t AllocatedBelow(const std::string& path) {
  int64_t blocks = 0;
  struct stat attributes;
  if (lstat(path.c_str(), &attributes) == 0) blocks += attributes.st_blocks;
  std::error_code ignored;
  for (auto entry =
           std::filesystem::recursive_directory_iterator(path, ignored);
       entry != std::filesystem::recursive_directory_iterator();
       entry.increment(ignored)) {
    if (lstat(entry->path().c_str(), &attributes) == 0) {
      blocks += attributes.st_blocks;
    }
  }
  return blocks * 512;
}

class StoreFixture : public ::testing::Test {
 protected:
  static constexpr char kThisBoot[] = "this-boot";

  StoreFixture() {
    options_.directory = directory_.path();
    options_.boot_id = kThisBoot;
    options_.zombie_grace = absl::Milliseconds(1);
    options_.log = [this](absl::string_view line) {
      MutexLock lock(log_mu_);
      log_.emplace_back(line);
    };
  }

  ~StoreFixture() override {
    disk_.BeforeEach(nullptr);  // It may refer to what is gone.
    store_.reset();
  }

  absl::Status TryOpen() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<BlobStore>> store =
        BlobStore::Open(disk_, clock_, options_);
    if (store.ok()) store_ = *std::move(store);
    return store.status();
  }
  // Also again, with what is on disk.
  BlobStore& Open() {
    const absl::Status opened = TryOpen();
    EXPECT_EQ(opened, absl::OkStatus());
    CASEMENT_CHECK(store_ != nullptr);
    return *store_;
  }
  // What a SIGKILL leaves: nothing more is written.
  void Kill() {
    disk_.DieAtNthCall(1);
    store_.reset();
    disk_.Heal();
  }

  Digest MustPut(const std::string& bytes) {
    const Digest digest = Digest::Of(bytes);
    EXPECT_EQ(store_->Put(digest, bytes), absl::OkStatus());
    return digest;
  }
  std::string PathOf(const Digest& digest) const {
    return directory_ / ("cas/" + BlobPath(digest));
  }
  // What lies in cas/, by name.
  std::vector<std::string> FilesOnDisk() const {
    std::vector<std::string> files;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(directory_ / "cas")) {
      if (!entry.is_directory()) files.push_back(entry.path().filename());
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  // Of this process.
  static size_t Descriptors() {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd")) {
      ++count;
    }
    return count;
  }
  int64_t Allocated() const { return AllocatedBelow(directory_.path()); }
  // G3, with the invariants.
  void ExpectSound() {
    store_->CheckInvariants();
    const int64_t allocated = Allocated();
    EXPECT_GE(store_->ledger().Total(), allocated);
  }
  // Room for `bytes` more than what the store has now.
  void LimitTo(int64_t bytes) {
    options_.capacity_bytes = store_->ledger().Total() + bytes;
    Open();
  }
  std::vector<std::string> Log() {
    MutexLock lock(log_mu_);
    return log_;
  }

  TempDirectory directory_;
  FakeDisk disk_;
  FakeClock clock_;
  BlobStore::Options options_;
  Mutex log_mu_;
  std::vector<std::string> log_;
  std::unique_ptr<BlobStore> store_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_STORE_FIXTURE_H_
