// Where damaged blobs are moved to: a directory outside of the store.
//
// A file keeps its bytes as they are, and is called <hash>-<size>, or
// <hash>-<size>.1 and so on where that name is taken: nothing is ever
// overwritten. On the store's own file system it is moved, which takes no room;
// to another one it is copied. Thread safe.
#ifndef CASEMENT_STORE_QUARANTINE_H_
#define CASEMENT_STORE_QUARANTINE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "store/disk.h"

namespace casement {

class Quarantine {
 public:
  // InvalidArgument for a relative path, and for one that leads into one of the
  // directories `forbidden`, which are absolute and without symlinks.
  static absl::StatusOr<Quarantine> Open(
      Disk& disk, const std::string& path,
      const std::vector<std::string>& forbidden);

  // Keeps what is open for reading as `fd`: once this returned OK, its name in
  // the store can go. Where it cannot be read, a copy has zeros.
  absl::Status Keep(int fd, const Digest& digest);

 private:
  Quarantine(Disk& disk, UniqueFd directory)
      : disk_(&disk), directory_(std::move(directory)) {}
  absl::Status KeepAs(const std::string& name, int fd);
  absl::Status Copy(int from, const std::string& name);
  absl::Status CopyBytes(int from, int to);

  Disk* disk_;
  UniqueFd directory_;
};

}  // namespace casement

#endif  // CASEMENT_STORE_QUARANTINE_H_
