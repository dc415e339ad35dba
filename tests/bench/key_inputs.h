// Where keys are measured: the same inputs in a plain directory, in trees of
// links, in another file system if there is one, and in sandboxes of a daemon
// that is started in one mode after another on one store.
#ifndef CASEMENT_TESTS_BENCH_KEY_INPUTS_H_
#define CASEMENT_TESTS_BENCH_KEY_INPUTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "bench/toolchain.h"
#include "casement/digest.h"
#include "support/running_daemon.h"

namespace casement {

struct KeySizes {
  int walk_files = 0;   // In "walk",
  int small_files = 0;  // and in "small".
  int calls = 0;
  int64_t big_bytes = 0;  // Of the file "big".
  // Of trees that only sandboxes are made of, smallest first.
  std::vector<int> known_files;
  int exec_views = 0;
  std::string source;  // That is compiled.
  // Of compiles and of making trees of links, which take most of the time.
  bool few_slow_rounds = false;
};

struct KeyMode {
  const char* data_path;
  const char* transport;
  std::string name() const;
};

// A directory with the inputs in it, and what it is made of.
struct KeyPlace {
  std::string name;
  std::string directory;
  bool is_links = false;
};

class KeyInputs {
 public:
  // `other`: a folder of another file system, or none.
  KeyInputs(const KeySizes& sizes, const std::string& other);
  ~KeyInputs();
  KeyInputs(const KeyInputs&) = delete;
  KeyInputs& operator=(const KeyInputs&) = delete;

  // Starts the daemon again, in this mode. False if this kernel lacks it.
  bool Enter(const KeyMode& mode);

  RunningDaemon& daemon() { return daemon_; }
  const KeySizes& sizes() const { return sizes_; }
  const std::string& mode() const { return mode_; }
  const Toolchain& toolchain() const { return toolchain_; }
  // Of what is in every place, and of the known trees.
  const Digest& root() const { return root_; }
  const Digest& big() const { return big_; }
  const Digest& known_root(size_t index) const { return known_[index].root; }
  const std::string& known_directory(size_t index) const {
    return known_[index].directory;
  }

  // A plain directory, which is first, and the others. Trees of links are there
  // in the first mode only: no daemon serves them, and they are slow to make.
  const std::vector<KeyPlace>& controls() const { return controls_; }
  bool has_links() const { return has_links_; }
  // A sandbox for all keys of this mode.
  const std::string& sandbox() const { return sandbox_; }
  // One that the kernel knows nothing about; Release() ends them all.
  std::string NewSandbox(const Digest& root);
  std::string NewSandbox() { return NewSandbox(root_); }
  void Release();
  // Until the kernel has forgotten all but `nodes`.
  void WaitUntilForgotten(double nodes);

 private:
  struct KnownTree {
    std::string directory;
    Digest root;
  };

  void MakeControls(const std::string& plain, const std::string& other);

  const KeySizes sizes_;
  RunningDaemon daemon_;
  Toolchain toolchain_;
  Digest root_;
  Digest big_;
  std::vector<KnownTree> known_;
  std::vector<KeyPlace> controls_;
  bool has_links_ = true;
  std::string copy_;  // In the other file system.
  std::string mode_;
  std::string sandbox_;
  std::vector<std::string> released_later_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_KEY_INPUTS_H_
