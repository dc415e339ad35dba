// Question: what does a name that does not exist cost in a sandbox, the first
// time and later, against a plain directory? Compilers look for each header in
// thousands of places where it is not.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/bench.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

// Asks for each name; nanoseconds a name.
double AskAll(const std::vector<std::string>& paths) {
  int found = 0;
  const double seconds = Seconds([&] {
    for (const std::string& path : paths) {
      found += access(path.c_str(), F_OK) == 0 ? 1 : 0;
    }
  });
  if (found != 0) std::exit(1);
  return seconds * 1e9 / static_cast<double>(paths.size());
}

std::vector<std::string> MissingIn(const std::string& directory, int count,
                                   int salt) {
  std::vector<std::string> paths;
  for (int i = 0; i < count; ++i) {
    paths.push_back(absl::StrCat(directory, "/missing-", salt, "-", i, ".h"));
  }
  return paths;
}

int Main(const BenchOptions& options) {
  const int names = options.quick ? 100 : 5000;
  PrintHeading(absl::StrCat(names, " names that do not exist"));
  RunningDaemon daemon;
  const auto sandbox = daemon.client().Create({});
  if (!sandbox.ok()) return 1;
  const std::string plain = daemon.folder() + "/plain";
  std::filesystem::create_directory(plain);
  int salt = 0;
  const Series first = Alternate(
      options.rounds,
      [&] { return AskAll(MissingIn(sandbox->info.path, names, ++salt)); },
      [&] { return AskAll(MissingIn(plain, names, ++salt)); });
  const auto in_sandbox = MissingIn(sandbox->info.path, names, 0);
  const auto in_plain = MissingIn(plain, names, 0);
  AskAll(in_sandbox);
  AskAll(in_plain);
  const Series later = Alternate(
      options.rounds, [&] { return AskAll(in_sandbox); },
      [&] { return AskAll(in_plain); });
  std::printf("  first   %s ns, plain directory %s ns\n",
              Spread(first.subject).c_str(), Spread(first.control).c_str());
  std::printf("  later   %s ns, plain directory %s ns, ratio %.3g\n",
              Spread(later.subject).c_str(), Spread(later.control).c_str(),
              Median(later.subject) / Median(later.control));
  return 0;
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::Main(casement::ParseBenchOptions(argc, argv));
}
