// What /proc says of processes, for writers.h and occupants.h.
#ifndef CASEMENT_VFS_PROCESSES_H_
#define CASEMENT_VFS_PROCESSES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace casement {

// The names in a folder of /proc that are numbers: processes in "/proc",
// descriptors in "/proc/PID/fd". None if it cannot be read.
std::vector<int> NumbersIn(const std::string& folder);

// What a link of /proc says; empty if it cannot be read.
std::string LinkOf(const std::string& path);

// The time that a process has run, all its threads together, in nanoseconds.
// -1 if it is not known.
int64_t CpuTimeOf(int pid);

// Whether a link in a folder of /proc says something of which `test` is true.
bool AnyLinkIn(const std::string& folder,
               const std::function<bool(absl::string_view)>& test);

// "make" for /proc/PID.
std::string CommandOf(const std::string& process);

// The device of the casement mount that is on top at `path`, as mountinfo has
// it. Empty if none is.
std::string CasementDeviceAt(const std::string& path);

}  // namespace casement

#endif  // CASEMENT_VFS_PROCESSES_H_
