#include "fuse/reply.h"

#include <cerrno>

#include "base/status.h"

namespace casement {
namespace {

// Seconds for which the kernel may keep what it was told. It is told when
// something changes, so: for ever.
constexpr double kForever = 1e9;

}  // namespace

int ErrnoForReply(const absl::Status& status) {
  if (const std::optional<int> error = ErrnoOf(status)) return *error;
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kAlreadyExists:
      return EEXIST;
    case absl::StatusCode::kResourceExhausted:
      return ENOSPC;
    case absl::StatusCode::kInvalidArgument:
      return EINVAL;
    case absl::StatusCode::kPermissionDenied:
      return EACCES;
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnavailable:
      return ETIMEDOUT;
    case absl::StatusCode::kCancelled:
      return EINTR;
    case absl::StatusCode::kUnimplemented:
      return ENOSYS;
    default:
      return EIO;
  }
}

struct stat StatOf(const Attributes& attributes) {
  struct stat shown {};
  shown.st_ino = attributes.number;
  shown.st_mode = attributes.mode;
  shown.st_nlink = attributes.links;
  shown.st_uid = attributes.uid;
  shown.st_gid = attributes.gid;
  shown.st_size = attributes.size;
  shown.st_blocks = attributes.blocks;
  shown.st_blksize = 4096;
  shown.st_rdev = attributes.device;
  shown.st_atim = attributes.atime;
  shown.st_mtim = attributes.mtime;
  shown.st_ctim = attributes.ctime;
  return shown;
}

fuse_entry_param EntryParamOf(const Entry& entry) {
  fuse_entry_param param{};
  param.ino = entry.id;
  param.attr = StatOf(entry.attributes);
  param.attr_timeout = entry.attributes.cacheable ? kForever : 0;
  param.entry_timeout = entry.cacheable ? kForever : 0;
  return param;
}

void ReplyError(fuse_req_t req, const absl::Status& status) {
  fuse_reply_err(req, ErrnoForReply(status));
}

void ReplyStatus(fuse_req_t req, const absl::Status& status) {
  fuse_reply_err(req, status.ok() ? 0 : ErrnoForReply(status));
}

void ReplyAttributes(fuse_req_t req, const Attributes& attributes) {
  const struct stat shown = StatOf(attributes);
  fuse_reply_attr(req, &shown, attributes.cacheable ? kForever : 0);
}

bool ReplyEntry(fuse_req_t req, const Entry& entry) {
  // A miss as an error is never remembered; as an entry without a node it is.
  if (entry.id == 0 && !entry.cacheable) {
    return fuse_reply_err(req, ENOENT) == 0;
  }
  const fuse_entry_param param = EntryParamOf(entry);
  return fuse_reply_entry(req, &param) == 0;
}

}  // namespace casement
