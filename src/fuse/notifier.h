// Tells the kernel what to forget, from a thread of its own.
//
// The kernel takes the parent's inode lock to handle a notification, and a
// request under that lock may be waiting for us: so never from a request's
// thread, and with no lock held.
#ifndef CASEMENT_FUSE_NOTIFIER_H_
#define CASEMENT_FUSE_NOTIFIER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>  // NOLINT
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "fuse/libfuse.h"
#include "vfs/kernel_notifier.h"

namespace casement {

class Notifier final : public KernelNotifier {
 public:
  Notifier() = default;
  ~Notifier() override;

  // Until then notifications are dropped: the kernel knows nothing yet.
  void Start(fuse_session* session);
  // What is queued is dropped.
  void Stop();

  // Says that Drain() must not wait in this thread: the kernel may need its
  // answer before it can take a notification.
  static void ThisThreadAnswersRequests();

  void Queue(KernelNote note) override;
  void Settle(InodeId id) override;
  void Drain() override;
  bool Tell(std::vector<KernelNote> notes) override;

  // What became of the notes of one kind.
  struct Counts {
    std::atomic<int64_t> done{0};
    std::atomic<int64_t> unknown{0};  // The kernel did not hold it: as good.
    std::atomic<int64_t> refused{0};
  };
  const Counts& counts(KernelNote::Kind kind) const {
    return counts_[static_cast<size_t>(kind)];
  }

 private:
  struct Queued {
    KernelNote note;
    // Set if the kernel refuses it. May be null.
    std::shared_ptr<std::atomic<bool>> refused;
  };

  void Add(Queued queued) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WaitFor(uint64_t target) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Queues what is to be settled, once its time has come.
  void SettleLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Run(fuse_session* session);
  // False if the kernel refused it.
  bool Send(fuse_session* session, const KernelNote& note);

  std::array<Counts, kKernelNoteKinds> counts_;
  std::thread thread_;
  Mutex mu_;
  CondVar changed_;
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Queued> queue_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<InodeId> settling_ ABSL_GUARDED_BY(mu_);
  absl::Time settle_at_ ABSL_GUARDED_BY(mu_);
  // How many were ever queued, and how many of them are done.
  uint64_t queued_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t done_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace casement

#endif  // CASEMENT_FUSE_NOTIFIER_H_
