// Several users on one mount (--allow-other): who reaches what. G24
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "mount/data_paths.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

constexpr uid_t kAlice = 12001;
constexpr uid_t kBob = 12002;

// Runs `act` in a process of that user; what it returns (0 to 255).
int As(uid_t uid, const std::function<int()>& act,
       const std::vector<gid_t>& groups = {}) {
  const pid_t child = fork();
  if (child == 0) {
    if (setgroups(groups.size(), groups.data()) != 0 ||
        setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0) {
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

// With --allow-group: two users who may both use the socket.
class Members : public testing::TestWithParam<std::string> {
 protected:
  static constexpr gid_t kBuilders = 12100;

  Members() {
    // Where they can reach it.
    std::filesystem::copy_file(CASEMENT, tool_);
  }

  // The command line tool, run by that user.
  ProgramResult CasementAs(uid_t uid, const std::vector<std::string>& words) {
    const std::string id = std::to_string(uid);
    std::vector<std::string> all = {"setpriv",
                                    "--reuid",
                                    id,
                                    "--regid",
                                    id,
                                    "--groups",
                                    std::to_string(kBuilders),
                                    tool_,
                                    "--socket",
                                    daemon_.socket()};
    all.insert(all.end(), words.begin(), words.end());
    return RunProgram(all);
  }
  void ExpectFails(uid_t uid, const std::vector<std::string>& words,
                   const std::string& why) {
    const ProgramResult result = CasementAs(uid, words);
    EXPECT_EQ(result.exit_status, 1) << words[1];
    EXPECT_NE(result.err.find(why), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "") << words[1];
  }
  std::string MakeAs(uid_t uid, const std::string& name) {
    const ProgramResult made =
        CasementAs(uid, {"sandbox", "create", "--name", name});
    EXPECT_EQ(made.exit_status, 0) << made.err;
    return daemon_.At("sandbox/" + name);
  }
  std::string MakeFolderOf(uid_t uid, const std::string& name) {
    const std::string path = daemon_.folder() + "/" + name;
    std::filesystem::create_directory(path);
    EXPECT_EQ(chown(path.c_str(), uid, uid), 0);
    return path;
  }

  RunningDaemon daemon_{{"--data-path", GetParam(), "--allow-other",
                         "--allow-group", std::to_string(kBuilders)}};
  const std::string tool_ = daemon_.folder() + "/casement";
};

CASEMENT_IN_BOTH_DATA_PATHS(Members);

TEST_P(Members, ActOnTheirOwnSandboxesOnly) {
  const std::string alice = MakeAs(kAlice, "alice");
  MakeAs(kBob, "bob");
  ASSERT_EQ(OpenAs(kAlice, alice + "/hers", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(OpenAs(kBob, alice + "/hers", O_RDONLY), EACCES);
  const std::string why = "belongs to user " + std::to_string(kAlice);
  ExpectFails(kBob, {"sandbox", "diff", "alice"}, why);
  ExpectFails(kBob, {"sandbox", "collect", "alice", "."}, why);
  ExpectFails(kBob, {"sandbox", "release", "alice"}, why);
  const std::string list = CasementAs(kBob, {"sandbox", "list"}).out;
  EXPECT_EQ(list.find("alice"), std::string::npos) << list;
  EXPECT_NE(list.find("bob"), std::string::npos) << list;
  EXPECT_EQ(CasementAs(kAlice, {"sandbox", "collect", "alice", "hers"}).out,
            "file " + Digest().ToString() + "  hers\n");
  EXPECT_EQ(CasementAs(kAlice, {"sandbox", "release", "alice"}).exit_status, 0);
  EXPECT_EQ(daemon_.client().List()->size(), 1u);
}

// Neither by names and paths, nor by having it write for them.
TEST_P(Members, CannotSendTheDaemonOutside) {
  MakeAs(kAlice, "alice");
  const std::string secret = daemon_.folder() + "/secret";
  WriteFile(secret, "secret");
  for (const std::string& path :
       {secret, std::string("../../../secret"), std::string("../bob"),
        std::string("x/../../bob")}) {
    ExpectFails(kAlice, {"sandbox", "collect", "alice", path}, path);
  }
  for (const std::string name : {"../alice", "..", "a/b", "/etc"}) {
    ExpectFails(kAlice, {"sandbox", "release", name}, "sandbox");
    ExpectFails(kAlice, {"sandbox", "create", "--name", name}, name);
  }
  const std::string hers = MakeFolderOf(kAlice, "hers");
  ExpectFails(kAlice, {"verify", "--quarantine", hers}, "only root");
  EXPECT_TRUE(std::filesystem::is_empty(hers));
}

// It is the client who reads a local file, with its own user's rights.
TEST_P(Members, PutThroughASymlinkReadsWhatItsUserMay) {
  const std::string hers = MakeFolderOf(kAlice, "hers");
  const std::string secret = daemon_.folder() + "/secret";
  const std::string open_to_all = daemon_.folder() + "/public";
  WriteFile(secret, "secret");
  ASSERT_EQ(chmod(secret.c_str(), 0600), 0);
  WriteFile(open_to_all, "public");
  ASSERT_EQ(As(kAlice,
               [&] {
                 return symlink(secret.c_str(), (hers + "/secret").c_str()) +
                        symlink(open_to_all.c_str(),
                                (hers + "/public").c_str());
               }),
            0);
  ExpectFails(kAlice, {"put", hers + "/secret"}, "Permission denied");
  EXPECT_EQ(CasementAs(kAlice, {"put", hers + "/public"}).exit_status, 0);
  // In a tree they are symlinks, and nothing else.
  EXPECT_EQ(CasementAs(kAlice, {"put", "--tree", hers}).exit_status, 0);
  const Digest digest = Digest::Of("secret");
  EXPECT_EQ(daemon_.client().Missing({&digest, 1})->size(), 1u);
}

// The target is exchanged all the time between a file of theirs and a symlink.
TEST_P(Members, CollectNeverReadsThroughASymlinkThatAppears) {
  const std::string alice = MakeAs(kAlice, "alice");
  const std::string secret = daemon_.folder() + "/secret";
  WriteFile(secret, "secret");
  ASSERT_EQ(chmod(secret.c_str(), 0600), 0);
  const pid_t swapper = fork();
  if (swapper == 0) {
    if (setresgid(kAlice, kAlice, kAlice) != 0 ||
        setresuid(kAlice, kAlice, kAlice) != 0) {
      _exit(1);
    }
    const std::string out = alice + "/out";
    for (;;) {
      close(open((alice + "/file").c_str(), O_CREAT | O_WRONLY, 0644));
      rename((alice + "/file").c_str(), out.c_str());
      if (symlink(secret.c_str(), (alice + "/link").c_str()) == 0) {
        rename((alice + "/link").c_str(), out.c_str());
      }
    }
  }
  int collected = 0;
  for (int i = 0; i < 300; ++i) {
    const auto outputs =
        daemon_.client().Collect("alice", {"out"}, {.force = true});
    if (outputs.ok()) collected += static_cast<int>(outputs->outputs.size());
  }
  kill(swapper, SIGKILL);
  waitpid(swapper, nullptr, 0);
  EXPECT_GT(collected, 0);
  const Digest digest = Digest::Of("secret");
  EXPECT_EQ(daemon_.client().Missing({&digest, 1})->size(), 1u);
}

}  // namespace
}  // namespace casement
