// Which inputs the last action of each label read, so that they can be fetched
// ahead for its next one. Kept in memory only.
//
// Thread safe.
#ifndef CASEMENT_VFS_READ_LISTS_H_
#define CASEMENT_VFS_READ_LISTS_H_

#include <cstddef>
#include <list>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "casement/digest.h"

namespace casement {

class ReadLists {
 public:
  // Of all lists together; past it those that were used longest ago go. 40
  // bytes each.
  explicit ReadLists(size_t digests_max = size_t{1} << 18)
      : digests_max_(digests_max) {}

  // Replaces the list of `label`. One that is longer than all may be is not
  // kept, an empty label has none.
  void Set(absl::string_view label, std::vector<Digest> digests);
  // Empty if there is none.
  std::vector<Digest> Get(absl::string_view label);

 private:
  struct List {
    std::string label;
    std::vector<Digest> digests;
  };

  const size_t digests_max_;
  Mutex mu_;                                    // A leaf.
  std::list<List> lists_ ABSL_GUARDED_BY(mu_);  // The last used one is first.
  absl::flat_hash_map<std::string, std::list<List>::iterator> by_label_
      ABSL_GUARDED_BY(mu_);
  size_t digests_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace casement

#endif  // CASEMENT_VFS_READ_LISTS_H_
