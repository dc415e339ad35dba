// Keys of a compiler at work, with itself and all headers among its inputs.
#ifndef CASEMENT_TESTS_BENCH_COMPILE_KEYS_H_
#define CASEMENT_TESTS_BENCH_COMPILE_KEYS_H_

#include <vector>

#include "bench/key.h"
#include "bench/key_inputs.h"

namespace casement {

std::vector<KeyResult> MeasureCompileKeys(KeyInputs& inputs, int rounds);

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_COMPILE_KEYS_H_
