// Whether the machine is short of memory, as the kernel says: the share of time
// in which some process waited for memory ("some avg10", Linux 4.20).
#ifndef CASEMENT_DAEMON_MEMORY_PRESSURE_H_
#define CASEMENT_DAEMON_MEMORY_PRESSURE_H_

#include <optional>
#include <string>

namespace casement {

// From /proc/pressure/memory or a file like it: percent, of the last ten
// seconds. Nothing if the kernel does not say.
std::optional<double> MemoryPressure(const std::string& file);

}  // namespace casement

#endif  // CASEMENT_DAEMON_MEMORY_PRESSURE_H_
