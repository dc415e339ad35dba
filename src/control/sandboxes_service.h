// casement.v1.Sandboxes: converts, asks who the peer is, calls SandboxTable.
#ifndef CASEMENT_CONTROL_SANDBOXES_SERVICE_H_
#define CASEMENT_CONTROL_SANDBOXES_SERVICE_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "casement/v1/sandboxes.grpc.pb.h"
#include "control/cgroup.h"
#include "control/open_streams.h"
#include "control/peer.h"
#include "control/sessions.h"
#include "store/blob_sender.h"
#include "vfs/sandbox_table.h"

namespace casement {

class SandboxesService final : public v1::Sandboxes::Service {
 public:
  // `sender` is null without a remote cache.
  SandboxesService(SandboxTable& table, Sessions& sessions, BlobSender* sender)
      : table_(table), sessions_(sessions), sender_(sender) {}

  grpc::Status Create(grpc::ServerContext* context,
                      const v1::CreateRequest* request,
                      v1::Sandbox* response) override;
  grpc::Status Diff(grpc::ServerContext* context,
                    const v1::DiffRequest* request,
                    grpc::ServerWriter<v1::DiffResponse>* writer) override;
  grpc::Status Collect(
      grpc::ServerContext* context, const v1::CollectRequest* request,
      grpc::ServerWriter<v1::CollectResponse>* writer) override;
  grpc::Status Release(grpc::ServerContext* context,
                       const v1::ReleaseRequest* request,
                       v1::ReleaseResponse* response) override;
  grpc::Status List(grpc::ServerContext* context,
                    const v1::ListRequest* request,
                    grpc::ServerWriter<v1::ListResponse>* writer) override;
  grpc::Status Session(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>* stream)
      override;

  // Ends every session, so that the server can stop.
  void EndSessions() { open_sessions_.End(); }

 private:
  absl::StatusOr<SandboxInfo> CreateFor(const Peer& peer,
                                        const v1::CreateRequest& request);
  absl::StatusOr<Collected> CollectFor(const Peer& peer,
                                       const v1::CollectRequest& request);
  absl::Status ReleaseFor(const Peer& peer, const v1::ReleaseRequest& request);
  // Ends a sandbox with its processes.
  absl::Status End(const std::string& name, bool stash);
  // NotFound, or PermissionDenied if the sandbox is somebody else's (G24).
  absl::Status CheckAccess(const Peer& peer, absl::string_view name);

  SandboxTable& table_;
  Sessions& sessions_;
  BlobSender* const sender_;
  OpenStreams open_sessions_;  // `sessions_` has a limit.
  Mutex mu_;
  // Of live sandboxes, by name.
  absl::flat_hash_map<std::string, Cgroup> cgroups_ ABSL_GUARDED_BY(mu_);
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_SANDBOXES_SERVICE_H_
