#include "vfs/processes.h"

#include <dirent.h>
#include <unistd.h>

#include <climits>
#include <ctime>
#include <fstream>
#include <memory>

#include "absl/strings/numbers.h"
#include "base/mount_info.h"

namespace casement {
namespace {

struct DirCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};

}  // namespace

std::vector<int> NumbersIn(const std::string& folder) {
  std::vector<int> numbers;
  const std::unique_ptr<DIR, DirCloser> directory(opendir(folder.c_str()));
  if (directory == nullptr) return numbers;
  while (const dirent* const entry = readdir(directory.get())) {
    int number = 0;
    if (absl::SimpleAtoi(entry->d_name, &number)) numbers.push_back(number);
  }
  return numbers;
}

std::string LinkOf(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t size = readlink(path.c_str(), target, sizeof(target));
  return std::string(target, size > 0 ? static_cast<size_t>(size) : 0);
}

bool AnyLinkIn(const std::string& folder,
               const std::function<bool(absl::string_view)>& test) {
  const std::unique_ptr<DIR, DirCloser> directory(opendir(folder.c_str()));
  if (directory == nullptr) return false;
  while (const dirent* const entry = readdir(directory.get())) {
    char target[PATH_MAX];
    // From the folder on: half of the time would go into the way there.
    const ssize_t size = readlinkat(dirfd(directory.get()), entry->d_name,
                                    target, sizeof(target));
    if (size > 0 && test({target, static_cast<size_t>(size)})) return true;
  }
  return false;
}

int64_t CpuTimeOf(int pid) {
  // What clock_getcpuclockid(3) gives, which asks the kernel once more. Linux's
  // user interface: CPUCLOCK_SCHED, of a process.
  constexpr clockid_t kSched = 2;
  const clockid_t clock = (~static_cast<clockid_t>(pid) * 8) | kSched;
  timespec time{};
  if (clock_gettime(clock, &time) != 0) return -1;
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

std::string CommandOf(const std::string& process) {
  std::ifstream file(process + "/comm");
  std::string command;
  std::getline(file, command);
  return command;
}

std::string CasementDeviceAt(const std::string& path) {
  std::string device;
  for (const MountInfo& mount : ReadMountInfo("/proc/self/mountinfo")) {
    if (mount.path == path && mount.type == "fuse.casement") {
      device = mount.device;
    }
  }
  return device;
}

}  // namespace casement
