// A remote cache in memory, that can be slow, wrong or gone.
#ifndef CASEMENT_TESTS_SUPPORT_FAKE_BLOB_SOURCE_H_
#define CASEMENT_TESTS_SUPPORT_FAKE_BLOB_SOURCE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/status.h"
#include "casement/digest.h"
#include "store/blob_source.h"

namespace casement {

// Thread safe.
class FakeBlobSource final : public BlobSource {
 public:
  Digest Add(const std::string& bytes) {
    const Digest digest = Digest::Of(bytes);
    AddWrong(digest, bytes);
    return digest;
  }
  void AddWrong(const Digest& digest, const std::string& bytes) {
    MutexLock lock(mu_);
    blobs_[digest] = bytes;
  }
  void Remove(const Digest& digest) {
    MutexLock lock(mu_);
    blobs_.erase(digest);
  }
  bool Has(const Digest& digest) {
    MutexLock lock(mu_);
    return blobs_.contains(digest);
  }
  // What every call says from now on.
  void SetError(const absl::Status& error) {
    MutexLock lock(mu_);
    error_ = error;
  }
  // Calls wait until Resume().
  void Pause() {
    MutexLock lock(mu_);
    is_paused_ = true;
  }
  // A Fetch() waits once it has given at least so many bytes, until Resume().
  void PauseAfter(int64_t bytes) {
    MutexLock lock(mu_);
    pause_after_ = bytes;
  }
  void Resume() {
    MutexLock lock(mu_);
    is_paused_ = false;
    pause_after_.reset();
    changed_.NotifyAll();
  }
  void WaitForCalls(int count) {
    MutexLock lock(mu_);
    while (calls_ < count) changed_.Wait(mu_);
  }
  int calls() {
    MutexLock lock(mu_);
    return calls_;
  }
  // Called before each question and each blob that is sent, for the first of
  // its blobs, with no lock held; an error is the call's. Set before the calls.
  using Hook = std::function<absl::Status(const Digest&)>;
  void BeforeEach(Hook hook) { hook_ = std::move(hook); }
  // In the order in which they came, as far as they did.
  std::vector<Digest> sent() {
    MutexLock lock(mu_);
    return sent_;
  }
  // In the order in which they were asked for.
  std::vector<Digest> fetched() {
    MutexLock lock(mu_);
    return fetched_;
  }

  absl::StatusOr<std::vector<Digest>> FindMissing(
      absl::Span<const Digest> digests) override {
    if (hook_ && !digests.empty()) RETURN_IF_ERROR(hook_(digests[0]));
    MutexLock lock(mu_);
    absl::Status status = EnterLocked();
    if (!status.ok()) return status;
    std::vector<Digest> missing;
    for (const Digest& digest : digests) {
      if (!blobs_.contains(digest)) missing.push_back(digest);
    }
    return missing;
  }

  int64_t small_bytes_max() const override { return 4 << 20; }
  size_t small_blobs_max() const override { return 1000; }

  void FetchSmall(absl::Span<const Digest> digests, Take take) override {
    absl::Status status;
    std::vector<absl::StatusOr<std::string>> found;
    {
      MutexLock lock(mu_);
      fetched_.insert(fetched_.end(), digests.begin(), digests.end());
      status = EnterLocked();
      for (const Digest& digest : digests) found.push_back(FindLocked(digest));
    }
    for (size_t i = 0; i < digests.size(); ++i) {
      if (!status.ok()) {
        take(digests[i], status);
      } else if (!found[i].ok()) {
        take(digests[i], found[i].status());
      } else {
        take(digests[i], *found[i]);
      }
    }
  }

  absl::Status Fetch(const Digest& digest, Sink sink) override {
    absl::StatusOr<std::string> bytes;
    {
      MutexLock lock(mu_);
      fetched_.push_back(digest);
      absl::Status status = EnterLocked();
      if (!status.ok()) return status;
      bytes = FindLocked(digest);
    }
    if (!bytes.ok()) return bytes.status();
    absl::string_view left = *bytes;
    while (!left.empty()) {
      absl::Status status = sink(left.substr(0, kPieceBytes));
      if (!status.ok()) return status;
      left.remove_prefix(std::min(left.size(), kPieceBytes));
      MutexLock lock(mu_);
      const auto given = static_cast<int64_t>(bytes->size() - left.size());
      while (pause_after_.value_or(given + 1) <= given && !is_cancelled_) {
        changed_.Wait(mu_);
      }
      if (is_cancelled_) return absl::CancelledError("cancelled");
    }
    return absl::OkStatus();
  }

  void SendSmall(absl::Span<const SmallBlob> blobs, Sent sent) override {
    absl::Status status;
    if (hook_) status = hook_(blobs[0].digest);
    if (status.ok()) {
      MutexLock lock(mu_);
      status = EnterLocked();
      for (const SmallBlob& blob : blobs) {
        if (status.ok()) TakeLocked(blob.digest, blob.bytes);
      }
    }
    for (const SmallBlob& blob : blobs) sent(blob.digest, status);
  }

  absl::Status Send(const Digest& digest, Read read) override {
    if (hook_) RETURN_IF_ERROR(hook_(digest));
    std::string bytes;
    while (static_cast<int64_t>(bytes.size()) < digest.size_bytes()) {
      absl::StatusOr<absl::string_view> piece =
          read(static_cast<int64_t>(bytes.size()));
      if (!piece.ok()) return piece.status();
      bytes.append(piece->data(), piece->size());
    }
    MutexLock lock(mu_);
    absl::Status status = EnterLocked();
    if (status.ok()) TakeLocked(digest, bytes);
    return status;
  }

  void Cancel() override {
    MutexLock lock(mu_);
    is_cancelled_ = true;
    changed_.NotifyAll();
  }

 private:
  static constexpr size_t kPieceBytes = 100'000;

  absl::Status EnterLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    ++calls_;
    changed_.NotifyAll();
    while (is_paused_ && !is_cancelled_) changed_.Wait(mu_);
    return is_cancelled_ ? absl::CancelledError("cancelled")
                         : WithCode(error_.code(), error_);
  }
  void TakeLocked(const Digest& digest, const std::string& bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    blobs_[digest] = bytes;
    sent_.push_back(digest);
  }
  absl::StatusOr<std::string> FindLocked(const Digest& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto found = blobs_.find(digest);
    if (found == blobs_.end()) return absl::NotFoundError("not here");
    return found->second;
  }

  Hook hook_;
  Mutex mu_;
  absl::flat_hash_map<Digest, std::string> blobs_ ABSL_GUARDED_BY(mu_);
  std::vector<Digest> fetched_ ABSL_GUARDED_BY(mu_);
  std::vector<Digest> sent_ ABSL_GUARDED_BY(mu_);
  absl::Status error_ ABSL_GUARDED_BY(mu_);
  int calls_ ABSL_GUARDED_BY(mu_) = 0;
  bool is_paused_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<int64_t> pause_after_ ABSL_GUARDED_BY(mu_);
  bool is_cancelled_ ABSL_GUARDED_BY(mu_) = false;
  CondVar changed_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_FAKE_BLOB_SOURCE_H_
