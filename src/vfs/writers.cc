#include "vfs/writers.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "base/mount_info.h"
#include "vfs/processes.h"

namespace casement {
namespace {

// The device of the mount that a process knows as `id`. Empty if it has none.
std::string DeviceOf(const std::string& process, const std::string& id) {
  for (const MountInfo& mount : ReadMountInfo(process + "/mountinfo")) {
    if (mount.id == id) return mount.device;
  }
  return "";
}

// What /proc/PID/fdinfo/FD says.
struct Descriptor {
  bool writable = false;
  uint64_t number = 0;
  std::string mount;
};

Descriptor ReadDescriptor(const std::string& path) {
  Descriptor descriptor;
  std::ifstream info(path);
  std::string key;
  std::string value;
  while (info >> key >> value) {
    if (key == "flags:") {
      const auto flags = std::strtoull(value.c_str(), nullptr, 8);
      descriptor.writable = (flags & O_ACCMODE) != O_RDONLY;
    } else if (key == "mnt_id:") {
      descriptor.mount = value;
    } else if (key == "ino:") {
      descriptor.number = std::strtoull(value.c_str(), nullptr, 10);
      break;
    }
  }
  return descriptor;
}

// Whether the descriptor can be a file at all: sockets, pipes and so on have
// names without a '/' in front. Cheaper than its fdinfo.
bool HasPath(const std::string& link) {
  char first = 0;
  return readlink(link.c_str(), &first, 1) == 1 && first == '/';
}

}  // namespace

std::optional<Writer> FindWriter(
    const std::string& mount_point,
    const absl::flat_hash_map<uint64_t, std::string>& files) {
  if (files.empty()) return std::nullopt;
  const std::string device = CasementDeviceAt(mount_point);
  const pid_t self = getpid();
  for (const pid_t pid : NumbersIn("/proc")) {
    if (pid == self) continue;
    const std::string process = absl::StrCat("/proc/", pid);
    for (const int fd : NumbersIn(process + "/fd")) {
      if (!HasPath(absl::StrCat(process, "/fd/", fd))) continue;
      const Descriptor descriptor =
          ReadDescriptor(absl::StrCat(process, "/fdinfo/", fd));
      if (!descriptor.writable) continue;
      const auto file = files.find(descriptor.number);
      // Numbers are unique in one mount only.
      if (file == files.end() ||
          DeviceOf(process, descriptor.mount) != device) {
        continue;
      }
      return Writer{
          .pid = pid, .command = CommandOf(process), .path = file->second};
    }
  }
  return std::nullopt;
}

}  // namespace casement
