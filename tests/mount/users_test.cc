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

  // Calls `act` with a client of that user's; what it returns.
  int WithClientOf(uid_t uid, const std::function<int(Client&)>& act) {
    return As(uid,
              [&] {
                const auto client = Client::Connect(daemon_.socket());
                return client.ok() ? act(**client) : 200;
              },
              {kBuilders});
  }
  std::string MakeAs(uid_t uid, const std::string& name) {
    EXPECT_EQ(WithClientOf(uid,
                           [&](Client& client) {
                             return client.Create({.name = name}).ok() ? 0 : 1;
                           }),
              0);
    return daemon_.At("sandbox/" + name);
  }

  RunningDaemon daemon_{{"--data-path", GetParam(), "--allow-other",
                         "--allow-group", std::to_string(kBuilders)}};
};

CASEMENT_IN_BOTH_DATA_PATHS(Members);

TEST_P(Members, ActOnTheirOwnSandboxesOnly) {
  const std::string alice = MakeAs(kAlice, "alice");
  MakeAs(kBob, "bob");
  ASSERT_EQ(OpenAs(kAlice, alice + "/hers", O_CREAT | O_RDWR), 0);
  EXPECT_EQ(OpenAs(kBob, alice + "/hers", O_RDONLY), EACCES);
  EXPECT_EQ(WithClientOf(kBob,
                         [](Client& client) {
                           int wrong = 0;
                           for (const absl::Status& status :
                                {client.Diff("alice").status(),
                                 client.Collect("alice", {"."}).status(),
                                 client.Release("alice")}) {
                             if (!absl::IsPermissionDenied(status)) ++wrong;
                           }
                           const auto list = client.List();
                           if (!list.ok() || list->size() != 1) ++wrong;
                           return wrong;
                         }),
            0);
  EXPECT_EQ(WithClientOf(kAlice,
                         [](Client& client) {
                           return client.Collect("alice", {"hers"}).ok() &&
                                          client.Release("alice").ok()
                                      ? 0
                                      : 1;
                         }),
            0);
  EXPECT_EQ(daemon_.client().List()->size(), 1u);
}

// Neither by names and paths, nor by having the daemon write for them.
TEST_P(Members, CannotSendTheDaemonOutside) {
  MakeAs(kAlice, "alice");
  const std::string secret = daemon_.folder() + "/secret";
  WriteFile(secret, "secret");
  const std::string hers = daemon_.folder() + "/hers";
  std::filesystem::create_directory(hers);
  ASSERT_EQ(chown(hers.c_str(), kAlice, kAlice), 0);
  EXPECT_EQ(
      WithClientOf(
          kAlice,
          [&](Client& client) {
            int wrong = 0;
            for (const std::string& path :
                 {secret, "../../../secret" + std::string(),
                  "../bob" + std::string(), std::string("x/../../bob")}) {
              const absl::Status status =
                  client.Collect("alice", {path}).status();
              if (!absl::IsInvalidArgument(status)) ++wrong;
            }
            for (const char* name : {"../alice", "..", "a/b", "/etc", ""}) {
              if (client.Release(name).ok()) ++wrong;
              if (*name != 0 && client.Create({.name = name}).ok()) ++wrong;
            }
            if (!absl::IsPermissionDenied(
                    client.Verify({.quarantine = hers}).status())) {
              ++wrong;
            }
            // As somebody else.
            if (client
                    .Create({.owner_uid = kBob, .owner_gid = kBob}, nullptr,
                            {.owner_is_peer = false})
                    .ok()) {
              ++wrong;
            }
            return wrong;
          }),
      0);
  EXPECT_TRUE(std::filesystem::is_empty(hers));
}

// It is the client who reads a local file, with its own user's rights.
TEST_P(Members, PutThroughASymlinkReadsWhatItsUserMay) {
  const std::string hers = daemon_.folder() + "/hers";
  std::filesystem::create_directory(hers);
  ASSERT_EQ(chown(hers.c_str(), kAlice, kAlice), 0);
  WriteFile(daemon_.folder() + "/secret", "secret");
  ASSERT_EQ(chmod((daemon_.folder() + "/secret").c_str(), 0600), 0);
  WriteFile(daemon_.folder() + "/public", "public");
  EXPECT_EQ(
      WithClientOf(kAlice,
                   [&](Client& client) {
                     for (const char* name : {"secret", "public"}) {
                       if (symlink((daemon_.folder() + "/" + name).c_str(),
                                   (hers + "/" + name).c_str()) != 0) {
                         return 100;
                       }
                     }
                     int wrong = 0;
                     if (client.PutFile(hers + "/secret").ok()) ++wrong;
                     if (!client.PutFile(hers + "/public").ok()) ++wrong;
                     return wrong;
                   }),
      0);
  const Digest secret = Digest::Of("secret");
  EXPECT_EQ(daemon_.client().Missing({&secret, 1})->size(), 1u);
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
    const auto outputs = daemon_.client().Collect("alice", {"out"}, true);
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
