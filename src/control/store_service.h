// casement.v1.Store: converts and calls BlobStore.
#ifndef CASEMENT_CONTROL_STORE_SERVICE_H_
#define CASEMENT_CONTROL_STORE_SERVICE_H_

#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "casement/metric.h"
#include "casement/v1/store.grpc.pb.h"
#include "control/sessions.h"
#include "store/blob_sender.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "vfs/sandbox_table.h"

namespace casement {

class StoreService final : public v1::Store::Service {
 public:
  // `sender` is null without a remote cache.
  StoreService(BlobStore& store, DirectoryTable& directories,
               SandboxTable& sandboxes, const Sessions& sessions,
               BlobSender* sender, std::string mount_path,
               std::function<std::vector<Metric>()> metrics)
      : store_(store),
        directories_(directories),
        sandboxes_(sandboxes),
        sessions_(sessions),
        sender_(sender),
        mount_path_(std::move(mount_path)),
        metrics_(std::move(metrics)) {}

  grpc::Status Stats(grpc::ServerContext* context,
                     const v1::StatsRequest* request,
                     v1::StatsResponse* response) override;
  grpc::Status Evict(grpc::ServerContext* context,
                     const v1::EvictRequest* request,
                     v1::EvictResponse* response) override;
  grpc::Status Verify(grpc::ServerContext* context,
                      const v1::VerifyRequest* request,
                      grpc::ServerWriter<v1::VerifyResponse>* writer) override;
  grpc::Status Send(grpc::ServerContext* context,
                    const v1::SendRequest* request,
                    v1::SendResponse* response) override;

 private:
  absl::Status EvictOne(const Digest& digest);
  absl::StatusOr<BlobStore::VerifyOptions> OptionsOf(
      const grpc::ServerContext& context, const v1::VerifyRequest& request);

  BlobStore& store_;
  DirectoryTable& directories_;
  SandboxTable& sandboxes_;
  const Sessions& sessions_;
  BlobSender* const sender_;
  const std::string mount_path_;
  const std::function<std::vector<Metric>()> metrics_;
  // One verification keeps the disk busy; more would only slow it down.
  std::atomic<bool> is_verifying_ = false;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_STORE_SERVICE_H_
