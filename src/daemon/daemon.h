// casementd's parts, built in order and taken down in reverse.
#ifndef CASEMENT_DAEMON_DAEMON_H_
#define CASEMENT_DAEMON_DAEMON_H_

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/side_thread.h"
#include "casement/metric.h"
#include "control/control_server.h"
#include "daemon/maintenance.h"
#include "daemon/options.h"
#include "fuse/fuse_session.h"
#include "fuse/notifier.h"
#include "fuse/operations.h"
#include "remote/remote_cas.h"
#include "store/action_cache.h"
#include "store/blob_fetcher.h"
#include "store/blob_sender.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "store/disk.h"
#include "vfs/file_system.h"
#include "vfs/node_table.h"
#include "vfs/root_directory.h"
#include "vfs/sandbox_directory.h"
#include "vfs/scratch_file.h"
#include "vfs/views.h"

namespace casement {

// For one thread. The mount serves and the socket answers while it lives.
class Daemon {
 public:
  // `ended` is called, from another thread, if somebody else unmounts.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(
      const DaemonOptions& options, std::function<void()> ended);
  // Ends all sandboxes, unmounts, and writes the store's index.
  ~Daemon();

 private:
  Daemon() = default;
  absl::Status OpenStore(const DaemonOptions& options);
  absl::Status ChoosePaths(const DaemonOptions& options);
  void BuildFileSystem(const DaemonOptions& options);
  absl::Status StartMount(const DaemonOptions& options,
                          std::function<void()> ended);
  absl::Status StartControl(const DaemonOptions& options);
  std::vector<Metric> Metrics();

  SystemClock clock_;
  RealDisk disk_;
  std::unique_ptr<BlobStore> store_;
  std::unique_ptr<RemoteCas> remote_;  // Null without --remote.
  std::unique_ptr<BlobFetcher> fetcher_;
  std::unique_ptr<BlobSender> sender_;
  std::optional<SideThread> connecting_;  // To the remote cache.
  std::unique_ptr<DirectoryTable> directories_;
  std::unique_ptr<ActionCache> actions_;
  std::unique_ptr<ScratchFiles> scratch_files_;
  NodeTable nodes_;
  Notifier notifier_;
  DataPath data_path_ = DataPath::kCached;
  Transport transport_ = Transport::kDevice;
  std::shared_ptr<Views> views_;
  std::shared_ptr<SandboxDirectory> sandboxes_;
  std::unique_ptr<FileSystem> vfs_;
  std::unique_ptr<Adapter> adapter_;
  std::unique_ptr<FuseSession> session_;
  std::unique_ptr<Maintenance> maintenance_;
  std::unique_ptr<ControlServer> control_;
};

}  // namespace casement

#endif  // CASEMENT_DAEMON_DAEMON_H_
