// The kernel's numbers for the files that it reads by itself (passthrough).
//
// A blob has at most one, shared by all its views and counted, because the
// kernel refuses a node that is opened with two. A registered number pins the
// file's disk space, so it goes with the last open file; the OpenBlob is held
// as long, and with it the store's account of the bytes.
//
// Thread safe.
#ifndef CASEMENT_FUSE_BACKING_IDS_H_
#define CASEMENT_FUSE_BACKING_IDS_H_

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "store/blob_store.h"

namespace casement {

class BackingIds {
 public:
  // The session's /dev/fuse, before the first Open().
  void SetDevice(int device_fd) { device_fd_ = device_fd; }

  // One more file is open on `blob`: the kernel's number for it. EPERM without
  // CAP_SYS_ADMIN in the initial user namespace.
  absl::StatusOr<int> Open(const std::shared_ptr<const OpenBlob>& blob);
  // One less.
  void Close(BlobId blob);

 private:
  struct Backing {
    std::shared_ptr<const OpenBlob> blob;
    uint32_t id = 0;
    int64_t opens = 0;
  };

  int device_fd_ = -1;  // Set once; the session closes it.
  // Held across the ioctl: two threads must not register one blob twice.
  Mutex mu_;
  absl::flat_hash_map<BlobId, Backing> backings_ ABSL_GUARDED_BY(mu_);
};

// Whether this kernel, this process and the file system that `fd` is on allow
// passthrough: OkStatus(), or why not.
absl::Status ProbeBacking(int device_fd, int fd);

}  // namespace casement

#endif  // CASEMENT_FUSE_BACKING_IDS_H_
