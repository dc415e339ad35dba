// What the kernel can hold on to: a file, a directory, a symlink...
//
// A node belongs to one area of the mount and is guarded by that area's mutex;
// only `id` and `area` are set once and free to read. Each area derives the
// kinds of nodes it needs.
//
// There can be millions. So they count their owners themselves, and their small
// members come last, where those of derived kinds go on.
#ifndef CASEMENT_VFS_NODE_H_
#define CASEMENT_VFS_NODE_H_

#include <sys/stat.h>

#include <atomic>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstdint>
#include <memory>
#include <utility>

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

 private:
  // What boost::intrusive_ptr calls, from any thread.
  friend void intrusive_ptr_add_ref(const Node* node) {
    node->owners_.fetch_add(1, std::memory_order_relaxed);
  }
  friend void intrusive_ptr_release(const Node* node) {
    // What other owners did comes before the end.
    if (node->owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete node;
  }

  mutable std::atomic<uint32_t> owners_{0};
};

template <typename T, typename... Arguments>
boost::intrusive_ptr<T> MakeNode(Arguments&&... arguments) {
  return boost::intrusive_ptr<T>(new T(std::forward<Arguments>(arguments)...));
}

}  // namespace casement

#endif  // CASEMENT_VFS_NODE_H_
