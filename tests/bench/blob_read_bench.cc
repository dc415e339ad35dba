// Question: how fast is a 1 GiB blob read through the mount, against reading
// the store's own file; and how often does the page cache hold it once it was
// read through both of its views?
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/bench.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

constexpr size_t kChunkBytes = 1 << 20;

// Reads all of a file; seconds. The sum keeps the work from being left out.
double ReadOnce(const std::string& path, uint64_t& sum) {
  std::vector<char> buffer(kChunkBytes);
  return Seconds([&] {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) std::exit(1);
    ssize_t got = 0;
    while ((got = read(fd, buffer.data(), buffer.size())) > 0) {
      sum += static_cast<unsigned char>(buffer[static_cast<size_t>(got) - 1]);
    }
    close(fd);
  });
}

void MakeFile(const std::string& path, int64_t bytes) {
  std::mt19937_64 random(1);  // The same file every time.
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  std::vector<uint64_t> chunk(kChunkBytes / 8);
  for (int64_t done = 0; done < bytes; done += kChunkBytes) {
    for (uint64_t& word : chunk) word = random();
    if (write(fd, chunk.data(), kChunkBytes) != kChunkBytes) std::exit(1);
  }
  close(fd);
}

void Measure(const std::string& data_path, const BenchOptions& options) {
  const int64_t bytes = int64_t{options.quick ? 16 : 1024} << 20;
  RunningDaemon daemon({"--data-path", data_path});
  const std::string source = daemon.folder() + "/source";
  MakeFile(source, bytes);
  const auto digest = daemon.client().PutFile(source);
  if (!digest.ok() || unlink(source.c_str()) != 0) std::exit(1);
  const std::string name = digest->ToString();
  const std::string blob = daemon.At("cas/" + name);
  const std::string native =
      absl::StrCat(daemon.store(), "/cas/", name.substr(0, 2), "/", name);
  uint64_t sums[2] = {0, 0};
  const Series cold = Alternate(
      std::min(3, options.rounds),
      [&] {
        DropPageCache();
        return ReadOnce(blob, sums[0]);
      },
      [&] {
        DropPageCache();
        return ReadOnce(native, sums[1]);
      });
  const Series warm = Alternate(
      options.rounds, [&] { return ReadOnce(blob, sums[0]); },
      [&] { return ReadOnce(native, sums[1]); });
  if (sums[0] != sums[1]) std::exit(1);
  DropPageCache();
  const int64_t before = PageCacheBytes();
  uint64_t sum = 0;
  ReadOnce(blob, sum);
  ReadOnce(blob + ".exec", sum);
  const int64_t grown = PageCacheBytes() - before;
  std::printf("  %s (checksum %llu)\n", data_path.c_str(),
              static_cast<unsigned long long>(sums[0]));  // NOLINT
  std::printf("    warm: %s s, native %s s, throughput ratio %.3g\n",
              Spread(warm.subject).c_str(), Spread(warm.control).c_str(),
              Median(warm.control) / Median(warm.subject));
  std::printf("    cold: %s s, native %s s, throughput ratio %.3g\n",
              Spread(cold.subject).c_str(), Spread(cold.control).c_str(),
              Median(cold.control) / Median(cold.subject));
  std::printf("    page cache after both views: %.3g times the blob\n",
              static_cast<double>(grown) / static_cast<double>(bytes));
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  const casement::BenchOptions options =
      casement::ParseBenchOptions(argc, argv);
  casement::PrintHeading(
      "A 1 GiB blob through the mount, against its own file");
  casement::Measure("passthrough", options);
  casement::Measure("cached", options);
  return 0;
}
