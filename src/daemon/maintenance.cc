#include "daemon/maintenance.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "daemon/log.h"

namespace casement {

Maintenance::Maintenance(BlobStore& store)
    : store_(store), thread_([this] { Run(); }) {}

Maintenance::~Maintenance() {
  {
    MutexLock lock(mu_);
    stop_ = true;
  }
  stopped_.NotifyAll();
  thread_.join();
}

void Maintenance::Run() {
  std::string last_error;
  while (true) {
    {
      MutexLock lock(mu_);
      if (!stop_) stopped_.WaitFor(mu_, absl::Seconds(1));
      if (stop_) return;
    }
    const absl::Status maintained = store_.Maintain();
    // A full or broken disk fails each time: say so once.
    const std::string error(maintained.message());
    if (error != last_error && !maintained.ok()) {
      Log(absl::StrCat("upkeep of the store: ", error));
    }
    last_error = error;
  }
}

}  // namespace casement
