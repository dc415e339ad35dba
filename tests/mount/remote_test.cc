// Inputs that come from a remote cache, which is another casementd, when they
// are read; outputs that go there; and one that is slow, gone or wrong.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/unique_fd.h"
#include "build/buildgrid/local_cas.grpc.pb.h"
#include "model/directory.h"
#include "mount/data_paths.h"
#include "mount/read_errno.h"
#include "support/running_daemon.h"
#include "support/socket_proxy.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
namespace local_cas = ::build::buildgrid;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr int64_t kMiB = int64_t{1} << 20;
// How long the remote cache may take (--remote-timeout).
constexpr int kTimeoutSeconds = 4;

// A child that reads `path`; it exits with 0 or the errno.
pid_t StartReader(const std::string& path) {
  const pid_t pid = fork();
  if (pid == 0) _exit(ReadErrno(path));
  return pid;
}

// Its exit status, or 128 + its signal; -1 if it does not end in time.
int WaitForExit(pid_t pid, absl::Duration timeout = absl::Seconds(20)) {
  const absl::Time end = absl::Now() + timeout;
  int status = 0;
  while (absl::Now() < end) {
    if (waitpid(pid, &status, WNOHANG) == pid) {
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    absl::SleepFor(absl::Milliseconds(5));
  }
  return -1;
}

class Remote : public testing::TestWithParam<std::string> {
 protected:
  Remote()
      : proxy_(cluster_.folder() + "/proxy", cluster_.socket()),
        host_({"--data-path", GetParam(), "--remote",
               absl::StrCat("unix:", cluster_.folder(), "/proxy"),
               "--remote-timeout", absl::StrCat(kTimeoutSeconds)}) {}

  Digest Put(const std::string& bytes) { return *cluster_.client().Put(bytes); }
  Digest PutDirectory(const DirectoryBuilder& builder) {
    return Put(builder.Build());
  }
  // The files "0", "1"... of so many bytes each, and "dir/tool".
  Digest PutTree(int files, int64_t bytes = 100) {
    DirectoryBuilder dir;
    dir.AddFile("tool", Put("#!/bin/sh\necho ran\n"), true);
    DirectoryBuilder root;
    for (int i = 0; i < files; ++i) {
      root.AddFile(absl::StrCat(i), Put(BytesOf(i, bytes)), false);
    }
    root.AddDirectory("dir", PutDirectory(dir));
    return PutDirectory(root);
  }
  static std::string BytesOf(int i, int64_t bytes) {
    std::string text = absl::StrCat(i, "\n");
    text.resize(static_cast<size_t>(bytes), static_cast<char>('a' + i % 26));
    return text;
  }

  absl::StatusOr<CreatedSandbox> TryCreate(const Digest& root,
                                           const std::string& label = "") {
    SandboxSpec spec;
    spec.root = root;
    spec.label = label;
    spec.inputs_from = InputsFrom::kRemote;
    return host_.client().Create(spec);
  }
  std::string Create(const Digest& root, const std::string& label = "") {
    const absl::StatusOr<CreatedSandbox> sandbox = TryCreate(root, label);
    EXPECT_TRUE(sandbox.ok()) << sandbox.status();
    return sandbox.ok() ? sandbox->info.path : "";
  }
  // One that needs nothing from the remote cache, with a large output and a
  // directory of so many small ones. Its name.
  std::string CreateWithOutputs(int files) {
    const auto sandbox = host_.client().Create({});
    EXPECT_TRUE(sandbox.ok()) << sandbox.status();
    const std::string& path = sandbox->info.path;
    // Other outputs each time.
    const std::string seed = sandbox->info.name;
    WriteFile(path + "/large", seed + BytesOf(1, 5 * kMiB));
    fs::create_directories(path + "/dir/below");
    for (int i = 0; i < files; ++i) {
      WriteFile(absl::StrCat(path, "/dir/below/", i), absl::StrCat(seed, i));
    }
    return sandbox->info.name;
  }
  absl::StatusOr<CollectedOutputs> CollectAndSend(const std::string& name) {
    return host_.client().Collect(name, {"large", "dir"}, {.send = true});
  }
  // All that outputs are made of.
  std::vector<Digest> BlobsOf(const CollectedOutputs& collected) {
    std::vector<Digest> blobs;
    std::vector<Digest> directories;
    for (const CollectedOutput& output : collected.outputs) {
      blobs.push_back(output.digest);
      if (output.kind != CollectedOutput::Kind::kDirectory) continue;
      directories.push_back(output.root_directory);
    }
    for (size_t i = 0; i < directories.size(); ++i) {
      const auto bytes = host_.client().GetBytes(directories[i], 10 * kMiB);
      EXPECT_TRUE(bytes.ok()) << bytes.status();
      const auto directory = Directory::Parse(*bytes);
      EXPECT_TRUE(directory.ok()) << directory.status();
      for (const Directory::Entry& entry : (*directory)->entries()) {
        const bool is_file = entry.type == EntryType::kFile;
        (is_file ? blobs : directories).push_back(entry.digest);
      }
    }
    blobs.insert(blobs.end(), directories.begin(), directories.end());
    return blobs;
  }
  int Sent() {
    return static_cast<int>(host_.Metric("remote_sent_blobs_total"));
  }
  int Fetched() {
    return static_cast<int>(host_.Metric("remote_fetched_blobs_total"));
  }
  void WaitUntilSomeoneWaits(int count = 1) {
    while (host_.Metric("remote_waiting") < count) {
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
  // What the remote cache has of a blob on its disk.
  std::string FileOf(const Digest& digest) const {
    const std::string name = digest.ToString();
    return cluster_.store() + "/cas/" + name.substr(0, 2) + "/" + name;
  }

  RunningDaemon cluster_;
  SocketProxy proxy_;
  RunningDaemon host_;
};

TEST_P(Remote, FilesComeWhenTheyAreReadAndNotBefore) {
  const std::string path = Create(PutTree(10));
  EXPECT_EQ(Fetched(), 2);  // Directories.
  EXPECT_EQ(RunShell("ls -lR " + path).exit_status, 0);
  EXPECT_EQ(Fetched(), 2);
  EXPECT_EQ(ReadFile(path + "/3"), BytesOf(3, 100));
  EXPECT_EQ(Fetched(), 3);
  EXPECT_EQ(ReadFile(path + "/3"), BytesOf(3, 100));
  EXPECT_EQ(RunProgram({path + "/dir/tool"}).out, "ran\n");
  EXPECT_EQ(Fetched(), 4);
  // Another sandbox, and one that needs nothing from there.
  EXPECT_EQ(ReadFile(Create(PutTree(10)) + "/3"), BytesOf(3, 100));
  EXPECT_EQ(Fetched(), 4);
}

TEST_P(Remote, EveryCallThatNeedsBytesWaitsForThem) {
  const std::string path = Create(PutTree(6, 3 * kMiB));
  const auto bytes = [](int i) { return BytesOf(i, 3 * kMiB); };
  {  // A mapping.
    const int fd = open((path + "/0").c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    void* const map = mmap(nullptr, 3 * kMiB, PROT_READ, MAP_SHARED, fd, 0);
    ASSERT_NE(map, MAP_FAILED);
    EXPECT_EQ(std::string(static_cast<char*>(map), 3 * kMiB), bytes(0));
    munmap(map, 3 * kMiB);
    close(fd);
  }
  {  // A write in the middle.
    const int fd = open((path + "/1").c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(pwrite(fd, "XYZ", 3, kMiB), 3);
    close(fd);
    EXPECT_EQ(ReadFile(path + "/1"), bytes(1).replace(kMiB, 3, "XYZ"));
  }
  // A truncation, and one to nothing, which needs no bytes.
  EXPECT_EQ(truncate((path + "/2").c_str(), kMiB), 0);
  EXPECT_EQ(ReadFile(path + "/2"), bytes(2).substr(0, kMiB));
  const int before = Fetched();
  WriteFile(path + "/3", "new");
  EXPECT_EQ(ReadFile(path + "/3"), "new");
  EXPECT_EQ(Fetched(), before);
  // A copy by the kernel, from one onto another.
  const int from = open((path + "/4").c_str(), O_RDONLY | O_CLOEXEC);
  const int to = open((path + "/5").c_str(), O_RDWR | O_CLOEXEC);
  EXPECT_EQ(copy_file_range(from, nullptr, to, nullptr, kMiB, 0), kMiB);
  close(from);
  close(to);
  EXPECT_EQ(ReadFile(path + "/5"),
            bytes(4).substr(0, kMiB) + bytes(5).substr(kMiB));
}

TEST_P(Remote, ViewsShowWhatTheRemoteCacheHas) {
  const Digest root = PutTree(2);
  EXPECT_EQ(ReadFile(host_.At("tree/" + root.ToString() + "/1")),
            BytesOf(1, 100));
  const Digest blob = Put("a blob");
  EXPECT_EQ(ReadFile(host_.At("cas/" + blob.ToString())), "a blob");
  const Digest tool = Put("#!/bin/sh\necho view\n");
  EXPECT_EQ(RunProgram({host_.At("cas/" + tool.ToString() + ".exec")}).out,
            "view\n");
  // A miss is one, but not for ever.
  const Digest late = Digest::Of("late");
  EXPECT_EQ(ReadErrno(host_.At("cas/" + late.ToString())), ENOENT);
  EXPECT_EQ(Put("late"), late);
  EXPECT_EQ(ReadFile(host_.At("cas/" + late.ToString())), "late");
}

// G8
TEST_P(Remote, AFileIsFetchedOnceHoweverManyReadIt) {
  for (const int64_t bytes : {int64_t{100}, 5 * kMiB}) {
    const std::string path = Create(PutTree(1, bytes));
    const int before = Fetched();
    proxy_.Block();
    std::vector<pid_t> readers;
    for (int i = 0; i < 32; ++i) readers.push_back(StartReader(path + "/0"));
    WaitUntilSomeoneWaits();
    proxy_.Unblock();
    for (const pid_t reader : readers) EXPECT_EQ(WaitForExit(reader), 0);
    EXPECT_EQ(Fetched(), before + 1);
  }
}

// What `fd` has at `offset`.
std::string ReadAt(int fd, int64_t offset, size_t size) {
  std::string bytes(size, '-');
  const ssize_t got = pread(fd, bytes.data(), size, offset);
  return got < 0 ? absl::StrCat("errno ", errno) : bytes.substr(0, got);
}

TEST_P(Remote, ALargeFileIsReadWhileItComes) {
  const std::string bytes = BytesOf(0, 24 * kMiB);
  const std::string path = Create(PutTree(1, 24 * kMiB)) + "/0";
  const int fetched = Fetched();
  proxy_.BlockAfter(12 * kMiB);
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(fd.valid()) << errno;
  for (const int64_t offset : {int64_t{0}, kMiB, int64_t{5}}) {
    EXPECT_TRUE(ReadAt(fd.get(), offset, kMiB) == bytes.substr(offset, kMiB))
        << offset;
  }
  void* const map =
      mmap(nullptr, kMiB, PROT_READ, MAP_SHARED, fd.get(), 4 * kMiB);
  ASSERT_NE(map, MAP_FAILED);
  EXPECT_EQ(memcmp(map, bytes.data() + 4 * kMiB, kMiB), 0);
  munmap(map, kMiB);
  EXPECT_EQ(Fetched(), fetched);
  const pid_t reader = StartReader(path);
  WaitUntilSomeoneWaits(2);  // Whoever opened it first, and the reader.
  EXPECT_EQ(Fetched(), fetched);
  proxy_.Unblock();
  EXPECT_EQ(WaitForExit(reader), 0);
  EXPECT_TRUE(ReadAt(fd.get(), 0, bytes.size()) == bytes);
  EXPECT_EQ(Fetched(), fetched + 1);
  // G4: another can open it beside, and after, and write to it.
  EXPECT_TRUE(ReadFile(path) == bytes);
  fd.Reset();
  EXPECT_TRUE(ReadFile(path) == bytes);
  WriteFile(path, "written");
  EXPECT_EQ(ReadFile(path), "written");
}

// G9
TEST_P(Remote, WhatCameOfAFileThatProvesWrongIsForgotten) {
  const std::string bytes = BytesOf(0, 24 * kMiB);
  const Digest digest = Put(bytes);
  const std::string path = Create(PutTree(1, 24 * kMiB)) + "/0";
  ASSERT_EQ(chmod(FileOf(digest).c_str(), 0644), 0);
  const UniqueFd file(open(FileOf(digest).c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(pwrite(file.get(), "wrong", 5, 0), 5);
  proxy_.BlockAfter(12 * kMiB);
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(fd.valid()) << errno;
  EXPECT_EQ(ReadAt(fd.get(), 0, 5), "wrong") << "nobody could know";
  proxy_.Unblock();
  EXPECT_EQ(ReadAt(fd.get(), 24 * kMiB - 5, 5), absl::StrCat("errno ", EIO));
  ASSERT_EQ(pwrite(file.get(), bytes.data(), 5, 0), 5);
  // The notification may still be on its way.
  for (int i = 0; i < 1000 && ReadAt(fd.get(), 0, 5) == "wrong"; ++i) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_TRUE(ReadAt(fd.get(), 0, bytes.size()) == bytes);
}

TEST_P(Remote, WhileItHangsOthersGoOnAndWhoWaitsCanBeKilled) {
  const Digest root = PutTree(64);
  const std::string path = Create(root);
  const Digest local = *host_.client().Put("here");
  proxy_.Block();
  // More than the daemon has threads for requests.
  std::vector<pid_t> readers;
  for (int i = 0; i < 64; ++i) {
    readers.push_back(StartReader(path + "/" + std::to_string(i)));
  }
  WaitUntilSomeoneWaits();
  const absl::Time start = absl::Now();
  EXPECT_EQ(ReadFile(host_.At("cas/" + local.ToString())), "here");
  WriteFile(path + "/new", "written");
  EXPECT_EQ(ReadFile(path + "/new"), "written");
  for (int i = 0; i < 8; ++i) {
    kill(readers[i], SIGKILL);
    EXPECT_EQ(WaitForExit(readers[i], absl::Seconds(1)), 128 + SIGKILL);
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(kTimeoutSeconds));
  // G22: none of them hangs.
  for (int i = 8; i < 64; ++i) EXPECT_EQ(WaitForExit(readers[i]), ETIMEDOUT);
  proxy_.Unblock();
  EXPECT_EQ(ReadFile(path + "/20"), BytesOf(20, 100));
}

TEST_P(Remote, GoneItIsAnErrorAndBackItServes) {
  const Digest root = PutTree(3);
  const std::string path = Create(root);
  proxy_.Cut();
  const absl::Time start = absl::Now();
  EXPECT_EQ(ReadErrno(path + "/0"), ETIMEDOUT);
  EXPECT_LT(absl::Now() - start, absl::Seconds(3 * kTimeoutSeconds));
  DirectoryBuilder other;
  other.AddFile("x", Put("x"), false);
  const absl::Status refused = TryCreate(PutDirectory(other)).status();
  EXPECT_TRUE(absl::IsUnavailable(refused) || absl::IsDeadlineExceeded(refused))
      << refused;
  EXPECT_TRUE(TryCreate(root).ok());  // Its Directories are here.
  proxy_.Mend();
  EXPECT_EQ(ReadFile(path + "/0"), BytesOf(0, 100));
}

TEST_P(Remote, GoneAtTheStartItIsSaidAndBackItServes) {
  EXPECT_EQ(host_.Stop(), 0);
  proxy_.Cut();
  host_.Start();
  while (!absl::StrContains(host_.log(), "/proxy: connecting: ")) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  proxy_.Mend();
  EXPECT_EQ(ReadFile(Create(PutTree(3)) + "/0"), BytesOf(0, 100));
}

TEST_P(Remote, TheDaemonEndsThoughItDoesNotGetThrough) {
  EXPECT_EQ(host_.Stop(), 0);
  proxy_.Block();
  host_.SetArguments({"--remote",
                      absl::StrCat("unix:", cluster_.folder(), "/proxy"),
                      "--remote-timeout", "600"});
  host_.Start();
  EXPECT_EQ(host_.Stop(), 0);
}

// G9
TEST_P(Remote, WrongBytesAreAnErrorAndNotKept) {
  for (const int64_t bytes : {int64_t{100}, 5 * kMiB}) {
    const Digest digest = Put(BytesOf(7, bytes));
    DirectoryBuilder root;
    root.AddFile("file", digest, false);
    const std::string path = Create(PutDirectory(root)) + "/file";
    ASSERT_EQ(chmod(FileOf(digest).c_str(), 0644), 0);
    const int fd = open(FileOf(digest).c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_EQ(pwrite(fd, "wrong", 5, bytes - 20), 5);
    EXPECT_EQ(ReadErrno(path), EIO);
    EXPECT_FALSE(fs::exists(host_.store() + "/cas/" +
                            digest.ToString().substr(0, 2) + "/" +
                            digest.ToString()));
    ASSERT_EQ(pwrite(fd, BytesOf(7, bytes).data(), 5, 0), 5);
    ASSERT_EQ(pwrite(fd, BytesOf(7, bytes).data() + bytes - 20, 20, bytes - 20),
              20);
    close(fd);
    EXPECT_EQ(ReadFile(path), BytesOf(7, bytes));
  }
}

TEST_P(Remote, WhatNobodyHasIsNamed) {
  DirectoryBuilder root;
  const Digest nowhere = Digest::Of("nowhere");
  root.AddFile("file", nowhere, false);
  const absl::Status status = TryCreate(PutDirectory(root)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(nowhere.ToString()));
  // It was there, and is lost.
  const Digest lost = Put("lost");
  DirectoryBuilder other;
  other.AddFile("file", lost, false);
  const std::string path = Create(PutDirectory(other));
  ASSERT_TRUE(cluster_.client().Evict({lost}).ok());
  EXPECT_EQ(ReadErrno(path + "/file"), EIO);
}

TEST_P(Remote, WhatTheLastActionOfALabelReadIsFetchedAhead) {
  const Digest root = PutTree(20);
  {
    const std::string path = Create(root, "//a:b");
    EXPECT_EQ(ReadFile(path + "/3"), BytesOf(3, 100));
    EXPECT_EQ(ReadFile(path + "/4"), BytesOf(4, 100));
    ASSERT_TRUE(
        host_.client().Release(fs::path(path).filename().string()).ok());
    ASSERT_TRUE(host_.client().EvictUnleased().ok());
  }
  const auto fetched_ahead = [this] {
    return host_.Metric("remote_fetched_ahead_blobs_total");
  };
  EXPECT_EQ(fetched_ahead(), 0);
  const std::string path = Create(root, "//a:b");
  while (fetched_ahead() < 2) absl::SleepFor(absl::Milliseconds(5));
  const int before = Fetched();
  EXPECT_EQ(ReadFile(path + "/3"), BytesOf(3, 100));
  EXPECT_EQ(ReadFile(path + "/4"), BytesOf(4, 100));
  EXPECT_EQ(Fetched(), before);
}

// G23
TEST_P(Remote, TheDaemonEndsThoughSomebodyWaits) {
  const std::string path = Create(PutTree(8));
  host_.SetArguments({"--remote-timeout", "600"});
  proxy_.Block();
  std::vector<pid_t> readers;
  for (int i = 0; i < 8; ++i) {
    readers.push_back(StartReader(path + "/" + std::to_string(i)));
  }
  WaitUntilSomeoneWaits();
  EXPECT_EQ(host_.Stop(), 0);
  for (const pid_t reader : readers) EXPECT_GT(WaitForExit(reader), 0);
}

// What is sent.

TEST_P(Remote, OutputsAreThereWhenTheyHaveBeenCollected) {
  const std::string name = CreateWithOutputs(200);
  const auto collected = CollectAndSend(name);
  ASSERT_TRUE(collected.ok()) << collected.status();
  const std::vector<Digest> blobs = BlobsOf(*collected);
  // A Tree, two Directories, 200 small files and a large one.
  EXPECT_EQ(blobs.size(), 204u);
  EXPECT_THAT(*cluster_.client().Missing(blobs), IsEmpty());
  EXPECT_EQ(Sent(), 204);
  // What is there is not sent again.
  EXPECT_TRUE(CollectAndSend(name).ok());
  EXPECT_EQ(Sent(), 204);
  WriteFile(host_.At("sandbox/" + name + "/dir/below/7"), "another");
  EXPECT_TRUE(CollectAndSend(name).ok());
  EXPECT_EQ(Sent(), 204 + 4);
  // Without being asked to, nothing is.
  EXPECT_TRUE(host_.client().Put("put").ok());
  EXPECT_THAT(*cluster_.client().Missing({Digest::Of("put")}), SizeIs(1));
  EXPECT_EQ(host_.client().Send({Digest::Of("put")}), absl::OkStatus());
  EXPECT_THAT(*cluster_.client().Missing({Digest::Of("put")}), IsEmpty());
  EXPECT_EQ(host_.Metric("remote_sending"), 0);
}

TEST_P(Remote, InputsAmongOutputsNeedNotBeHere) {
  const std::string path = Create(PutTree(3, 3 * kMiB));
  EXPECT_EQ(ReadFile(path + "/0"), BytesOf(0, 3 * kMiB));
  WriteFile(path + "/new", "new");
  const int before = Fetched();
  const auto collected = host_.client().Collect(
      fs::path(path).filename().string(), {"."}, {.send = true});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_EQ(Fetched(), before);
  EXPECT_EQ(Sent(), 3);  // The file, the root and the Tree.
}

// They may be on their way to the store still.
TEST_P(Remote, DirectoriesCanBeCollectedAsSoonAsTheyAreKnown) {
  DirectoryBuilder top;
  for (int i = 0; i < 300; ++i) {
    DirectoryBuilder sub;
    sub.AddFile(absl::StrCat(i), Digest(), false);
    top.AddDirectory(absl::StrCat(i), PutDirectory(sub));
  }
  const Digest root = PutDirectory(top);
  const std::string name = fs::path(Create(root)).filename().string();
  const auto collected = host_.client().Collect(name, {"."}, {});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_EQ(collected->outputs[0].root_directory, root);
  EXPECT_THAT(BlobsOf(*collected), SizeIs(1 + 300 + 301));
  EXPECT_EQ(Fetched(), 301);
}

TEST_P(Remote, TheToolSendsIfItIsToldTo) {
  const std::string name = CreateWithOutputs(1);
  const ProgramResult collected =
      host_.Casement({"sandbox", "collect", name, "large", "--send"});
  EXPECT_EQ(collected.exit_status, 0) << collected.err;
  EXPECT_EQ(Sent(), 1);
  const ProgramResult run = host_.Casement(
      {"run", "--output", "out", "--send", "--", "sh", "-c", "echo x > out"});
  EXPECT_EQ(run.exit_status, 0) << run.err;
  EXPECT_THAT(*cluster_.client().Missing({Digest::Of("x\n")}), IsEmpty());
}

TEST_P(Remote, GoneSendingIsAnErrorAndBackItWorks) {
  const std::string name = CreateWithOutputs(200);
  proxy_.Cut();
  const absl::Time start = absl::Now();
  const absl::Status failed = CollectAndSend(name).status();
  EXPECT_LT(absl::Now() - start, absl::Seconds(4 * kTimeoutSeconds));
  EXPECT_TRUE(absl::IsUnavailable(failed) || absl::IsDeadlineExceeded(failed))
      << failed;
  EXPECT_THAT(
      std::string(failed.message()),
      AllOf(HasSubstr(name), HasSubstr("/proxy"), Not(HasSubstr("hung up"))));
  EXPECT_GT(host_.Metric("remote_unsent_blobs_total"), 0);
  // In the store they are.
  const auto collected = host_.client().Collect(name, {"large", "dir"});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_THAT(*host_.client().Missing(BlobsOf(*collected)), IsEmpty());
  proxy_.Mend();
  EXPECT_TRUE(CollectAndSend(name).ok());
  EXPECT_THAT(*cluster_.client().Missing(BlobsOf(*collected)), IsEmpty());
}

// G22
TEST_P(Remote, WhileItHangsSendsEndInTimeAndOthersGoOn) {
  std::vector<std::string> names;
  for (int i = 0; i < 24; ++i) names.push_back(CreateWithOutputs(20));
  proxy_.Block();
  const absl::Time start = absl::Now();
  std::vector<std::thread> senders;
  for (const std::string& name : names) {
    senders.emplace_back([this, &name] {
      const absl::Status failed = CollectAndSend(name).status();
      EXPECT_TRUE(absl::IsDeadlineExceeded(failed) ||
                  absl::IsUnavailable(failed))
          << failed;
    });
  }
  while (host_.Metric("remote_sending") < 1) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  const std::string other = CreateWithOutputs(20);
  EXPECT_TRUE(host_.client().Collect(other, {"large", "dir"}).ok());
  EXPECT_TRUE(host_.client().Release(other).ok());
  EXPECT_GT(host_.Metric("remote_sending"), 0);
  for (std::thread& sender : senders) sender.join();
  EXPECT_LT(absl::Now() - start, absl::Seconds(8 * kTimeoutSeconds));
  EXPECT_EQ(host_.Metric("remote_sending"), 0);
  proxy_.Unblock();
  for (const std::string& name : names) {
    const absl::Status sent = CollectAndSend(name).status();
    EXPECT_TRUE(sent.ok()) << sent;
  }
}

// G23
TEST_P(Remote, TheDaemonEndsThoughSomethingIsSent) {
  host_.Stop();
  host_.SetArguments({"--data-path", GetParam(), "--remote",
                      absl::StrCat("unix:", cluster_.folder(), "/proxy"),
                      "--remote-timeout", "600"});
  host_.Start();
  const std::string name = CreateWithOutputs(20);
  proxy_.Block();
  // Its own connection, as this one is made again by Stop().
  const auto client = *Client::Connect(host_.socket());
  std::thread sender([&] {
    EXPECT_FALSE(client->Collect(name, {"dir"}, {.send = true}).ok());
  });
  while (host_.Metric("remote_sending") < 1) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(host_.Stop(), 0);
  sender.join();
}

CASEMENT_IN_BOTH_DATA_PATHS(Remote);

// LocalCAS's clients fetch by asking for it.
class RemoteLocalCas : public Remote {
 protected:
  using Stub = local_cas::LocalContentAddressableStorage::Stub;

  static void SetMessage(const Digest& digest,
                         build::bazel::remote::execution::v2::Digest* message) {
    message->set_hash(digest.HexHash());
    message->set_size_bytes(digest.size_bytes());
  }
  std::unique_ptr<Stub> NewStub() const {
    return local_cas::LocalContentAddressableStorage::NewStub(
        grpc::CreateChannel(absl::StrCat("unix:", host_.socket()),
                            grpc::InsecureChannelCredentials()));
  }
  grpc::Status FetchTree(const Digest& root, bool with_files) {
    local_cas::FetchTreeRequest request;
    SetMessage(root, request.mutable_root_digest());
    request.set_fetch_file_blobs(with_files);
    local_cas::FetchTreeResponse response;
    grpc::ClientContext context;
    return local_->FetchTree(&context, request, &response);
  }
  grpc::Status UploadTree(const Digest& root) {
    local_cas::UploadTreeRequest request;
    SetMessage(root, request.mutable_root_digest());
    local_cas::UploadTreeResponse response;
    grpc::ClientContext context;
    return local_->UploadTree(&context, request, &response);
  }
  // What is said of each blob that does not come; 0 of those that do.
  std::vector<int> FetchBlobs(const std::vector<Digest>& digests) {
    local_cas::FetchMissingBlobsRequest request;
    for (const Digest& digest : digests) {
      SetMessage(digest, request.add_blob_digests());
    }
    local_cas::FetchMissingBlobsResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(local_->FetchMissingBlobs(&context, request, &response).ok());
    std::vector<int> codes(digests.size(), 0);
    for (const auto& one : response.responses()) {
      for (size_t i = 0; i < digests.size(); ++i) {
        if (digests[i].HexHash() != one.digest().hash()) continue;
        codes[i] = one.status().code();
      }
    }
    return codes;
  }
  bool IsHere(const Digest& digest) {
    return host_.client().Missing({digest})->empty();
  }

  const std::unique_ptr<Stub> local_ = NewStub();
};

CASEMENT_IN_BOTH_DATA_PATHS(RemoteLocalCas);

TEST_P(RemoteLocalCas, BlobsAreFetchedAndTheOthersNamed) {
  const Digest small = Put("small");
  const Digest large = Put(BytesOf(1, 5 * kMiB));
  const Digest here = *host_.client().Put("here");
  EXPECT_THAT(FetchBlobs({small, Digest::Of("nowhere"), large, here}),
              ElementsAre(0, grpc::StatusCode::NOT_FOUND, 0, 0));
  EXPECT_TRUE(IsHere(small) && IsHere(large));
  EXPECT_EQ(Fetched(), 2);
  // Only what is nowhere has to be uploaded.
  const Digest nowhere = Digest::Of("nowhere");
  local_cas::UploadMissingBlobsRequest request;
  SetMessage(Put("late"), request.add_blob_digests());
  SetMessage(nowhere, request.add_blob_digests());
  local_cas::UploadMissingBlobsResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(local_->UploadMissingBlobs(&context, request, &response).ok());
  ASSERT_EQ(response.responses_size(), 1);
  EXPECT_EQ(response.responses(0).digest().hash(), nowhere.HexHash());
  EXPECT_EQ(Fetched(), 2);
}

TEST_P(RemoteLocalCas, BlobsThatCannotBeFetchedSayWhy) {
  const Digest far = Put("far");
  const Digest here = *host_.client().Put("here");
  proxy_.Cut();
  EXPECT_THAT(FetchBlobs({far, here}),
              ElementsAre(AnyOf(grpc::StatusCode::UNAVAILABLE,
                                grpc::StatusCode::DEADLINE_EXCEEDED),
                          0));
  proxy_.Mend();
  EXPECT_THAT(FetchBlobs({far, here}), ElementsAre(0, 0));
}

TEST_P(RemoteLocalCas, TreesAreFetchedWithAndWithoutTheirFiles) {
  const Digest root = PutTree(20);
  EXPECT_TRUE(FetchTree(root, /*with_files=*/false).ok());
  EXPECT_EQ(Fetched(), 2);
  // All of it is in the remote cache, where it would go.
  EXPECT_TRUE(UploadTree(root).ok());
  EXPECT_EQ(Fetched(), 2);
  EXPECT_FALSE(IsHere(Digest::Of(BytesOf(3, 100))));
  EXPECT_TRUE(FetchTree(root, /*with_files=*/true).ok());
  EXPECT_EQ(Fetched(), 23);
  EXPECT_TRUE(UploadTree(root).ok());
  proxy_.Cut();
  EXPECT_TRUE(FetchTree(root, /*with_files=*/true).ok());
}

TEST_P(RemoteLocalCas, FilesThatNobodyHasMatterToWhoAsksForThem) {
  DirectoryBuilder builder;
  const Digest nowhere = Digest::Of("nowhere");
  builder.AddFile("file", nowhere, false);
  const Digest root = PutDirectory(builder);
  const grpc::Status directories = FetchTree(root, /*with_files=*/false);
  EXPECT_TRUE(directories.ok()) << directories.error_message();
  const grpc::Status all = FetchTree(root, /*with_files=*/true);
  EXPECT_EQ(all.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(all.error_details(), HasSubstr(nowhere.HexHash()));
  const grpc::Status nothing = FetchTree(nowhere, /*with_files=*/false);
  EXPECT_EQ(nothing.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(nothing.error_details(), HasSubstr(nowhere.HexHash()));
}

TEST_P(RemoteLocalCas, TreesThatCannotBeFetchedSayWhy) {
  const Digest root = PutTree(2);
  proxy_.Cut();
  for (const bool with_files : {false, true}) {
    EXPECT_THAT(FetchTree(root, with_files).error_code(),
                AnyOf(grpc::StatusCode::UNAVAILABLE,
                      grpc::StatusCode::DEADLINE_EXCEEDED));
  }
  proxy_.Mend();
  DirectoryBuilder builder;
  builder.AddFile("huge", *Digest::FromParts(std::string(64, '7'), 1LL << 50),
                  false);
  EXPECT_EQ(FetchTree(PutDirectory(builder), true).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(FetchTree(Put("\x0f no Directory"), false).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(FetchTree(root, /*with_files=*/true).ok());
}

TEST_P(RemoteLocalCas, AFetchThatHangsCanBeCancelled) {
  const Digest root = PutTree(2);
  proxy_.Block();
  grpc::ClientContext context;
  std::thread canceller([&] {
    WaitUntilSomeoneWaits();
    context.TryCancel();
  });
  local_cas::FetchTreeRequest request;
  SetMessage(root, request.mutable_root_digest());
  local_cas::FetchTreeResponse response;
  const absl::Time start = absl::Now();
  EXPECT_EQ(local_->FetchTree(&context, request, &response).error_code(),
            grpc::StatusCode::CANCELLED);
  EXPECT_LT(absl::Now() - start, absl::Seconds(kTimeoutSeconds));
  canceller.join();
  proxy_.Unblock();
  EXPECT_TRUE(FetchTree(root, /*with_files=*/true).ok());
}

TEST_P(RemoteLocalCas, FilesOfAStageComeWhenTheyAreRead) {
  grpc::ClientContext context;
  const auto stream = local_->StageTree(&context);
  local_cas::StageTreeRequest request;
  SetMessage(PutTree(10), request.mutable_root_digest());
  ASSERT_TRUE(stream->Write(request));
  local_cas::StageTreeResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(Fetched(), 2);
  EXPECT_EQ(ReadFile(response.path() + "/3"), BytesOf(3, 100));
  EXPECT_EQ(Fetched(), 3);
  local_cas::CaptureFilesRequest capture;
  capture.add_path(response.path() + "/4");
  local_cas::CaptureFilesResponse captured;
  grpc::ClientContext second;
  ASSERT_TRUE(local_->CaptureFiles(&second, capture, &captured).ok());
  EXPECT_EQ(captured.responses(0).digest().hash(),
            Digest::Of(BytesOf(4, 100)).HexHash());
  EXPECT_EQ(Fetched(), 3) << "what did not change is not read";
  stream->WritesDone();
  while (stream->Read(&response)) {
  }
  EXPECT_TRUE(stream->Finish().ok());
}

TEST(RemoteOptions, WhatCannotBeIsRefused) {
  const RunningDaemon other;
  fs::create_directory(other.folder() + "/mount2");
  fs::create_directory(other.folder() + "/store2");
  const auto refusal = [&other](const std::vector<std::string>& words) {
    std::vector<std::string> all = {CASEMENTD,  "--foreground",
                                    "--store",  other.folder() + "/store2",
                                    "--mount",  other.folder() + "/mount2",
                                    "--socket", other.folder() + "/socket2"};
    all.insert(all.end(), words.begin(), words.end());
    const ProgramResult result = RunProgram(all);
    EXPECT_NE(result.exit_status, 0);
    return result.err;
  };
  EXPECT_THAT(refusal({"--remote", "http://host"}), HasSubstr("http://host"));
  EXPECT_THAT(refusal({"--remote-ca", "/dev/null"}), HasSubstr("--remote-ca"));
  EXPECT_THAT(refusal({"--remote", "unix:/x", "--remote-timeout", "0"}),
              HasSubstr("--remote-timeout"));
  EXPECT_THAT(refusal({"--remote", "unix:/x", "--transport", "io_uring"}),
              HasSubstr("io_uring"));
  EXPECT_THAT(refusal({"--remote", "unix:/x", "--remote-headers", "/absent"}),
              HasSubstr("/absent"));
}

}  // namespace
}  // namespace casement
