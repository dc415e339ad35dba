// The figures that casement is judged by ("keys"): their names and targets, in
// one list, and what one of them came to in one mode.
#ifndef CASEMENT_TESTS_BENCH_KEY_H_
#define CASEMENT_TESTS_BENCH_KEY_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace casement {

struct Key {
  enum class Sense : uint8_t { kAtMost, kAtLeast, kNoTarget };
  const char* name;
  const char* unit;    // "x" is a ratio.
  const char* to;      // What it is a ratio to, or what is counted.
  const char* caches;  // What the kernel knows before each round.
  Sense sense;
  double target;
};

// In the order in which they are printed.
const std::vector<Key>& AllKeys();
// Ends the program for a name that is not there.
const Key& KeyNamed(const std::string& name);
bool IsMet(const Key& key, double value);

struct KeyResult {
  std::string key;
  std::string mode;
  std::vector<double> values;  // One a round, in the key's unit.
  // The same of other ways to do it, by their names.
  std::map<std::string, std::vector<double>> others = {};
  // What is behind the values, with units in the names.
  std::map<std::string, double> figures = {};
};

// Of `key`, from what each round took: the subject's, then the control's, then
// those of `others`.
KeyResult RatioOf(const std::string& key, const std::string& mode,
                  const std::vector<std::vector<double>>& seconds,
                  const std::vector<std::string>& others = {});

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_KEY_H_
