// A mount, from its making to its end.
#ifndef CASEMENT_FUSE_FUSE_SESSION_H_
#define CASEMENT_FUSE_FUSE_SESSION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <utility>

#include "absl/status/statusor.h"
#include "fuse/libfuse.h"
#include "fuse/operations.h"

namespace casement {

enum class Transport : uint8_t { kDevice, kIoUring };

class FuseSession {
 public:
  struct Options {
    std::string mount;  // Absolute.
    Transport transport = Transport::kDevice;
    bool allow_other = false;
  };

  // Checks that something can be mounted at `path`: an empty directory. A mount
  // whose daemon has died (ENOTCONN) is detached first; true if there was one.
  // FailedPrecondition or NotFound otherwise.
  static absl::StatusOr<bool> PrepareMountPoint(const std::string& path);
  // Why io_uring cannot be used, and what to set; OkStatus() if it can.
  static absl::Status ProbeIoUring();

  // Mounts. `adapter` must outlive the session.
  static absl::StatusOr<std::unique_ptr<FuseSession>> Mount(
      const Options& options, Adapter& adapter);
  // Unmounts, whoever still has files open there.
  ~FuseSession();

  // Answers requests, in threads of its own, until Stop() or an unmount.
  void Start();
  void Stop();
  // Called once, from one of those threads, when the mount ends on its own.
  void OnEnd(std::function<void()> ended) { ended_ = std::move(ended); }
  fuse_session* get() { return session_; }

 private:
  explicit FuseSession(fuse_session* session) : session_(session) {}
  void Run();

  fuse_session* const session_;
  std::function<void()> ended_;
  std::thread loop_;
};

}  // namespace casement

#endif  // CASEMENT_FUSE_FUSE_SESSION_H_
