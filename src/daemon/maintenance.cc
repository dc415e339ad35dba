#include "daemon/maintenance.h"

#include <malloc.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "daemon/log.h"
#include "daemon/memory_pressure.h"

namespace casement {
namespace {

constexpr char kPressureFile[] = "/proc/pressure/memory";
constexpr double kPressureMax = 10;  // Percent.
// Fewer are 2 MB, which is not worth looking through the heap for.
constexpr int64_t kForgottenNodesMin = 10'000;

}  // namespace

Maintenance::Maintenance(BlobStore& store, const NodeTable& nodes,
                         SandboxDirectory& sandboxes)
    : store_(store),
      nodes_(nodes),
      sandboxes_(sandboxes),
      thread_([this] { Run(); }) {}

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
    GiveMemoryBack();
    RelievePressure();
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

// malloc keeps what was freed, unless it lies at the end of the heap. Looking
// for the rest takes a while, so only when a good part has gone: nodes that
// come and go all the time need that memory again.
void Maintenance::GiveMemoryBack() {
  const int64_t nodes = nodes_.size();
  nodes_peak_ = std::max(nodes_peak_, nodes);
  const int64_t forgotten = nodes_peak_ - nodes;
  if (forgotten < std::max(kForgottenNodesMin, nodes_peak_ / 4)) return;
  nodes_peak_ = nodes;
  ::malloc_trim(0);
}

void Maintenance::RelievePressure() {
  const double pressure = MemoryPressure(kPressureFile).value_or(0);
  if (pressure < kPressureMax || !sandboxes_.DropHalfOfStashes()) return;
  Log(absl::StrCat("memory is short (", pressure,
                   " % of the time somebody waits for it): half of the stashes "
                   "were given up"));
  ::malloc_trim(0);
}

}  // namespace casement
