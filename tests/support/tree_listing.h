// All that a folder holds, as text: two folders are alike if and only if their
// listings are equal, and a test that compares them prints what differs.
#ifndef CASEMENT_TESTS_SUPPORT_TREE_LISTING_H_
#define CASEMENT_TESTS_SUPPORT_TREE_LISTING_H_

#include <string>

namespace casement {

struct ListingOptions {
  // Times of last modification, in nanoseconds.
  bool times = true;
};

// One line a name, sorted: its path, type and mode, owner, size, link count and
// the first other name of the same file, time, target, user extended attributes
// and bytes. Files are read whole: for small trees.
std::string ListTree(const std::string& root,
                     const ListingOptions& options = {});

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_TREE_LISTING_H_
