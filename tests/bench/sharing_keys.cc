#include "bench/sharing_keys.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "bench/bench.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkBytes = 1 << 20;
// A block of the file system: what is less is no copy of a file. A daemon that
// copies nothing still rings its threads' eventfds.
constexpr int64_t kBlockBytes = 4096;

UniqueFd OpenOrEnd(const std::string& path, int flags) {
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC, 0644));
  Require(fd.valid(), path);
  return fd;
}

// Reads all of it, and hands every piece to `use`.
template <typename Use>
void ReadAll(const std::string& path, const Use& use) {
  const UniqueFd fd = OpenOrEnd(path, O_RDONLY);
  std::vector<char> buffer(kChunkBytes);
  ssize_t got = 0;
  while ((got = read(fd.get(), buffer.data(), buffer.size())) > 0) {
    use(buffer.data(), static_cast<size_t>(got));
  }
  Require(got == 0, path);
}

// Seconds that OpenSSL takes, by one pass in large pieces and one thread: its
// command line reads smaller ones, and is slower.
double HashOnce(const std::string& path) {
  return Seconds([&] {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(
        EVP_MD_CTX_new(), EVP_MD_CTX_free);
    Require(EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1,
            "SHA-256");
    ReadAll(path, [&](const char* bytes, size_t size) {
      EVP_DigestUpdate(context.get(), bytes, size);
    });
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    Require(EVP_DigestFinal_ex(context.get(), digest, &size) == 1, "SHA-256");
  });
}

// Bytes that a process has written, by whatever call (proc(5), "wchar").
int64_t BytesWritten(pid_t pid) {
  std::ifstream io(absl::StrCat("/proc/", pid, "/io"));
  std::string key;
  for (int64_t value = 0; io >> key >> value;) {
    if (key == "wchar:") return value;
  }
  return 0;
}

// A file that no blob is equal to.
void WriteNew(const std::string& path, int64_t bytes, int number) {
  const UniqueFd fd = OpenOrEnd(path, O_CREAT | O_EXCL | O_WRONLY);
  std::vector<char> chunk(kChunkBytes, static_cast<char>('a' + number));
  for (int64_t done = 0; done < bytes; done += kChunkBytes) {
    chunk[0] = static_cast<char>(done >> 20);
    Require(write(fd.get(), chunk.data(), kChunkBytes) == kChunkBytes, path);
  }
}

struct Collection {
  double seconds = 0;
  double bytes_written = 0;
};

Collection CollectOnce(KeyInputs& inputs, int number) {
  RunningDaemon& daemon = inputs.daemon();
  const std::string sandbox = inputs.NewSandbox(Digest::Of(""));
  WriteNew(sandbox + "/out", inputs.sizes().big_bytes, number);
  const int64_t before = BytesWritten(daemon.pid());
  CollectedOutputs outputs;
  Collection done;
  done.seconds = Seconds([&] {
    outputs = Must(daemon.client().Collect(
        fs::path(sandbox).filename().string(), {"out"}));
  });
  const int64_t written = BytesWritten(daemon.pid()) - before;
  done.bytes_written = static_cast<double>(written < kBlockBytes ? 0 : written);
  Require(
      outputs.outputs.size() == 1 &&
          outputs.outputs[0].digest.size_bytes() == inputs.sizes().big_bytes,
      "what was collected");
  inputs.Release();
  const Digest digest = outputs.outputs[0].digest;
  Must(daemon.client().Evict({&digest, 1}));
  return done;
}

// The pages of a file that are in memory; of a view that the kernel reads from
// the blob's own file, none.
int64_t CachedBytes(const std::string& path) {
  struct {
    uint64_t offset = 0;
    uint64_t length = 0;  // To the end.
  } range;
  struct {
    uint64_t cached = 0;
    uint64_t dirty = 0;
    uint64_t written_back = 0;
    uint64_t evicted = 0;
    uint64_t recently_evicted = 0;
  } pages;
  // cachestat(2), Linux 6.5; its number is the same everywhere, and Debian 12's
  // headers do not have it.
  constexpr int kCachestat = 451;
  const UniqueFd fd = OpenOrEnd(path, O_RDONLY);
  Require(syscall(kCachestat, fd.get(), &range, &pages, 0) == 0, "cachestat");
  return static_cast<int64_t>(pages.cached) * sysconf(_SC_PAGESIZE);
}

std::string FileOf(const RunningDaemon& daemon, const Digest& digest) {
  const std::string name = digest.ToString();
  return absl::StrCat(daemon.store(), "/cas/", name.substr(0, 2), "/", name);
}

struct Usage {
  int64_t files = 0;
  int64_t bytes = 0;
};

// Of the store's blobs and of what is written; not of its index, which is
// written now and then.
Usage UsageOf(const std::string& store) {
  Usage usage;
  for (const char* const part : {"/cas", "/scratch"}) {
    for (const auto& entry : fs::recursive_directory_iterator(store + part)) {
      struct stat status {};
      Require(lstat(entry.path().c_str(), &status) == 0, entry.path());
      if (!S_ISREG(status.st_mode)) continue;
      ++usage.files;
      usage.bytes += status.st_blocks * 512;
    }
  }
  return usage;
}

}  // namespace

std::vector<KeyResult> MeasureCollect(KeyInputs& inputs, int rounds) {
  constexpr int kRoundsMax = 3;
  const std::string file = inputs.daemon().folder() + "/to-hash";
  WriteNew(file, inputs.sizes().big_bytes, /*number=*/0);
  KeyResult copied = {.key = "collect_1g_copied", .mode = inputs.mode()};
  int number = 0;
  const auto took = TakeTurns(std::min(rounds, kRoundsMax),
                              {[&] {
                                 const Collection done =
                                     CollectOnce(inputs, ++number);
                                 copied.values.push_back(done.bytes_written);
                                 return done.seconds;
                               },
                               [&] { return HashOnce(file); }});
  fs::remove(file);
  return {RatioOf("collect_1g", inputs.mode(), took), std::move(copied)};
}

KeyResult MeasurePageCache(KeyInputs& inputs) {
  RunningDaemon& daemon = inputs.daemon();
  const std::string blob = FileOf(daemon, inputs.big());
  const std::string view = daemon.At("cas/" + inputs.big().ToString());
  DropPageCache();
  const std::vector<std::string> views = {view, view + ".exec"};
  for (const std::string& path : views) ReadAll(path, [](auto, auto) {});
  int64_t cached = CachedBytes(blob);
  const int64_t cached_of_blob = cached;
  for (const std::string& path : views) cached += CachedBytes(path);
  const auto size = static_cast<double>(inputs.sizes().big_bytes);
  return {.key = "page_cache_after_both_views_1g",
          .mode = inputs.mode(),
          .values = {static_cast<double>(cached) / size},
          .figures = {{"bytes", static_cast<double>(cached)},
                      {"bytes_of_the_store_file",
                       static_cast<double>(cached_of_blob)}}};
}

KeyResult MeasureExecViews(KeyInputs& inputs) {
  RunningDaemon& daemon = inputs.daemon();
  std::vector<Digest> digests;
  for (int i = 0; i < inputs.sizes().exec_views; ++i) {
    digests.push_back(Must(daemon.client().Put(
        absl::StrCat("#!/bin/sh\nexit ", i % 100, "\n#", i))));
  }
  const Usage before = UsageOf(daemon.store());
  for (size_t i = 0; i < digests.size(); ++i) {
    const std::string path =
        daemon.At("cas/" + digests[i].ToString()) + ".exec";
    // Every tenth: a process is slow.
    constexpr size_t kRunEvery = 10;
    Require(access(path.c_str(), X_OK) == 0, path);
    ReadAll(path, [](auto, auto) {});
    if (i % kRunEvery != 0) continue;
    Require(RunProgram({path}).exit_status == static_cast<int>(i % 100), path);
  }
  const Usage after = UsageOf(daemon.store());
  const auto bytes = static_cast<double>(after.bytes - before.bytes);
  const auto files = static_cast<double>(after.files - before.files);
  const std::string copies = daemon.folder() + "/copies";
  // What those who need a copy for the mode pay.
  fs::create_directory(copies);
  for (const Digest& digest : digests) {
    fs::copy_file(FileOf(daemon, digest), copies + "/" + digest.ToString());
  }
  struct stat one {};
  Require(stat((copies + "/" + digests[0].ToString()).c_str(), &one) == 0,
          copies);
  const auto count = static_cast<double>(digests.size());
  const double copied = count * static_cast<double>(one.st_blocks) * 512;
  fs::remove_all(copies);
  return {.key = "exec_view_1000",
          .mode = inputs.mode(),
          .values = {bytes + files},
          .others = {{"copied executables", {copied + count}}},
          .figures = {{"bytes_added", bytes}, {"files_added", files}}};
}

}  // namespace casement
