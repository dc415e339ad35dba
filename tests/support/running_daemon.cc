#include "support/running_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>  // NOLINT
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>  // NOLINT

#include "base/mount_info.h"

namespace casement {
namespace {

// How long a daemon may take to serve: sanitizers and a busy machine included.
constexpr auto kStartTimeout = std::chrono::seconds(30);

int ExitStatus(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::vector<char*> Pointers(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) {
    pointers.push_back(const_cast<char*>(word.c_str()));  // NOLINT: for exec.
  }
  pointers.push_back(nullptr);
  return pointers;
}

// Reads both pipes until they end, so that neither fills up.
void Drain(int out_fd, int err_fd, ProgramResult& result) {
  pollfd fds[2] = {{out_fd, POLLIN, 0}, {err_fd, POLLIN, 0}};
  std::string* const texts[2] = {&result.out, &result.err};
  int open_fds = 2;
  while (open_fds > 0 && poll(fds, 2, -1) > 0) {
    for (int i = 0; i < 2; ++i) {
      if (fds[i].fd < 0 || fds[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t got = read(fds[i].fd, buffer, sizeof(buffer));
      if (got > 0) {
        texts[i]->append(buffer, static_cast<size_t>(got));
      } else {
        fds[i].fd = -1;
        --open_fds;
      }
    }
  }
}

constexpr char kFolderPrefix[] = "casement-test-";

// A lock that the kernel gives back when this program ends, in whatever way. It
// has its name only once it is locked, so that nobody takes it for a dead
// one's.
UniqueFd LockFolder(const std::string& folder) {
  const std::string path = folder + "/owner";
  UniqueFd owner(open((path + ".new").c_str(),
                      O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!owner.valid() || flock(owner.get(), LOCK_EX) != 0 ||
      rename((path + ".new").c_str(), path.c_str()) != 0) {
    throw std::runtime_error(path + ": cannot be locked");
  }
  return owner;
}

bool IsAbandoned(const std::filesystem::path& folder) {
  const UniqueFd owner(
      open((folder / "owner").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  return owner.valid() && flock(owner.get(), LOCK_EX | LOCK_NB) == 0;
}

void RemoveFolder(const std::filesystem::path& folder) {
  const std::vector<MountInfo> mounts = ReadMountInfo("/proc/self/mountinfo");
  // Those on top of others first.
  for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount) {
    if (mount->path.rfind(folder.string() + "/", 0) == 0) {
      umount2(mount->path.c_str(), MNT_DETACH);
    }
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

// What killed programs left.
void RemoveAbandonedFolders(const std::filesystem::path& below) {
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(below, ignored)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kFolderPrefix, 0) == 0 && IsAbandoned(entry.path())) {
      RemoveFolder(entry.path());
    }
  }
}

// The one that was built with the tests, or another: scripts/stress has tests
// of a plain build play against a daemon with a sanitizer.
std::string CasementdPath() {
  const char* const other = std::getenv("CASEMENT_TEST_DAEMON");
  return other != nullptr ? other : CASEMENTD;
}

}  // namespace

ProgramResult RunProgram(const std::vector<std::string>& words) {
  int out[2];
  int err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) {
    throw std::runtime_error("pipe");
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, words[0].c_str(), &actions, nullptr,
                                 Pointers(words).data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(err[1]);
  ProgramResult result;
  if (error != 0) throw std::runtime_error(words[0] + ": cannot be run");
  Drain(out[0], err[0], result);
  close(out[0]);
  close(err[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  result.exit_status = ExitStatus(status);
  return result;
}

ProgramResult RunShell(const std::string& script) {
  return RunProgram({"/bin/sh", "-c", script});
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  file.close();
  if (!file) throw std::runtime_error(path + ": cannot be written");
}

RunningDaemon::RunningDaemon(std::vector<std::string> arguments,
                             std::vector<std::string> prefix)
    : arguments_(std::move(arguments)), prefix_(std::move(prefix)) {
  const std::filesystem::path below = std::filesystem::temp_directory_path();
  RemoveAbandonedFolders(below);
  std::string folder = below / (std::string(kFolderPrefix) + "XXXXXX");
  if (mkdtemp(folder.data()) == nullptr) throw std::runtime_error("mkdtemp");
  // For other users, where a test has some; what is inside has its own modes.
  std::filesystem::permissions(folder, std::filesystem::perms(0755));
  folder_ = folder;
  owner_ = LockFolder(folder_);
  store_ = folder_ + "/store";
  mount_ = folder_ + "/mount";
  socket_ = folder_ + "/socket";
  std::filesystem::create_directory(store_);
  std::filesystem::create_directory(mount_);
  Start();
}

RunningDaemon::~RunningDaemon() {
  if (pid_ > 0) Stop();
  RemoveFolder(folder_);
}

void RunningDaemon::Start() {
  // setpriv becomes the daemon, which is told to end if this program dies.
  std::vector<std::string> words = prefix_;
  const std::vector<std::string> command = {
      "setpriv",      "--pdeathsig", "TERM", CasementdPath(),
      "--foreground", "--store",     store_, "--mount",
      mount_,         "--socket",    socket_};
  words.insert(words.end(), command.begin(), command.end());
  words.insert(words.end(), arguments_.begin(), arguments_.end());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const std::string log = folder_ + "/log";
  posix_spawn_file_actions_addopen(&actions, 2, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int error = posix_spawnp(&pid_, words[0].c_str(), &actions, nullptr,
                                 Pointers(words).data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error(words[0] + ": cannot be run");
  const auto deadline = std::chrono::steady_clock::now() + kStartTimeout;
  while (true) {
    absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(socket_);
    if (client.ok()) {
      client_ = *std::move(client);
      return;
    }
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      throw std::runtime_error("casementd ended: " + this->log());
    }
    if (std::chrono::steady_clock::now() > deadline) {
      throw std::runtime_error("casementd does not serve: " + this->log());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

int RunningDaemon::Stop() {
  client_.reset();
  kill(pid_, SIGTERM);
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return ExitStatus(status);
}

void RunningDaemon::Kill() {
  client_.reset();
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

double RunningDaemon::Metric(const std::string& name,
                             const std::string& label) {
  const absl::StatusOr<StoreStats> stats = client_->Stats();
  if (!stats.ok()) throw std::runtime_error(stats.status().ToString());
  double sum = 0;
  for (const casement::Metric& metric : stats->metrics) {
    if (metric.name != name) continue;
    bool matches = label.empty();
    for (const auto& [key, value] : metric.labels) matches |= value == label;
    if (matches) sum += metric.value;
  }
  return sum;
}

ProgramResult RunningDaemon::Casement(
    const std::vector<std::string>& words) const {
  std::vector<std::string> all = {CASEMENT, "--socket", socket_};
  all.insert(all.end(), words.begin(), words.end());
  return RunProgram(all);
}

}  // namespace casement
