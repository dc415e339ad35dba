// The one class that adapters call: a mount as a set of calls on node numbers.
//
// It finds the node, hands the call to the node's area and knows nothing else.
// Thread safe. Errors carry the errno that they mean (ErrnoOf); a call on a
// number that is not known, or no more, is ESTALE.
#ifndef CASEMENT_VFS_FILE_SYSTEM_H_
#define CASEMENT_VFS_FILE_SYSTEM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "vfs/area.h"
#include "vfs/attributes.h"
#include "vfs/node_table.h"

namespace casement {

class FileSystem {
 public:
  // `table` must outlive this, and hold the fixed directories (views.h).
  explicit FileSystem(NodeTable& table) : table_(table) {}

  absl::StatusOr<Entry> Lookup(InodeId parent, absl::string_view name);
  void Forget(InodeId id, uint64_t count);
  absl::StatusOr<Attributes> GetAttributes(InodeId id);
  absl::StatusOr<Attributes> SetAttributes(InodeId id,
                                           const AttributeChange& change,
                                           const Caller& caller);
  absl::StatusOr<std::string> ReadLink(InodeId id);
  absl::Status List(InodeId id, uint64_t position, const ListSink& sink);

  absl::StatusOr<Opened> Open(InodeId id, const OpenRequest& request);
  void Closed(InodeId id, OpenedAs as);
  absl::StatusOr<size_t> Read(InodeId id, int64_t offset,
                              absl::Span<char> buffer);
  absl::StatusOr<size_t> Write(InodeId id, int64_t offset,
                               absl::string_view bytes,
                               const WriteRequest& request);
  absl::Status Allocate(InodeId id, int mode, int64_t offset, int64_t length,
                        const Caller& caller);
  absl::StatusOr<int64_t> Seek(InodeId id, int64_t offset, int whence);
  absl::Status Sync(InodeId id);
  absl::StatusOr<size_t> CopyRange(InodeId from, int64_t from_offset,
                                   InodeId to, int64_t to_offset, size_t length,
                                   const Caller& caller);

  absl::StatusOr<std::string> GetXattr(InodeId id, absl::string_view name);
  absl::StatusOr<std::string> ListXattrs(InodeId id);
  absl::Status SetXattr(InodeId id, absl::string_view name,
                        absl::string_view value, int flags);
  absl::Status RemoveXattr(InodeId id, absl::string_view name);

  absl::StatusOr<Entry> MakeDirectory(InodeId parent, absl::string_view name,
                                      uint32_t mode, const Caller& caller);
  absl::StatusOr<Entry> MakeFile(InodeId parent, absl::string_view name,
                                 const NewFile& file, const Caller& caller);
  absl::StatusOr<Entry> MakeTemporary(InodeId parent, uint32_t mode,
                                      const Caller& caller);
  absl::StatusOr<Entry> MakeSymlink(InodeId parent, absl::string_view name,
                                    absl::string_view target,
                                    const Caller& caller);
  absl::StatusOr<Entry> Link(InodeId id, InodeId parent,
                             absl::string_view name);
  absl::Status Unlink(InodeId parent, absl::string_view name);
  absl::Status RemoveDirectory(InodeId parent, absl::string_view name);
  absl::Status Rename(InodeId parent, absl::string_view name,
                      InodeId new_parent, absl::string_view new_name,
                      unsigned flags, const Caller& caller);
  absl::StatusOr<Limits> GetLimits(InodeId id);

 private:
  NodeTable& table_;
};

}  // namespace casement

#endif  // CASEMENT_VFS_FILE_SYSTEM_H_
