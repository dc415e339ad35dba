// The keys as one table, and for programs.
#ifndef CASEMENT_TESTS_BENCH_KEY_REPORT_H_
#define CASEMENT_TESTS_BENCH_KEY_REPORT_H_

#include <string>
#include <vector>

#include "bench/key.h"
#include "bench/key_inputs.h"

namespace casement {

struct KeyReport {
  bool quick = false;
  int rounds = 0;
  KeySizes sizes;
  std::string other;               // The other file system's folder, or none.
  std::vector<std::string> modes;  // Those that this kernel has.
  std::vector<KeyResult> results;
};

// Both end the program if a key is missing in a mode: a table with a hole would
// look like a table.
void PrintTable(const KeyReport& report);
// {"kernel": ..., "keys": {NAME: {"ratio": ..., "modes": {MODE: ...}}}}
void PrintJson(const KeyReport& report);

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_KEY_REPORT_H_
