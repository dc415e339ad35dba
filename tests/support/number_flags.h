// The command line of a test that can be played for longer or from another
// seed: "--name=N", after GoogleTest has taken its own words.
#ifndef CASEMENT_TESTS_SUPPORT_NUMBER_FLAGS_H_
#define CASEMENT_TESTS_SUPPORT_NUMBER_FLAGS_H_

#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <type_traits>
#include <variant>

namespace casement {

using NumberFlags = std::map<std::string, std::variant<int*, uint64_t*, bool*>>;

// False for a word that is not one of `flags`, having said so; throws for what
// is no number.
inline bool ParseNumberFlags(int argc, char** argv, const NumberFlags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.find('=');
    const auto flag = flags.find(word.substr(0, equals));
    if (flag == flags.end() || equals == std::string::npos) {
      std::cerr << "unknown argument " << word << "\n";
      return false;
    }
    const uint64_t number = std::stoull(word.substr(equals + 1));
    std::visit(
        [number](auto* value) {
          *value = static_cast<std::remove_pointer_t<decltype(value)>>(number);
        },
        flag->second);
  }
  return true;
}

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_NUMBER_FLAGS_H_
