// A compiler, its libraries, one source of casement's and the headers that it
// includes, as the inputs of an action that compiles it: nothing outside of
// them is read, but for the dynamic linker.
#ifndef CASEMENT_TESTS_BENCH_TOOLCHAIN_H_
#define CASEMENT_TESTS_BENCH_TOOLCHAIN_H_

#include <string>
#include <vector>

namespace casement {

class Toolchain {
 public:
  // Copies all of it to a new folder `name` in `directory`. `source` is from
  // the top of the repository, and needs nothing that a build makes.
  Toolchain(const std::string& directory, std::string name, std::string source);

  // Compiles in a directory that has that folder; what it made is removed.
  // Seconds of the compiler alone.
  double Compile(const std::string& directory) const;
  // Ends the program if a compiler of the machine's own would run.
  void CheckIn(const std::string& directory) const;

 private:
  std::vector<std::string> Words(const std::string& directory) const;

  std::string name_;
  std::string source_;
  // All from the folder's top.
  std::string compiler_;
  std::string compiler_proper_;  // The folder of cc1plus.
  std::vector<std::string> searched_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_TOOLCHAIN_H_
