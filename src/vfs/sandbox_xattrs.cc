// Extended attributes of a sandbox's files and directories: those that users
// may set. The kernel has checked names, rights and kinds of files.
#include <sys/xattr.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "base/status.h"
#include "vfs/sandbox.h"

namespace casement {
namespace {

constexpr absl::string_view kPrefix = "user.";
// Of a node's names and values together. ext4 has room for less than its block
// of 4 KiB, the kernel passes on no value of more than 64 KiB.
constexpr size_t kXattrBytesMax = size_t{64} << 10;

size_t BytesOf(const std::map<std::string, std::string>& xattrs) {
  size_t bytes = 0;
  for (const auto& [name, value] : xattrs) bytes += name.size() + value.size();
  return bytes;
}

}  // namespace

absl::Status Sandbox::CheckXattrLocked(absl::string_view name) const {
  RETURN_IF_ERROR(CheckAliveLocked());
  if (!absl::StartsWith(name, kPrefix)) {
    return ErrnoStatus(EOPNOTSUPP, "extended attribute outside \"user.\"");
  }
  if (name.size() == kPrefix.size()) {
    return ErrnoStatus(EINVAL, "extended attribute without a name");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Sandbox::GetXattr(Node& node,
                                              absl::string_view name) {
  const auto& shown = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckXattrLocked(name));
  if (shown.xattrs == nullptr) return ErrnoStatus(ENODATA, "xattr");
  const auto found = shown.xattrs->find(std::string(name));
  if (found == shown.xattrs->end()) return ErrnoStatus(ENODATA, "xattr");
  return found->second;
}

absl::StatusOr<std::string> Sandbox::ListXattrs(Node& node) {
  const auto& shown = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked());
  std::string names;
  if (shown.xattrs == nullptr) return names;
  for (const auto& [name, value] : *shown.xattrs) {
    names += name;
    names.push_back('\0');
  }
  return names;
}

absl::Status Sandbox::SetXattr(Node& node, absl::string_view name,
                               absl::string_view value, int flags) {
  auto& changed = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckXattrLocked(name));
  std::map<std::string, std::string> xattrs;
  if (changed.xattrs != nullptr) xattrs = *changed.xattrs;
  const auto [place, is_new] = xattrs.try_emplace(std::string(name));
  if (is_new && (flags & XATTR_REPLACE) != 0) {
    return ErrnoStatus(ENODATA, "replacing");
  }
  if (!is_new && (flags & XATTR_CREATE) != 0) {
    return ErrnoStatus(EEXIST, "creating");
  }
  // As on ext4, this changes nothing, not even ctime.
  if (!is_new && place->second == value) return absl::OkStatus();
  place->second = std::string(value);
  if (BytesOf(xattrs) > kXattrBytesMax) {
    return ErrnoStatus(ENOSPC, "extended attributes of more than ",
                       kXattrBytesMax, " bytes");
  }
  changed.xattrs =
      std::make_unique<std::map<std::string, std::string>>(std::move(xattrs));
  changed.ctime = Now();
  MarkChangedLocked(changed);
  return absl::OkStatus();
}

absl::Status Sandbox::RemoveXattr(Node& node, absl::string_view name) {
  auto& changed = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckXattrLocked(name));
  if (changed.xattrs == nullptr ||
      changed.xattrs->erase(std::string(name)) == 0) {
    return ErrnoStatus(ENODATA, "removing");
  }
  changed.ctime = Now();
  MarkChangedLocked(changed);
  return absl::OkStatus();
}

}  // namespace casement
