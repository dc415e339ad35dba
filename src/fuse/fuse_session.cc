#include "fuse/fuse_session.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/mount_info.h"
#include "base/status.h"

namespace casement {
namespace {

// Threads that answer requests. More than cores, because a handler may wait for
// a disk.
unsigned ThreadCount() {
  return std::max(8U, 4 * std::thread::hardware_concurrency());
}

absl::Status CheckEmpty(const std::string& path) {
  DIR* const directory = opendir(path.c_str());
  if (directory == nullptr) {
    return ErrnoStatus(errno, "mount point ", path);
  }
  int entries = 0;
  while (readdir(directory) != nullptr) ++entries;
  closedir(directory);
  if (entries <= 2) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("mount point ", path, ": the directory is not empty"));
}

// Whether a casement mount is the topmost one at `path`, dead or alive.
bool IsMounted(const std::string& path) {
  bool mounted = false;
  for (const MountInfo& mount : ReadMountInfo("/proc/self/mountinfo")) {
    if (mount.path == path) mounted = mount.type == "fuse.casement";
  }
  return mounted;
}

// An argument list as libfuse wants it.
class FuseArguments {
 public:
  explicit FuseArguments(const std::vector<std::string>& words) {
    for (const std::string& word : words)
      fuse_opt_add_arg(&args_, word.c_str());
  }
  ~FuseArguments() { fuse_opt_free_args(&args_); }
  FuseArguments(const FuseArguments&) = delete;
  FuseArguments& operator=(const FuseArguments&) = delete;
  fuse_args* get() { return &args_; }

 private:
  fuse_args args_ = FUSE_ARGS_INIT(0, nullptr);
};

}  // namespace

absl::StatusOr<bool> FuseSession::PrepareMountPoint(const std::string& path) {
  bool detached = false;
  while (IsMounted(path)) {
    // stat(2) may be answered from what the kernel remembers; this asks.
    struct statfs status {};
    if (statfs(path.c_str(), &status) == 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "mount point ", path, ": another casementd is mounted there"));
    }
    if (umount2(path.c_str(), MNT_DETACH) != 0) {
      return ErrnoStatus(errno, "detaching the dead mount at ", path);
    }
    detached = true;
  }
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    return ErrnoStatus(errno, "mount point ", path);
  }
  if (!S_ISDIR(status.st_mode)) {
    return ErrnoStatus(ENOTDIR, "mount point ", path);
  }
  RETURN_IF_ERROR(CheckEmpty(path));
  return detached;
}

absl::Status FuseSession::ProbeIoUring() {
  constexpr char kParameter[] = "/sys/module/fuse/parameters/enable_uring";
  std::ifstream parameter(kParameter);
  char value = 0;
  if (!(parameter >> value)) {
    return absl::UnimplementedError(
        "io_uring: this kernel has no FUSE over io_uring (Linux 6.14)");
  }
  if (value != 'Y') {
    return absl::FailedPreconditionError(absl::StrCat(
        "io_uring: it is off; root sets it with: echo Y > ", kParameter));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<FuseSession>> FuseSession::Mount(
    const Options& options, Adapter& adapter) {
  std::string mount_options =
      "fsname=casement,subtype=casement,default_permissions,nosuid,nodev";
  if (options.allow_other) absl::StrAppend(&mount_options, ",allow_other");
  if (options.transport == Transport::kIoUring) {
    absl::StrAppend(&mount_options, ",io_uring");
  }
  FuseArguments arguments({"casementd", "-o", mount_options});
  static const fuse_lowlevel_ops kOperations = Operations();
  fuse_session* const session = fuse_session_new(arguments.get(), &kOperations,
                                                 sizeof(kOperations), &adapter);
  if (session == nullptr) {
    return absl::InternalError("libfuse refuses to make a session");
  }
  errno = 0;
  if (fuse_session_mount(session, options.mount.c_str()) != 0) {
    const int error = errno != 0 ? errno : EPERM;
    fuse_session_destroy(session);
    return ErrnoStatus(error, "mounting at ", options.mount);
  }
  adapter.backing_ids.SetDevice(fuse_session_fd(session));
  return std::unique_ptr<FuseSession>(new FuseSession(session));
}

FuseSession::~FuseSession() {
  Stop();
  fuse_session_unmount(session_);
  fuse_session_destroy(session_);
}

void FuseSession::Start() {
  loop_ = std::thread([this] { Run(); });
}

void FuseSession::Run() {
  fuse_loop_config* const config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_clone_fd(config, 1);
  fuse_loop_cfg_set_max_threads(config, ThreadCount());
  // Making and ending threads costs more than idle ones do.
  fuse_loop_cfg_set_idle_threads(config, ThreadCount());
  fuse_session_loop_mt(session_, config);
  fuse_loop_cfg_destroy(config);
  if (ended_) ended_();
}

void FuseSession::Stop() {
  fuse_session_exit(session_);
  if (loop_.joinable()) loop_.join();
}

}  // namespace casement
