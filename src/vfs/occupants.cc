#include "vfs/occupants.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/mount_info.h"
#include "vfs/processes.h"

namespace casement {
namespace {

bool IsAtOrBelow(absl::string_view path, absl::string_view top) {
  if (top == "/") return absl::StartsWith(path, "/");
  return absl::StartsWith(path, top) &&
         (path.size() == top.size() || path[top.size()] == '/');
}

// Where a sandbox is for the processes of one mount namespace.
struct Sight {
  std::vector<std::string> paths;
  bool is_mounted = false;  // By itself, as with a bind mount.
};

// `sandbox` is a path from the mount's top: "/sandbox/x".
Sight SightOf(const std::string& process, const std::string& device,
              const std::string& sandbox) {
  Sight sight;
  for (const MountInfo& mount : ReadMountInfo(process + "/mountinfo")) {
    if (mount.device != device) continue;
    if (IsAtOrBelow(mount.root, sandbox)) {
      sight.is_mounted = true;
    } else if (IsAtOrBelow(sandbox, mount.root)) {
      const size_t cut = mount.root == "/" ? 0 : mount.root.size();
      sight.paths.push_back(
          absl::StrCat(mount.path == "/" ? "" : mount.path,
                       absl::string_view(sandbox).substr(cut)));
    }
  }
  return sight;
}

bool Sees(const Sight& sight, absl::string_view path) {
  return std::any_of(
      sight.paths.begin(), sight.paths.end(),
      [path](const std::string& top) { return IsAtOrBelow(path, top); });
}

bool Maps(const std::string& process, const Sight& sight) {
  std::ifstream maps(process + "/maps");
  // "address rights offset device inode   /path"
  for (std::string line; std::getline(maps, line);) {
    const size_t slash = line.find('/');
    if (slash != std::string::npos && Sees(sight, line.substr(slash))) {
      return true;
    }
  }
  return false;
}

// How a process is in the sandbox; empty if it is not.
std::string HowIn(const std::string& process, const Sight& sight) {
  if (sight.is_mounted) return "a mount of it";
  if (sight.paths.empty()) return "";
  if (Sees(sight, LinkOf(process + "/cwd"))) return "its working directory";
  if (Sees(sight, LinkOf(process + "/root"))) return "its root directory";
  if (AnyLinkIn(process + "/fd", [&sight](absl::string_view path) {
        return Sees(sight, path);
      })) {
    return "an open file";
  }
  return Maps(process, sight) ? "a mapping" : "";
}

}  // namespace

Occupants::Seen Occupants::LookAt(pid_t pid, const SeenByPid& before) {
  const int64_t cpu_time = CpuTimeOf(pid);
  const auto found = before.find(pid);
  if (found != before.end() && cpu_time >= 0 &&
      found->second.cpu_time == cpu_time) {
    return found->second;
  }
  Seen seen = {.cpu_time = cpu_time, .since = Now()};
  // A kernel thread runs no program, and neither does who has ended.
  const std::string process = absl::StrCat("/proc/", pid);
  if (!LinkOf(process + "/exe").empty()) {
    seen.mounts = LinkOf(process + "/ns/mnt");
  }
  return seen;
}

std::optional<Occupant> Occupants::Find(const std::string& mount_point,
                                        const std::string& path,
                                        Moment entered) {
  std::shared_ptr<const SeenByPid> before;
  {
    MutexLock lock(mu_);
    before = seen_;
  }
  auto now = std::make_shared<SeenByPid>();
  const std::string device = CasementDeviceAt(mount_point);
  absl::flat_hash_map<std::string, Sight> sights;  // By mount namespace.
  std::optional<Occupant> occupant;
  const pid_t self = getpid();
  for (const pid_t pid : NumbersIn("/proc")) {
    if (pid == self) continue;
    const Seen& seen = now->emplace(pid, LookAt(pid, *before)).first->second;
    if (seen.mounts.empty() || occupant.has_value()) continue;
    const std::string process = absl::StrCat("/proc/", pid);
    const auto [sight, is_new] = sights.try_emplace(seen.mounts);
    // Others may have mounted something there: not only for who has run.
    if (is_new) sight->second = SightOf(process, device, "/" + path);
    if (seen.since <= entered && !sight->second.is_mounted) continue;
    const std::string how = HowIn(process, sight->second);
    if (how.empty()) continue;
    occupant = {.pid = pid, .command = CommandOf(process), .how = how};
  }
  MutexLock lock(mu_);
  seen_ = std::move(now);
  return occupant;
}

}  // namespace casement
