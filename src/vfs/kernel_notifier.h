// How vfs tells the kernel that something it remembers has changed.
#ifndef CASEMENT_VFS_KERNEL_NOTIFIER_H_
#define CASEMENT_VFS_KERNEL_NOTIFIER_H_

#include <string>

#include "vfs/attributes.h"

namespace casement {

// Thread safe. The first two calls queue a notification and return: the kernel
// takes the parent's inode lock to handle one, so it must never be sent from a
// request's thread or with a lock held. Publish the new state first.
class KernelNotifier {
 public:
  virtual ~KernelNotifier() = default;
  // Forget what `name` in `parent` is, or that there is no such name.
  virtual void InvalidateEntry(InodeId parent, std::string name) = 0;
  // Forget the attributes and the content (of a directory: the listing).
  virtual void InvalidateNode(InodeId id) = 0;
  // Returns when everything queued before this call has been told; at once in a
  // thread that answers the kernel's requests, which may be what the kernel is
  // waiting for.
  virtual void Drain() = 0;
};

}  // namespace casement

#endif  // CASEMENT_VFS_KERNEL_NOTIFIER_H_
