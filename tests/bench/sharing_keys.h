// Keys of what is there once: a blob's bytes in its store, in the page cache
// and as an action's output.
#ifndef CASEMENT_TESTS_BENCH_SHARING_KEYS_H_
#define CASEMENT_TESTS_BENCH_SHARING_KEYS_H_

#include <vector>

#include "bench/key.h"
#include "bench/key_inputs.h"

namespace casement {

// A big output is collected: how long, and how much is written meanwhile.
std::vector<KeyResult> MeasureCollect(KeyInputs& inputs, int rounds);
// A big blob is read as a file, as an executable and as a sandbox's input.
KeyResult MeasurePageCache(KeyInputs& inputs);
// Many blobs are used as executables.
KeyResult MeasureExecViews(KeyInputs& inputs);

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_SHARING_KEYS_H_
