// The upkeep of the store and of memory, from a thread of its own.
#ifndef CASEMENT_DAEMON_MAINTENANCE_H_
#define CASEMENT_DAEMON_MAINTENANCE_H_

#include <cstdint>
#include <string>
#include <thread>  // NOLINT

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "store/blob_store.h"
#include "vfs/node_table.h"
#include "vfs/sandbox_directory.h"

namespace casement {

// While it lives, each second: calls BlobStore::Maintain(); gives memory back
// to the system if the kernel has forgotten many nodes; and if the machine is
// short of memory, gives up half of the stashes.
class Maintenance {
 public:
  // All must outlive it.
  Maintenance(BlobStore& store, const NodeTable& nodes,
              SandboxDirectory& sandboxes);
  ~Maintenance();
  Maintenance(const Maintenance&) = delete;
  Maintenance& operator=(const Maintenance&) = delete;

 private:
  void Run();
  void MaintainStore();
  void GiveMemoryBack();
  void RelievePressure();

  BlobStore& store_;
  const NodeTable& nodes_;
  SandboxDirectory& sandboxes_;
  std::string last_error_;
  int64_t nodes_peak_ = 0;  // Since memory was last given back.
  Mutex mu_;
  CondVar stopped_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace casement

#endif  // CASEMENT_DAEMON_MAINTENANCE_H_
