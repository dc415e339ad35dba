// libfuse's calls -> vfs calls. No decisions: each handler converts, calls and
// replies.
#ifndef CASEMENT_FUSE_OPERATIONS_H_
#define CASEMENT_FUSE_OPERATIONS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "fuse/backing_ids.h"
#include "fuse/libfuse.h"
#include "fuse/waiting_requests.h"
#include "vfs/data_path.h"
#include "vfs/file_system.h"

namespace casement {

// The kinds of requests that are counted (metric casement_fuse_requests_total).
enum class Request : uint8_t {
  kLookup,
  kForget,
  kGetattr,
  kSetattr,
  kReadlink,
  kMknod,
  kMkdir,
  kUnlink,
  kRmdir,
  kSymlink,
  kRename,
  kLink,
  kOpen,
  kRead,
  kWrite,
  kRelease,
  kFsync,
  kOpendir,
  kReaddir,
  kReaddirplus,
  kStatfs,
  kCreate,
  kFallocate,
  kLseek,
  kTmpfile,
  kCopyFileRange,
  kGetxattr,
  kListxattr,
  kSetxattr,
  kRemovexattr,
};
inline constexpr size_t kRequestKinds = 30;
// "lookup", "forget"...
absl::string_view NameOf(Request request);

// What the handlers work with: the session's user data.
struct Adapter {
  FileSystem& vfs;
  DataPath data_path;
  // Whether the store lies on a file system that is itself on top of others.
  bool store_is_stacked = false;
  bool wants_io_uring = false;
  BackingIds backing_ids;
  std::array<std::atomic<int64_t>, kRequestKinds> requests{};
  std::unique_ptr<WaitingRequests> waiting = nullptr;  // With a remote cache.
  // Known once the kernel has said INIT.
  std::atomic<bool> over_io_uring{false};
  // Whether a write past the kernel's pages drops what it has of them.
  std::atomic<bool> writes_may_be_direct{false};
};

// `adapter` is the user data that the session must be made with.
fuse_lowlevel_ops Operations();

}  // namespace casement

#endif  // CASEMENT_FUSE_OPERATIONS_H_
