// What a hostile or careless client can ask for: garbage, floods, and trees
// that are wide, deep, huge, or have more paths than the world has disks. G22
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "model/directory.h"
#include "mount/data_paths.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int kDeep = 10'000;

size_t OpenFiles(pid_t pid) {
  const fs::path folder = "/proc/" + std::to_string(pid) + "/fd";
  return std::distance(fs::directory_iterator(folder),
                       fs::directory_iterator());
}

// What /proc/PID/status says of a process's memory.
int64_t StatusBytes(pid_t pid, const std::string& key) {
  const std::string status =
      ReadFile("/proc/" + std::to_string(pid) + "/status");
  return std::stoll(status.substr(status.find(key) + key.size())) * 1024;
}

// The most memory that a process has had.
int64_t PeakBytes(pid_t pid) { return StatusBytes(pid, "VmHWM:"); }

// What it has of its own now.
int64_t OwnBytes(pid_t pid) { return StatusBytes(pid, "RssAnon:"); }

int ConnectTo(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  EXPECT_EQ(
      connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
      0);
  return fd;
}

// Every 97th byte is taken, so that all values come up.
std::string Garbage(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 97 + 13);
  return bytes;
}

TEST(Connections, FloodsAreBoundedAndHinderNobody) {
  RunningDaemon daemon;
  ASSERT_TRUE(daemon.client().Stats().ok());
  const size_t before = OpenFiles(daemon.pid());
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  const std::vector<std::string> beginnings = {
      "",           "P",          preface.substr(0, 12),
      "GET / \r\n", Garbage(500), preface + Garbage(500)};
  std::vector<int> connections;
  for (int i = 0; i < 400; ++i) {
    connections.push_back(ConnectTo(daemon.socket()));
    const std::string& words = beginnings[i % beginnings.size()];
    send(connections.back(), words.data(), words.size(), MSG_NOSIGNAL);
    if (i % 50 == 0) {
      EXPECT_EQ(daemon.Casement({"stats"}).exit_status, 0) << i;
    }
  }
  EXPECT_EQ(daemon.Casement({"stats"}).exit_status, 0);
  // Half of them have said that they are nobody's; of the others 128 may wait.
  for (int i = 0; i < 1000 && OpenFiles(daemon.pid()) > before + 140; ++i) {
    usleep(10000);
  }
  EXPECT_LE(OpenFiles(daemon.pid()), before + 140);
  for (const int fd : connections) close(fd);
  for (int i = 0; i < 1000 && OpenFiles(daemon.pid()) > before + 4; ++i) {
    usleep(10000);
  }
  EXPECT_LE(OpenFiles(daemon.pid()), before + 4);
}

class Extremes : public testing::TestWithParam<std::string> {
 protected:
  Digest MustPut(const std::string& bytes) {
    const auto put = daemon_.client().Put(bytes);
    EXPECT_TRUE(put.ok()) << put.status();
    return put.ok() ? *put : Digest();
  }
  // What is at the bottom of `depth` directories that are called "d".
  Digest MustPutDeep(int depth, const Digest& bottom) {
    Digest digest = bottom;
    for (int i = 0; i < depth; ++i) {
      DirectoryBuilder builder;
      builder.AddDirectory("d", digest);
      digest = MustPut(builder.Build());
    }
    return digest;
  }
  std::string MustCreate(const Digest& root, const std::string& name) {
    const auto made = daemon_.client().Create({.root = root, .name = name});
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? made->info.path : "";
  }

  RunningDaemon daemon_{{"--data-path", GetParam()}};
};

CASEMENT_IN_BOTH_DATA_PATHS(Extremes);

TEST_P(Extremes, AHundredThousandFilesInOneDirectory) {
  const Digest file = MustPut("file");
  DirectoryBuilder builder;
  for (int i = 0; i < 100'000; ++i) {
    builder.AddFile("file" + std::to_string(i), file, i % 2 == 0);
  }
  const Digest root = MustPut(builder.Build());
  const std::string path = MustCreate(root, "wide");
  EXPECT_EQ(
      std::distance(fs::directory_iterator(path), fs::directory_iterator()),
      100'000);
  EXPECT_EQ(ReadFile(path + "/file99999"), "file");
  EXPECT_EQ(ReadFile(daemon_.At("tree/" + root.ToString() + "/file1")), "file");
  WriteFile(path + "/file5000", "changed");
  EXPECT_EQ(daemon_.Casement({"sandbox", "diff", "wide"}).out, "M file5000\n");
  const auto collected = daemon_.client().Collect("wide", {"."});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_NE(collected->outputs[0].root_directory, root);
}

TEST_P(Extremes, AMillionFilesInOneTree) {
  const Digest file = MustPut("file");
  DirectoryBuilder top;
  for (int i = 0; i < 1000; ++i) {
    DirectoryBuilder builder;
    for (int j = 0; j < 1000; ++j) {
      builder.AddFile(absl::StrCat(i, "-", j), file, false);
    }
    top.AddDirectory(std::to_string(i), MustPut(builder.Build()));
  }
  const std::string path = MustCreate(MustPut(top.Build()), "large");
  EXPECT_EQ(RunShell("find " + path + " -type f -size 1 | wc -l").out,
            "1000000\n");
  WriteFile(path + "/999/999-999", "changed");
  EXPECT_EQ(daemon_.Casement({"sandbox", "diff", "large"}).out,
            "M 999/999-999\n");
  EXPECT_TRUE(daemon_.client().Release("large").ok());
}

TEST_P(Extremes, AThousandLiveSandboxes) {
  constexpr int kSandboxes = 1000;
  DirectoryBuilder builder;
  builder.AddFile("input", MustPut("input"), false);
  const Digest root = MustPut(builder.Build());
  std::vector<std::string> paths;
  for (int i = 0; i < kSandboxes; ++i) {
    paths.push_back(MustCreate(root, std::to_string(i)));
  }
  for (int i = 0; i < kSandboxes; ++i) {
    WriteFile(paths[i] + "/output", std::to_string(i));
    WriteFile(paths[i] + "/input", std::to_string(-i));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(daemon_.At("sandbox")),
                          fs::directory_iterator()),
            kSandboxes);
  for (int i = 0; i < kSandboxes; ++i) {
    const std::string name = std::to_string(i);
    EXPECT_EQ(ReadFile(paths[i] + "/output"), name);
    EXPECT_EQ(ReadFile(paths[i] + "/input"), std::to_string(-i));
    const auto collected = daemon_.client().Collect(name, {"output"});
    ASSERT_TRUE(collected.ok()) << collected.status();
    EXPECT_EQ(collected->outputs[0].digest, Digest::Of(name));
    EXPECT_TRUE(daemon_.client().Release(name).ok());
  }
  EXPECT_EQ(daemon_.Metric("sandboxes"), 0);
}

// Each keeps a descriptor open in the daemon, as long as it has enough: it
// takes what the hard limit allows.
TEST(OpenFiles, TheSoftLimitDoesNotBindTheDaemon) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low = {.rlim_cur = 1000, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  RunningDaemon daemon;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  const std::string path = daemon.client().Create({})->info.path;
  for (int i = 0; i < 3000; ++i) {
    const std::string name = path + "/" + std::to_string(i);
    const int fd = open(name.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    ASSERT_GE(fd, 0) << i << ": errno " << errno;
    close(fd);
  }
  EXPECT_GT(OpenFiles(daemon.pid()), 3000u);
  EXPECT_TRUE(daemon.client().List().ok()) << "there is room for clients";
}

TEST(OpenFiles, ASandboxMayWriteMoreThanTheDaemonMayHaveOpen) {
  constexpr int kFiles = 1000;
  RunningDaemon daemon({}, {"prlimit", "--nofile=400:400", "setpriv",
                            "--bounding-set=-sys_resource"});
  const std::string path = daemon.client().Create({.name = "many"})->info.path;
  for (int i = 0; i < kFiles; ++i) {
    WriteFile(absl::StrCat(path, "/", i), std::to_string(i));
  }
  EXPECT_LE(OpenFiles(daemon.pid()), 400u);
  EXPECT_TRUE(daemon.client().List().ok()) << "there is room for clients";
  for (int i = 0; i < kFiles; ++i) {
    ASSERT_EQ(ReadFile(absl::StrCat(path, "/", i)), std::to_string(i));
  }
  const auto collected = daemon.client().Collect("many", {"0", "999"});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_EQ(collected->outputs[0].digest, Digest::Of("0"));
  EXPECT_EQ(collected->outputs[1].digest, Digest::Of("999"));
  EXPECT_TRUE(daemon.client().Release("many").ok());
  EXPECT_TRUE(fs::is_empty(daemon.store() + "/scratch"));
}

TEST_P(Extremes, MemoryOfNodesIsGivenBackWhenTheKernelForgetsThem) {
  constexpr int kFiles = 60'000;
  DirectoryBuilder builder;
  for (int i = 0; i < kFiles; ++i) {
    builder.AddFile(absl::StrCat("file-with-a-long-name-", i), Digest(), false);
  }
  const std::string path = MustCreate(MustPut(builder.Build()), "wide");
  const double nodes = daemon_.Metric("nodes");
  const int64_t before = OwnBytes(daemon_.pid());
  struct stat status {};
  for (int i = 0; i < kFiles; ++i) {
    const std::string file = absl::StrCat(path, "/file-with-a-long-name-", i);
    ASSERT_EQ(stat(file.c_str(), &status), 0) << file;
  }
  ASSERT_GE(daemon_.Metric("nodes"), nodes + kFiles);
  const int64_t peak = OwnBytes(daemon_.pid()) - before;
  // What it is for is keys_bench's to say.
  EXPECT_LT(peak, kFiles * 350);
  EXPECT_GT(peak, kFiles * 100);
  WriteFile("/proc/sys/vm/drop_caches", "2");
  for (int i = 0; i < 1000 && OwnBytes(daemon_.pid()) - before > peak / 4;
       ++i) {
    usleep(10000);
  }
  EXPECT_LE(daemon_.Metric("nodes"), nodes + kFiles / 10);
  EXPECT_LE(OwnBytes(daemon_.pid()) - before, peak / 4);
}

// A gigabyte of zeros, which takes no room: a true blob, but no Directory.
TEST_P(Extremes, DirectoryOfAGibibyteIsRefusedUnread) {
  const Digest huge = *Digest::Parse(
      "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19"
      "fe68a14-1073741824");
  ASSERT_EQ(daemon_.Stop(), 0);
  const std::string name = huge.ToString();
  const std::string file =
      daemon_.store() + "/cas/" + name.substr(0, 2) + "/" + name;
  fs::create_directories(fs::path(file).parent_path());
  WriteFile(file, "");
  ASSERT_EQ(truncate(file.c_str(), huge.size_bytes()), 0);
  daemon_.Start();
  ASSERT_TRUE(daemon_.client().Missing({&huge, 1})->empty());
  const int64_t before = PeakBytes(daemon_.pid());
  const Digest above = MustPutDeep(2, huge);
  for (const Digest& root : {huge, above}) {
    const absl::Status refused =
        daemon_.client().Create({.root = root}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), name)) << refused;
  }
  struct stat status {};
  EXPECT_EQ(stat(daemon_.At("tree/" + name).c_str(), &status), -1);
  EXPECT_EQ(
      stat(daemon_.At("tree/" + above.ToString() + "/d/d").c_str(), &status),
      -1);
  EXPECT_LT(PeakBytes(daemon_.pid()), before + 200 * kMiB);
  EXPECT_TRUE(daemon_.client().Stats().ok());
}

// Step by step, as no path is long enough.
int OpenBottom(const std::string& top, int depth, const char* name) {
  int at = open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  for (int i = 0; i < depth && at >= 0; ++i) {
    const int next = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    close(at);
    at = next;
  }
  return at;
}

// The same for both data paths, and not fast.
class Deep : public Extremes {
 protected:
  // A folder with kDeep folders in each other, and a file at the bottom. In
  // memory, where making and removing it takes no time.
  void MakeSource(const std::string& top) {
    fs::create_directory(top);
    ASSERT_EQ(mount("tmpfs", top.c_str(), "tmpfs", 0, ""), 0);
    int at = open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < kDeep; ++i) {
      ASSERT_EQ(mkdirat(at, "d", 0755), 0);
      const int next = openat(at, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
      close(at);
      at = next;
    }
    WriteAt(at, "file");
    close(at);
  }
  static void WriteAt(int folder, const char* name) {
    const int fd = openat(folder, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    ASSERT_GE(fd, 0) << errno;
    EXPECT_EQ(write(fd, name, strlen(name)),
              static_cast<ssize_t>(strlen(name)));
    close(fd);
  }
  static Digest RootOf(const std::vector<std::string>& names) {
    DirectoryBuilder bottom;
    for (const std::string& name : names) {
      bottom.AddFile(name, Digest::Of(name), false);
    }
    Digest digest = Digest::Of(bottom.Build());
    for (int i = 0; i < kDeep; ++i) {
      DirectoryBuilder builder;
      builder.AddDirectory("d", digest);
      digest = Digest::Of(builder.Build());
    }
    return digest;
  }
};

INSTANTIATE_TEST_SUITE_P(DataPath, Deep, testing::Values("auto"));

TEST_P(Deep, TreeOfTenThousandLevelsIsPutShownChangedAndCollected) {
  const std::string source = daemon_.folder() + "/source";
  MakeSource(source);
  const ProgramResult put = daemon_.Casement({"put", "--tree", source});
  EXPECT_EQ(put.exit_status, 0) << put.err;
  const Digest root = RootOf({"file"});
  EXPECT_EQ(put.out, root.ToString() + "\n");
  const std::string path = MustCreate(root, "deep");
  const int bottom = OpenBottom(path, kDeep, "d");
  WriteAt(bottom, "added");
  close(bottom);
  const auto changes = daemon_.client().Diff("deep");
  ASSERT_TRUE(changes.ok()) << changes.status();
  ASSERT_EQ(changes->size(), 1u);
  EXPECT_EQ((*changes)[0].path.size(), 2u * kDeep + 5);
  const auto collected = daemon_.client().Collect("deep", {"."});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_EQ(collected->outputs[0].root_directory, RootOf({"added", "file"}));
  // No system call takes so long a path, and no request.
  const absl::Status refused =
      daemon_.client().Collect("deep", {(*changes)[0].path}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_TRUE(daemon_.client().Release("deep").ok());
  const std::string again =
      MustCreate(collected->outputs[0].root_directory, "again");
  const int same = OpenBottom(again, kDeep, "d");
  EXPECT_EQ(faccessat(same, "added", R_OK, 0), 0);
  close(same);
  const int tree =
      OpenBottom(daemon_.At("tree/" + root.ToString()), kDeep, "d");
  EXPECT_EQ(faccessat(tree, "file", R_OK, 0), 0);
  close(tree);
  EXPECT_TRUE(daemon_.client().Release("again").ok());
  EXPECT_EQ(umount2(source.c_str(), MNT_DETACH), 0);
}

// 12 levels of 10 names for the same Directory below: 10^12 files, in 13
// Directories.
TEST_P(Extremes, TreeOfATrillionPathsIsMadeAndCollectedAtOnce) {
  DirectoryBuilder bottom;
  bottom.AddFile("file", MustPut("one of many"), false);
  Digest root = MustPut(bottom.Build());
  for (int level = 0; level < 12; ++level) {
    DirectoryBuilder builder;
    for (int i = 0; i < 10; ++i) {
      builder.AddDirectory(std::to_string(i), root);
    }
    root = MustPut(builder.Build());
  }
  const int64_t before = PeakBytes(daemon_.pid());
  const std::string path = MustCreate(root, "bomb");
  const auto list = daemon_.client().List();
  ASSERT_TRUE(list.ok());
  EXPECT_EQ((*list)[0].input_files, 1'000'000'000'000u);
  EXPECT_EQ(ReadFile(path + "/0/1/2/3/4/5/6/7/8/9/0/1/file"), "one of many");
  // As much of it as somebody has the patience for.
  EXPECT_EQ(RunShell("find " + path + " | head -n 5000 | wc -l").out, "5000\n");
  EXPECT_EQ(RunShell("find " + daemon_.At("tree/" + root.ToString()) +
                     " | head -n 5000 | wc -l")
                .out,
            "5000\n");
  auto collected = daemon_.client().Collect("bomb", {"."});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_EQ(collected->outputs[0].root_directory, root);
  EXPECT_LT(collected->outputs[0].digest.size_bytes(), 20'000);
  WriteFile(path + "/9/9/9/9/9/9/9/9/9/9/9/9/file", "another");
  EXPECT_EQ(daemon_.Casement({"sandbox", "diff", "bomb"}).out,
            "M 9/9/9/9/9/9/9/9/9/9/9/9/file\n");
  collected = daemon_.client().Collect("bomb", {"."});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_LT(collected->outputs[0].digest.size_bytes(), 40'000);
  EXPECT_TRUE(daemon_.client().Release("bomb").ok());
  EXPECT_LT(PeakBytes(daemon_.pid()), before + 100 * kMiB);
}

// Twice as many at each level: numbers of any size would overflow.
TEST_P(Extremes, TreeOfMorePathsThanCanBeCountedIsRefused) {
  DirectoryBuilder empty;
  Digest root = MustPut(empty.Build());
  for (int level = 0; level < 200; ++level) {
    DirectoryBuilder builder;
    builder.AddDirectory("a", root);
    builder.AddDirectory("b", root);
    root = MustPut(builder.Build());
  }
  const absl::Status refused = daemon_.client().Create({.root = root}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "paths")) << refused;
  // Looking needs no counting.
  EXPECT_TRUE(
      fs::is_directory(daemon_.At("tree/" + root.ToString() + "/a/b/a/b/a/b")));
}

}  // namespace
}  // namespace casement
