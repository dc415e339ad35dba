#include "daemon/maintenance.h"

#include <malloc.h>

#include "absl/strings/str_cat.h"
#include "daemon/log.h"
#include "daemon/memory_pressure.h"

namespace casement {
namespace {

constexpr char kPressureFile[] = "/proc/pressure/memory";
constexpr double kPressureMax = 10;  // Percent.

}  // namespace

Maintenance::Maintenance(BlobStore& store, SandboxDirectory& sandboxes)
    : store_(store), sandboxes_(sandboxes), thread_([this] { Run(); }) {}

Maintenance::~Maintenance() {
  {
    MutexLock lock(mu_);
    stop_ = true;
  }
  stopped_.NotifyAll();
  thread_.join();
}

void Maintenance::Run() {
  while (true) {
    {
      MutexLock lock(mu_);
      if (!stop_) stopped_.WaitFor(mu_, absl::Seconds(1));
      if (stop_) return;
    }
    MaintainStore();
    MaintainMemory();
  }
}

void Maintenance::MaintainStore() {
  const absl::Status maintained = store_.Maintain();
  // A full or broken disk fails each time: say so once.
  const std::string error(maintained.message());
  if (error != last_error_ && !maintained.ok()) {
    Log(absl::StrCat("upkeep of the store: ", error));
  }
  last_error_ = error;
}

void Maintenance::MaintainMemory() {
  const double pressure = MemoryPressure(kPressureFile).value_or(0);
  if (pressure < kPressureMax || !sandboxes_.DropHalfOfStashes()) return;
  Log(absl::StrCat("memory is short (", pressure,
                   " % of the time somebody waits for it): half of the stashes "
                   "were given up"));
  ::malloc_trim(0);
}

}  // namespace casement
