// What every benchmark here needs: rounds that alternate with the control,
// medians, and an honest heading. A benchmark is a program; `--quick` makes it
// run once with tiny inputs, to see that it still works.
#ifndef CASEMENT_TESTS_BENCH_BENCH_H_
#define CASEMENT_TESTS_BENCH_BENCH_H_

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace casement {

struct BenchOptions {
  bool quick = false;
  int rounds = 11;
  std::vector<std::string> daemon;  // Options of casementd.
};

// Understands [--quick] [--rounds N] [-- OPTION-OF-CASEMENTD...]; `rounds` is
// what N is by default, and `quick_rounds` with --quick. Ends the program, with
// a word on why, in a debug or sanitizer build: its figures would mean nothing.
// With --quick such builds are fine.
BenchOptions ParseBenchOptions(int argc, char** argv, int rounds = 11,
                               int quick_rounds = 1);

// Prints what is asked, the kernel, the number of CPUs and the commit.
void PrintHeading(const std::string& question);

// Runs both `rounds` times in turn, the order changing every time. Each
// function does one round and returns what it took.
struct Series {
  std::vector<double> subject;
  std::vector<double> control;
};
Series Alternate(int rounds, const std::function<double()>& subject,
                 const std::function<double()>& control);

// The same with any number of ways: what each round of each took.
std::vector<std::vector<double>> TakeTurns(
    int rounds, const std::vector<std::function<double()>>& ways);

double Median(std::vector<double> values);
// Where the middle half begins and ends.
std::pair<double, double> MiddleHalf(std::vector<double> values);
// "12.3 (11.9 to 14.0)": the median and the middle half.
std::string Spread(const std::vector<double>& values);

// Seconds that `work` takes.
double Seconds(const std::function<void()>& work);

// Ends the program, saying what did not work and errno's words for why.
void Require(bool worked, const std::string& what);

// Drops the kernel's caches of clean pages; needs root.
void DropPageCache();
// Names and inodes as well: what a machine knows that was just started.
void DropAllCaches();
// Bytes of files in the page cache ("Cached" in /proc/meminfo).
int64_t PageCacheBytes();
// Of a process, in its own memory ("RssAnon").
int64_t MemoryBytes(pid_t pid);

// What a benchmark cannot go on without.
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", std::string(value.status().message()).c_str());
    std::exit(1);
  }
  return *std::move(value);
}

// What the machine is, for whoever compares figures.
struct Machine {
  std::string kernel;
  std::string cpu_model;
  int64_t cpus = 0;
  std::string file_system;  // Of the folder for temporary files.
  std::string commit;
};
Machine ThisMachine();

// Counts the system calls of a process and its threads while it lives, as
// `perf stat -e raw_syscalls:sys_enter` does. It slows every system call of the
// machine: count apart from measuring.
class SystemCallCounter {
 public:
  explicit SystemCallCounter(pid_t pid);
  // So far. -1 if this kernel or user may not count.
  int64_t Read() const;

 private:
  std::vector<UniqueFd> threads_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_BENCH_H_
