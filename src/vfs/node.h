// What the kernel can hold on to: a file, a directory, a symlink...
//
// A node belongs to one area of the mount and is guarded by that area's mutex;
// only `id` and `area` are set once and free to read. Each area derives the
// kinds of nodes it needs.
#ifndef CASEMENT_VFS_NODE_H_
#define CASEMENT_VFS_NODE_H_

#include <sys/stat.h>

#include <cstdint>
#include <memory>

#include "vfs/attributes.h"

namespace casement {

class Area;

struct Node {
  Node(InodeId id, std::shared_ptr<Area> area)
      : id(id), area(std::move(area)) {}
  virtual ~Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const InodeId id;
  const std::shared_ptr<Area> area;
  // How many answers to lookups the kernel has not forgotten yet.
  uint64_t lookups = 0;
};

}  // namespace casement

#endif  // CASEMENT_VFS_NODE_H_
