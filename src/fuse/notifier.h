// Tells the kernel what to forget, from a thread of its own.
//
// The kernel takes the parent's inode lock to handle a notification, and a
// request under that lock may be waiting for us: so never from a request's
// thread, and with no lock held.
#ifndef CASEMENT_FUSE_NOTIFIER_H_
#define CASEMENT_FUSE_NOTIFIER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <thread>  // NOLINT

#include "absl/base/thread_annotations.h"
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

  void InvalidateEntry(InodeId parent, std::string name) override;
  void InvalidateNode(InodeId id) override;
  void Drain() override;

  int64_t sent() const { return sent_.load(); }
  int64_t failed() const { return failed_.load(); }

 private:
  struct Notification {
    InodeId id = 0;
    std::string name;  // Empty: of the node itself.
  };

  void Queue(Notification notification);
  void Run(fuse_session* session);
  void Send(fuse_session* session, const Notification& notification);

  std::atomic<int64_t> sent_{0};
  std::atomic<int64_t> failed_{0};
  std::thread thread_;
  Mutex mu_;
  CondVar changed_;
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Notification> queue_ ABSL_GUARDED_BY(mu_);
  // How many were ever queued, and how many of them are done.
  uint64_t queued_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t done_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace casement

#endif  // CASEMENT_FUSE_NOTIFIER_H_
