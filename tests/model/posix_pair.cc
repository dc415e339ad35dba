#include "model/posix_pair.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>  // NOLINT
#include <filesystem>
#include <sstream>
#include <stdexcept>

namespace casement {
namespace {

namespace fs = std::filesystem;

// What inputs without an mtime property show: 2000-01-01T00:00:00Z.
constexpr time_t kInputTime = 946684800;
constexpr auto kShorteningTime = std::chrono::seconds(20);

std::vector<std::string> Arguments(const PairOptions& options) {
  return {"--data-path", options.data_path, "--allow-other"};
}

void SetInputTimes(const std::string& path) {
  const timespec times[2] = {{kInputTime, 0}, {kInputTime, 0}};
  utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

void BecomeUser() {
  const gid_t group = 2000;
  if (setgroups(1, &group) != 0 || setresgid(kUserId, kUserId, kUserId) != 0 ||
      setresuid(kUserId, kUserId, kUserId) != 0) {
    throw std::runtime_error("becoming a user");
  }
  // Gives /proc/self back to us.
  prctl(PR_SET_DUMPABLE, 1);
}

}  // namespace

PosixPair::PosixPair(const PairOptions& options)
    : options_(options),
      daemon_(Arguments(options)),
      source_(daemon_.folder() + "/source"),
      plain_(daemon_.folder() + "/plain") {
  fs::create_directories(source_ + "/d/s");
  fs::create_directories(source_ + "/e");
  WriteFile(source_ + "/a", "input a\n");
  WriteFile(source_ + "/b", std::string(10000, 'b'));
  WriteFile(source_ + "/big", std::string(300000, 'B'));
  WriteFile(source_ + "/tool", "#!/bin/sh\necho tool\n");
  WriteFile(source_ + "/z", "");
  WriteFile(source_ + "/d/a", "input a\n");
  WriteFile(source_ + "/d/b", std::string(5000, 'd'));
  WriteFile(source_ + "/d/s/a", "deep\n");
  WriteFile(source_ + "/d/s/tool", "#!/bin/sh\n");
  fs::create_symlink("a", source_ + "/link");
  fs::create_symlink("s", source_ + "/d/link");
  for (const auto& entry : fs::recursive_directory_iterator(source_)) {
    if (entry.is_symlink()) continue;
    const bool runs = entry.is_directory() || entry.path().filename() == "tool";
    fs::permissions(entry.path(), fs::perms(runs ? 0755 : 0644));
  }
  const auto put = daemon_.client().PutTree(source_, {});
  if (!put.ok()) throw std::runtime_error(put.status().ToString());
  root_ = put->root;
}

std::string PosixPair::PlayBoth(const std::vector<Call>& calls,
                                const std::string& sandbox_path, size_t& upto) {
  Player sandbox(sandbox_path);
  Player plain(plain_);
  for (upto = 0; upto < calls.size(); ++upto) {
    const Call& call = calls[upto];
    const uint64_t written = Freeze(call, sandbox, plain);
    const std::string expected = plain.Play(call);
    // An open that fails leaves an input unmodified.
    if (expected.compare(0, 6, "failed") != 0) unmodified_.erase(written);
    const std::string got = sandbox.Play(call);
    if (got == expected) continue;
    ++upto;
    return "after " + ToString(call) + "\n  ext4:    " + expected +
           "\n  sandbox: " + got + "\n";
  }
  std::map<std::string, std::string> expected = SnapshotOf(plain_);
  const std::map<std::string, std::string> got = SnapshotOf(sandbox_path);
  std::string text;
  for (const auto& [path, line] : got) {
    std::string& wanted = expected[path];
    if (line != wanted) {
      text += "at the end " + path + "\n  ext4:    " + wanted +
              "\n  sandbox: " + line + "\n";
    }
    wanted = "";
  }
  for (const auto& [path, line] : expected) {
    if (!line.empty()) text += "at the end only on ext4: " + path + "\n";
  }
  return text;
}

// In passthrough mode a descriptor that was opened for reading before the first
// write to an unmodified input goes on seeing the old bytes (casement(7)), so
// such descriptors stay open but are not used any more.
uint64_t PosixPair::Freeze(const Call& call, Player& sandbox, Player& plain) {
  const bool writes =
      call.kind == CallKind::kTruncate ||
      (call.kind == CallKind::kOpen &&
       ((call.flags & O_ACCMODE) != O_RDONLY || (call.flags & O_TRUNC) != 0));
  if (!writes) return 0;
  const uint64_t number = plain.NumberOf(call.path);
  if (unmodified_.count(number) == 0) return 0;
  if (options_.data_path != "passthrough") return number;
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    const Player::OpenSlot open = plain.SlotAt(slot);
    if (open.number != number || !open.read_only) continue;
    sandbox.FreezeSlot(slot);
    plain.FreezeSlot(slot);
  }
  return number;
}

std::string PosixPair::PlayInChild(const std::vector<Call>& calls,
                                   const std::string& sandbox) {
  const std::string report = daemon_.folder() + "/report";
  WriteFile(report, "0\nthe child died");
  fs::permissions(report, fs::perms(0666));
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGPIPE, SIG_IGN);  // FIFOs.
    if (options_.as_user) BecomeUser();
    size_t upto = 0;
    std::string difference;
    try {
      difference = PlayBoth(calls, sandbox, upto);
    } catch (const std::exception& error) {
      difference = error.what();
    }
    WriteFile(report, std::to_string(upto) + "\n" + difference);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) {
    return "0\nthe child died of signal " + std::to_string(WTERMSIG(status));
  }
  return ReadFile(report);
}

std::optional<std::string> PosixPair::Play(const std::vector<Call>& calls,
                                           size_t* upto) {
  const uint32_t owner = options_.as_user ? kUserId : 0;
  const auto made = daemon_.client().Create(
      {.root = root_, .owner_uid = owner, .owner_gid = owner}, nullptr,
      {.owner_is_peer = false});
  if (!made.ok()) throw std::runtime_error(made.status().ToString());
  fs::remove_all(plain_);
  fs::copy(source_, plain_,
           fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  unmodified_.clear();
  for (const auto& entry : fs::recursive_directory_iterator(plain_)) {
    const std::string path = entry.path();
    struct stat status {};
    if (lchown(path.c_str(), owner, owner) != 0 ||
        lstat(path.c_str(), &status) != 0) {
      throw std::runtime_error(path);
    }
    unmodified_[status.st_ino] = true;
    SetInputTimes(path);
  }
  if (chown(plain_.c_str(), owner, owner) != 0) throw std::runtime_error("own");
  const mode_t top = options_.as_user ? 0700 : 0777;
  chmod(plain_.c_str(), top);
  chmod(made->info.path.c_str(), top);

  std::string report = PlayInChild(calls, made->info.path);
  const size_t line = report.find('\n');
  std::string difference = report.substr(line + 1);
  if (upto != nullptr) *upto = std::stoul("0" + report.substr(0, line));
  if (difference.empty()) {
    RemoveSpecials(plain_);
    RemoveSpecials(made->info.path);
    difference = CheckOutputs(made->info.name);
  }
  const absl::Status released = daemon_.client().Release(made->info.name);
  if (!released.ok()) difference += released.ToString();
  if (difference.empty()) return std::nullopt;
  return difference;
}

// FIFOs and sockets, which no output can hold.
void PosixPair::RemoveSpecials(const std::string& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const fs::file_type type = entry.symlink_status().type();
    if (type == fs::file_type::fifo || type == fs::file_type::socket) {
      found.push_back(entry.path());
    }
  }
  for (const fs::path& path : found) fs::remove(path);
}

PosixPair::Tree PosixPair::TreeOf(const std::string& folder) {
  Tree tree;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    struct stat status {};
    lstat(entry.path().c_str(), &status);
    Content content = {.mode = status.st_mode};
    if (S_ISREG(status.st_mode)) content.bytes = ReadFile(entry.path());
    if (S_ISLNK(status.st_mode)) content.bytes = fs::read_symlink(entry.path());
    tree[entry.path().lexically_relative(folder)] = content;
  }
  return tree;
}

// G18
std::string PosixPair::CheckOutputs(const std::string& name) {
  const Tree before = TreeOf(source_);
  const Tree after = TreeOf(plain_);
  std::map<std::string, char> expected;
  for (const auto& [path, content] : after) {
    const auto was = before.find(path);
    if (was == before.end()) {
      expected[path] = 'A';
    } else if ((was->second.mode ^ content.mode) & S_IFMT) {
      expected[path] = 'T';
    } else if (was->second.bytes != content.bytes) {
      expected[path] = 'M';
    } else if (was->second.mode != content.mode) {
      expected[path] = 'T';
    }
  }
  for (const auto& [path, content] : before) {
    if (after.count(path) == 0) expected[path] = 'D';
  }
  std::string text;
  const auto changes = daemon_.client().Diff(name);
  if (!changes.ok()) return changes.status().ToString();
  for (const SandboxChange& change : *changes) {
    const char kind = "AMDT"[static_cast<int>(change.kind)];
    const auto wanted = expected.find(change.path);
    const char expects = wanted == expected.end() ? '-' : wanted->second;
    if (wanted != expected.end()) expected.erase(wanted);
    // Written with the bytes it had: M all the same.
    if (kind == expects || (kind == 'M' && (expects == '-' || expects == 'T')))
      continue;
    text += "diff says " + std::string(1, kind) + " of " + change.path +
            ", not " + expects + "\n";
  }
  for (const auto& [path, kind] : expected) {
    text += "diff lacks " + std::string(1, kind) + " of " + path + "\n";
  }
  const auto collected = daemon_.client().Collect(name, {"."}, /*force=*/true);
  if (!collected.ok()) return text + collected.status().ToString();
  const auto put = daemon_.client().PutTree(plain_, {});
  if (!put.ok()) return text + put.status().ToString();
  if (collected->outputs.size() != 1 ||
      collected->outputs[0].root_directory != put->root) {
    text += "what was collected is not what was there\n";
  }
  return text;
}

std::string PosixPair::Shortest(std::vector<Call> calls) {
  size_t upto = 0;
  std::optional<std::string> difference = Play(calls, &upto);
  if (!difference.has_value()) return "(not seen again)\n";
  calls.resize(std::min(upto, calls.size()));
  const auto deadline = std::chrono::steady_clock::now() + kShorteningTime;
  const auto in_time = [deadline] {
    return std::chrono::steady_clock::now() < deadline;
  };
  for (size_t step = std::max<size_t>(calls.size() / 2, 1);
       step > 0 && in_time();) {
    bool shorter = false;
    for (size_t at = 0; at < calls.size() && in_time();) {
      std::vector<Call> fewer(calls.begin(),
                              calls.begin() + static_cast<ptrdiff_t>(at));
      fewer.insert(fewer.end(),
                   calls.begin() + static_cast<ptrdiff_t>(
                                       std::min(at + step, calls.size())),
                   calls.end());
      const std::optional<std::string> still = Play(fewer, &upto);
      if (still.has_value()) {
        fewer.resize(std::min(std::max<size_t>(upto, 1), fewer.size()));
        calls = std::move(fewer);
        difference = still;
        shorter = true;
      } else {
        at += step;
      }
    }
    if (step == 1 && !shorter) break;
    if (step > 1) step /= 2;
  }
  std::ostringstream text;
  for (const Call& call : calls) text << ToString(call) << "\n";
  return text.str() + *difference;
}

}  // namespace casement
