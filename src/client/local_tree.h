// The Merkle tree of a local directory.
//
// Files are hashed on all cores, in memory that depends on their number and
// names only. Depth is no matter: nothing recurses, and paths may be longer
// than a system call takes. Immutable once scanned, so that threads may share
// it.
#ifndef CASEMENT_CLIENT_LOCAL_TREE_H_
#define CASEMENT_CLIENT_LOCAL_TREE_H_

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "client/progress.h"
#include "model/directory.h"

namespace casement {

// Of a file that has been opened: hashes it. Aborted if it changes meanwhile.
// `path` is for errors.
absl::StatusOr<Digest> HashFile(int fd, absl::string_view path);

class LocalTree {
 public:
  struct Options {
    // Keep mtimes and permission bits.
    bool node_properties = false;
  };

  // The errno if something cannot be read. InvalidArgument for what is no file,
  // directory or symlink. Aborted if something changes meanwhile. All name it.
  static absl::StatusOr<LocalTree> Scan(const std::string& directory,
                                        const Options& options,
                                        ProgressGatherer& progress);

  const Digest& root() const { return folders_.front().digest; }
  size_t directories() const { return folders_.size(); }
  size_t symlinks() const { return symlinks_.size(); }

  // A file, or a Directory message.
  struct Blob {
    Digest digest;
    bool is_directory;
    size_t index;  // Ours.
  };
  // All that the root reaches, each digest once.
  std::vector<Blob> Blobs() const;

  // The bytes of a Directory message.
  const std::string& Message(const Blob& blob) const;
  // A file to read again.
  absl::StatusOr<UniqueFd> Open(const Blob& blob) const;
  std::string PathOf(const Blob& blob) const;

 private:
  struct File {
    size_t folder;
    std::string name;
    bool is_executable;
    NodeProperties properties;
    Digest digest;
  };
  struct Symlink {
    std::string name;
    std::string target;
    NodeProperties properties;
  };
  // What one directory holds is contiguous in each list; children come after
  // their parents.
  struct Folder {
    size_t parent = 0;
    std::string name;
    NodeProperties properties;
    size_t first_folder = 0, end_folder = 0;
    size_t first_file = 0, end_file = 0;
    size_t first_symlink = 0, end_symlink = 0;
    std::string message = {};
    Digest digest = {};
  };

  LocalTree() = default;
  // A directory that stays open for what is below it: opening by path from the
  // root each time takes quadratic time where a tree is deep.
  struct Opened {
    size_t index = 0;
    UniqueFd fd;
  };
  absl::StatusOr<UniqueFd> OpenFolder(size_t index, Opened& parent,
                                      Opened& previous) const;
  absl::Status List(size_t index, int fd, ProgressGatherer& progress);
  absl::Status AddEntry(size_t index, int folder_fd, const std::string& name,
                        ProgressGatherer& progress);
  absl::Status HashFiles(ProgressGatherer& progress);
  void BuildMessages();
  NodeProperties PropertiesOf(const struct stat& attributes) const;
  // Relative to the root; "" for the root itself.
  std::string RelativePath(size_t folder, absl::string_view name) const;
  std::string FullPath(size_t folder, absl::string_view name) const;
  absl::StatusOr<UniqueFd> OpenBelow(size_t folder, absl::string_view name,
                                     int flags) const;

  Options options_;
  std::string path_;
  UniqueFd root_fd_;
  std::vector<Folder> folders_;  // The root is the first.
  std::vector<File> files_;
  std::vector<Symlink> symlinks_;
};

}  // namespace casement

#endif  // CASEMENT_CLIENT_LOCAL_TREE_H_
