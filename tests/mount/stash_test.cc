// Reuse of released sandboxes, one fact a test. Whether a reused one can be
// told from a fresh one at all is for tests/model/reuse_test.cc to find out.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/strings/str_cat.h"
#include "mount/data_paths.h"
#include "support/running_daemon.h"
#include "support/temp_directory.h"
#include "support/test_cgroup.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

class Stashes : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    fs::create_directories(source_ + "/include/deep/er");
    fs::create_directories(source_ + "/src");
    for (int i = 0; i < 40; ++i) {
      const std::string name = absl::StrCat("/", i, ".h");
      WriteFile(source_ + "/include" + name, "header " + name);
      WriteFile(source_ + "/include/deep/er" + name, "deeper " + name);
    }
    WriteFile(source_ + "/src/main.cc", "int main() {}\n");
    fs::create_symlink("main.cc", source_ + "/src/link");
  }

  Digest Put() {
    const auto put = daemon_.client().PutTree(source_, {});
    EXPECT_TRUE(put.ok()) << put.status();
    return put.ok() ? put->root : Digest();
  }

  CreatedSandbox Make(const SandboxSpec& spec) {
    const auto made = daemon_.client().Create(spec);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *made : CreatedSandbox();
  }

  void Stash(const CreatedSandbox& sandbox) {
    const absl::Status released =
        daemon_.client().Release(sandbox.info.name, /*stash=*/true);
    EXPECT_TRUE(released.ok()) << released;
  }

  // A walk that looks at everything, by a process of its own.
  static void Walk(const std::string& path) {
    EXPECT_EQ(RunShell("ls -lR " + path + " > /dev/null").exit_status, 0);
  }

  struct Counts {
    double lookups;
    double getattrs;
    double notes;
  };
  Counts Count() {
    return {daemon_.Metric("fuse_requests_total", "lookup"),
            daemon_.Metric("fuse_requests_total", "getattr"),
            daemon_.Metric("fuse_notifications_total")};
  }
  double Condemned(const std::string& reason) {
    return daemon_.Metric("stashes_condemned_total", reason);
  }

  RunningDaemon daemon_{{"--data-path", GetParam()}};
  const std::string source_ = daemon_.folder() + "/source";
};

CASEMENT_IN_BOTH_DATA_PATHS(Stashes);

// G20
TEST_P(Stashes, UntouchedTreeReusedCostsNoNotificationAndThenNoLookup) {
  const Digest root = Put();
  const CreatedSandbox first = Make({.root = root, .name = "first"});
  Walk(first.info.path);
  Walk(first.info.path);
  Stash(first);
  const Counts before = Count();
  const CreatedSandbox second = Make({.root = root, .name = "second"});
  ASSERT_TRUE(second.reused.has_value());
  EXPECT_EQ(second.reused->stash, "first");
  EXPECT_EQ(second.reused->notifications, 0);
  EXPECT_EQ(Count().notes, before.notes);
  // One for the sandbox's own name, which is new.
  struct stat status {};
  ASSERT_EQ(stat(second.info.path.c_str(), &status), 0);
  const Counts named = Count();
  EXPECT_LE(named.lookups, before.lookups + 1);
  Walk(second.info.path);
  const Counts after = Count();
  EXPECT_EQ(after.lookups, named.lookups);
  EXPECT_EQ(after.getattrs, named.getattrs);
}

TEST_P(Stashes, OneChangedFileCostsItsEntryAndNothingElse) {
  const CreatedSandbox first = Make({.root = Put()});
  Walk(first.info.path);
  Stash(first);
  WriteFile(source_ + "/include/deep/er/7.h", "changed");
  const CreatedSandbox second = Make({.root = Put()});
  ASSERT_TRUE(second.reused.has_value());
  EXPECT_EQ(second.reused->notifications, 1);
  EXPECT_EQ(ReadFile(second.info.path + "/include/deep/er/7.h"), "changed");
  EXPECT_EQ(ReadFile(second.info.path + "/include/deep/er/8.h"), "deeper /8.h");
}

TEST_P(Stashes, NumbersStayForPathsThatStayAndMatchListings) {
  const CreatedSandbox first = Make({.root = Put()});
  Walk(first.info.path);
  struct stat before {};
  ASSERT_EQ(stat((first.info.path + "/include/9.h").c_str(), &before), 0);
  Stash(first);
  WriteFile(source_ + "/include/0.h", "changed");
  WriteFile(source_ + "/include/00.h", "new");
  const CreatedSandbox second = Make({.root = Put()});
  ASSERT_TRUE(second.reused.has_value());
  struct stat after {};
  ASSERT_EQ(stat((second.info.path + "/include/9.h").c_str(), &after), 0);
  EXPECT_EQ(after.st_ino, before.st_ino);
  const ProgramResult listed =
      RunShell("cd " + second.info.path +
               "/include; ls -i1 | sort > ../list; stat -c '%i %n' * | sort | "
               "diff - ../list");
  EXPECT_EQ(listed.exit_status, 0) << listed.out;
}

TEST_P(Stashes, WhatTheActionDidIsGone) {
  const Digest root = Put();
  const CreatedSandbox first = Make({.root = root});
  Walk(first.info.path);
  const ProgramResult did = RunShell(
      "cd " + first.info.path +
      "; echo more >> include/1.h; chmod 0700 include src/main.cc; rm src/link;"
      "mv include/deep moved; mkdir new; touch -d 2001-01-01 include/2.h;"
      "ln include/3.h new/hard; echo > new/file; chmod 0711 .;"
      "test ! -e include/nothing");
  ASSERT_EQ(did.exit_status, 0) << did.err;
  Stash(first);
  const CreatedSandbox second = Make({.root = root});
  ASSERT_TRUE(second.reused.has_value());
  const auto changes = daemon_.client().Diff(second.info.name);
  ASSERT_TRUE(changes.ok());
  EXPECT_TRUE(changes->empty());
  const auto fresh =
      daemon_.client().Create({.root = root}, nullptr, {.never_reuse = true});
  ASSERT_TRUE(fresh.ok());
  const auto shown = [](const std::string& path) {
    return RunShell("cd " + path +
                    "; find . -printf '%p %M %n %u %t %l\\n' | sort;"
                    "find . -type f | sort | xargs cat | cksum")
        .out;
  };
  EXPECT_EQ(shown(second.info.path), shown(fresh->info.path));
}

TEST_P(Stashes, AStashIsListedAndCannotBeReached) {
  const CreatedSandbox first = Make({.root = Put(), .name = "first"});
  Walk(first.info.path);
  Stash(first);
  struct stat status {};
  EXPECT_EQ(stat(first.info.path.c_str(), &status), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_FALSE(daemon_.client().Diff("first").ok());
  const auto list = daemon_.client().List();
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->size(), 1u);
  EXPECT_TRUE(list->front().is_stash);
  EXPECT_NE(daemon_.Casement({"sandbox", "list"}).out.find("(stash) first"),
            std::string::npos);
}

TEST_P(Stashes, NeverReuseAndOtherOwnersOrPoliciesGetFreshOnes) {
  const Digest root = Put();
  const CreatedSandbox first = Make({.root = root});
  Walk(first.info.path);
  Stash(first);
  const auto never =
      daemon_.client().Create({.root = root}, nullptr, {.never_reuse = true});
  ASSERT_TRUE(never.ok());
  EXPECT_FALSE(never->reused.has_value());
  EXPECT_FALSE(Make({.root = root, .inputs = InputsPolicy::kReadOnly})
                   .reused.has_value());
  const auto other = daemon_.client().Create(
      {.root = root, .owner_uid = 1001, .owner_gid = 1001}, nullptr,
      {.owner_is_peer = false});
  ASSERT_TRUE(other.ok());
  EXPECT_FALSE(other->reused.has_value());
  EXPECT_TRUE(Make({.root = root}).reused.has_value());
}

TEST_P(Stashes, OfEqualOnesTheOneOfTheSamePackageServes) {
  const Digest root = Put();
  std::vector<CreatedSandbox> made;
  for (const char* const name : {"one", "two", "three"}) {
    made.push_back(Make(
        {.root = root, .name = name, .label = absl::StrCat("//", name, ":a")}));
    Walk(made.back().info.path);
  }
  for (const CreatedSandbox& sandbox : made) Stash(sandbox);
  const CreatedSandbox served = Make({.root = root, .label = "//two:b"});
  ASSERT_TRUE(served.reused.has_value());
  EXPECT_EQ(served.reused->stash, "two");
}

TEST_P(Stashes, ThePackageServesThoughEachDirectoryChanged) {
  const CreatedSandbox first = Make({.root = Put(), .label = "//a:one"});
  Walk(first.info.path);
  Stash(first);
  for (const char* const name :
       {"/include/7.h", "/include/deep/er/7.h", "/src/main.cc"}) {
    WriteFile(source_ + name, "changed");
  }
  const Digest root = Put();
  EXPECT_FALSE(Make({.root = root, .label = "//b:one"}).reused.has_value());
  const CreatedSandbox second = Make({.root = root, .label = "//a:two"});
  ASSERT_TRUE(second.reused.has_value());
  EXPECT_EQ(second.reused->notifications, 3);
  EXPECT_EQ(ReadFile(second.info.path + "/include/7.h"), "changed");
}

// G21: a process that stays behind, by each way of staying.
class LeftOver {
 public:
  explicit LeftOver(const std::function<void()>& enter) {
    int ends[2];
    if (pipe(ends) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) {
      enter();
      if (write(ends[1], "x", 1) != 1) _exit(1);
      pause();
    }
    char byte = 0;
    if (read(ends[0], &byte, 1) != 1) abort();
    close(ends[0]);
    close(ends[1]);
  }
  ~LeftOver() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_ = -1;
};

TEST_P(Stashes, SandboxWithALeftOverProcessIsCondemned) {
  const Digest root = Put();
  const auto stays = [&](const std::function<void(const std::string&)>& enter) {
    const CreatedSandbox made = Make({.root = root});
    Walk(made.info.path);
    const LeftOver left([&] { enter(made.info.path); });
    Stash(made);
    EXPECT_FALSE(Make({.root = root}).reused.has_value());
  };
  stays([](const std::string& path) {
    if (chdir((path + "/include").c_str()) != 0) abort();
  });
  stays([](const std::string& path) {
    if (chroot(path.c_str()) != 0) abort();
  });
  stays([](const std::string& path) {
    if (open((path + "/src").c_str(), O_RDONLY | O_DIRECTORY) < 0) abort();
  });
  EXPECT_EQ(Condemned("occupied"), 3);
  stays([](const std::string& path) {
    if (open((path + "/src/main.cc").c_str(), O_RDONLY) < 0) abort();
  });
  stays([](const std::string& path) {
    const int fd = open((path + "/src/main.cc").c_str(), O_RDONLY);
    if (mmap(nullptr, 10, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED) abort();
    close(fd);
  });
  EXPECT_EQ(Condemned("occupied") + Condemned("open"), 5);
}

// Processes that have not run since before a sandbox was made are not looked
// into: the second release knows this one from the first.
TEST_P(Stashes, AProcessThatWasThereBeforeTheSandboxIsFoundInIt) {
  const Digest root = Put();
  int wake[2];
  int entered[2];
  ASSERT_EQ(pipe(wake), 0);
  ASSERT_EQ(pipe(entered), 0);
  const LeftOver early([&] {
    if (fork() != 0) return;
    char path[4096];
    const ssize_t size = read(wake[0], path, sizeof(path) - 1);
    path[size] = 0;
    if (chdir(path) != 0) abort();
    if (write(entered[1], "x", 1) != 1) abort();
    close(wake[1]);  // Below it ends with the test.
    if (read(wake[0], path, 1) != 0) abort();
    _exit(0);
  });
  Stash(Make({.root = root}));
  const CreatedSandbox second = Make({.root = root});
  const std::string inside = second.info.path + "/include";
  ASSERT_EQ(write(wake[1], inside.data(), inside.size()),
            static_cast<ssize_t>(inside.size()));
  char byte = 0;
  ASSERT_EQ(read(entered[0], &byte, 1), 1);
  Stash(second);
  EXPECT_EQ(Condemned("occupied"), 1);
  close(wake[1]);
}

TEST_P(Stashes, SandboxThatIsMountedSomewhereElseIsCondemned) {
  const Digest root = Put();
  const LeftOver early([] {});  // Asleep, it sees the mount as well.
  Stash(Make({.root = root}));
  const CreatedSandbox second = Make({.root = root});
  const std::string other = daemon_.folder() + "/other";
  fs::create_directory(other);
  ASSERT_EQ(mount(second.info.path.c_str(), other.c_str(), "", MS_BIND, ""), 0);
  Stash(second);
  EXPECT_EQ(Condemned("occupied"), 1);
  EXPECT_EQ(umount(other.c_str()), 0);
}

TEST_P(Stashes, ALeftOverProcessReadsAndWritesNothingOfALaterAction) {
  const Digest root = Put();
  const CreatedSandbox made = Make({.root = root});
  const int directory = open(made.info.path.c_str(), O_RDONLY | O_DIRECTORY);
  const int file =
      open((made.info.path + "/out").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(file, 0);
  Stash(made);
  Make({.root = root});
  EXPECT_EQ(openat(directory, "src/new", O_CREAT | O_WRONLY, 0644), -1);
  EXPECT_EQ(errno, ESTALE);
  EXPECT_EQ(write(file, "x", 1), -1);
  EXPECT_EQ(errno, ESTALE);
  close(file);
  close(directory);
}

TEST_P(Stashes, LeaveTheirBlobsToEviction) {
  const Digest root = Put();
  const CreatedSandbox made = Make({.root = root});
  Walk(made.info.path);
  Stash(made);
  const auto evicted = daemon_.client().EvictUnleased();
  ASSERT_TRUE(evicted.ok());
  EXPECT_GT(evicted->blobs, 80);
  const auto again = daemon_.client().Create({.root = root});
  EXPECT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Put(), root);
  const CreatedSandbox later = Make({.root = root});
  EXPECT_TRUE(later.reused.has_value());
  EXPECT_EQ(ReadFile(later.info.path + "/src/main.cc"), "int main() {}\n");
}

TEST_P(Stashes, RunKeepsItsSandboxAndTheNextRunTakesIt) {
  const std::string root = Put().ToString();
  const auto run = [&] {
    return daemon_.Casement({"--json", "run", "--root", root, "--stash", "--",
                             "sh", "-c", "cat include/*.h; echo > made"});
  };
  EXPECT_NE(run().out.find("\"reused\":null"), std::string::npos);
  const ProgramResult second = run();
  EXPECT_NE(second.out.find("\"notifications\":"), std::string::npos)
      << second.out << second.err;
}

// How a process that was killed ended: the signal.
int EndOf(pid_t process) {
  int status = 0;
  EXPECT_EQ(waitpid(process, &status, 0), process);
  return WTERMSIG(status);
}

TEST_P(Stashes, ControlGroupIsKilledBeforeItsSandboxIsKept) {
  const TestCgroup group;
  ASSERT_TRUE(group.is_made()) << "needs root and a cgroup2 mount";
  const Digest root = Put();
  const auto made = daemon_.client().Create({.root = root}, nullptr,
                                            {.cgroup = group.path()});
  ASSERT_TRUE(made.ok()) << made.status();
  const pid_t left = group.Spawn(
      absl::StrCat("cd ", made->info.path, "/src; exec 3< main.cc; echo > up; ",
                   "exec sleep 1000"));
  while (!fs::exists(made->info.path + "/src/up")) usleep(1000);
  Stash(*made);
  EXPECT_EQ(EndOf(left), SIGKILL);
  EXPECT_EQ(Condemned(""), 0);
  EXPECT_EQ(daemon_.Metric("stashes"), 1);
  EXPECT_TRUE(Make({.root = root}).reused.has_value());
}

TEST_P(Stashes, ControlGroupEndsWithItsSession) {
  const TestCgroup group;
  ASSERT_TRUE(group.is_made()) << "needs root and a cgroup2 mount";
  auto session = daemon_.client().StartSession();
  ASSERT_TRUE(session.ok()) << session.status();
  const auto made =
      daemon_.client().Create({}, session->get(), {.cgroup = group.path()});
  ASSERT_TRUE(made.ok()) << made.status();
  const pid_t left = group.Spawn("exec sleep 1000");
  session->reset();
  EXPECT_EQ(EndOf(left), SIGKILL);
  EXPECT_TRUE(daemon_.client().List()->empty());
}

TEST_P(Stashes, ControlGroupThatIsNoneIsRefused) {
  const ProgramResult result =
      daemon_.Casement({"sandbox", "create", "--cgroup", daemon_.folder()});
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_NE(result.err.find("control group"), std::string::npos) << result.err;
  EXPECT_TRUE(daemon_.client().List()->empty());
}

// With /proc/pressure/memory a file of the test's own, for this thread and the
// daemon that it starts.
TEST(MemoryPressure, StashesAreGivenUpByHalvesWhileMemoryIsShort) {
  std::thread([] {
    const TempDirectory folder;
    const std::string file = folder / "pressure";
    WriteFile(file, "some avg10=9.99 avg60=50.00\n");
    ASSERT_EQ(unshare(CLONE_NEWNS), 0) << "needs root";
    ASSERT_EQ(mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(
        mount(file.c_str(), "/proc/pressure/memory", nullptr, MS_BIND, nullptr),
        0);
    RunningDaemon daemon;
    std::vector<std::string> names;
    for (int i = 0; i < 5; ++i) {
      names.push_back(daemon.client().Create({})->info.name);
    }
    for (const std::string& name : names) {
      ASSERT_TRUE(daemon.client().Release(name, /*stash=*/true).ok());
    }
    sleep(2);
    EXPECT_EQ(daemon.Metric("stashes"), 5);
    WriteFile(file, "some avg10=10.00 avg60=50.00\n");
    for (int i = 0; i < 1000 && daemon.Metric("stashes") > 0; ++i) {
      usleep(10000);
    }
    EXPECT_EQ(daemon.Metric("stashes"), 0);
    EXPECT_EQ(daemon.Metric("stashes_dropped_total"), 5);
    EXPECT_NE(daemon.log().find("memory is short"), std::string::npos);
    WriteFile(file, "nothing of the kind\n");
    EXPECT_TRUE(daemon.client().Create({}).ok());
  }).join();
}

TEST_P(Stashes, GoWithTheDaemonWhichLeavesNothingMounted) {
  const CreatedSandbox made = Make({.root = Put()});
  Walk(made.info.path);
  Stash(made);
  EXPECT_EQ(daemon_.Stop(), 0);
  EXPECT_TRUE(fs::is_empty(daemon_.mount()));
}

}  // namespace
}  // namespace casement
