// The mounts that a process sees, as a mountinfo file lists them (proc(5)).
#ifndef CASEMENT_BASE_MOUNT_INFO_H_
#define CASEMENT_BASE_MOUNT_INFO_H_

#include <string>
#include <vector>

namespace casement {

struct MountInfo {
  std::string id;      // Its number: mnt_id in /proc/PID/fdinfo/FD.
  std::string device;  // "0:42", as st_dev.
  std::string root;    // What of its file system is shown: "/" is all of it.
  std::string path;    // Where it is.
  std::string type;    // "ext4", "fuse.casement".
};

// From /proc/PID/mountinfo, in its order: of two mounts at one path, the later
// one is on top. Lines that are cut short are left out; a file that cannot be
// read lists nothing. Any thread may call it.
std::vector<MountInfo> ReadMountInfo(const std::string& file);

}  // namespace casement

#endif  // CASEMENT_BASE_MOUNT_INFO_H_
