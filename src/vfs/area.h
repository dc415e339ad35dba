// A part of the mount with rules of its own: the root, cas/, tree/, the list of
// sandboxes, and each sandbox.
//
// Calls come from many threads. What an area does not override answers as a
// read-only file system would. Nodes passed in belong to this area.
#ifndef CASEMENT_VFS_AREA_H_
#define CASEMENT_VFS_AREA_H_

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "vfs/attributes.h"
#include "vfs/node.h"

namespace casement {

// Takes one name of a listing; false says that there is no room for it.
using ListSink = std::function<bool(const Listed&)>;

// What rename(2) and link(2) work on: a directory and a name in it.
struct Place {
  Node& directory;
  absl::string_view name;
};

class Area {
 public:
  virtual ~Area() = default;

  // A missing name is an Entry with id 0, not an error. A found one counts as
  // a lookup of its node.
  virtual absl::StatusOr<Entry> Lookup(Node& directory,
                                       absl::string_view name) = 0;
  // The kernel forgot `count` lookups of the node that it calls `id`.
  virtual void Forget(Node& node, InodeId id, uint64_t count) = 0;
  virtual absl::StatusOr<Attributes> GetAttributes(Node& node) = 0;
  // Calls `sink` for each name after `position` (0: from the start), "." and
  // ".." included.
  virtual absl::Status List(Node& directory, uint64_t position,
                            const ListSink& sink) = 0;
  virtual absl::StatusOr<std::string> ReadLink(Node& node) {
    return ErrnoStatus(EINVAL, "not a symlink");
  }
  // `id` is the number under which the kernel opens the node.
  virtual absl::StatusOr<Opened> Open(Node& node, InodeId id,
                                      const OpenRequest& request) {
    return ErrnoStatus(EINVAL, "not a file");
  }
  // A file that Open() counted under this `id` was closed.
  virtual void Closed(Node& node, InodeId id, OpenedAs as) {}
  virtual absl::StatusOr<size_t> Read(Node& node, int64_t offset,
                                      absl::Span<char> buffer) {
    return ErrnoStatus(EINVAL, "not a file");
  }
  virtual absl::StatusOr<Limits> GetLimits() = 0;

  virtual absl::StatusOr<Attributes> SetAttributes(
      Node& node, const AttributeChange& change, const Caller& caller) {
    return ReadOnly();
  }
  virtual absl::StatusOr<size_t> Write(Node& node, int64_t offset,
                                       absl::string_view bytes,
                                       const WriteRequest& request) {
    return ReadOnly();
  }
  virtual absl::StatusOr<Entry> MakeDirectory(Place place, uint32_t mode,
                                              const Caller& caller) {
    return ReadOnly();
  }
  virtual absl::StatusOr<Entry> MakeFile(Place place, const NewFile& file,
                                         const Caller& caller) {
    return ReadOnly();
  }
  virtual absl::StatusOr<Entry> MakeSymlink(Place place,
                                            absl::string_view target,
                                            const Caller& caller) {
    return ReadOnly();
  }
  virtual absl::StatusOr<Entry> Link(Node& node, Place place) {
    return ReadOnly();
  }
  virtual absl::Status Unlink(Place place) { return ReadOnly(); }
  virtual absl::Status RemoveDirectory(Place place) { return ReadOnly(); }
  // `flags` as in renameat2(2). Both places are in this area.
  virtual absl::Status Rename(Place from, Place to, unsigned flags,
                              const Caller& caller) {
    return ReadOnly();
  }
  virtual absl::Status Allocate(Node& node, int mode, int64_t offset,
                                int64_t length, const Caller& caller) {
    return ReadOnly();
  }
  virtual absl::StatusOr<int64_t> Seek(Node& node, int64_t offset, int whence) {
    return ErrnoStatus(EINVAL, "not a file");
  }
  virtual absl::Status Sync(Node& node) { return absl::OkStatus(); }
  // How many bytes were copied: fewer than wanted at the end of `from`, or
  // because it is much.
  virtual absl::StatusOr<size_t> CopyRange(Node& from, int64_t from_offset,
                                           Node& to, int64_t to_offset,
                                           size_t length,
                                           const Caller& caller) {
    return ReadOnly();
  }
  // A file without a name (O_TMPFILE); Link() can give it one.
  virtual absl::StatusOr<Entry> MakeTemporary(Node& directory, uint32_t mode,
                                              const Caller& caller) {
    return ReadOnly();
  }

  // Extended attributes; the kernel has checked who may do it.
  virtual absl::StatusOr<std::string> GetXattr(Node& node,
                                               absl::string_view name) {
    return ErrnoStatus(ENODATA, "no extended attributes here");
  }
  // The names, each with a NUL at its end.
  virtual absl::StatusOr<std::string> ListXattrs(Node& node) {
    return std::string();
  }
  // `flags` as in setxattr(2).
  virtual absl::Status SetXattr(Node& node, absl::string_view name,
                                absl::string_view value, int flags) {
    return ReadOnly();
  }
  virtual absl::Status RemoveXattr(Node& node, absl::string_view name) {
    return ReadOnly();
  }

 protected:
  static absl::Status ReadOnly() {
    return ErrnoStatus(EROFS, "this part of the mount is read-only");
  }
};

}  // namespace casement

#endif  // CASEMENT_VFS_AREA_H_
