// Which control groups a peer may hand over, and that killing in them waits.
#include "control/cgroup.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/temp_directory.h"
#include "support/test_cgroup.h"

namespace casement {
namespace {

using ::testing::HasSubstr;

const Peer kRoot = {.uid = 0, .gid = 0};

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(group_.is_made()) << "needs root and a cgroup2 mount";
  }

  static void ExpectRefusal(const std::string& path, const Peer& peer,
                            absl::StatusCode code, const std::string& why) {
    const absl::Status status = Cgroup::Open(path, peer).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  }

  TestCgroup group_;
};

TEST_F(CgroupTest, KillsAllInItAndBelowAndWaits) {
  const std::string below = group_.path() + "/below";
  ASSERT_EQ(::mkdir(below.c_str(), 0755), 0);
  const absl::StatusOr<Cgroup> cgroup = Cgroup::Open(group_.path(), kRoot);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  const pid_t process = group_.Spawn(
      absl::StrCat("(echo 0 > ", below, "/cgroup.procs; exec sleep 1000) & ",
                   "trap '' TERM; while :; do sleep 0.01; done"));
  std::string inside;
  while (inside.empty()) std::ifstream(below + "/cgroup.procs") >> inside;
  EXPECT_TRUE(cgroup->Kill(absl::Seconds(60)).ok());
  inside.clear();
  std::ifstream(below + "/cgroup.procs") >> inside;
  EXPECT_EQ(inside, "");
  int status = 0;
  EXPECT_EQ(::waitpid(process, &status, 0), process);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_TRUE(cgroup->Kill(absl::Seconds(60)).ok()) << "an empty one";
  ASSERT_EQ(::rmdir(below.c_str()), 0);
}

TEST_F(CgroupTest, OneThatIsGoneIsEmpty) {
  const std::string path = group_.path() + "/gone";
  ASSERT_EQ(::mkdir(path.c_str(), 0755), 0);
  const absl::StatusOr<Cgroup> cgroup = Cgroup::Open(path, kRoot);
  ASSERT_TRUE(cgroup.ok()) << cgroup.status();
  ASSERT_EQ(::rmdir(path.c_str()), 0);
  EXPECT_TRUE(cgroup->Kill(absl::Seconds(60)).ok());
}

TEST_F(CgroupTest, WhatIsNoneIsRefused) {
  const TempDirectory folder;
  const auto invalid = absl::StatusCode::kInvalidArgument;
  ExpectRefusal(folder.path(), kRoot, invalid, "cgroup2");
  ExpectRefusal("relative", kRoot, invalid, "cgroup2");
  ExpectRefusal(group_.tree(), kRoot, invalid, "cgroup2");
  ExpectRefusal(group_.tree() + "/.", kRoot, invalid, "the root");
  ExpectRefusal(group_.path() + "/cgroup.procs", kRoot,
                absl::StatusCode::kFailedPrecondition, "Not a directory");
  ExpectRefusal(group_.path() + "/absent", kRoot, absl::StatusCode::kNotFound,
                "absent");
  EXPECT_FALSE(Cgroup::Open(group_.path() + "/../../../tmp", kRoot).ok());
}

// G24
TEST_F(CgroupTest, OneOfSomebodyElseIsRefused) {
  const Peer user = {.uid = 54321, .gid = 54321};
  ExpectRefusal(group_.path(), user, absl::StatusCode::kPermissionDenied,
                "belongs to user 0");
  ASSERT_EQ(::chown(group_.path().c_str(), 54321, 54321), 0);
  EXPECT_TRUE(Cgroup::Open(group_.path(), user).ok());
}

TEST_F(CgroupTest, OurOwnIsRefused) {
  const auto enter = [](const std::string& group) {
    std::ofstream procs(group + "/cgroup.procs");
    procs << 0;
    procs.flush();
    return procs.good();
  };
  std::string before;
  std::ifstream lines("/proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("0::", 0) == 0) before = line.substr(3);
  }
  const std::string below = group_.path() + "/below";
  ASSERT_EQ(::mkdir(below.c_str(), 0755), 0);
  ASSERT_TRUE(enter(below));
  const auto invalid = absl::StatusCode::kInvalidArgument;
  ExpectRefusal(below, kRoot, invalid, "casementd is in it");
  ExpectRefusal(group_.path(), kRoot, invalid, "casementd is in it");
  ASSERT_TRUE(enter(group_.tree() + before));
  EXPECT_TRUE(Cgroup::Open(below, kRoot).ok());
  ASSERT_EQ(::rmdir(below.c_str()), 0);
}

}  // namespace
}  // namespace casement
