// A real casement-worker beside a RunningDaemon, for tests that need one; the
// program is CASEMENT_WORKER.
#ifndef CASEMENT_TESTS_SUPPORT_RUNNING_WORKER_H_
#define CASEMENT_TESTS_SUPPORT_RUNNING_WORKER_H_

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "support/running_daemon.h"

namespace casement {

// On a unix socket. Not thread safe, but for Channel().
class RunningWorker {
 public:
  RunningWorker(const RunningDaemon& daemon, std::vector<std::string> arguments)
      : socket_(daemon.folder() + "/worker"),
        log_(daemon.folder() + "/worker-log") {
    std::vector<std::string> words = {CASEMENT_WORKER, "--socket",
                                      daemon.socket(), "--listen",
                                      "unix:" + socket_};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, log_.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0600);
    EXPECT_EQ(
        posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ),
        0);
    posix_spawn_file_actions_destroy(&actions);
    WaitUntilItListens();
  }
  ~RunningWorker() { End(SIGTERM); }
  RunningWorker(const RunningWorker&) = delete;
  RunningWorker& operator=(const RunningWorker&) = delete;

  // Its exit status, 128+N after signal N.
  int End(int signal) {
    if (pid_ < 0) return -1;
    kill(pid_, signal);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::shared_ptr<grpc::Channel> Channel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
    return grpc::CreateCustomChannel(
        "unix:" + socket_, grpc::InsecureChannelCredentials(), arguments);
  }
  const std::string& socket() const { return socket_; }
  std::string log() const { return ReadFile(log_); }

 private:
  void WaitUntilItListens() const {
    for (int i = 0; i < 2000; ++i) {
      if (ReadFile(log_).find("listening on") != std::string::npos) return;
      usleep(10000);
    }
    throw std::runtime_error("no worker: " + ReadFile(log_));
  }

  std::string socket_;
  std::string log_;
  pid_t pid_ = -1;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_RUNNING_WORKER_H_
