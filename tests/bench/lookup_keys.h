// What finding a name costs that the kernel has not heard of, against a request
// that asks for nothing.
#ifndef CASEMENT_TESTS_BENCH_LOOKUP_KEYS_H_
#define CASEMENT_TESTS_BENCH_LOOKUP_KEYS_H_

#include "bench/key.h"
#include "bench/key_inputs.h"

namespace casement {

KeyResult MeasureLookup(KeyInputs& inputs, int rounds);
// Memory for what was found, and what is left of it once it is forgotten.
KeyResult MeasureNodeMemory(KeyInputs& inputs);

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_LOOKUP_KEYS_H_
