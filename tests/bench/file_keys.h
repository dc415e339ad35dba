// Keys that are calls on files: stat, open, read, map, create, write, a walk
// and tar, each in a sandbox and in every control.
#ifndef CASEMENT_TESTS_BENCH_FILE_KEYS_H_
#define CASEMENT_TESTS_BENCH_FILE_KEYS_H_

#include <functional>
#include <string>
#include <vector>

#include "bench/key.h"
#include "bench/key_inputs.h"

namespace casement {

std::vector<KeyResult> MeasureFileKeys(KeyInputs& inputs, int rounds);

// Looks at every file below a directory; how many there are.
int WalkTree(const std::string& top);

// Seconds that each of `calls` calls took: "stat" and "open, read, close" of
// one file, and "first stat" of different ones.
struct CallTimes {
  std::string call;
  std::vector<double> seconds;
};
std::vector<CallTimes> TimeCalls(const std::string& directory, int calls);

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_FILE_KEYS_H_
