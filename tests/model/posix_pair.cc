#include "model/posix_pair.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>  // NOLINT
#include <filesystem>
#include <memory>
#include <new>
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

void MakeInputs(const std::string& folder) {
  fs::create_directories(folder + "/d/s");
  fs::create_directories(folder + "/e");
  WriteFile(folder + "/a", "input a\n");
  WriteFile(folder + "/b", std::string(10000, 'b'));
  WriteFile(folder + "/big", std::string(300000, 'B'));
  WriteFile(folder + "/tool", "#!/bin/sh\necho tool\n");
  WriteFile(folder + "/z", "");
  WriteFile(folder + "/d/a", "input a\n");
  WriteFile(folder + "/d/b", std::string(5000, 'd'));
  WriteFile(folder + "/d/s/a", "deep\n");
  WriteFile(folder + "/d/s/tool", "#!/bin/sh\n");
  fs::create_symlink("a", folder + "/link");
  fs::create_symlink("s", folder + "/d/link");
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_symlink()) continue;
    const bool runs = entry.is_directory() || entry.path().filename() == "tool";
    fs::permissions(entry.path(), fs::perms(runs ? 0755 : 0644));
  }
}

// Memory that forked processes share.
class SharedUnsyncedMaps {
 public:
  SharedUnsyncedMaps()
      : maps_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (maps_ == MAP_FAILED) throw std::runtime_error("mapping memory");
    new (maps_) UnsyncedMaps[2]();
  }
  ~SharedUnsyncedMaps() { munmap(maps_, kBytes); }
  SharedUnsyncedMaps(const SharedUnsyncedMaps&) = delete;
  SharedUnsyncedMaps& operator=(const SharedUnsyncedMaps&) = delete;

  UnsyncedMaps* sandbox() { return static_cast<UnsyncedMaps*>(maps_); }
  UnsyncedMaps* plain() { return sandbox() + 1; }

 private:
  static constexpr size_t kBytes = 2 * sizeof(UnsyncedMaps);
  void* const maps_;
};

}  // namespace

PosixPair::PosixPair(const PairOptions& options)
    : options_(options),
      daemon_(Arguments(options)),
      plain_(daemon_.folder() + "/plain") {
  whole_.folder = daemon_.folder() + "/whole";
  MakeInputs(whole_.folder);
  parts_.folder = daemon_.folder() + "/parts";
  for (int i = 0; i < kPartsMax; ++i) {
    const std::string part = parts_.folder + "/part" + std::to_string(i);
    MakeInputs(part);
    fs::permissions(part, fs::perms(0755));
  }
  for (Inputs* const inputs : {&whole_, &parts_}) {
    const auto put = daemon_.client().PutTree(inputs->folder, {});
    if (!put.ok()) throw std::runtime_error(put.status().ToString());
    inputs->root = put->root;
  }
  fs::create_directory(plain_);
  constexpr unsigned kOptions = MS_NODEV | MS_NOSUID | MS_NOATIME;
  const char* const path = plain_.c_str();
  if (mount(path, path, nullptr, MS_BIND, nullptr) != 0 ||
      mount(path, path, nullptr, MS_BIND | MS_REMOUNT | kOptions, nullptr) !=
          0) {
    throw std::runtime_error("mounting " + plain_);
  }
}

PosixPair::~PosixPair() { umount2(plain_.c_str(), MNT_DETACH); }

std::string PosixPair::CompareTrees(const std::string& sandbox,
                                    const std::string& plain) {
  std::map<std::string, std::string> expected = SnapshotOf(plain);
  const std::map<std::string, std::string> got = SnapshotOf(sandbox);
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

std::string PosixPair::PlayBoth(const Part& part,
                                const std::string& sandbox_path, size_t& upto) {
  SharedUnsyncedMaps unsynced;
  const Stage stage = {.sandbox = sandbox_path + part.folder,
                       .plain = plain_ + part.folder,
                       .sandbox_unsynced = unsynced.sandbox(),
                       .plain_unsynced = unsynced.plain()};
  {
    std::vector<std::unique_ptr<PosixWorker>> workers(kProcesses);
    for (upto = 0; upto < part.calls.size(); ++upto) {
      const Call& call = part.calls[upto];
      auto& worker = workers[call.process];
      if (worker == nullptr) {
        worker = std::make_unique<PosixWorker>(stage, part.calls, call.process);
      }
      const uint64_t written = Written(call, stage.plain);
      if (written != 0 && options_.data_path == "passthrough") {
        for (const auto& other : workers) {
          if (other != nullptr) other->Freeze(written);
        }
      }
      const PosixWorker::Results results = worker->Play(upto);
      // An open that fails leaves an input unmodified.
      if (results.plain.compare(0, 6, "failed") != 0) {
        unmodified_.erase(written);
      }
      if (results.sandbox == results.plain) continue;
      ++upto;
      return "after " + ToString(call) + "\n  ext4:    " + results.plain +
             "\n  sandbox: " + results.sandbox + "\n";
    }
  }
  return CompareTrees(stage.sandbox, stage.plain);
}

// In passthrough mode a descriptor that was opened for reading before the first
// write to an unmodified input goes on seeing the old bytes (casement(7)), so
// such descriptors stay open but are not used any more.
uint64_t PosixPair::Written(const Call& call, const std::string& plain) const {
  const bool writes =
      call.kind == CallKind::kTruncate ||
      (call.kind == CallKind::kOpen &&
       ((call.flags & O_ACCMODE) != O_RDONLY || (call.flags & O_TRUNC) != 0));
  if (!writes) return 0;
  struct stat status {};
  if (stat((plain + "/" + call.path).c_str(), &status) != 0) return 0;
  return unmodified_.count(status.st_ino) != 0 ? status.st_ino : 0;
}

pid_t PosixPair::PlayInChild(const Part& part, const std::string& sandbox,
                             const std::string& report) {
  WriteFile(report, "0\nthe child died");
  fs::permissions(report, fs::perms(0666));
  const pid_t child = fork();
  if (child != 0) return child;
  signal(SIGPIPE, SIG_IGN);  // FIFOs.
  size_t upto = 0;
  std::string difference;
  try {
    if (options_.as_user) BecomeUser();
    difference = PlayBoth(part, sandbox, upto);
  } catch (const std::exception& error) {
    difference = error.what();
  }
  WriteFile(report, std::to_string(upto) + "\n" + difference);
  _exit(0);
}

std::optional<std::string> PosixPair::Play(const std::vector<Call>& calls,
                                           size_t* upto) {
  return PlayParts(whole_, {{.calls = calls}}, upto);
}

std::optional<std::string> PosixPair::PlayAtOnce(
    const std::vector<std::vector<Call>>& sequences) {
  std::vector<Part> parts;
  for (const std::vector<Call>& calls : sequences) {
    parts.push_back({calls, "/part" + std::to_string(parts.size())});
  }
  return PlayParts(parts_, parts, nullptr);
}

void PosixPair::Own(const std::string& path) {
  const uint32_t owner = options_.as_user ? kUserId : 0;
  struct stat status {};
  if (lchown(path.c_str(), owner, owner) != 0 ||
      lstat(path.c_str(), &status) != 0) {
    throw std::runtime_error(path);
  }
  unmodified_.insert(status.st_ino);
  SetInputTimes(path);
}

std::string PosixPair::Prepare(const Inputs& inputs) {
  const uint32_t owner = options_.as_user ? kUserId : 0;
  const auto made = daemon_.client().Create(
      {.root = inputs.root, .owner_uid = owner, .owner_gid = owner}, nullptr,
      {.owner_is_peer = false});
  if (!made.ok()) throw std::runtime_error(made.status().ToString());
  for (const auto& entry : fs::directory_iterator(plain_)) {
    fs::remove_all(entry);
  }
  fs::copy(inputs.folder, plain_,
           fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  unmodified_.clear();
  for (const auto& entry : fs::recursive_directory_iterator(plain_)) {
    Own(entry.path());
  }
  Own(plain_);
  const mode_t top = options_.as_user ? 0700 : 0777;
  chmod(plain_.c_str(), top);
  chmod(made->info.path.c_str(), top);
  return made->info.path;
}

std::optional<std::string> PosixPair::PlayParts(const Inputs& inputs,
                                                const std::vector<Part>& parts,
                                                size_t* upto) {
  const std::string sandbox = Prepare(inputs);
  std::vector<pid_t> children;
  const auto report = [this](size_t i) {
    return daemon_.folder() + "/report" + std::to_string(i);
  };
  for (size_t i = 0; i < parts.size(); ++i) {
    children.push_back(PlayInChild(parts[i], sandbox, report(i)));
  }
  std::string difference;
  for (size_t i = 0; i < parts.size(); ++i) {
    int status = 0;
    waitpid(children[i], &status, 0);
    if (WIFSIGNALED(status)) {
      difference += "died of signal " + std::to_string(WTERMSIG(status));
      continue;
    }
    const std::string said = ReadFile(report(i));
    const size_t line = said.find('\n');
    difference += said.substr(line + 1);
    if (upto != nullptr) *upto = std::stoul("0" + said.substr(0, line));
  }
  const std::string name = fs::path(sandbox).filename();
  if (difference.empty()) {
    RemoveSpecials(plain_);
    RemoveSpecials(sandbox);
    difference = CheckOutputs(inputs, name);
  }
  const absl::Status released = daemon_.client().Release(name);
  if (!released.ok()) difference += released.ToString();
  if (difference.empty()) return std::nullopt;
  return difference;
}

// FIFOs, sockets and device nodes, which no output can hold.
void PosixPair::RemoveSpecials(const std::string& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const fs::file_status status = entry.symlink_status();
    if (fs::is_other(status)) found.push_back(entry.path());
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
std::string PosixPair::CheckOutputs(const Inputs& inputs,
                                    const std::string& name) {
  const Tree before = TreeOf(inputs.folder);
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
  const auto collected = daemon_.client().Collect(name, {"."}, {.force = true});
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
