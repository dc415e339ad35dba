// Which stage a path is in: sandboxes that LocalCAS made, by where they are.
//
// Thread safe.
#ifndef CASEMENT_CONTROL_STAGES_H_
#define CASEMENT_CONTROL_STAGES_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <map>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"

namespace casement {

class Stages {
 public:
  struct Stage {
    std::string sandbox;  // Its name.
    uid_t owner = 0;
  };
  // A place in a stage: `path` is relative to the sandbox.
  struct Place {
    Stage stage;
    std::string path;
  };

  // AlreadyExists if another one is at `path`, which is absolute and in its
  // shortest form.
  absl::Status Add(absl::string_view path, const Stage& stage);
  void Remove(absl::string_view path);
  // `path` is absolute. FailedPrecondition if no stage is at or above it;
  // InvalidArgument if it has "..".
  absl::StatusOr<Place> Find(absl::string_view path) const;

 private:
  mutable Mutex mu_;
  std::map<std::string, Stage, std::less<>> stages_ ABSL_GUARDED_BY(mu_);
};

// Without empty components, "." and a slash at the end. InvalidArgument if it
// is not absolute, too long, or has ".." or NUL.
absl::StatusOr<std::string> ShortestPath(absl::string_view path);

// A stage's other path: a symlink to its sandbox, in place of an empty
// directory. One thread at a time.
class StageLink {
 public:
  StageLink() = default;
  ~StageLink();
  StageLink(const StageLink&) = delete;
  StageLink& operator=(const StageLink&) = delete;

  // FailedPrecondition if something is at `path` that is neither an empty
  // directory nor a symlink of whose target `is_left` is true; else what the
  // system says.
  absl::Status Make(const std::string& path, const std::string& target,
                    absl::FunctionRef<bool(absl::string_view target)> is_left);

 private:
  void PutBack(const std::string& path);

  std::string path_;  // "": there is none.
  std::string target_;
  bool was_directory_ = false;
  struct stat directory_ = {};  // If it was.
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_STAGES_H_
