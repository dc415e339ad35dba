#include "control/stages.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/quote.h"
#include "base/status.h"
#include "control/request_limits.h"

namespace casement {
namespace {

// nullopt if there is no symlink.
std::optional<std::string> TargetOf(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t bytes = ::readlink(path.c_str(), target, sizeof(target));
  if (bytes < 0) return std::nullopt;
  return std::string(target, bytes);
}

}  // namespace

absl::StatusOr<std::string> ShortestPath(absl::string_view path) {
  const auto wrong = [path](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("path ", QuoteName(path.substr(0, 256)), ": ", why));
  };
  if (path.empty() || path.front() != '/') return wrong("not absolute");
  if (path.size() > kPathBytesMax) return wrong("too long");
  if (path.find('\0') != path.npos) return wrong("has a NUL");
  std::string shortest;
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") return wrong("has \"..\"");
    absl::StrAppend(&shortest, "/", part);
  }
  return shortest.empty() ? std::string("/") : shortest;
}

absl::Status Stages::Add(absl::string_view path, const Stage& stage) {
  MutexLock lock(mu_);
  if (stages_.emplace(std::string(path), stage).second) {
    return absl::OkStatus();
  }
  return absl::AlreadyExistsError(
      absl::StrCat("path ", QuoteName(path), ": another stage is there"));
}

void Stages::Remove(absl::string_view path) {
  MutexLock lock(mu_);
  if (const auto found = stages_.find(path); found != stages_.end()) {
    stages_.erase(found);
  }
}

absl::StatusOr<Stages::Place> Stages::Find(absl::string_view path) const {
  ASSIGN_OR_RETURN(const std::string shortest, ShortestPath(path));
  MutexLock lock(mu_);
  for (absl::string_view above = shortest; !above.empty();
       above = above.substr(0, above.rfind('/'))) {
    const auto found = stages_.find(above);
    if (found == stages_.end()) continue;
    absl::string_view below = absl::string_view(shortest).substr(above.size());
    if (!below.empty()) below.remove_prefix(1);
    return Place{.stage = found->second, .path = std::string(below)};
  }
  return absl::FailedPreconditionError(
      absl::StrCat("path ", QuoteName(shortest), ": in no stage"));
}

absl::Status StageLink::Make(
    const std::string& path, const std::string& target,
    absl::FunctionRef<bool(absl::string_view target)> is_left) {
  const std::optional<std::string> before = TargetOf(path);
  if (before.has_value() && is_left(*before)) ::unlink(path.c_str());
  if (::lstat(path.c_str(), &directory_) == 0 && ::rmdir(path.c_str()) == 0) {
    was_directory_ = true;
  } else if (errno == ENOTDIR || errno == ENOTEMPTY || errno == EEXIST) {
    return absl::FailedPreconditionError(absl::StrCat(
        "path ", QuoteName(path), ": neither free nor an empty directory"));
  } else if (errno != ENOENT) {
    return ErrnoStatus(errno, "removing directory ", QuoteName(path));
  }
  if (::symlink(target.c_str(), path.c_str()) == 0) {
    path_ = path;
    target_ = target;
    return absl::OkStatus();
  }
  const absl::Status failed =
      ErrnoStatus(errno, "making symlink ", QuoteName(path));
  PutBack(path);
  return failed;
}

void StageLink::PutBack(const std::string& path) {
  if (!was_directory_ || ::mkdir(path.c_str(), 0700) != 0) return;
  // As well as we may.
  [[maybe_unused]] const int owned =
      ::lchown(path.c_str(), directory_.st_uid, directory_.st_gid);
  ::chmod(path.c_str(), directory_.st_mode & 07777);
}

StageLink::~StageLink() {
  if (path_.empty()) return;
  // Nobody else's, should somebody have put something there.
  if (TargetOf(path_) != target_) return;
  if (::unlink(path_.c_str()) == 0) PutBack(path_);
}

}  // namespace casement
