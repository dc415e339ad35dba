// Several users on one mount (--allow-other): who reaches what. G24
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <string>

#include "mount/data_paths.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

constexpr uid_t kAlice = 12001;
constexpr uid_t kBob = 12002;

// Runs `act` in a process of that user; what it returns (0 to 255).
int As(uid_t uid, const std::function<int()>& act) {
  const pid_t child = fork();
  if (child == 0) {
    if (setgroups(0, nullptr) != 0 || setresgid(uid, uid, uid) != 0 ||
        setresuid(uid, uid, uid) != 0) {
      _exit(255);
    }
    _exit(act());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

// The errno of opening `path`, or 0.
int OpenAs(uid_t uid, const std::string& path, int flags) {
  return As(uid, [&] {
    return open(path.c_str(), flags | O_CLOEXEC, 0644) >= 0 ? 0 : errno;
  });
}

class Users : public testing::TestWithParam<std::string> {
 protected:
  std::string MakeFor(uid_t uid) {
    const auto made =
        daemon_.client().Create({.owner_uid = uid, .owner_gid = uid}, nullptr,
                                {.owner_is_peer = false});
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? made->info.path : "";
  }

  RunningDaemon daemon_{{"--data-path", GetParam(), "--allow-other"}};
};

CASEMENT_IN_BOTH_DATA_PATHS(Users);

TEST_P(Users, EachReachesOnlyTheirOwnSandbox) {
  const std::string alice = MakeFor(kAlice);
  const std::string bob = MakeFor(kBob);
  EXPECT_EQ(OpenAs(kAlice, alice + "/hers", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(OpenAs(kBob, bob + "/his", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(OpenAs(kBob, alice + "/hers", O_RDONLY), EACCES);
  EXPECT_EQ(OpenAs(kAlice, bob + "/new", O_CREAT | O_RDWR), EACCES);
  EXPECT_EQ(As(kAlice, [&] { return access(bob.c_str(), R_OK) == 0; }), 0);
}

TEST_P(Users, WhatAUserMakesIsTheirs) {
  const std::string alice = MakeFor(kAlice);
  ASSERT_EQ(OpenAs(kAlice, alice + "/hers", O_CREAT | O_RDWR), 0);
  struct stat status {};
  ASSERT_EQ(stat((alice + "/hers").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kAlice);
  EXPECT_EQ(status.st_gid, kAlice);
}

TEST_P(Users, OwnerCanOpenTheirSandboxToOthers) {
  const std::string alice = MakeFor(kAlice);
  ASSERT_EQ(As(kAlice, [&] { return chmod(alice.c_str(), 0755); }), 0);
  ASSERT_EQ(OpenAs(kAlice, alice + "/hers", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(OpenAs(kBob, alice + "/hers", O_RDONLY), 0);
  EXPECT_EQ(OpenAs(kBob, alice + "/hers", O_WRONLY), EACCES);
}

TEST_P(Users, NeitherTheSocketNorTheStoresFilesAreReachable) {
  const absl::StatusOr<Digest> digest = daemon_.client().Put("secret");
  ASSERT_TRUE(digest.ok());
  EXPECT_EQ(As(kAlice,
               [&] { return Client::Connect(daemon_.socket()).ok() ? 1 : 0; }),
            0);
  const std::string name = digest->ToString();
  EXPECT_EQ(
      OpenAs(kAlice, daemon_.store() + "/cas/" + name.substr(0, 2) + "/" + name,
             O_RDONLY),
      EACCES);
  EXPECT_EQ(OpenAs(kAlice, daemon_.store() + "/index", O_RDONLY), EACCES);
}

TEST_P(Users, ReadOnlyInputsAreEaccesForTheirOwner) {
  const absl::StatusOr<Digest> root = [&] {
    const std::string source = daemon_.folder() + "/source";
    std::filesystem::create_directory(source);
    WriteFile(source + "/input", "input");
    return daemon_.client().PutTree(source, {})->root;
  }();
  const auto made = daemon_.client().Create({.root = *root,
                                             .inputs = InputsPolicy::kReadOnly,
                                             .owner_uid = kAlice,
                                             .owner_gid = kAlice},
                                            nullptr, {.owner_is_peer = false});
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string input = made->info.path + "/input";
  EXPECT_EQ(OpenAs(kAlice, input, O_RDWR), EACCES);
  EXPECT_EQ(OpenAs(kAlice, input, O_RDONLY), 0);
  EXPECT_EQ(As(kAlice, [&] { return chmod(input.c_str(), 0644) ? errno : 0; }),
            EACCES);
}

// The daemon is root; what it opens for a caller must not be chosen by them.
TEST_P(Users, SymlinksInASandboxNeverLeadTheDaemonOutside) {
  const std::string alice = MakeFor(kAlice);
  const std::string secret = daemon_.folder() + "/secret";
  WriteFile(secret, "secret");
  chmod(secret.c_str(), 0600);
  ASSERT_EQ(As(kAlice,
               [&] {
                 return symlink(secret.c_str(), (alice + "/out").c_str()) +
                        symlink("/etc", (alice + "/dir").c_str());
               }),
            0);
  const auto list = daemon_.client().List();
  ASSERT_TRUE(list.ok() && list->size() == 1);
  const auto collected =
      daemon_.client().Collect((*list)[0].name, {"out", "dir/passwd"});
  ASSERT_TRUE(collected.ok()) << collected.status();
  ASSERT_EQ(collected->outputs.size(), 1u);
  EXPECT_EQ(collected->outputs[0].kind, CollectedOutput::Kind::kSymlink);
  EXPECT_EQ(collected->missing, std::vector<std::string>{"dir/passwd"});
  EXPECT_EQ(OpenAs(kAlice, alice + "/out", O_RDONLY), EACCES);
}

}  // namespace
}  // namespace casement
