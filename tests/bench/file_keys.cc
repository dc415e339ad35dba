#include "bench/file_keys.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "bench/bench.h"
#include "bench/input_tree.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkBytes = 1 << 20;
constexpr ssize_t kSmallFileBytes = 4096;

// Its work, once in a directory; what it took.
using Run = double (*)(const std::string&, const KeySizes&);

struct FileKey {
  const char* name;
  Run run;
  int rounds_max = 100;
  bool is_first = false;    // Each round in a new sandbox.
  bool is_cold = false;     // Pages are dropped before each round.
  bool with_links = false;  // Whether links are another thing than files.
};

int OpenOrEnd(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, 0644);
  Require(fd >= 0, path);
  return fd;
}

double StatWarm(const std::string& directory, const KeySizes& sizes) {
  const std::string path = absl::StrCat(directory, "/small/", TreeFileName(7));
  struct stat status {};
  return Seconds([&] {
    for (int i = 0; i < sizes.calls; ++i) {
      Require(stat(path.c_str(), &status) == 0, path);
    }
  });
}

void OpenReadCloseOnce(const std::string& path) {
  char buffer[kSmallFileBytes];
  const int fd = OpenOrEnd(path, O_RDONLY);
  Require(read(fd, buffer, sizeof(buffer)) == kSmallFileBytes, path);
  close(fd);
}

double OpenReadClose(const std::string& directory, const KeySizes& sizes) {
  const std::string path = directory + "/4k";
  return Seconds([&] {
    for (int i = 0; i < sizes.calls; ++i) OpenReadCloseOnce(path);
  });
}

double ReadBig(const std::string& directory, const KeySizes& sizes) {
  std::vector<char> buffer(kChunkBytes);
  return Seconds([&] {
    const int fd = OpenOrEnd(directory + "/big", O_RDONLY);
    int64_t done = 0;
    for (ssize_t got = 1; got > 0; done += got) {
      got = read(fd, buffer.data(), buffer.size());
    }
    Require(done == sizes.big_bytes, "big: its size");
    close(fd);
  });
}

double MapBig(const std::string& directory, const KeySizes& sizes) {
  uint64_t sum = 0;
  const double seconds = Seconds([&] {
    const int fd = OpenOrEnd(directory + "/big", O_RDONLY);
    const auto bytes = static_cast<size_t>(sizes.big_bytes);
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

double CreateSmall(const std::string& directory, const KeySizes& sizes) {
  const std::string bytes(kSmallFileBytes, 'x');
  const std::string top = directory + "/new";
  Require(mkdir(top.c_str(), 0700) == 0, top);
  const double seconds = Seconds([&] {
    for (int i = 0; i < sizes.calls / 10; ++i) {
      const int fd = OpenOrEnd(absl::StrCat(top, "/", i), O_CREAT | O_WRONLY);
      Require(write(fd, bytes.data(), bytes.size()) == kSmallFileBytes, top);
      close(fd);
    }
  });
  fs::remove_all(top);
  return seconds;
}

double WriteBig(const std::string& directory, const KeySizes& sizes) {
  const std::vector<char> buffer(kChunkBytes, 'x');
  const std::string path = directory + "/written";
  const double seconds = Seconds([&] {
    const int fd = OpenOrEnd(path, O_CREAT | O_TRUNC | O_WRONLY);
    for (int64_t done = 0; done < sizes.big_bytes; done += kChunkBytes) {
      Require(write(fd, buffer.data(), kChunkBytes) == kChunkBytes, path);
    }
    close(fd);
  });
  unlink(path.c_str());
  return seconds;
}

double Walk(const std::string& directory, const KeySizes& sizes) {
  int files = 0;
  const double seconds =
      Seconds([&] { files = WalkTree(directory + "/walk"); });
  Require(files == sizes.walk_files, "the number of files");
  return seconds;
}

double Tar(const std::string& directory, const KeySizes& /*sizes*/) {
  return Seconds([&] {
    // To a pipe: tar reads nothing if it writes to /dev/null itself. Not the
    // links themselves, in a tree of links.
    const ProgramResult done =
        RunShell(absl::StrCat("tar --dereference --hard-dereference -C ",
                              directory, " -cf - small | cat > /dev/null"));
    Require(done.exit_status == 0, "tar");
  });
}

const std::vector<FileKey>& FileKeys() {
  static const std::vector<FileKey> keys = {
      {.name = "walk_stat_50k_first",
       .run = Walk,
       .rounds_max = 5,
       .is_first = true,
       .with_links = true},
      {.name = "stat_warm", .run = StatWarm, .with_links = true},
      {.name = "open_read_close_4k_warm",
       .run = OpenReadClose,
       .with_links = true},
      {.name = "tar_10k_warm", .run = Tar, .with_links = true},
      {.name = "seq_read_1g_cold",
       .run = ReadBig,
       .rounds_max = 5,
       .is_cold = true},
      {.name = "seq_read_1g_warm", .run = ReadBig},
      {.name = "mmap_1g_warm", .run = MapBig},
      {.name = "create_write_close_4k", .run = CreateSmall},
      {.name = "write_1g", .run = WriteBig, .rounds_max = 5},
  };
  return keys;
}

KeyResult Measure(KeyInputs& inputs, const FileKey& key, int rounds) {
  std::vector<std::function<double()>> ways;
  const auto add = [&](const std::string& directory) {
    ways.push_back([&key, &inputs, directory] {
      if (key.is_cold) DropPageCache();
      return key.run(directory, inputs.sizes());
    });
    // The first time is another thing, where it is not the question.
    if (!key.is_cold) ways.back()();
  };
  if (key.is_first) {
    ways.push_back(
        [&] { return key.run(inputs.NewSandbox(), inputs.sizes()); });
  } else {
    add(inputs.sandbox());
  }
  std::vector<std::string> others;
  for (const KeyPlace& place : inputs.controls()) {
    if (place.is_links && !key.with_links) continue;
    add(place.directory);
    if (ways.size() > 2) others.push_back(place.name);
  }
  const auto seconds = TakeTurns(std::min(rounds, key.rounds_max), ways);
  inputs.Release();
  return RatioOf(key.name, inputs.mode(), seconds, others);
}

}  // namespace

std::vector<KeyResult> MeasureFileKeys(KeyInputs& inputs, int rounds) {
  std::vector<KeyResult> results;
  for (const FileKey& key : FileKeys()) {
    results.push_back(Measure(inputs, key, rounds));
  }
  return results;
}

int WalkTree(const std::string& top) {
  DIR* const list = opendir(top.c_str());
  Require(list != nullptr, top);
  int files = 0;
  struct stat status {};
  while (const dirent* const entry = readdir(list)) {
    const char* const name = entry->d_name;
    if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
    Require(fstatat(dirfd(list), name, &status, 0) == 0, name);
    if (S_ISDIR(status.st_mode)) {
      files += WalkTree(absl::StrCat(top, "/", name));
    } else {
      ++files;
    }
  }
  closedir(list);
  return files;
}

std::vector<CallTimes> TimeCalls(const std::string& directory, int calls) {
  const std::string path = directory + "/4k";
  struct stat status {};
  std::vector<CallTimes> times = {
      {"first stat", {}}, {"stat", {}}, {"open, read 4 KiB, close", {}}};
  for (int i = 0; i < calls; ++i) {
    const std::string other =
        absl::StrCat(directory, "/small/", TreeFileName(i));
    times[0].seconds.push_back(
        Seconds([&] { Require(stat(other.c_str(), &status) == 0, other); }));
  }
  OpenReadCloseOnce(path);
  for (int i = 0; i < calls; ++i) {
    times[1].seconds.push_back(
        Seconds([&] { Require(stat(path.c_str(), &status) == 0, path); }));
    times[2].seconds.push_back(Seconds([&] { OpenReadCloseOnce(path); }));
  }
  return times;
}

}  // namespace casement
