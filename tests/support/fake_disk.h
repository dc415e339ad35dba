// A Disk that passes everything to the real one until it is told to fail.
#ifndef CASEMENT_TESTS_SUPPORT_FAKE_DISK_H_
#define CASEMENT_TESTS_SUPPORT_FAKE_DISK_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "store/disk.h"

namespace casement {

// Thread safe.
class FakeDisk final : public Disk {
 public:
  // Of the calls from now on, the `nth` (1 is the next) fails with this errno
  // and does nothing.
  void FailNthCall(int nth, int error_number);
  // The `nth` and all that follow fail: what a killed daemon leaves is what was
  // done before. EIO.
  void DieAtNthCall(int nth);
  // The `nth` call writes (or reads) one byte only, if it writes or reads.
  void ShortenNthCall(int nth);
  // Every call fails for which this returns an errno, not 0. `name` is the
  // function's.
  void FailIf(std::function<int(absl::string_view name)> decide);
  void Heal();

  // How many calls there were since the last of the above.
  int calls() const { return calls_.load(); }
  // Called before each call, for tests that do something in between.
  void BeforeEach(std::function<void(absl::string_view name)> hook);

  absl::StatusOr<UniqueFd> Open(int directory, const std::string& path,
                                int flags, mode_t mode) override;
  absl::Status MakeDirectory(int directory, const std::string& path,
                             mode_t mode) override;
  absl::StatusOr<size_t> Read(int fd, absl::Span<char> buffer,
                              int64_t offset) override;
  absl::StatusOr<size_t> Write(int fd,
                               absl::Span<const absl::string_view> pieces,
                               int64_t offset) override;
  absl::Status Truncate(int fd, int64_t size_bytes) override;
  absl::Status ChangeMode(int fd, mode_t mode) override;
  absl::Status Link(int fd, int directory, const std::string& path) override;
  absl::Status Unlink(int directory, const std::string& path) override;
  absl::Status Rename(int directory, const std::string& from,
                      const std::string& to) override;
  absl::StatusOr<struct stat> Stat(int fd) override;
  absl::StatusOr<struct stat> StatPath(int directory,
                                       const std::string& path) override;
  absl::Status ReadDirectory(int directory, const std::string& path,
                             NameVisitor visit) override;
  absl::Status Sync(int fd) override;
  absl::Status SyncFileSystem(int fd) override;
  absl::Status Lock(int fd, int operation) override;
  absl::StatusOr<int64_t> BlockBytes(int fd) override;
  absl::Status SpreadDirectories(int fd) override;

 private:
  enum class Mode { kHealthy, kFailOne, kDie, kShorten };

  void Set(Mode mode, int nth, int error_number);
  // OK if the call may go on; `is_short` if it must do little.
  absl::Status Enter(absl::string_view name, bool& is_short);
  absl::Status Enter(absl::string_view name);

  RealDisk real_;
  std::atomic<int> calls_{0};
  mutable Mutex mu_;
  Mode mode_ ABSL_GUARDED_BY(mu_) = Mode::kHealthy;
  int nth_ ABSL_GUARDED_BY(mu_) = 0;
  int errno_ ABSL_GUARDED_BY(mu_) = 0;
  std::function<int(absl::string_view)> decide_ ABSL_GUARDED_BY(mu_);
  std::function<void(absl::string_view)> hook_ ABSL_GUARDED_BY(mu_);
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_FAKE_DISK_H_
