#include "worker/output_parents.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/quote.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace casement {
namespace {

// A directory at or below `root`, whatever symlinks there are on the way.
UniqueFd OpenBelow(const UniqueFd& root, const std::string& path) {
  open_how how = {};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH;
  return UniqueFd(static_cast<int>(
      ::syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof(how))));
}

// What leads to `path`: "a" and "a/b" for "a/b/c".
void AddParents(const std::string& path, std::set<std::string>& parents) {
  for (size_t slash = path.find('/'); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    parents.insert(path.substr(0, slash));
  }
}

absl::Status Make(const UniqueFd& root, const std::string& path) {
  if (OpenBelow(root, path).valid()) return absl::OkStatus();
  const size_t slash = path.rfind('/');
  const std::string parent =
      slash == std::string::npos ? "." : path.substr(0, slash);
  const std::string name =
      slash == std::string::npos ? path : path.substr(slash + 1);
  const UniqueFd above = OpenBelow(root, parent);
  if (!above.valid() || ::mkdirat(above.get(), name.c_str(), 0755) != 0) {
    const int error = errno;
    const absl::Status failed =
        ErrnoStatus(error, "making ", QuoteName(path), " for outputs");
    // Otherwise it is the inputs that are in the way.
    return error == ENOSPC ? failed
                           : absl::FailedPreconditionError(failed.message());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MakeOutputParents(const std::string& sandbox,
                               const ActionSpec& spec) {
  const UniqueFd root(
      ::open(sandbox.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoStatus(errno, "sandbox ", sandbox);
  if (!spec.working_directory.empty() &&
      !OpenBelow(root, spec.working_directory).valid()) {
    return absl::FailedPreconditionError(
        absl::StrCat("working directory ", QuoteName(spec.working_directory),
                     ": no directory in the input root"));
  }
  // In order, so that each comes after its own parent.
  std::set<std::string> parents;
  for (const ActionSpec::Output& output : spec.outputs) {
    AddParents(spec.FromRoot(output.path), parents);
  }
  for (const std::string& parent : parents) {
    RETURN_IF_ERROR(Make(root, parent));
  }
  return absl::OkStatus();
}

}  // namespace casement
