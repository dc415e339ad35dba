// The store's upkeep, from a thread of its own.
#ifndef CASEMENT_DAEMON_MAINTENANCE_H_
#define CASEMENT_DAEMON_MAINTENANCE_H_

#include <thread>  // NOLINT

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "store/blob_store.h"

namespace casement {

// Calls BlobStore::Maintain() each second while it lives.
class Maintenance {
 public:
  // `store` must outlive it.
  explicit Maintenance(BlobStore& store);
  ~Maintenance();
  Maintenance(const Maintenance&) = delete;
  Maintenance& operator=(const Maintenance&) = delete;

 private:
  void Run();

  BlobStore& store_;
  Mutex mu_;
  CondVar stopped_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace casement

#endif  // CASEMENT_DAEMON_MAINTENANCE_H_
