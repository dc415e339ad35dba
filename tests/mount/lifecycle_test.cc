// The daemon's beginning and end: crashes, restarts, and refusals to start.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>  // NOLINT
#include <filesystem>
#include <string>
#include <vector>

#include "build/buildgrid/local_cas.grpc.pb.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

// G9, G23
TEST(Lifecycle, AfterSigkillTheNextStartDetachesTheDeadMountAndKeepsEveryBlob) {
  RunningDaemon daemon;
  const absl::StatusOr<Digest> digest = daemon.client().Put("kept");
  ASSERT_TRUE(digest.ok());
  ASSERT_TRUE(daemon.client().Create({.name = "lost"}).ok());
  WriteFile(daemon.At("sandbox/lost/scratch"), std::string(1 << 20, 's'));
  daemon.Kill();
  struct statfs status {};
  EXPECT_EQ(statfs(daemon.mount().c_str(), &status), -1) << "it is dead";
  daemon.Start();
  EXPECT_NE(daemon.log().find("detached the dead mount"), std::string::npos)
      << daemon.log();
  EXPECT_EQ(ReadFile(daemon.At("cas/" + digest->ToString())), "kept");
  EXPECT_TRUE(daemon.client().List()->empty());
  EXPECT_TRUE(fs::is_empty(daemon.store() + "/scratch"));
}

// Its client stages again, where the symlink leads nowhere now.
TEST(Lifecycle, AfterSigkillAStageCanBeWhereItWas) {
  RunningDaemon daemon;
  const std::string path = daemon.folder() + "/stage";
  for (int life = 0; life < 2; ++life) {
    const auto local =
        build::buildgrid::LocalContentAddressableStorage::NewStub(
            grpc::CreateChannel("unix:" + daemon.socket(),
                                grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    const auto stream = local->StageTree(&context);
    build::buildgrid::StageTreeRequest request;
    request.mutable_root_digest()->set_hash(Digest().HexHash());
    request.set_path(path);
    stream->Write(request);
    build::buildgrid::StageTreeResponse response;
    ASSERT_TRUE(stream->Read(&response)) << stream->Finish().error_message();
    WriteFile(path + "/file", "written");
    daemon.Kill();
    EXPECT_FALSE(stream->Finish().ok());
    EXPECT_TRUE(fs::is_symlink(path));
    daemon.Start();
  }
}

// G23
TEST(Lifecycle, SigtermUnmountsAndLeavesNothing) {
  RunningDaemon daemon;
  ASSERT_TRUE(daemon.client().Create({.name = "open"}).ok());
  const int fd =
      open(daemon.At("sandbox/open/file").c_str(), O_CREAT | O_RDWR, 0644);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_TRUE(fs::is_empty(daemon.mount()));
  EXPECT_FALSE(fs::exists(daemon.socket()));
  EXPECT_TRUE(fs::is_empty(daemon.store() + "/scratch"));
  close(fd);
}

TEST(Lifecycle, BlobsSurviveACleanRestart) {
  RunningDaemon daemon;
  const absl::StatusOr<Digest> digest = daemon.client().Put("survives");
  ASSERT_TRUE(digest.ok());
  ASSERT_EQ(daemon.Stop(), 0);
  daemon.Start();
  EXPECT_EQ(ReadFile(daemon.At("cas/" + digest->ToString())), "survives");
}

TEST(Lifecycle, UnmountFromOutsideEndsTheDaemon) {
  RunningDaemon daemon;
  const pid_t pid = daemon.pid();
  ASSERT_EQ(RunProgram({"umount", daemon.mount()}).exit_status, 0);
  for (int i = 0;
       i < 1000 &&
       RunShell("test $(ps -o stat= -p " + std::to_string(pid) + ") = Zl || " +
                "ps -o stat= -p " + std::to_string(pid) + " | grep -q Z")
               .exit_status != 0;
       ++i) {
    usleep(10000);
  }
  EXPECT_EQ(daemon.Stop(), 0);
}

// G12. bubblewrap, killed while it sets its namespaces up, leaves a process
// that waits for its parent; here a program in its place leaves one surely.
TEST(Lifecycle, NoProcessOfAKilledRunIsLeftWhateverItWasDoing) {
  RunningDaemon daemon;
  const std::string mark = "100." + std::to_string(getpid());
  WriteFile(daemon.folder() + "/bwrap", "#!/bin/sh\nsetsid sleep " + mark +
                                            "1 &\nexec sleep " + mark + "2");
  fs::permissions(daemon.folder() + "/bwrap", fs::perms::owner_all);
  const std::string pid =
      RunShell("exec 2>/dev/null; (PATH=" + daemon.folder() +
               ":$PATH exec " CASEMENT " --socket " + daemon.socket() +
               " run -- true >/dev/null) & echo $!")
          .out;
  const auto running = [&mark] {
    return RunProgram({"pgrep", "-cfx", "sleep " + mark + "[12]"}).out;
  };
  for (int i = 0; i < 1000 && running() != "2\n"; ++i) usleep(10000);
  ASSERT_EQ(running(), "2\n");
  ASSERT_EQ(kill(std::stoi(pid), SIGKILL), 0);
  for (int i = 0; i < 1000 && running() != "0\n"; ++i) usleep(10000);
  EXPECT_EQ(running(), "0\n");
}

// G12
TEST(Lifecycle, SandboxOfAKilledClientIsGoneWithinASecondAndItsLeasesToo) {
  RunningDaemon daemon;
  WriteFile(daemon.folder() + "/input", "input");
  fs::create_directory(daemon.folder() + "/source");
  fs::rename(daemon.folder() + "/input", daemon.folder() + "/source/input");
  const auto root = daemon.client().PutTree(daemon.folder() + "/source", {});
  ASSERT_TRUE(root.ok()) << root.status();
  // The tool in the background; `exec` so that it is what gets killed.
  const std::string pid =
      RunShell("exec 2>/dev/null; (exec " CASEMENT " --socket " +
               daemon.socket() + " run --root " + root->root.ToString() +
               " -- sleep 100." + std::to_string(getpid()) +
               " >/dev/null) & echo $!")
          .out;
  // Until somebody is inside.
  const std::vector<std::string> inside = {
      "pgrep", "-fx", "sleep 100." + std::to_string(getpid())};
  for (int i = 0; i < 1000 && RunProgram(inside).exit_status != 0; ++i) {
    usleep(10000);
  }
  ASSERT_EQ(daemon.client().List()->size(), 1u);
  ASSERT_EQ(kill(std::stoi(pid), SIGKILL), 0);
  const auto killed = std::chrono::steady_clock::now();
  while (!daemon.client().List()->empty()) usleep(5000);
  EXPECT_LT(std::chrono::steady_clock::now() - killed,
            std::chrono::seconds(5));  // One, on a machine with nothing else.
  // Nor is anybody left who was inside.
  const std::vector<std::string> left = {"pgrep", "-f", daemon.At("sandbox/")};
  for (int i = 0; i < 500 && RunProgram(left).exit_status == 0; ++i) {
    usleep(10000);
  }
  EXPECT_EQ(RunProgram(left).out, "");
  const auto evicted = daemon.client().Evict({Digest::Of("input")});
  ASSERT_TRUE(evicted.ok());
  EXPECT_TRUE(evicted->failures.empty()) << evicted->failures[0].second;
}

// What a daemon says that cannot start, beside one that runs.
ProgramResult TryStart(const std::string& store, const std::string& mount,
                       const std::string& socket) {
  return RunProgram(
      {CASEMENTD, "--store", store, "--mount", mount, "--socket", socket});
}

class Refusals : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(free_);
    fs::create_directory(other_store_);
  }
  void ExpectRefusal(const ProgramResult& result, int exit_status,
                     const std::string& what) {
    EXPECT_EQ(result.exit_status, exit_status) << result.err;
    EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1)
        << result.err;
  }

  RunningDaemon daemon_;
  const std::string free_ = daemon_.folder() + "/free";
  const std::string other_store_ = daemon_.folder() + "/other-store";
  const std::string new_socket_ = daemon_.folder() + "/new-socket";
};

TEST_F(Refusals, StoreInUseByAnotherDaemon) {
  ExpectRefusal(TryStart(daemon_.store(), free_, new_socket_), 1, "in use");
}

TEST_F(Refusals, SocketThatAnotherDaemonAnswers) {
  ExpectRefusal(TryStart(other_store_, free_, daemon_.socket()), 1,
                "another daemon");
}

TEST_F(Refusals, MountPointThatIsMissingNotEmptyOrAFile) {
  ExpectRefusal(TryStart(other_store_, free_ + "/none", new_socket_), 1,
                "No such file");
  WriteFile(free_ + "/file", "");
  ExpectRefusal(TryStart(other_store_, free_, new_socket_), 1, "not empty");
  ExpectRefusal(TryStart(other_store_, free_ + "/file", new_socket_), 1,
                "Not a directory");
}

TEST_F(Refusals, StoreInsideTheMount) {
  ExpectRefusal(TryStart(free_, free_, new_socket_), 1, "inside each other");
}

TEST_F(Refusals, WrongUsageIsExitStatus2) {
  ExpectRefusal(RunProgram({CASEMENTD, "--store", "x"}), 2, "--mount");
  ExpectRefusal(RunProgram({CASEMENTD, "--nonsense"}), 2, "--nonsense");
  ExpectRefusal(RunProgram({CASEMENTD, "--store", other_store_, "--mount",
                            free_, "--max-bytes", "many"}),
                2, "max-bytes");
  for (const std::vector<std::string>& watermarks :
       std::vector<std::vector<std::string>>{
           {"--high-watermark", "0"},
           {"--high-watermark", "101"},
           {"--low-watermark", "x"},
           {"--high-watermark", "50", "--low-watermark", "51"}}) {
    std::vector<std::string> words = {CASEMENTD, "--store", other_store_,
                                      "--mount", free_};
    words.insert(words.end(), watermarks.begin(), watermarks.end());
    ExpectRefusal(RunProgram(words), 2, "watermark");
  }
}

TEST_F(Refusals, OptionsForTcpThatDoNotGoTogether) {
  const std::string file = daemon_.folder() + "/file";
  WriteFile(file, "no PEM");
  const auto expect = [&](const std::vector<std::string>& options,
                          int exit_status, const std::string& what) {
    std::vector<std::string> words = {CASEMENTD,  "--store", other_store_,
                                      "--mount",  free_,     "--socket",
                                      new_socket_};
    words.insert(words.end(), options.begin(), options.end());
    ExpectRefusal(RunProgram(words), exit_status, what);
  };
  expect({"--listen", "8980"}, 2, "--listen");
  expect({"--listen", "example.com:80"}, 2, "--listen");
  expect({"--listen", "0.0.0.0:0"}, 2, "--tls-client-ca");
  expect({"--listen", "[::]:0", "--tls-certificate", file, "--tls-key", file},
         2, "--tls-client-ca");
  expect({"--listen", "127.0.0.1:0", "--tls-certificate", file}, 2,
         "--tls-key");
  expect({"--listen", "127.0.0.1:0", "--tls-client-ca", file}, 2,
         "--tls-certificate");
  expect({"--tls-certificate", file, "--tls-key", file}, 2, "--listen");
  expect({"--listen", "127.0.0.1:0", "--tls-certificate", file + "s",
          "--tls-key", file},
         1, "No such file");
  expect(
      {"--listen", "127.0.0.1:0", "--tls-certificate", file, "--tls-key", file},
      1, "none in PEM");
}

TEST(Listening, TellsThePortThatWasFound) {
  RunningDaemon daemon({"--listen", "127.0.0.1:0"});
  const std::string log = daemon.log();
  const size_t place = log.find("listening on 127.0.0.1:");
  ASSERT_NE(place, std::string::npos) << log;
  EXPECT_GT(std::stoi(log.substr(place + 23)), 0) << log;
}

TEST(Background, CommandReturnsOnceTheMountServes) {
  RunningDaemon folder_of;  // For its folder and clean-up only.
  const std::string store = folder_of.folder() + "/store2";
  const std::string mount = folder_of.folder() + "/mount2";
  const std::string socket = folder_of.folder() + "/socket2";
  fs::create_directory(store);
  fs::create_directory(mount);
  const ProgramResult started = TryStart(store, mount, socket);
  EXPECT_EQ(started.exit_status, 0) << started.err;
  EXPECT_TRUE(fs::exists(mount + "/cas"));
  const std::string pid = RunShell("pgrep -f -- '--mount " + mount + "'").out;
  ASSERT_FALSE(pid.empty());
  kill(std::stoi(pid), SIGTERM);
  for (int i = 0; i < 1000 && fs::exists(mount + "/cas"); ++i) usleep(10000);
  EXPECT_FALSE(fs::exists(mount + "/cas"));
  EXPECT_FALSE(fs::exists(socket));
}

TEST(Background, RelativePathsAreTheCommandsOwn) {
  RunningDaemon folder_of;  // For its folder and clean-up only.
  const std::string folder = folder_of.folder() + "/relative";
  fs::create_directories(folder + "/store");
  fs::create_directories(folder + "/mount");
  const ProgramResult started =
      RunShell("cd " + folder +
               " && " CASEMENTD " --store store --mount mount --socket socket");
  EXPECT_EQ(started.exit_status, 0) << started.err;
  EXPECT_TRUE(fs::is_socket(folder + "/socket"));
  EXPECT_TRUE(fs::exists(folder + "/mount/cas"));
  ASSERT_EQ(RunProgram({"umount", folder + "/mount"}).exit_status, 0);
  for (int i = 0; i < 1000 && fs::exists(folder + "/socket"); ++i) {
    usleep(10000);
  }
  EXPECT_FALSE(fs::exists(folder + "/socket"));
}

TEST(Transports, BothServe) {
  for (const char* transport : {"dev", "io_uring"}) {
    RunningDaemon daemon({"--transport", transport});
    const absl::StatusOr<Digest> digest = daemon.client().Put("transported");
    ASSERT_TRUE(digest.ok());
    EXPECT_EQ(ReadFile(daemon.At("cas/" + digest->ToString())), "transported");
    const bool ring = daemon.Metric("fuse_io_uring") == 1;
    EXPECT_EQ(ring, std::string(transport) == "io_uring") << daemon.log();
  }
}

}  // namespace
}  // namespace casement
