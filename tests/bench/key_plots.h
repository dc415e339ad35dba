// Pictures of what one figure cannot say: how costs grow with the tree, and how
// the times of single calls are distributed.
#ifndef CASEMENT_TESTS_BENCH_KEY_PLOTS_H_
#define CASEMENT_TESTS_BENCH_KEY_PLOTS_H_

#include <map>
#include <string>
#include <vector>

#include "bench/creation_keys.h"
#include "bench/file_keys.h"
#include "bench/key_inputs.h"

namespace casement {

class KeyPlots {
 public:
  // `folder` is made if it does not exist.
  explicit KeyPlots(std::string folder);

  // Call it in each mode, apart from measuring keys.
  void Measure(KeyInputs& inputs, int rounds);
  // Into the folder: cost_by_tree_size.svg, and latency_CALL.svg.
  void Write() const;

 private:
  const std::string folder_;
  std::vector<CreationCosts> costs_;
  // By call, then by who served it.
  std::map<std::string, std::map<std::string, std::vector<double>>> times_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_KEY_PLOTS_H_
