#include "control/local_cas_service.h"

#include <unistd.h>

#include <climits>
#include <deque>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/quote.h"
#include "base/status.h"
#include "control/missing_blob.h"
#include "control/request_limits.h"
#include "model/digest_message.h"
#include "proto/grpc_status.h"
#include "store/missing.h"

namespace casement {
namespace {

// Fetches what there is, if there is somewhere to fetch from; why the rest is
// missing.
absl::Status Fetch(BlobFetcher* fetcher, absl::Span<const Digest> digests) {
  absl::Status status;
  if (fetcher != nullptr) status = fetcher->FetchAll(digests);
  // Those that nobody has are a failed precondition of all together.
  const bool is_error = !status.ok() && !absl::IsFailedPrecondition(status);
  return is_error ? status : absl::NotFoundError("");
}

template <typename Response>
void Report(const DigestMessage& digest, const absl::Status& status,
            Response& response) {
  auto& result = *response.add_responses();
  *result.mutable_digest() = digest;
  *result.mutable_status() = ToProto(status);
}

// One response for each blob that is not here, nor at the fetcher's source.
template <typename Response>
void ReportMissing(
    BlobStore& store, BlobFetcher* fetcher,
    const google::protobuf::RepeatedPtrField<DigestMessage>& digests,
    Response& response) {
  std::vector<Digest> known;
  for (const DigestMessage& message : digests) {
    const absl::StatusOr<Digest> digest = FromMessage(message);
    if (digest.ok()) {
      known.push_back(*digest);
    } else {
      Report(message, digest.status(), response);
    }
  }
  const absl::Status why = Fetch(fetcher, known);
  for (const Digest& digest : store.Missing(known)) {
    DigestMessage message;
    SetMessage(digest, &message);
    Report(message, NamingBlob(why, digest), response);
  }
}

// One response for each blob that is not there when all has been sent.
void ReportUnsent(
    BlobSender& sender,
    const google::protobuf::RepeatedPtrField<DigestMessage>& digests,
    local_cas::UploadMissingBlobsResponse& response) {
  std::vector<const DigestMessage*> messages;
  std::deque<BlobSender::Sending> sendings;  // One for each of them.
  for (const DigestMessage& message : digests) {
    const absl::StatusOr<Digest> digest = FromMessage(message);
    if (digest.ok()) {
      messages.push_back(&message);
      sendings.emplace_back(sender).Add(*digest);
    } else {
      Report(message, digest.status(), response);
    }
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    absl::Status sent = sendings[i].Wait();
    if (sent.ok()) continue;
    // A failed precondition of all together is NOT_FOUND of this one.
    if (sent.GetPayload(kPreconditionFailureType).has_value()) {
      sent = WithCode(absl::StatusCode::kNotFound, sent);
    }
    Report(*messages[i], sent, response);
  }
}

// All Directories below `root` are here.
absl::Status CheckDirectories(DirectoryTable& table,
                              const grpc::ServerContext& context,
                              const Digest& root) {
  absl::flat_hash_set<Digest> seen = {root};
  std::vector<Digest> queue = {root};
  std::vector<Digest> missing;
  while (!queue.empty()) {
    if (context.IsCancelled()) return absl::CancelledError("the peer is gone");
    const Digest digest = queue.back();
    queue.pop_back();
    const auto directory = table.Load(digest);
    if (absl::IsNotFound(directory.status())) {
      missing.push_back(digest);
      continue;
    }
    if (!directory.ok()) {
      return Annotate(directory.status(), "directory ", digest.ToString());
    }
    for (const Directory::Entry& entry : (*directory)->entries()) {
      if (entry.type != EntryType::kDirectory) continue;
      if (seen.insert(entry.digest).second) queue.push_back(entry.digest);
    }
    if (static_cast<int64_t>(seen.size()) > kTreeDirectoriesMax) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "tree: more than ", kTreeDirectoriesMax, " directories"));
    }
  }
  return missing.empty() ? absl::OkStatus() : MissingBlobsStatus(missing);
}

absl::Status CheckTree(DirectoryTable& table,
                       const grpc::ServerContext& context,
                       const DigestMessage& message, bool with_files) {
  ASSIGN_OR_RETURN(const Digest root, FromMessage(message));
  return with_files ? table.LeaseClosure(root).status()
                    : CheckDirectories(table, context, root);
}

// The same with a remote cache to fetch from. What came stays until space is
// wanted, as the inputs of a sandbox that was released.
absl::Status FetchWhole(DirectoryTable& table, BlobFetcher& fetcher,
                        const DigestMessage& message, bool with_files) {
  ASSIGN_OR_RETURN(const Digest root, FromMessage(message));
  if (!with_files) return table.FetchDirectories(root);
  ASSIGN_OR_RETURN(const ClosureLease lease,
                   table.LeaseClosure(root, InputsFrom::kRemote));
  return fetcher.FetchAll(BlobsOf(*lease.root()));
}

// A tree to the remote cache, as far as it is not there.
absl::Status SendWhole(DirectoryTable& table, BlobSender& sender,
                       const DigestMessage& message) {
  ASSIGN_OR_RETURN(const Digest root, FromMessage(message));
  ASSIGN_OR_RETURN(const ClosureLease lease,
                   table.LeaseClosure(root, InputsFrom::kRemote));
  BlobSender::Sending sending(sender);
  for (const Digest& digest : BlobsOf(*lease.root())) sending.Add(digest);
  return sending.Wait();
}

absl::Status NoRemote() {
  return absl::FailedPreconditionError(
      "remote: none is configured, and clients cannot add one");
}

// Into what CaptureFiles or HashFiles say of one path.
template <typename Response>
absl::Status SetFile(const Output& output, Response& response) {
  if (output.kind != Output::Kind::kFile &&
      output.kind != Output::Kind::kExecutable) {
    return absl::FailedPreconditionError(
        absl::StrCat("output ", QuoteName(output.path), ": no regular file"));
  }
  SetMessage(output.digest, response.mutable_digest());
  response.set_is_executable(output.kind == Output::Kind::kExecutable);
  return absl::OkStatus();
}

}  // namespace

grpc::Status LocalCasService::GetLocalServerDetails(
    grpc::ServerContext*, const local_cas::GetLocalServerDetailsRequest*,
    local_cas::LocalServerDetails* response) {
  char name[HOST_NAME_MAX + 1] = {};
  if (::gethostname(name, sizeof(name) - 1) == 0) response->set_hostname(name);
  response->set_process_uid(::geteuid());
  response->set_storage_root(options_.store_path);
  return grpc::Status::OK;
}

grpc::Status LocalCasService::FetchMissingBlobs(
    grpc::ServerContext*, const local_cas::FetchMissingBlobsRequest* request,
    local_cas::FetchMissingBlobsResponse* response) {
  ReportMissing(store_, options_.fetcher, request->blob_digests(), *response);
  return grpc::Status::OK;
}

grpc::Status LocalCasService::UploadMissingBlobs(
    grpc::ServerContext*, const local_cas::UploadMissingBlobsRequest* request,
    local_cas::UploadMissingBlobsResponse* response) {
  if (options_.sender != nullptr) {
    ReportUnsent(*options_.sender, request->blob_digests(), *response);
  } else {
    ReportMissing(store_, /*fetcher=*/nullptr, request->blob_digests(),
                  *response);
  }
  return grpc::Status::OK;
}

grpc::Status LocalCasService::FetchTree(
    grpc::ServerContext* context, const local_cas::FetchTreeRequest* request,
    local_cas::FetchTreeResponse*) {
  if (options_.fetcher != nullptr) {
    return ToGrpc(FetchWhole(directories_, *options_.fetcher,
                             request->root_digest(),
                             request->fetch_file_blobs()));
  }
  return ToGrpc(CheckTree(directories_, *context, request->root_digest(),
                          request->fetch_file_blobs()));
}

grpc::Status LocalCasService::UploadTree(
    grpc::ServerContext* context, const local_cas::UploadTreeRequest* request,
    local_cas::UploadTreeResponse*) {
  if (options_.sender != nullptr) {
    return ToGrpc(
        SendWhole(directories_, *options_.sender, request->root_digest()));
  }
  return ToGrpc(CheckTree(directories_, *context, request->root_digest(),
                          /*with_files=*/true));
}

absl::StatusOr<SandboxSpec> LocalCasService::SpecOf(
    const Peer& peer, const local_cas::StageTreeRequest& request) const {
  if (request.has_remote_apis_socket() ||
      request.pre_unstage_commands_size() > 0) {
    return absl::UnimplementedError(
        "stage: neither sockets in it nor commands at its end");
  }
  SandboxSpec spec;
  ASSIGN_OR_RETURN(spec.root, FromMessage(request.root_digest()));
  if (options_.fetcher != nullptr) spec.inputs_from = InputsFrom::kRemote;
  spec.owner_uid = peer.uid;
  spec.owner_gid = peer.gid;
  if (!request.has_access_credentials()) return spec;
  const int64_t uid = request.access_credentials().uid();
  const int64_t gid = request.access_credentials().gid();
  if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("stage: no user and group are ", uid, ":", gid));
  }
  spec.owner_uid = static_cast<uint32_t>(uid);
  spec.owner_gid = static_cast<uint32_t>(gid);
  if (!peer.MayGiveTo(spec.owner_uid, spec.owner_gid)) {
    return absl::PermissionDeniedError(absl::StrCat(
        "stage for ", uid, ":", gid,
        ": only root may choose another user than itself (", peer.uid, ")"));
  }
  return spec;
}

absl::StatusOr<std::string> LocalCasService::PathOf(
    const Peer& peer, const local_cas::StageTreeRequest& request) const {
  if (request.path().empty()) return std::string();
  // It is the daemon that puts the symlink there, with its rights.
  if (!peer.IsPrivileged()) {
    return absl::PermissionDeniedError(
        absl::StrCat("stage at ", QuoteName(request.path().substr(0, 256)),
                     ": only root and the daemon's user may choose a path"));
  }
  ASSIGN_OR_RETURN(std::string path, ShortestPath(request.path()));
  // The daemon must not wait for its own mount.
  const std::string& mount = options_.mount_path;
  if (!mount.empty() &&
      (path == mount || absl::StartsWith(path, absl::StrCat(mount, "/")))) {
    return absl::InvalidArgumentError(
        absl::StrCat("stage at ", QuoteName(path), ": in the mount"));
  }
  return path;
}

bool LocalCasService::IsLeft(const SandboxInfo& info,
                             absl::string_view target) const {
  // Names come again.
  if (target == info.path) return true;
  const absl::string_view folder =
      absl::string_view(info.path).substr(0, info.path.rfind('/') + 1);
  return absl::ConsumePrefix(&target, folder) &&
         !absl::StrContains(target, '/') &&
         absl::IsNotFound(sandboxes_.Info(target).status());
}

absl::Status LocalCasService::Stage(const Peer& peer,
                                    const local_cas::StageTreeRequest& request,
                                    StageStream& stream) {
  ASSIGN_OR_RETURN(const SandboxSpec spec, SpecOf(peer, request));
  ASSIGN_OR_RETURN(const std::string path, PathOf(peer, request));
  ASSIGN_OR_RETURN(const SandboxInfo info,
                   sandboxes_.Create(spec, /*may_reuse=*/true));
  const absl::Cleanup release = [this, &info] {
    sandboxes_.Release(info.name, /*stash=*/true).IgnoreError();
  };
  const Stages::Stage stage = {.sandbox = info.name, .owner = spec.owner_uid};
  RETURN_IF_ERROR(stages_.Add(info.path, stage));
  const absl::Cleanup forget_own = [this, &info] { stages_.Remove(info.path); };
  StageLink link;
  if (!path.empty()) RETURN_IF_ERROR(stages_.Add(path, stage));
  const absl::Cleanup forget = [this, &path] {
    if (!path.empty()) stages_.Remove(path);
  };
  if (!path.empty()) {
    RETURN_IF_ERROR(
        link.Make(path, info.path, [this, &info](absl::string_view target) {
          return IsLeft(info, target);
        }));
  }
  local_cas::StageTreeResponse response;
  response.set_path(path.empty() ? info.path : path);
  stream.Write(response);
  // False when the peer closes the stream, cancels it or dies.
  local_cas::StageTreeRequest end;
  stream.Read(&end);
  return absl::OkStatus();
}

grpc::Status LocalCasService::StageTree(grpc::ServerContext* context,
                                        StageStream* stream) {
  const absl::StatusOr<Peer> peer = PeerOfConnection(context->peer());
  if (!peer.ok()) return ToGrpc(peer.status());
  if (!open_stages_.Add(context)) {
    return ToGrpc(absl::ResourceExhaustedError(
        absl::StrCat("too many stages: ", options_.stages_max, " are open")));
  }
  local_cas::StageTreeRequest request;
  const absl::Status staged =
      stream->Read(&request)
          ? Stage(*peer, request, *stream)
          : absl::InvalidArgumentError("stage: no request came");
  open_stages_.Remove(context);
  if (staged.ok()) stream->Write(local_cas::StageTreeResponse());
  return ToGrpc(staged);
}

absl::StatusOr<Output> LocalCasService::CaptureOne(
    const Peer& peer, const std::string& root, const std::string& path,
    const SandboxTable::Stored& stored) {
  const bool is_absolute = !path.empty() && path.front() == '/';
  ASSIGN_OR_RETURN(const Stages::Place place,
                   stages_.Find(is_absolute || root.empty()
                                    ? path
                                    : absl::StrCat(root, "/", path)));
  if (!peer.IsPrivileged() && peer.uid != place.stage.owner) {
    return absl::PermissionDeniedError(
        absl::StrCat("path ", QuoteName(path), ": the stage belongs to user ",
                     place.stage.owner));
  }
  ASSIGN_OR_RETURN(Collected collected,
                   sandboxes_.Collect(place.stage.sandbox, {place.path},
                                      /*force=*/false, stored));
  if (collected.outputs.empty()) {
    return absl::NotFoundError(
        absl::StrCat("path ", QuoteName(path), ": no such file"));
  }
  return std::move(collected.outputs.front());
}

template <typename Request, typename Response>
absl::Status LocalCasService::Capture(
    const grpc::ServerContext& context, const Request& request, bool sends,
    Response& response,
    const std::function<absl::Status(
        const Output& output,
        typename std::decay_t<decltype(response.responses(0))>& response)>&
        fill) {
  ASSIGN_OR_RETURN(const Peer peer, PeerOfConnection(context.peer()));
  if (request.path_size() > kPathsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("capture: more than ", kPathsMax, " paths"));
  }
  std::deque<BlobSender::Sending> sendings;  // One for each path, or none.
  for (const std::string& path : request.path()) {
    if (context.IsCancelled()) return absl::CancelledError("the peer is gone");
    auto& result = *response.add_responses();
    result.set_path(path);
    SandboxTable::Stored stored;
    if (sends && options_.sender != nullptr) {
      stored = [&sending = sendings.emplace_back(*options_.sender)](
                   const Digest& digest) { sending.Add(digest); };
    }
    const absl::StatusOr<Output> output =
        CaptureOne(peer, request.root(), path, stored);
    absl::Status status = output.status();
    if (status.ok()) status = fill(*output, result);
    *result.mutable_status() = ToProto(status);
  }
  for (size_t i = 0; i < sendings.size(); ++i) {
    auto& status =
        *response.mutable_responses(static_cast<int>(i))->mutable_status();
    if (status.code() == 0) status = ToProto(sendings[i].Wait());
  }
  return absl::OkStatus();
}

grpc::Status LocalCasService::CaptureTree(
    grpc::ServerContext* context, const local_cas::CaptureTreeRequest* request,
    local_cas::CaptureTreeResponse* response) {
  return ToGrpc(Capture(
      *context, *request, /*sends=*/!request->skip_upload(), *response,
      [](const Output& output,
         local_cas::CaptureTreeResponse::Response& result) -> absl::Status {
        if (output.kind != Output::Kind::kDirectory) {
          return absl::FailedPreconditionError(absl::StrCat(
              "output ", QuoteName(output.path), ": no directory"));
        }
        SetMessage(output.digest, result.mutable_tree_digest());
        SetMessage(output.root_directory,
                   result.mutable_root_directory_digest());
        return absl::OkStatus();
      }));
}

grpc::Status LocalCasService::CaptureFiles(
    grpc::ServerContext* context, const local_cas::CaptureFilesRequest* request,
    local_cas::CaptureFilesResponse* response) {
  return ToGrpc(Capture(*context, *request, /*sends=*/!request->skip_upload(),
                        *response,
                        SetFile<local_cas::CaptureFilesResponse::Response>));
}

grpc::Status LocalCasService::HashFiles(
    grpc::ServerContext* context, const local_cas::HashFilesRequest* request,
    local_cas::HashFilesResponse* response) {
  return ToGrpc(Capture(*context, *request, /*sends=*/false, *response,
                        SetFile<local_cas::HashFilesResponse::Response>));
}

grpc::Status LocalCasService::GetInstanceNameForRemote(
    grpc::ServerContext*,
    const local_cas::GetInstanceNameForRemoteRequest* request,
    local_cas::GetInstanceNameForRemoteResponse*) {
  return ToGrpc(request->url().empty() ? absl::OkStatus() : NoRemote());
}

grpc::Status LocalCasService::GetInstanceNameForRemotes(
    grpc::ServerContext*,
    const local_cas::GetInstanceNameForRemotesRequest* request,
    local_cas::GetInstanceNameForRemotesResponse*) {
  const bool names_one = request->has_content_addressable_storage() ||
                         request->has_remote_asset() ||
                         request->has_action_cache() ||
                         request->has_execution();
  return ToGrpc(names_one ? NoRemote() : absl::OkStatus());
}

grpc::Status LocalCasService::GetLocalDiskUsage(
    grpc::ServerContext*, const local_cas::GetLocalDiskUsageRequest*,
    local_cas::GetLocalDiskUsageResponse* response) {
  response->set_size_bytes(store_.ledger().Total());
  response->set_quota_bytes(store_.GetStats().capacity_bytes);
  return grpc::Status::OK;
}

}  // namespace casement
