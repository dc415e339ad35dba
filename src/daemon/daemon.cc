#include "daemon/daemon.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "fuse/probe.h"
#include "vfs/shown.h"

namespace casement {

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(
    const DaemonOptions& options, std::function<void()> ended) {
  auto daemon = std::unique_ptr<Daemon>(new Daemon());
  ASSIGN_OR_RETURN(const bool detached,
                   FuseSession::PrepareMountPoint(options.mount));
  if (detached) {
    Log(absl::StrCat("detached the dead mount that an earlier daemon left at ",
                     options.mount));
  }
  RETURN_IF_ERROR(daemon->OpenStore(options));
  RETURN_IF_ERROR(daemon->ChoosePaths(options));
  daemon->BuildFileSystem(options);
  RETURN_IF_ERROR(daemon->StartMount(options, std::move(ended)));
  daemon->maintenance_ = std::make_unique<Maintenance>(
      *daemon->store_, daemon->nodes_, *daemon->sandboxes_);
  RETURN_IF_ERROR(daemon->StartControl(options));
  return daemon;
}

Daemon::~Daemon() {
  // Calls and requests that wait for the remote cache are let go first.
  if (fetcher_ != nullptr) fetcher_->Stop();
  if (sender_ != nullptr) sender_->Stop();
  if (control_ != nullptr) control_->Shutdown();
  maintenance_.reset();
  if (sandboxes_ != nullptr) sandboxes_->ReleaseAll();
  if (adapter_ != nullptr && adapter_->waiting != nullptr) {
    adapter_->waiting->Stop();
  }
  // The kernel's requests end before what answers them goes.
  session_.reset();
  notifier_.Stop();
  adapter_.reset();
  if (store_ != nullptr) store_->SetListener({});
  if (views_ != nullptr) views_->Stop();
  nodes_.Clear();
}

absl::Status Daemon::OpenStore(const DaemonOptions& options) {
  ASSIGN_OR_RETURN(
      store_,
      BlobStore::Open(disk_, clock_,
                      {.directory = options.store,
                       .capacity_bytes = options.max_bytes,
                       .high_watermark_percent = options.high_watermark_percent,
                       .low_watermark_percent = options.low_watermark_percent,
                       .log = Log}));
  if (options.remote.has_value()) {
    ASSIGN_OR_RETURN(remote_, RemoteCas::Open(*options.remote));
    fetcher_ = std::make_unique<BlobFetcher>(*store_, *remote_,
                                             BlobFetcher::Options{});
    sender_ =
        std::make_unique<BlobSender>(*store_, *remote_, BlobSender::Options{});
    connecting_.emplace().Run([this] {
      const absl::Status connected = remote_->Connect();
      if (connected.ok() || absl::IsCancelled(connected)) return;
      Log(connected.message());
    });
  }
  directories_ = std::make_unique<DirectoryTable>(
      *store_, DirectoryTable::Options{}, fetcher_.get());
  ASSIGN_OR_RETURN(actions_,
                   ActionCache::Open(disk_, *store_,
                                     {.directory = options.store, .log = Log}));
  return absl::OkStatus();
}

absl::Status Daemon::ChoosePaths(const DaemonOptions& options) {
  if (options.data_path != DaemonOptions::Path::kCached) {
    const absl::Status works = ProbePassthrough(options.store);
    if (works.ok()) {
      data_path_ = DataPath::kPassthrough;
    } else if (options.data_path == DaemonOptions::Path::kPassthrough) {
      return Annotate(works, "--data-path passthrough");
    } else {
      Log(absl::StrCat("files are read in cached mode: ", works.message()));
    }
  }
  // Requests that wait for the remote cache would keep the few places of a ring
  // from all others.
  if (options.transport != DaemonOptions::Transport::kDevice &&
      !options.remote.has_value()) {
    const absl::Status works = FuseSession::ProbeIoUring();
    if (works.ok()) {
      transport_ = Transport::kIoUring;
    } else if (options.transport == DaemonOptions::Transport::kIoUring) {
      return Annotate(works, "--transport io_uring");
    } else {
      Log(absl::StrCat("requests come through /dev/fuse: ", works.message()));
    }
  }
  return absl::OkStatus();
}

void Daemon::BuildFileSystem(const DaemonOptions& options) {
  const timespec started = absl::ToTimespec(clock_.Now());
  const Attributes fixed = {.mode = S_IFDIR | 0555,
                            .links = 2,
                            .uid = geteuid(),
                            .gid = getegid(),
                            .size = kDirectorySize,
                            .atime = started,
                            .mtime = started,
                            .ctime = started};
  views_ = std::make_shared<Views>(ViewContext{.store = *store_,
                                               .directories = *directories_,
                                               .nodes = nodes_,
                                               .notifier = notifier_,
                                               .data_path = data_path_,
                                               .uid = geteuid(),
                                               .gid = getegid(),
                                               .started = started,
                                               .fetcher = fetcher_.get()});
  views_->Start();
  scratch_files_ = std::make_unique<ScratchFiles>(*store_);
  Attributes sandboxes = fixed;
  sandboxes.number = kSandboxesId;
  sandboxes_ = std::make_shared<SandboxDirectory>(
      SandboxContext{.store = *store_,
                     .scratch_files = *scratch_files_,
                     .directories = *directories_,
                     .nodes = nodes_,
                     .notifier = notifier_,
                     .clock = clock_,
                     .data_path = data_path_,
                     .fetcher = fetcher_.get()},
      SandboxDirectory::Options{
          .path = absl::StrCat(options.mount, "/sandbox"),
          .attributes = sandboxes,
          .stashes = {.stashes_max = options.stashes_max}});
  sandboxes_->Start();
  Attributes root = fixed;
  root.number = kRootId;
  root.links = 5;
  std::make_shared<RootDirectory>(
      root, *store_, nodes_,
      std::vector<std::pair<std::string, InodeId>>{
          {"cas", kCasId}, {"sandbox", kSandboxesId}, {"tree", kTreeId}})
      ->Start();
  vfs_ = std::make_unique<FileSystem>(nodes_);
  store_->SetListener(
      {.published = [views = views_](
                        const Digest& digest) { views->OnPublished(digest); },
       .evicted =
           [views = views_](const Digest& digest) { views->OnEvicted(digest); },
       .give_up_idle_leases =
           [this](uint64_t used_before) {
             return directories_->GiveUpIdleLeases(used_before);
           }});
}

absl::Status Daemon::StartMount(const DaemonOptions& options,
                                std::function<void()> ended) {
  adapter_.reset(
      new Adapter{.vfs = *vfs_,
                  .data_path = data_path_,
                  .store_is_stacked = IsStacked(options.store),
                  .wants_io_uring = transport_ == Transport::kIoUring});
  if (fetcher_ != nullptr) {
    adapter_->waiting = std::make_unique<WaitingRequests>(*fetcher_);
  }
  ASSIGN_OR_RETURN(session_,
                   FuseSession::Mount({.mount = options.mount,
                                       .transport = transport_,
                                       .allow_other = options.allow_other},
                                      *adapter_));
  session_->OnEnd(std::move(ended));
  notifier_.Start(session_->get());
  session_->Start();
  return absl::OkStatus();
}

absl::Status Daemon::StartControl(const DaemonOptions& options) {
  control_ = std::make_unique<ControlServer>(
      *store_, *directories_, *actions_, *sandboxes_,
      [this] { return Metrics(); },
      ControlServer::Options{.socket_path = options.socket,
                             .store_path = options.store,
                             .mount_path = options.mount,
                             .fetcher = fetcher_.get(),
                             .sender = sender_.get(),
                             .allow_group = options.allow_group,
                             .tcp_address = options.listen.address,
                             .tls = options.listen.tls});
  RETURN_IF_ERROR(control_->Start());
  if (options.listen.address.has_value()) {
    Log(absl::StrCat(
        "listening on ", control_->tcp_address(), ", ",
        options.listen.tls.has_value() ? "in TLS" : "in clear text"));
  }
  return absl::OkStatus();
}

std::vector<Metric> Daemon::Metrics() {
  std::vector<Metric> metrics =
      CollectMetrics(*adapter_, notifier_, nodes_, *sandboxes_);
  if (remote_ != nullptr) {
    AddRemoteMetrics(*remote_, *fetcher_, *sender_, metrics);
  }
  return metrics;
}

}  // namespace casement
