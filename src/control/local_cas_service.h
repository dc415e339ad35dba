// BuildGrid's LocalContentAddressableStorage: the store for clients on this
// machine, and sandboxes as stages.
#ifndef CASEMENT_CONTROL_LOCAL_CAS_SERVICE_H_
#define CASEMENT_CONTROL_LOCAL_CAS_SERVICE_H_

#include <functional>
#include <string>

#include "build/buildgrid/local_cas.grpc.pb.h"
#include "control/open_streams.h"
#include "control/peer.h"
#include "control/stages.h"
#include "store/blob_fetcher.h"
#include "store/blob_sender.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "vfs/sandbox_table.h"

namespace casement {

namespace local_cas = ::build::buildgrid;

class LocalCasService final
    : public local_cas::LocalContentAddressableStorage::Service {
 public:
  struct Options {
    std::string store_path;
    std::string mount_path;          // No stage's own path is in it.
    BlobFetcher* fetcher = nullptr;  // These are null without a remote cache.
    BlobSender* sender = nullptr;
    // Each stream takes a thread.
    size_t stages_max = 256;
  };

  LocalCasService(BlobStore& store, DirectoryTable& directories,
                  SandboxTable& sandboxes, Options options)
      : store_(store),
        directories_(directories),
        sandboxes_(sandboxes),
        options_(std::move(options)),
        open_stages_(options_.stages_max) {}

  // Ends all stages; later ones end at once.
  void EndStages() { open_stages_.End(); }

  grpc::Status GetLocalServerDetails(
      grpc::ServerContext* context,
      const local_cas::GetLocalServerDetailsRequest* request,
      local_cas::LocalServerDetails* response) override;
  grpc::Status FetchMissingBlobs(
      grpc::ServerContext* context,
      const local_cas::FetchMissingBlobsRequest* request,
      local_cas::FetchMissingBlobsResponse* response) override;
  grpc::Status UploadMissingBlobs(
      grpc::ServerContext* context,
      const local_cas::UploadMissingBlobsRequest* request,
      local_cas::UploadMissingBlobsResponse* response) override;
  grpc::Status FetchTree(grpc::ServerContext* context,
                         const local_cas::FetchTreeRequest* request,
                         local_cas::FetchTreeResponse* response) override;
  grpc::Status UploadTree(grpc::ServerContext* context,
                          const local_cas::UploadTreeRequest* request,
                          local_cas::UploadTreeResponse* response) override;
  grpc::Status StageTree(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<local_cas::StageTreeResponse,
                               local_cas::StageTreeRequest>* stream) override;
  grpc::Status CaptureTree(grpc::ServerContext* context,
                           const local_cas::CaptureTreeRequest* request,
                           local_cas::CaptureTreeResponse* response) override;
  grpc::Status CaptureFiles(grpc::ServerContext* context,
                            const local_cas::CaptureFilesRequest* request,
                            local_cas::CaptureFilesResponse* response) override;
  grpc::Status HashFiles(grpc::ServerContext* context,
                         const local_cas::HashFilesRequest* request,
                         local_cas::HashFilesResponse* response) override;
  grpc::Status GetInstanceNameForRemote(
      grpc::ServerContext* context,
      const local_cas::GetInstanceNameForRemoteRequest* request,
      local_cas::GetInstanceNameForRemoteResponse* response) override;
  grpc::Status GetInstanceNameForRemotes(
      grpc::ServerContext* context,
      const local_cas::GetInstanceNameForRemotesRequest* request,
      local_cas::GetInstanceNameForRemotesResponse* response) override;
  grpc::Status GetLocalDiskUsage(
      grpc::ServerContext* context,
      const local_cas::GetLocalDiskUsageRequest* request,
      local_cas::GetLocalDiskUsageResponse* response) override;

 private:
  using StageStream = grpc::ServerReaderWriter<local_cas::StageTreeResponse,
                                               local_cas::StageTreeRequest>;

  absl::Status Stage(const Peer& peer,
                     const local_cas::StageTreeRequest& request,
                     StageStream& stream);
  absl::StatusOr<SandboxSpec> SpecOf(
      const Peer& peer, const local_cas::StageTreeRequest& request) const;
  // "": the sandbox's.
  absl::StatusOr<std::string> PathOf(
      const Peer& peer, const local_cas::StageTreeRequest& request) const;
  // Whether a symlink to `target`, in the way of the stage `info`, is what a
  // daemon that was killed left: it leads to a sandbox that is no more.
  bool IsLeft(const SandboxInfo& info, absl::string_view target) const;
  // `fill` gets each output as far as there is one. `sends`: if there is
  // somewhere to send them.
  template <typename Request, typename Response>
  absl::Status Capture(
      const grpc::ServerContext& context, const Request& request, bool sends,
      Response& response,
      const std::function<absl::Status(
          const Output& output,
          typename std::decay_t<decltype(response.responses(0))>& response)>&
          fill);
  absl::StatusOr<Output> CaptureOne(const Peer& peer, const std::string& root,
                                    const std::string& path,
                                    const SandboxTable::Stored& stored);

  BlobStore& store_;
  DirectoryTable& directories_;
  SandboxTable& sandboxes_;
  const Options options_;
  Stages stages_;
  OpenStreams open_stages_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_LOCAL_CAS_SERVICE_H_
