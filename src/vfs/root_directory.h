// The mount's root: cas/, sandbox/ and tree/, and nothing else.
#ifndef CASEMENT_VFS_ROOT_DIRECTORY_H_
#define CASEMENT_VFS_ROOT_DIRECTORY_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vfs/area.h"
#include "vfs/node_table.h"

namespace casement {

// Thread safe: nothing changes after Start().
class RootDirectory final : public Area,
                            public std::enable_shared_from_this<RootDirectory> {
 public:
  // `children`: the fixed directories, by name, in the order of a listing.
  RootDirectory(Attributes attributes, BlobStore& store, NodeTable& nodes,
                std::vector<std::pair<std::string, InodeId>> children);

  // Puts the root into the node table.
  void Start();

  absl::StatusOr<Entry> Lookup(Node& directory,
                               absl::string_view name) override;
  void Forget(Node& node, InodeId id, uint64_t count) override {}
  absl::StatusOr<Attributes> GetAttributes(Node& node) override;
  absl::Status List(Node& directory, uint64_t position,
                    const ListSink& sink) override;
  absl::StatusOr<Limits> GetLimits() override;

 private:
  const Attributes attributes_;
  BlobStore& store_;
  NodeTable& nodes_;
  const std::vector<std::pair<std::string, InodeId>> children_;
};

}  // namespace casement

#endif  // CASEMENT_VFS_ROOT_DIRECTORY_H_
