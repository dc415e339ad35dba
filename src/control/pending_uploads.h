// Uploads whose stream ended before their last piece, kept for a while so that
// their client can go on (ByteStream.QueryWriteStatus).
//
// Who never comes back is forgotten: an upload goes when its time is over, and
// the longest kept ones go when they are too many or too large. Its bytes stay
// accounted as an upload's until then. Thread safe.
#ifndef CASEMENT_CONTROL_PENDING_UPLOADS_H_
#define CASEMENT_CONTROL_PENDING_UPLOADS_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>  // NOLINT

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "store/blob_store.h"

namespace casement {

class PendingUploads {
 public:
  struct Options {
    // Each keeps a file open.
    size_t uploads_max = 64;
    // Of all that came for them. A larger upload is not kept.
    int64_t bytes_max = int64_t{1} << 30;
    absl::Duration patience = absl::Seconds(60);
  };

  explicit PendingUploads(Options options);
  // Drops what is kept.
  ~PendingUploads();
  PendingUploads(const PendingUploads&) = delete;
  PendingUploads& operator=(const PendingUploads&) = delete;

  // In place of one with the same name.
  void Keep(absl::string_view name, std::unique_ptr<Upload> upload);
  // How many bytes came for it; nullopt if it is not kept.
  std::optional<int64_t> WrittenBytes(absl::string_view name) const;
  // The upload, to go on with, if it is kept and has so many bytes; else
  // nullptr.
  std::unique_ptr<Upload> Take(absl::string_view name, int64_t written_bytes);
  void Drop(absl::string_view name);

 private:
  struct Kept {
    std::string name;
    std::unique_ptr<Upload> upload;
    absl::Time end;
  };
  using KeptList = std::list<Kept>;

  void Run();
  KeptList::iterator FindLocked(absl::string_view name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Moves it to `gone`, for the caller to destroy without the mutex: closing a
  // large file takes a while.
  void RemoveLocked(KeptList::iterator kept, KeptList& gone)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  mutable Mutex mu_;
  CondVar changed_;
  KeptList kept_ ABSL_GUARDED_BY(mu_);  // The longest kept first.
  int64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_PENDING_UPLOADS_H_
