#include "vfs/file_system.h"

#include <cerrno>

#include "base/status.h"

// The node that `id` names, or ESTALE.
#define FIND_NODE(node, id)                                      \
  const boost::intrusive_ptr<Node> node##_ptr = table_.Find(id); \
  if (node##_ptr == nullptr) return Stale();                     \
  Node& node = *node##_ptr

namespace casement {
namespace {

absl::Status Stale() { return ErrnoStatus(ESTALE, "no such node"); }

}  // namespace

absl::StatusOr<Entry> FileSystem::Lookup(InodeId parent,
                                         absl::string_view name) {
  FIND_NODE(directory, parent);
  return directory.area->Lookup(directory, name);
}

void FileSystem::Forget(InodeId id, uint64_t count) {
  // Nodes of a released sandbox are gone before the kernel forgets them.
  const boost::intrusive_ptr<Node> node = table_.Find(id);
  if (node != nullptr) node->area->Forget(*node, id, count);
}

absl::StatusOr<Attributes> FileSystem::GetAttributes(InodeId id) {
  FIND_NODE(node, id);
  return node.area->GetAttributes(node);
}

absl::StatusOr<Attributes> FileSystem::SetAttributes(
    InodeId id, const AttributeChange& change, const Caller& caller) {
  FIND_NODE(node, id);
  return node.area->SetAttributes(node, change, caller);
}

absl::StatusOr<std::string> FileSystem::ReadLink(InodeId id) {
  FIND_NODE(node, id);
  return node.area->ReadLink(node);
}

absl::Status FileSystem::List(InodeId id, uint64_t position,
                              const ListSink& sink) {
  FIND_NODE(node, id);
  return node.area->List(node, position, sink);
}

absl::StatusOr<Opened> FileSystem::Open(InodeId id,
                                        const OpenRequest& request) {
  FIND_NODE(node, id);
  return node.area->Open(node, id, request);
}

void FileSystem::Closed(InodeId id, OpenedAs as) {
  const boost::intrusive_ptr<Node> node = table_.Find(id);
  if (node != nullptr) node->area->Closed(*node, id, as);
}

absl::StatusOr<size_t> FileSystem::Read(InodeId id, int64_t offset,
                                        absl::Span<char> buffer) {
  FIND_NODE(node, id);
  return node.area->Read(node, offset, buffer);
}

absl::StatusOr<size_t> FileSystem::Write(InodeId id, int64_t offset,
                                         absl::string_view bytes,
                                         const WriteRequest& request) {
  FIND_NODE(node, id);
  return node.area->Write(node, offset, bytes, request);
}

absl::Status FileSystem::Allocate(InodeId id, int mode, int64_t offset,
                                  int64_t length, const Caller& caller) {
  FIND_NODE(node, id);
  return node.area->Allocate(node, mode, offset, length, caller);
}

absl::StatusOr<int64_t> FileSystem::Seek(InodeId id, int64_t offset,
                                         int whence) {
  FIND_NODE(node, id);
  return node.area->Seek(node, offset, whence);
}

absl::Status FileSystem::Sync(InodeId id) {
  FIND_NODE(node, id);
  return node.area->Sync(node);
}

absl::StatusOr<size_t> FileSystem::CopyRange(InodeId from, int64_t from_offset,
                                             InodeId to, int64_t to_offset,
                                             size_t length,
                                             const Caller& caller) {
  FIND_NODE(source, from);
  FIND_NODE(target, to);
  if (source.area != target.area) {
    // The kernel then copies through its own pages.
    return ErrnoStatus(EXDEV, "copying between sandboxes");
  }
  return source.area->CopyRange(source, from_offset, target, to_offset, length,
                                caller);
}

absl::StatusOr<std::string> FileSystem::GetXattr(InodeId id,
                                                 absl::string_view name) {
  FIND_NODE(node, id);
  return node.area->GetXattr(node, name);
}

absl::StatusOr<std::string> FileSystem::ListXattrs(InodeId id) {
  FIND_NODE(node, id);
  return node.area->ListXattrs(node);
}

absl::Status FileSystem::SetXattr(InodeId id, absl::string_view name,
                                  absl::string_view value, int flags) {
  FIND_NODE(node, id);
  return node.area->SetXattr(node, name, value, flags);
}

absl::Status FileSystem::RemoveXattr(InodeId id, absl::string_view name) {
  FIND_NODE(node, id);
  return node.area->RemoveXattr(node, name);
}

absl::StatusOr<Entry> FileSystem::MakeDirectory(InodeId parent,
                                                absl::string_view name,
                                                uint32_t mode,
                                                const Caller& caller) {
  FIND_NODE(directory, parent);
  return directory.area->MakeDirectory({directory, name}, mode, caller);
}

absl::StatusOr<Entry> FileSystem::MakeFile(InodeId parent,
                                           absl::string_view name,
                                           const NewFile& file,
                                           const Caller& caller) {
  FIND_NODE(directory, parent);
  return directory.area->MakeFile({directory, name}, file, caller);
}

absl::StatusOr<Entry> FileSystem::MakeTemporary(InodeId parent, uint32_t mode,
                                                const Caller& caller) {
  FIND_NODE(directory, parent);
  return directory.area->MakeTemporary(directory, mode, caller);
}

absl::StatusOr<Entry> FileSystem::MakeSymlink(InodeId parent,
                                              absl::string_view name,
                                              absl::string_view target,
                                              const Caller& caller) {
  FIND_NODE(directory, parent);
  return directory.area->MakeSymlink({directory, name}, target, caller);
}

absl::StatusOr<Entry> FileSystem::Link(InodeId id, InodeId parent,
                                       absl::string_view name) {
  FIND_NODE(node, id);
  FIND_NODE(directory, parent);
  if (node.area != directory.area) {
    return ErrnoStatus(EXDEV, "link between sandboxes");
  }
  return node.area->Link(node, {directory, name});
}

absl::Status FileSystem::Unlink(InodeId parent, absl::string_view name) {
  FIND_NODE(directory, parent);
  return directory.area->Unlink({directory, name});
}

absl::Status FileSystem::RemoveDirectory(InodeId parent,
                                         absl::string_view name) {
  FIND_NODE(directory, parent);
  return directory.area->RemoveDirectory({directory, name});
}

absl::Status FileSystem::Rename(InodeId parent, absl::string_view name,
                                InodeId new_parent, absl::string_view new_name,
                                unsigned flags, const Caller& caller) {
  FIND_NODE(from, parent);
  FIND_NODE(to, new_parent);
  if (from.area != to.area) {
    return ErrnoStatus(EXDEV, "rename between sandboxes");
  }
  return from.area->Rename({from, name}, {to, new_name}, flags, caller);
}

absl::StatusOr<Limits> FileSystem::GetLimits(InodeId id) {
  FIND_NODE(node, id);
  return node.area->GetLimits();
}

}  // namespace casement
