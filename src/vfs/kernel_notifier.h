// How vfs tells the kernel that something it remembers has changed.
#ifndef CASEMENT_VFS_KERNEL_NOTIFIER_H_
#define CASEMENT_VFS_KERNEL_NOTIFIER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "vfs/attributes.h"

namespace casement {

struct KernelNote {
  enum class Kind : uint8_t {
    // Forget what `name` in the directory `id` is, or that there is no such
    // name. Of a directory it drops all that is known below it.
    kEntry,
    // Ask again what `name` is before it is used; what is below stays known.
    kExpiry,
    // Forget the attributes and the content (of a directory: the listing).
    kNode,
    // Forget the attributes.
    kAttributes,
  };
  static KernelNote Entry(InodeId parent, std::string name) {
    return {Kind::kEntry, parent, std::move(name)};
  }
  static KernelNote Expiry(InodeId parent, std::string name) {
    return {Kind::kExpiry, parent, std::move(name)};
  }
  static KernelNote OfNode(InodeId id) { return {Kind::kNode, id, ""}; }
  static KernelNote Attributes(InodeId id) {
    return {Kind::kAttributes, id, ""};
  }

  Kind kind = Kind::kNode;
  InodeId id = 0;
  std::string name;
};
inline constexpr size_t kKernelNoteKinds = 4;

// Thread safe. Notes are queued and told by another thread: the kernel takes
// the parent's inode lock to handle one, so it must never be told from a
// request's thread or with a lock held. Publish the new state first.
class KernelNotifier {
 public:
  virtual ~KernelNotifier() = default;
  virtual void Queue(KernelNote note) = 0;
  // Queues a note of kind kAttributes a moment later, once for many calls. For
  // changes of which the kernel knows: it takes an answer to a stat(2) that is
  // older, but comes after it has invalidated what it knew, for good.
  virtual void Settle(InodeId id) = 0;
  // Returns when everything queued before this call has been told; at once in a
  // thread that answers the kernel's requests, which may be what the kernel is
  // waiting for.
  virtual void Drain() = 0;
  // Queues these and returns when they have been told: false if the kernel
  // refused one. Never in a thread that answers requests.
  virtual bool Tell(std::vector<KernelNote> notes) = 0;

  void InvalidateEntry(InodeId parent, std::string name) {
    Queue(KernelNote::Entry(parent, std::move(name)));
  }
  void InvalidateNode(InodeId id) { Queue(KernelNote::OfNode(id)); }
};

}  // namespace casement

#endif  // CASEMENT_VFS_KERNEL_NOTIFIER_H_
