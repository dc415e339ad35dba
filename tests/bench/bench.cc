#include "bench/bench.h"

#include <linux/perf_event.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/mount_info.h"

namespace casement {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    !defined(__OPTIMIZE__)
constexpr bool kMeasurable = false;
#else
constexpr bool kMeasurable = true;
#endif

// The kernel's number for the beginning of any system call; 0 if it does not
// say.
uint64_t SystemCallEvent() {
  std::string top = std::filesystem::temp_directory_path() / "trace-XXXXXX";
  if (mkdtemp(top.data()) == nullptr) return 0;
  uint64_t number = 0;
  if (mount("tracefs", top.c_str(), "tracefs", 0, nullptr) == 0) {
    std::ifstream(top + "/events/raw_syscalls/sys_enter/id") >> number;
    umount2(top.c_str(), MNT_DETACH);
  }
  rmdir(top.c_str());
  return number;
}

std::string CpuModel() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::string FileSystemOf(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return "unknown";
  const std::string device =
      absl::StrCat(major(status.st_dev), ":", minor(status.st_dev));
  for (const MountInfo& one : ReadMountInfo("/proc/self/mountinfo")) {
    if (one.device == device) return one.type;
  }
  return "unknown";
}

// "1" or "3" (proc(5)). What could not be dropped would be measured as cold.
void DropCaches(const char* which) {
  sync();
  std::ofstream file("/proc/sys/vm/drop_caches");
  file << which;
  file.close();
  Require(!file.fail(), "dropping the kernel's caches");
}

}  // namespace

BenchOptions ParseBenchOptions(int argc, char** argv, int rounds,
                               int quick_rounds) {
  BenchOptions options{.rounds = rounds};
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--quick") {
      options.quick = true;
      options.rounds = quick_rounds;
    } else if (word == "--rounds" && i + 1 < argc) {
      options.rounds = std::max(1, std::atoi(argv[++i]));
    } else if (word == "--") {
      options.daemon.assign(argv + i + 1, argv + argc);
      break;
    } else {
      std::fprintf(stderr,
                   "usage: %s [--quick] [--rounds N] [-- CASEMENTD-OPTION...]"
                   "\n",
                   argv[0]);
      std::exit(2);
    }
  }
  if (!kMeasurable && !options.quick) {
    std::fprintf(stderr,
                 "%s: a debug or sanitizer build measures nothing; "
                 "build with scripts/presets/release.ini\n",
                 argv[0]);
    std::exit(2);
  }
  return options;
}

void PrintHeading(const std::string& question) {
  const Machine machine = ThisMachine();
  std::printf("%s\n  Linux %s, %ld CPUs, commit %s\n", question.c_str(),
              machine.kernel.c_str(), machine.cpus, machine.commit.c_str());
}

Machine ThisMachine() {
  utsname system{};
  uname(&system);
  return {
      .kernel = system.release,
      .cpu_model = CpuModel(),
      .cpus = sysconf(_SC_NPROCESSORS_ONLN),
      .file_system = FileSystemOf(std::filesystem::temp_directory_path()),
      .commit = CASEMENT_COMMIT,
  };
}

Series Alternate(int rounds, const std::function<double()>& subject,
                 const std::function<double()>& control) {
  Series series;
  for (int round = 0; round < rounds; ++round) {
    if (round % 2 == 0) {
      series.subject.push_back(subject());
      series.control.push_back(control());
    } else {
      series.control.push_back(control());
      series.subject.push_back(subject());
    }
  }
  return series;
}

std::vector<std::vector<double>> TakeTurns(
    int rounds, const std::vector<std::function<double()>>& ways) {
  std::vector<std::vector<double>> took(ways.size());
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < ways.size(); ++i) {
      const size_t way = (i + static_cast<size_t>(round)) % ways.size();
      took[way].push_back(ways[way]());
    }
  }
  return took;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

std::pair<double, double> MiddleHalf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 4], values[values.size() * 3 / 4]};
}

std::string Spread(const std::vector<double>& values) {
  const auto [low, high] = MiddleHalf(values);
  return absl::StrFormat("%.4g (%.4g to %.4g)", Median(values), low, high);
}

double Seconds(const std::function<void()>& work) {
  const absl::Time start = absl::Now();
  work();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

void Require(bool worked, const std::string& what) {
  if (worked) return;
  std::perror(what.c_str());
  std::exit(1);
}

void DropPageCache() { DropCaches("1"); }

void DropAllCaches() { DropCaches("3"); }

int64_t PageCacheBytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  std::string unit;
  while (meminfo >> key >> kib >> unit) {
    if (key == "Cached:") return kib << 10;
  }
  return 0;
}

int64_t MemoryBytes(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string word; status >> word;) {
    int64_t kib = 0;
    if (word == "RssAnon:" && status >> kib) return kib << 10;
  }
  return 0;
}

SystemCallCounter::SystemCallCounter(pid_t pid) {
  perf_event_attr event{};
  event.size = sizeof(event);
  event.type = PERF_TYPE_TRACEPOINT;
  event.config = SystemCallEvent();
  event.inherit = 1;
  std::error_code gone;
  for (const auto& task : std::filesystem::directory_iterator(
           absl::StrCat("/proc/", pid, "/task"), gone)) {
    int thread = 0;
    if (event.config == 0 ||
        !absl::SimpleAtoi(task.path().filename().string(), &thread)) {
      continue;
    }
    UniqueFd fd(static_cast<int>(syscall(SYS_perf_event_open, &event, thread,
                                         /*cpu=*/-1, /*group_fd=*/-1,
                                         PERF_FLAG_FD_CLOEXEC)));
    if (fd.valid()) threads_.push_back(std::move(fd));
  }
}

int64_t SystemCallCounter::Read() const {
  int64_t sum = 0;
  for (const UniqueFd& thread : threads_) {
    int64_t count = 0;
    if (read(thread.get(), &count, sizeof(count)) != sizeof(count)) return -1;
    sum += count;
  }
  return threads_.empty() ? -1 : sum;
}

}  // namespace casement
