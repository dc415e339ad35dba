// Extended attributes of a sandbox's files and directories: those that users
// may set. The kernel has checked names, rights and kinds of files.
#include <sys/xattr.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "base/status.h"
#include "vfs/sandbox.h"
#include "vfs/sandbox_nodes.h"
#include "vfs/shown.h"

namespace casement {
namespace {

constexpr absl::string_view kPrefix = "user.";
// Of a node's names and values together. ext4 has room for less than its block
// of 4 KiB, the kernel passes on no value of more than 64 KiB.
constexpr int64_t kXattrBytesMax = int64_t{64} << 10;

// Whether `name` is the hash of an input, which a write ends. Sandbox::mu_ must
// be held.
bool HasChecksum(const SandboxNode& node, absl::string_view name) {
  return name == kChecksumXattr && node.is_file() &&
         static_cast<const FileNode&>(node).is_input();
}

}  // namespace

absl::Status Sandbox::CheckXattrLocked(const SandboxNode& node,
                                       absl::string_view name) const {
  RETURN_IF_ERROR(CheckAliveLocked(node));
  if (!absl::StartsWith(name, kPrefix)) {
    return ErrnoStatus(EOPNOTSUPP, "extended attribute outside \"user.\"");
  }
  if (name.size() == kPrefix.size()) {
    return ErrnoStatus(EINVAL, "extended attribute without a name");
  }
  return absl::OkStatus();
}

absl::Status Sandbox::CheckXattrChangeLocked(const SandboxNode& node,
                                             absl::string_view name) const {
  RETURN_IF_ERROR(CheckXattrLocked(node, name));
  if (HasChecksum(node, name)) {
    return ErrnoStatus(EPERM, "the hash of an input");
  }
  // Whoever is not root was stopped by the mode already.
  return CheckInputWritableLocked(node, /*caller_uid=*/0);
}

absl::StatusOr<std::string> Sandbox::GetXattr(Node& node,
                                              absl::string_view name) {
  const auto& shown = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckXattrLocked(shown, name));
  if (shown.xattrs != nullptr) {
    const auto found = shown.xattrs->values.find(std::string(name));
    if (found != shown.xattrs->values.end()) return found->second;
  }
  if (HasChecksum(shown, name)) return ChecksumXattr(shown.input->digest);
  return ErrnoStatus(ENODATA, "xattr");
}

absl::StatusOr<std::string> Sandbox::ListXattrs(Node& node) {
  const auto& shown = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked(shown));
  std::string names;
  if (shown.xattrs == nullptr) return names;
  for (const auto& [name, value] : shown.xattrs->values) {
    names += name;
    names.push_back('\0');
  }
  return names;
}

absl::Status Sandbox::SetXattr(Node& node, absl::string_view name,
                               absl::string_view value, int flags) {
  auto& changed = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckXattrChangeLocked(changed, name));
  if (changed.xattrs == nullptr) {
    changed.xattrs = std::make_unique<Xattrs>(xattr_budget_);
  }
  Xattrs& xattrs = *changed.xattrs;
  const auto place = xattrs.values.find(std::string(name));
  const bool is_new = place == xattrs.values.end();
  if (is_new && (flags & XATTR_REPLACE) != 0) {
    return ErrnoStatus(ENODATA, "replacing");
  }
  if (!is_new && (flags & XATTR_CREATE) != 0) {
    return ErrnoStatus(EEXIST, "creating");
  }
  // As on ext4, this changes nothing, not even ctime.
  if (!is_new && place->second == value) return absl::OkStatus();
  const auto size = static_cast<int64_t>(value.size());
  const int64_t more = is_new
                           ? static_cast<int64_t>(name.size()) + size
                           : size - static_cast<int64_t>(place->second.size());
  if (more > 0 && xattrs.bytes + more > kXattrBytesMax) {
    return ErrnoStatus(ENOSPC, "extended attributes of more than ",
                       kXattrBytesMax, " bytes");
  }
  if (more > 0 && !xattr_budget_->Take(more)) {
    return ErrnoStatus(ENOSPC, "the sandbox's limit of ",
                       xattr_budget_->bytes_max(),
                       " bytes of extended attributes");
  }
  if (more < 0) xattr_budget_->GiveBack(-more);
  xattrs.bytes += more;
  xattrs.values[std::string(name)] = std::string(value);
  changed.ctime = Now();
  SettleLocked(changed);
  MarkChangedLocked(changed);
  return absl::OkStatus();
}

absl::Status Sandbox::RemoveXattr(Node& node, absl::string_view name) {
  auto& changed = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckXattrChangeLocked(changed, name));
  if (changed.xattrs == nullptr) return ErrnoStatus(ENODATA, "removing");
  Xattrs& xattrs = *changed.xattrs;
  const auto found = xattrs.values.find(std::string(name));
  if (found == xattrs.values.end()) return ErrnoStatus(ENODATA, "removing");
  const auto bytes =
      static_cast<int64_t>(found->first.size() + found->second.size());
  xattr_budget_->GiveBack(bytes);
  xattrs.bytes -= bytes;
  xattrs.values.erase(found);
  changed.ctime = Now();
  SettleLocked(changed);
  MarkChangedLocked(changed);
  return absl::OkStatus();
}

}  // namespace casement
