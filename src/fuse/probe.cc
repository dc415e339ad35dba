#include "fuse/probe.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/status.h"
#include "base/unique_fd.h"
#include "fuse/backing_ids.h"
#include "fuse/libfuse.h"

namespace casement {
namespace {

constexpr long kOverlayfsMagic = 0x794c7630;  // NOLINT: as in statfs(2).

struct ProbeState {
  bool stacked = false;
  bool capable = false;
};

void OnProbeInit(void* userdata, fuse_conn_info* connection) {
  auto& state = *static_cast<ProbeState*>(userdata);
  state.capable = fuse_set_feature_flag(connection, FUSE_CAP_PASSTHROUGH);
  connection->max_backing_stack_depth = state.stacked ? 1 : 0;
}

// A temporary directory with a session mounted on it.
class ProbeMount {
 public:
  explicit ProbeMount(ProbeState& state) {
    fuse_lowlevel_ops operations{};
    operations.init = OnProbeInit;
    fuse_args arguments = FUSE_ARGS_INIT(0, nullptr);
    fuse_opt_add_arg(&arguments, "casementd");
    session_ =
        fuse_session_new(&arguments, &operations, sizeof(operations), &state);
    fuse_opt_free_args(&arguments);
  }
  ~ProbeMount() {
    if (mounted_) fuse_session_unmount(session_);
    if (session_ != nullptr) fuse_session_destroy(session_);
    if (made_) rmdir(path_);
  }
  ProbeMount(const ProbeMount&) = delete;
  ProbeMount& operator=(const ProbeMount&) = delete;

  // Mounts, and answers the kernel's first request, INIT.
  absl::Status Start() {
    if (session_ == nullptr) return absl::InternalError("libfuse: no session");
    made_ = mkdtemp(path_) != nullptr;
    if (!made_) return ErrnoStatus(errno, "making a directory for a probe");
    mounted_ = fuse_session_mount(session_, path_) == 0;
    if (!mounted_) return absl::UnavailableError("a mount for a probe failed");
    fuse_buf buffer{};
    if (fuse_session_receive_buf(session_, &buffer) <= 0) {
      return absl::UnavailableError("the kernel sent no INIT to a probe");
    }
    fuse_session_process_buf(session_, &buffer);
    free(buffer.mem);  // NOLINT: libfuse allocated it with malloc().
    return absl::OkStatus();
  }
  int device_fd() const { return fuse_session_fd(session_); }

 private:
  char path_[32] = "/tmp/casement-probe-XXXXXX";
  fuse_session* session_ = nullptr;
  bool made_ = false;
  bool mounted_ = false;
};

}  // namespace

bool IsStacked(const std::string& path) {
  struct statfs status {};
  return statfs(path.c_str(), &status) == 0 && status.f_type == kOverlayfsMagic;
}

absl::Status ProbePassthrough(const std::string& store) {
  if (geteuid() != 0) {
    return absl::PermissionDeniedError("passthrough needs CAP_SYS_ADMIN");
  }
  ProbeState state = {.stacked = IsStacked(store)};
  ProbeMount mount(state);
  RETURN_IF_ERROR(mount.Start());
  if (!state.capable) {
    return absl::UnimplementedError("passthrough needs Linux 6.9");
  }
  const UniqueFd file(
      open(store.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0400));
  // Read-only media: any file there is as good.
  const UniqueFd other(file.valid() ? -1
                                    : open((store + "/lock").c_str(),
                                           O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  const int fd = file.valid() ? file.get() : other.get();
  return Annotate(ProbeBacking(mount.device_fd(), fd),
                  "passthrough of files in ", store);
}

}  // namespace casement
