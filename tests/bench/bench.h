// What every benchmark here needs: rounds that alternate with the control,
// medians, and an honest heading. A benchmark is a program; `--quick` makes it
// run once with tiny inputs, to see that it still works.
#ifndef CASEMENT_TESTS_BENCH_BENCH_H_
#define CASEMENT_TESTS_BENCH_BENCH_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace casement {

struct BenchOptions {
  bool quick = false;
  int rounds = 11;
};

// Understands --quick and --rounds N. Ends the program, with a word on why, in
// a debug or sanitizer build: its figures would mean nothing. With --quick such
// builds are fine.
BenchOptions ParseBenchOptions(int argc, char** argv);

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

double Median(std::vector<double> values);
// "12.3 (11.9 to 14.0)": the median and the middle half.
std::string Spread(const std::vector<double>& values);

// Seconds that `work` takes.
double Seconds(const std::function<void()>& work);

// Drops the kernel's caches of clean pages; needs root.
void DropPageCache();
// Names and inodes as well: what a machine knows that was just started.
void DropAllCaches();
// Bytes of files in the page cache ("Cached" in /proc/meminfo).
int64_t PageCacheBytes();

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_BENCH_H_
