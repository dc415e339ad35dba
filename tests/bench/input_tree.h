// An action's inputs as plain files, and what executors without casement make
// of them: trees of links. As fast as system calls allow: paths are put
// together beforehand, and nothing is done twice.
#ifndef CASEMENT_TESTS_BENCH_INPUT_TREE_H_
#define CASEMENT_TESTS_BENCH_INPUT_TREE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace casement {

struct InputTree {
  struct Link {
    std::string path;    // From the tree's top.
    std::string target;  // A file: where its bytes are. Else as it is.
    bool is_file = false;
    bool is_executable = false;
  };
  std::vector<std::string> directories;  // Parents first, without the top.
  std::vector<Link> links;               // All that is no directory.
  // Where each path is in `links`; -1 for directories.
  absl::flat_hash_map<std::string, int> index;
};

// Everything below a directory. Ends the program if it cannot be read.
InputTree ScanTree(const std::string& top);

// `files` files, 50 in a directory: d0000/f00.h... Their sizes are these, over
// and over, but at least the digits of a number.
void MakeTree(const std::string& top, int files,
              const std::vector<int>& sizes = {100});
// How the `number`th of them is called.
std::string TreeFileName(int number);

// Makes a new directory `to`, each file in it a hard link, but for executables,
// which are copies: links share one mode...
void MakeHardLinkTree(const InputTree& tree, const std::string& to);
// ...or a symlink, as Bazel does...
void MakeSymlinkTree(const InputTree& tree, const std::string& to);
// ...or a copy.
void MakeCopy(const InputTree& tree, const std::string& to);

// Makes an old symlink tree one of `tree`, as Bazel's sandbox stashes do: looks
// at every name in it, removes what is not as it should be, and makes what is
// missing.
void FixSymlinkTree(const InputTree& tree, const std::string& old);

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_INPUT_TREE_H_
