// Question: how far from a plain directory is each thing that a build does
// most, in every mode that this kernel has?
//
//   keys_bench [--quick] [--rounds N] [--json]
//
// A key is a function that does its work once in a directory and returns what
// it took; it runs in a sandbox and in a plain directory, in turn. A ratio is
// that of the medians, and below 1 where the sandbox is faster: throughputs are
// turned around, so that their target is 1 divided by what issue 6 says.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "bench/bench.h"
#include "bench/input_tree.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkBytes = 1 << 20;

struct Sizes {
  int files;  // In the tree "tree".
  int calls;
  int64_t bytes;  // Of the file "big".
};

struct Key {
  const char* name;
  double target;
  int rounds_max;
  bool warm;  // It is done once before, unmeasured.
  // Before each round, for both: not measured.
  std::function<void(const std::string&)> prepare;
  std::function<double(const std::string&, const Sizes&)> run;
};

void Require(bool worked, const std::string& what) {
  if (worked) return;
  std::perror(what.c_str());
  std::exit(1);
}

int OpenOrEnd(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, 0644);
  Require(fd >= 0, path);
  return fd;
}

double StatWarm(const std::string& directory, const Sizes& sizes) {
  const std::string path = absl::StrCat(directory, "/tree/", TreeFileName(7));
  struct stat status {};
  return Seconds([&] {
    for (int i = 0; i < sizes.calls; ++i) {
      Require(stat(path.c_str(), &status) == 0, path);
    }
  });
}

double OpenReadClose(const std::string& directory, const Sizes& sizes) {
  const std::string path = absl::StrCat(directory, "/tree/", TreeFileName(7));
  char buffer[4096];
  return Seconds([&] {
    for (int i = 0; i < sizes.calls; ++i) {
      const int fd = OpenOrEnd(path, O_RDONLY);
      Require(read(fd, buffer, sizeof(buffer)) == 100, path);
      close(fd);
    }
  });
}

double ReadBig(const std::string& directory, const Sizes& sizes) {
  std::vector<char> buffer(kChunkBytes);
  return Seconds([&] {
    const int fd = OpenOrEnd(directory + "/big", O_RDONLY);
    int64_t done = 0;
    for (ssize_t got = 1; got > 0; done += got) {
      got = read(fd, buffer.data(), buffer.size());
    }
    Require(done == sizes.bytes, "big: its size");
    close(fd);
  });
}

double MapBig(const std::string& directory, const Sizes& sizes) {
  uint64_t sum = 0;
  const double seconds = Seconds([&] {
    const int fd = OpenOrEnd(directory + "/big", O_RDONLY);
    const auto bytes = static_cast<size_t>(sizes.bytes);
    void* const map = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
    Require(map != MAP_FAILED, "mmap");
    for (size_t at = 0; at < bytes; at += 64) {
      sum += static_cast<const unsigned char*>(map)[at];
    }
    munmap(map, bytes);
    close(fd);
  });
  Require(sum != 0, "big: its bytes");
  return seconds;
}

double CreateSmall(const std::string& directory, const Sizes& sizes) {
  const std::string bytes(4096, 'x');
  const std::string top = directory + "/new";
  Require(mkdir(top.c_str(), 0700) == 0, top);
  const double seconds = Seconds([&] {
    for (int i = 0; i < sizes.calls / 10; ++i) {
      const int fd = OpenOrEnd(absl::StrCat(top, "/", i), O_CREAT | O_WRONLY);
      Require(write(fd, bytes.data(), bytes.size()) == 4096, "write");
      close(fd);
    }
  });
  fs::remove_all(top);
  return seconds;
}

double WriteBig(const std::string& directory, const Sizes& sizes) {
  const std::vector<char> buffer(kChunkBytes, 'x');
  const std::string path = directory + "/written";
  const double seconds = Seconds([&] {
    const int fd = OpenOrEnd(path, O_CREAT | O_TRUNC | O_WRONLY);
    for (int64_t done = 0; done < sizes.bytes; done += kChunkBytes) {
      Require(write(fd, buffer.data(), kChunkBytes) == kChunkBytes, path);
    }
    close(fd);
  });
  unlink(path.c_str());
  return seconds;
}

double Walk(const std::string& directory, const Sizes& sizes) {
  struct stat status {};
  return Seconds([&] {
    for (int i = 0; i < sizes.files; ++i) {
      const std::string path =
          absl::StrCat(directory, "/tree/", TreeFileName(i));
      Require(stat(path.c_str(), &status) == 0, path);
    }
  });
}

double Tar(const std::string& directory, const Sizes& /*sizes*/) {
  return Seconds([&] {
    // To a pipe: tar reads nothing if it writes to /dev/null itself.
    const ProgramResult done = RunShell(
        absl::StrCat("tar -C ", directory, " -cf - tree | cat > /dev/null"));
    Require(done.exit_status == 0, "tar");
  });
}

void Nothing(const std::string& /*directory*/) {}

const std::vector<Key>& Keys() {
  static const auto drop = [](const std::string&) { DropPageCache(); };
  static const std::vector<Key> keys = {
      // The kernel knows no name in the sandbox yet, and all of the plain
      // directory's: this must come first, and can be done once.
      {"walk_stat_50k_first", 3.0, 1, false, Nothing, Walk},
      {"stat_warm", 1.3, 100, true, Nothing, StatWarm},
      {"open_read_close_4k_warm", 2.0, 100, true, Nothing, OpenReadClose},
      {"tar_warm", 1.3, 5, true, Nothing, Tar},
      {"seq_read_1g_cold", 1 / 0.95, 3, false, drop, ReadBig},
      {"seq_read_1g_warm", 1 / 0.95, 100, true, Nothing, ReadBig},
      {"mmap_1g_warm", 1 / 0.95, 100, true, Nothing, MapBig},
      {"create_write_close_4k", 1.5, 100, true, Nothing, CreateSmall},
      {"write_1g", 1 / 0.9, 3, false, Nothing, WriteBig},
  };
  return keys;
}

struct Result {
  std::string key;
  std::string mode;
  double target;
  Series series;
  double ratio() const {
    return Median(series.subject) / Median(series.control);
  }
};

void MakeInputs(const std::string& top, const Sizes& sizes) {
  MakeTree(top + "/tree", sizes.files);
  std::vector<char> chunk(kChunkBytes);
  const int fd = OpenOrEnd(top + "/big", O_CREAT | O_WRONLY);
  for (int64_t done = 0; done < sizes.bytes; done += kChunkBytes) {
    for (size_t i = 0; i < chunk.size(); i += 61) {
      chunk[i] = static_cast<char>(1 + (i + static_cast<size_t>(done)) % 100);
    }
    Require(write(fd, chunk.data(), kChunkBytes) == kChunkBytes, "big");
  }
  close(fd);
}

struct Mode {
  const char* path;
  const char* transport;
};

// All keys in one mode; none if this kernel does not have it.
std::vector<Result> Measure(const Mode& mode, const BenchOptions& options,
                            const Sizes& sizes) {
  RunningDaemon daemon(
      {"--data-path", mode.path, "--transport", mode.transport});
  const std::string name = absl::StrCat(mode.path, ", ", mode.transport);
  const bool has_uring = daemon.Metric("fuse_io_uring") > 0;
  if (has_uring != (mode.transport == std::string("io_uring"))) return {};
  const std::string plain = daemon.folder() + "/plain";
  fs::create_directory(plain);
  MakeInputs(plain, sizes);
  const Digest root = Must(daemon.client().PutTree(plain, {})).root;
  const std::string sandbox =
      Must(daemon.client().Create({.root = root})).info.path;
  std::vector<Result> results;
  for (const Key& key : Keys()) {
    const auto in = [&](const std::string& directory) {
      return [&key, &sizes, directory] {
        key.prepare(directory);
        return key.run(directory, sizes);
      };
    };
    if (key.warm) {
      in(sandbox)();
      in(plain)();
    }
    results.push_back({key.name, name, key.target,
                       Alternate(std::min(options.rounds, key.rounds_max),
                                 in(sandbox), in(plain))});
  }
  return results;
}

void PrintTable(const std::vector<Result>& results) {
  std::printf("  %-24s %-22s %-34s %-34s %6s %6s\n", "key", "mode",
              "sandbox, s", "plain directory, s", "ratio", "target");
  for (const Result& one : results) {
    std::printf("  %-24s %-22s %-34s %-34s %6.2f %6.2f\n", one.key.c_str(),
                one.mode.c_str(), Spread(one.series.subject).c_str(),
                Spread(one.series.control).c_str(), one.ratio(), one.target);
  }
}

void PrintJson(const std::vector<Result>& results) {
  std::vector<std::string> lines;
  for (const Result& one : results) {
    lines.push_back(absl::StrFormat(
        R"(  {"key": "%s", "mode": "%s", "sandbox_seconds": %.9g, )"
        R"("plain_seconds": %.9g, "ratio": %.4g, "target": %.4g})",
        one.key, one.mode, Median(one.series.subject),
        Median(one.series.control), one.ratio(), one.target));
  }
  std::printf("[\n%s\n]\n", absl::StrJoin(lines, ",\n").c_str());
}

int Main(const BenchOptions& options, bool json) {
  const Sizes sizes = options.quick ? Sizes{500, 1000, int64_t{16} << 20}
                                    : Sizes{50000, 20000, int64_t{1} << 30};
  if (!json) {
    PrintHeading(absl::StrFormat(
        "A sandbox against a plain directory: %d files, %d calls, %d MiB",
        sizes.files, sizes.calls, sizes.bytes >> 20));
  }
  std::vector<Result> results;
  for (const Mode& mode :
       {Mode{"passthrough", "dev"}, Mode{"passthrough", "io_uring"},
        Mode{"cached", "dev"}, Mode{"cached", "io_uring"}}) {
    for (Result& result : Measure(mode, options, sizes)) {
      results.push_back(std::move(result));
    }
  }
  std::stable_sort(
      results.begin(), results.end(),
      [](const Result& one, const Result& two) { return one.key < two.key; });
  json ? PrintJson(results) : PrintTable(results);
  return 0;
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  const std::vector<char*> words(argv, argv + argc);
  std::vector<char*> others;
  for (char* const word : words) {
    if (word != std::string("--json")) others.push_back(word);
  }
  const casement::BenchOptions options = casement::ParseBenchOptions(
      static_cast<int>(others.size()), others.data(), /*rounds=*/7);
  return casement::Main(options, others.size() != words.size());
}
