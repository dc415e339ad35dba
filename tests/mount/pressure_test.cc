// The mount while the store is full, busy, read-only, or fed and run at once.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "mount/data_paths.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;

std::string Bytes(char fill, int64_t size = kMiB) {
  return std::string(static_cast<size_t>(size), fill);
}

class Pressure : public testing::TestWithParam<std::string> {};

CASEMENT_IN_BOTH_DATA_PATHS(Pressure);

std::string Cas(const RunningDaemon& daemon, const Digest& digest,
                const std::string& suffix = "") {
  return daemon.At("cas/" + digest.ToString() + suffix);
}

// G7
TEST_P(Pressure, ExecViewsRunDuringAStormOfForksAndUploads) {
  RunningDaemon daemon({"--data-path", GetParam()});
  const absl::StatusOr<Digest> program =
      daemon.client().Put(ReadFile("/bin/true"));
  ASSERT_TRUE(program.ok());
  const std::string path = Cas(daemon, *program, ".exec");
  std::atomic<bool> stop{false};
  std::thread uploader([&] {
    for (int i = 0; !stop; ++i) {
      // Resident, new and the program's own bytes again.
      EXPECT_TRUE(daemon.client().Put(ReadFile("/bin/true")).ok());
      EXPECT_TRUE(daemon.client().Put("upload " + std::to_string(i)).ok());
    }
  });
  std::atomic<int> failures{0};
  std::vector<std::thread> forkers;
  for (int i = 0; i < 4; ++i) {
    forkers.emplace_back([&] {
      for (int run = 0; run < 100; ++run) {
        if (RunProgram({path}).exit_status != 0) ++failures;
      }
    });
  }
  for (std::thread& forker : forkers) forker.join();
  stop = true;
  uploader.join();
  EXPECT_EQ(failures, 0);
}

// G7: as above, for a program that was just written, collected and run.
TEST_P(Pressure, CollectedProgramRunsAtOnceFromItsExecView) {
  RunningDaemon daemon({"--data-path", GetParam()});
  for (int i = 0; i < 20; ++i) {
    const auto sandbox = daemon.client().Create({});
    ASSERT_TRUE(sandbox.ok());
    // Distinct bytes every time: a trailer after the program does no harm.
    WriteFile(sandbox->info.path + "/out",
              ReadFile("/bin/true") + std::to_string(i));
    const auto collected = daemon.client().Collect(sandbox->info.name, {"out"});
    ASSERT_TRUE(collected.ok()) << collected.status();
    const Digest digest = collected->outputs[0].digest;
    EXPECT_EQ(RunProgram({Cas(daemon, digest, ".exec")}).exit_status, 0);
    EXPECT_TRUE(daemon.client().Release(sandbox->info.name).ok());
  }
}

// G10
TEST_P(Pressure, UseThroughAnyViewKeepsABlobFromBeingEvictedFirst) {
  RunningDaemon daemon({"--data-path", GetParam(), "--max-bytes", "4500KiB"});
  std::vector<Digest> blobs;
  for (const char fill : {'a', 'b', 'c'}) {
    blobs.push_back(*daemon.client().Put(Bytes(fill)));
  }
  // The oldest is used, through its executable view.
  EXPECT_EQ(ReadFile(Cas(daemon, blobs[0], ".exec")), Bytes('a'));
  ASSERT_TRUE(daemon.client().Put(Bytes('d')).ok());
  ASSERT_TRUE(daemon.client().Put(Bytes('e')).ok());
  EXPECT_TRUE(fs::exists(Cas(daemon, blobs[0])));
  EXPECT_FALSE(fs::exists(Cas(daemon, blobs[1])));
}

// G16
TEST_P(Pressure, StoreFullOfLeasedBlobsFailsWritersOnly) {
  RunningDaemon daemon({"--data-path", GetParam(), "--max-bytes", "4MiB"});
  const std::string source = daemon.folder() + "/source";
  fs::create_directory(source);
  for (const char fill : {'a', 'b', 'c'}) {
    WriteFile(source + "/" + fill, Bytes(fill));
  }
  const auto put = daemon.client().PutTree(source, {});
  ASSERT_TRUE(put.ok()) << put.status();
  const auto sandbox = daemon.client().Create({.root = put->root});
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  const std::string path = sandbox->info.path;
  const int fd = open((path + "/out").c_str(), O_CREAT | O_WRONLY, 0644);
  ASSERT_GE(fd, 0);
  const std::string chunk = Bytes('o', 256 << 10);
  ssize_t wrote = 0;
  for (int i = 0; i < 8 && wrote >= 0; ++i) {
    wrote = write(fd, chunk.data(), chunk.size());
  }
  EXPECT_EQ(wrote, -1);
  EXPECT_EQ(errno, ENOSPC);
  close(fd);
  EXPECT_TRUE(absl::IsResourceExhausted(
      daemon.client().Put(Bytes('z', 2 * kMiB)).status()));
  for (const char fill : {'a', 'b', 'c'}) {
    EXPECT_EQ(ReadFile(path + "/" + fill), Bytes(fill));
  }
  ASSERT_EQ(unlink((path + "/out").c_str()), 0);
}

// G13
TEST_P(Pressure, StoreOnReadOnlyMediaServesViewsAndInputs) {
  RunningDaemon daemon({"--data-path", GetParam()});
  const std::string source = daemon.folder() + "/source";
  fs::create_directory(source);
  WriteFile(source + "/input", "input\n");
  fs::copy_file("/bin/echo", source + "/echo");
  const auto put = daemon.client().PutTree(source, {});
  ASSERT_TRUE(put.ok());
  ASSERT_EQ(daemon.Stop(), 0);
  const char* const store = daemon.store().c_str();
  ASSERT_EQ(mount(store, store, nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(
      mount(nullptr, store, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr),
      0);
  daemon.Start();
  EXPECT_EQ(ReadFile(daemon.At("tree/" + put->root.ToString() + "/input")),
            "input\n");
  const auto sandbox = daemon.client().Create({.root = put->root});
  EXPECT_TRUE(sandbox.ok()) << sandbox.status();
  if (sandbox.ok()) {
    EXPECT_EQ(ReadFile(sandbox->info.path + "/input"), "input\n");
    EXPECT_EQ(RunProgram({sandbox->info.path + "/echo", "hi"}).out, "hi\n");
    EXPECT_EQ(
        open((sandbox->info.path + "/new").c_str(), O_CREAT | O_RDWR, 0644),
        -1);
    EXPECT_EQ(errno, EROFS);
  }
  EXPECT_FALSE(daemon.client().Put("new").ok());
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_EQ(umount2(store, 0), 0);
}

// G17
TEST_P(Pressure, WhatHasNoBytesNeedsNoFileInTheStore) {
  RunningDaemon daemon({"--data-path", GetParam()});
  const std::string source = daemon.folder() + "/source";
  fs::create_directories(source + "/empty/below");
  WriteFile(source + "/nothing", "");
  fs::create_symlink("/absolute/nowhere", source + "/absolute");
  fs::create_symlink("dangling", source + "/relative");
  const auto put = daemon.client().PutTree(source, {.node_properties = true});
  ASSERT_TRUE(put.ok());
  const auto sandbox = daemon.client().Create({.root = put->root});
  ASSERT_TRUE(sandbox.ok());
  const std::string path = sandbox->info.path;
  EXPECT_EQ(ReadFile(path + "/nothing"), "");
  EXPECT_TRUE(fs::is_empty(path + "/empty/below"));
  EXPECT_EQ(fs::read_symlink(path + "/absolute"), "/absolute/nowhere");
  struct stat here {};
  struct stat there {};
  ASSERT_EQ(stat((source + "/nothing").c_str(), &there), 0);
  ASSERT_EQ(stat((path + "/nothing").c_str(), &here), 0);
  EXPECT_EQ(here.st_mtim.tv_sec, there.st_mtim.tv_sec);
  EXPECT_EQ(here.st_mtim.tv_nsec, there.st_mtim.tv_nsec);
  EXPECT_EQ(here.st_mode, there.st_mode);
  const std::string files =
      RunShell("find " + daemon.store() + "/cas -type f -size +0 | wc -l").out;
  EXPECT_EQ(std::stoi(files), put->directories) << "only the Directories";
}

// G3
TEST_P(Pressure, AccountedBytesAreNeverFewerThanAllocatedOnes) {
  RunningDaemon daemon({"--data-path", GetParam(), "--max-bytes", "16MiB"});
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      EXPECT_TRUE(daemon.client().Put(Bytes('a', kMiB + i)).ok());
      const auto sandbox = daemon.client().Create({});
      ASSERT_TRUE(sandbox.ok());
      WriteFile(sandbox->info.path + "/f", Bytes('s', 300000 + i));
      EXPECT_TRUE(daemon.client().Release(sandbox->info.name).ok());
    }
  });
  for (int i = 0; i < 30; ++i) {
    // What is allocated is counted between two looks at what is accounted, so
    // it must not be more than the larger of the two and what came in between.
    const int64_t before = daemon.client().Stats()->accounted_bytes;
    const int64_t allocated =
        std::stoll(RunShell("du -s -B1 " + daemon.store() + "/cas").out);
    const int64_t after = daemon.client().Stats()->accounted_bytes;
    const int64_t directories = 257 * 4096;
    EXPECT_LE(allocated - directories, std::max(before, after) + 2 * kMiB);
    EXPECT_LE(allocated - directories, 16 * kMiB);
  }
  stop = true;
  writer.join();
}

TEST_P(Pressure, WatermarksKeepRoomBesideRequests) {
  RunningDaemon daemon({"--data-path", GetParam(), "--max-bytes", "20MiB",
                        "--high-watermark", "50", "--low-watermark", "25"});
  for (int i = 0; i < 12; ++i) {
    const auto put = daemon.client().Put(Bytes(static_cast<char>('a' + i)));
    ASSERT_TRUE(put.ok());
    // So that the kernel knows it.
    EXPECT_EQ(ReadFile(Cas(daemon, *put)).size(), kMiB);
  }
  // Nobody asks for room any more.
  for (int i = 0;
       i < 1000 && daemon.client().Stats()->accounted_bytes > 5 * kMiB; ++i) {
    usleep(10000);
  }
  const auto stats = daemon.client().Stats();
  EXPECT_LE(stats->accounted_bytes, 5 * kMiB);
  EXPECT_GE(stats->blobs, 3) << "no more than that had to go";
  EXPECT_TRUE(fs::exists(Cas(daemon, Digest::Of(Bytes('l')))));
}

// G3: `stats` has a line for each owner.
TEST_P(Pressure, StatsTellWhoOwnsEveryByte) {
  RunningDaemon daemon({"--data-path", GetParam()});
  const Digest digest = *daemon.client().Put(Bytes('z'));
  const int fd = open(Cas(daemon, digest).c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  ASSERT_TRUE(daemon.client().Evict({&digest, 1}).ok());
  ASSERT_TRUE(daemon.client().Put(Bytes('b', 2 * kMiB)).ok());
  ASSERT_TRUE(daemon.client().Create({.name = "s"}).ok());
  WriteFile(daemon.At("sandbox/s/f"), Bytes('s', 3 * kMiB));
  const auto stats = daemon.client().Stats();
  ASSERT_TRUE(stats.ok());
  const std::string lines = daemon.Casement({"stats"}).out;
  int64_t sum = 0;
  for (const auto& [owner, bytes] : stats->accounted_by_owner) {
    sum += bytes;
    EXPECT_NE(lines.find("  " + owner + " "), std::string::npos) << lines;
    if (owner == "zombies") {
      EXPECT_GE(bytes, kMiB);
    }
    if (owner == "blobs") {
      EXPECT_GE(bytes, 2 * kMiB);
    }
    if (owner == "scratch") {
      EXPECT_GE(bytes, 3 * kMiB);
    }
    if (owner == "index") {
      EXPECT_GT(bytes, 0);
    }
  }
  EXPECT_EQ(stats->accounted_by_owner.size(), 5u);
  EXPECT_EQ(sum, stats->accounted_bytes);
  close(fd);
}

}  // namespace
}  // namespace casement
