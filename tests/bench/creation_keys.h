// Keys of making sandboxes, against trees of links and copies.
#ifndef CASEMENT_TESTS_BENCH_CREATION_KEYS_H_
#define CASEMENT_TESTS_BENCH_CREATION_KEYS_H_

#include <string>
#include <vector>

#include "bench/key.h"
#include "bench/key_inputs.h"

namespace casement {

std::vector<KeyResult> MeasureCreationKeys(KeyInputs& inputs, int rounds);

// Seconds that each way takes to give an action a tree of so many files.
struct CreationCosts {
  std::string way;
  std::vector<std::pair<int, double>> seconds;  // By files.
};
std::vector<CreationCosts> CostsByTreeSize(KeyInputs& inputs, int rounds);

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_CREATION_KEYS_H_
