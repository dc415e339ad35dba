// Question: with 1,000,000 blobs, how long does a start take after a clean stop
// with nothing cached, against counting the store's files; how many bytes of
// memory does a blob take; and how long do readers wait while 100,000 of them
// are evicted, against readers while nothing is?
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "bench/bench.h"
#include "casement/digest.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

struct Sizes {
  int blobs;
  int evicted;
  int read;  // What readers choose from: of the last ones.
  double seconds;
};

// Small ones, all different: one block each.
std::string BlobBytes(int number) {
  std::string bytes = absl::StrCat("blob ", number, "\n");
  bytes.append(static_cast<size_t>(number % 1000), 'x');
  return bytes;
}

std::string StoreFile(const RunningDaemon& daemon, const Digest& digest) {
  const std::string name = digest.ToString();
  return absl::StrCat(daemon.store(), "/cas/", name.substr(0, 2), "/", name);
}

// Into the store of a daemon that does not run: with put it takes an hour.
std::vector<Digest> Fill(const RunningDaemon& daemon, int blobs) {
  for (int shard = 0; shard < 256; ++shard) {
    char name[8];
    std::snprintf(name, sizeof(name), "/cas/%02x", shard);
    mkdir((daemon.store() + name).c_str(), 0700);
  }
  std::vector<Digest> digests;
  digests.reserve(static_cast<size_t>(blobs));
  for (int i = 0; i < blobs; ++i) {
    const std::string bytes = BlobBytes(i);
    digests.push_back(Digest::Of(bytes));
    const int fd = open(StoreFile(daemon, digests.back()).c_str(),
                        O_CREAT | O_WRONLY | O_CLOEXEC, 0444);
    if (fd < 0 ||
        write(fd, bytes.data(), bytes.size()) != ssize_t(bytes.size())) {
      std::exit(1);
    }
    close(fd);
  }
  return digests;
}

// Microseconds that each open, read and close took, in order of size.
std::vector<double> ReadFor(const RunningDaemon& daemon,
                            absl::Span<const Digest> digests,
                            const std::atomic<bool>& stop, uint64_t& sum) {
  std::minstd_rand random(1);
  std::vector<double> times;
  while (!stop.load()) {
    const Digest& digest = digests[random() % digests.size()];
    const std::string path = daemon.At("cas/" + digest.ToString());
    char buffer[4096];
    const absl::Time start = absl::Now();
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const ssize_t got = fd < 0 ? -1 : read(fd, buffer, sizeof(buffer));
    if (fd >= 0) close(fd);
    times.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
    if (got != digest.size_bytes()) std::exit(1);
    sum += static_cast<unsigned char>(buffer[5]);
  }
  return times;
}

struct Latency {
  std::vector<double> microseconds;
  double seconds = 0;
};

// Two readers beside `work`.
template <typename Work>
Latency ReadBeside(const RunningDaemon& daemon,
                   absl::Span<const Digest> digests, uint64_t& sum, Work work) {
  std::atomic<bool> stop{false};
  std::vector<double> times[2];
  uint64_t sums[2] = {0, 0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back(
        [&, i] { times[i] = ReadFor(daemon, digests, stop, sums[i]); });
  }
  Latency latency;
  latency.seconds = Seconds(work);
  stop = true;
  for (std::thread& reader : readers) reader.join();
  for (int i = 0; i < 2; ++i) {
    sum += sums[i];
    latency.microseconds.insert(latency.microseconds.end(), times[i].begin(),
                                times[i].end());
  }
  std::sort(latency.microseconds.begin(), latency.microseconds.end());
  return latency;
}

void PrintLatency(const char* name, const Latency& latency) {
  const auto& times = latency.microseconds;
  const auto at = [&times](double share) {
    const auto index = static_cast<size_t>(share * double(times.size()));
    return times[std::min(index, times.size() - 1)] / 1000;
  };
  std::printf(
      "    %-12s %8zu reads in %.1f s: 50%% %.3f, 99%% %.3f, 99.9%% %.3f, "
      "longest %.3f ms\n",
      name, times.size(), latency.seconds, at(0.5), at(0.99), at(0.999),
      times.back() / 1000);
}

void MeasureStart(RunningDaemon& daemon, int blobs, int rounds) {
  const std::string count =
      absl::StrCat("find ", daemon.store(), " -type f | wc -l");
  int64_t counted = 0;
  const Series series = Alternate(
      rounds,
      [&] {
        if (daemon.Stop() != 0) std::exit(1);
        DropAllCaches();
        const double seconds = Seconds([&] { daemon.Start(); });
        if (daemon.client().Stats()->blobs != blobs) std::exit(1);
        return seconds;
      },
      [&] {
        if (daemon.Stop() != 0) std::exit(1);
        DropAllCaches();
        const double seconds =
            Seconds([&] { counted += std::stoll(RunShell(count).out); });
        daemon.Start();
        return seconds;
      });
  std::printf("  start %s s, find %s s (%lld files), ratio %.3g\n",
              Spread(series.subject).c_str(), Spread(series.control).c_str(),
              static_cast<long long>(counted),  // NOLINT: for printf.
              Median(series.subject) / Median(series.control));
}

// From the oldest on, as a client does that makes room.
void Evict(RunningDaemon& daemon, absl::Span<const Digest> digests) {
  constexpr size_t kAtOnce = 1000;
  for (size_t begin = 0; begin < digests.size(); begin += kAtOnce) {
    const auto evicted = daemon.client().Evict(digests.subspan(begin, kAtOnce));
    if (!evicted.ok() || !evicted->failures.empty()) std::exit(1);
  }
}

void MeasureReaders(const std::string& data_path, const Sizes& sizes,
                    RunningDaemon& daemon, absl::Span<const Digest> to_evict,
                    absl::Span<const Digest> to_read) {
  uint64_t sum = 0;
  const auto pause = [&sizes] { absl::SleepFor(absl::Seconds(sizes.seconds)); };
  // Both have looked every name up before.
  ReadBeside(daemon, to_read, sum, pause);
  const Latency before = ReadBeside(daemon, to_read, sum, pause);
  const Latency during =
      ReadBeside(daemon, to_read, sum, [&] { Evict(daemon, to_evict); });
  const Latency after = ReadBeside(daemon, to_read, sum, pause);
  std::printf("  %s, %zu evicted (checksum %llu)\n", data_path.c_str(),
              to_evict.size(),
              static_cast<unsigned long long>(sum));  // NOLINT: for printf.
  PrintLatency("none before", before);
  PrintLatency("evicting", during);
  PrintLatency("none after", after);
}

int Main(const BenchOptions& options) {
  const Sizes sizes = options.quick ? Sizes{2000, 200, 200, 0.2}
                                    : Sizes{1'000'000, 100'000, 20'000, 5};
  PrintHeading(absl::StrCat("A store of ", sizes.blobs, " blobs"));
  int64_t empty_bytes = 0;
  RunningDaemon daemon({"--data-path", "passthrough"});
  empty_bytes = MemoryBytes(daemon.pid());
  if (daemon.Stop() != 0) return 1;
  const std::vector<Digest> digests = Fill(daemon, sizes.blobs);
  const double first = Seconds([&] { daemon.Start(); });
  std::printf("  first start, every blob hashed: %.3g s\n", first);
  MeasureStart(daemon, sizes.blobs, std::min(options.rounds, 5));
  std::printf("  memory: %.4g bytes a blob\n",
              double(MemoryBytes(daemon.pid()) - empty_bytes) / sizes.blobs);
  const absl::Span<const Digest> all(digests);
  const auto evicted = static_cast<size_t>(sizes.evicted);
  const auto read = all.last(static_cast<size_t>(sizes.read));
  MeasureReaders("passthrough", sizes, daemon, all.subspan(0, evicted), read);
  if (daemon.Stop() != 0) return 1;
  daemon.SetArguments({"--data-path", "cached"});
  daemon.Start();
  MeasureReaders("cached", sizes, daemon, all.subspan(evicted, evicted), read);
  return 0;
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::Main(casement::ParseBenchOptions(argc, argv));
}
