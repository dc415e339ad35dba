#include "control/sandboxes_service.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "control/no_remote.h"
#include "control/request_limits.h"
#include "model/digest_message.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

// How long the processes of a control group may take to die.
constexpr absl::Duration kCgroupTimeout = absl::Seconds(5);

v1::InputsPolicy ToMessage(InputsPolicy policy) {
  switch (policy) {
    case InputsPolicy::kCopyOnWrite:
      return v1::COPY_ON_WRITE;
    case InputsPolicy::kReadOnly:
      return v1::READ_ONLY;
  }
  return v1::COPY_ON_WRITE;
}

v1::Change::Kind ToMessage(Change::Kind kind) {
  switch (kind) {
    case Change::Kind::kAdded:
      return v1::Change::ADDED;
    case Change::Kind::kModified:
      return v1::Change::MODIFIED;
    case Change::Kind::kDeleted:
      return v1::Change::DELETED;
    case Change::Kind::kTypeOrMode:
      return v1::Change::TYPE_OR_MODE;
  }
  return v1::Change::UNKNOWN;
}

v1::Output::Kind ToMessage(Output::Kind kind) {
  switch (kind) {
    case Output::Kind::kFile:
      return v1::Output::FILE;
    case Output::Kind::kExecutable:
      return v1::Output::EXECUTABLE;
    case Output::Kind::kDirectory:
      return v1::Output::DIRECTORY;
    case Output::Kind::kSymlink:
      return v1::Output::SYMLINK;
  }
  return v1::Output::UNKNOWN;
}

v1::InputsFrom ToMessage(InputsFrom place) {
  switch (place) {
    case InputsFrom::kStore:
      return v1::STORE;
    case InputsFrom::kRemote:
      return v1::REMOTE;
  }
  return v1::STORE;
}

void SetMessage(const SandboxInfo& info, v1::Sandbox* message) {
  message->set_name(info.name);
  message->set_path(info.path);
  SetMessage(info.spec.root, message->mutable_root());
  message->set_inputs(ToMessage(info.spec.inputs));
  message->set_inputs_from(ToMessage(info.spec.inputs_from));
  message->mutable_owner()->set_uid(info.spec.owner_uid);
  message->mutable_owner()->set_gid(info.spec.owner_gid);
  message->set_label(info.spec.label);
  message->set_scratch_bytes_max(info.spec.scratch_bytes_max);
  message->set_nodes_max(info.spec.nodes_max);
  const int64_t created = absl::ToUnixNanos(info.created);
  message->mutable_created()->set_seconds(created / 1'000'000'000);
  message->mutable_created()->set_nanos(created % 1'000'000'000);
  message->set_input_files(info.input_files);
  message->set_inputs_opened(info.inputs_opened);
  message->set_scratch_bytes(info.scratch_bytes);
  message->set_nodes(info.nodes);
  message->set_is_stash(info.is_stash);
  if (!info.reuse.has_value()) return;
  v1::Reused& reused = *message->mutable_reused();
  reused.set_stash(info.reuse->stash);
  reused.set_score(info.reuse->cost.score);
  reused.set_nodes_kept(info.reuse->cost.kept);
  reused.set_notifications(info.reuse->cost.notes);
  reused.set_directories_visited(info.reuse->cost.visited);
  reused.set_directories_skipped(info.reuse->cost.skipped);
  reused.set_nanoseconds(absl::ToInt64Nanoseconds(info.reuse->time));
}

void SetMessage(const Output& output, v1::Output* message) {
  message->set_kind(ToMessage(output.kind));
  message->set_path(output.path);
  message->set_target(output.target);
  if (output.kind == Output::Kind::kSymlink) return;
  SetMessage(output.digest, message->mutable_digest());
  if (output.kind != Output::Kind::kDirectory) return;
  SetMessage(output.root_directory, message->mutable_root_directory());
}

// Sends a list in pieces of about kPieceBytes.
template <typename Response>
class PieceWriter {
 public:
  explicit PieceWriter(grpc::ServerWriter<Response>& writer)
      : writer_(writer) {}

  // Call after about `bytes` were added to piece().
  void Added(size_t bytes) {
    bytes_ += bytes;
    if (bytes_ >= kPieceBytes) Flush();
  }
  void Flush() {
    // False if the peer is gone, which the call's end will tell it.
    if (bytes_ > 0) writer_.Write(piece_);
    piece_.Clear();
    bytes_ = 0;
  }
  Response& piece() { return piece_; }

 private:
  // Besides the text: digests and the encoding.
  grpc::ServerWriter<Response>& writer_;
  Response piece_;
  size_t bytes_ = 0;
};
constexpr size_t kEntryBytes = 256;

absl::Status CheckOwner(const Peer& peer, const v1::Owner& owner) {
  if (peer.MayGiveTo(owner.uid(), owner.gid())) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(
      "owner ", owner.uid(), ":", owner.gid(),
      ": only root may choose another owner than itself (", peer.uid, ")"));
}

absl::StatusOr<SandboxSpec> SpecOf(const Peer& peer,
                                   const v1::CreateRequest& request) {
  SandboxSpec spec;
  if (request.has_root()) {
    ASSIGN_OR_RETURN(spec.root, FromMessage(request.root()));
  }
  if (request.inputs() != v1::COPY_ON_WRITE &&
      request.inputs() != v1::READ_ONLY) {
    return absl::InvalidArgumentError(
        absl::StrCat("inputs policy ", request.inputs(), ": unknown"));
  }
  if (request.inputs_from() != v1::STORE &&
      request.inputs_from() != v1::REMOTE) {
    return absl::InvalidArgumentError(absl::StrCat(
        "inputs from ", request.inputs_from(), ": an unknown place"));
  }
  if (request.label().size() > kLabelBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("label: longer than ", kLabelBytesMax, " bytes"));
  }
  if (request.scratch_bytes_max() < 0 || request.nodes_max() < 0) {
    return absl::InvalidArgumentError("limit: negative");
  }
  spec.name = request.name();
  spec.inputs = request.inputs() == v1::READ_ONLY ? InputsPolicy::kReadOnly
                                                  : InputsPolicy::kCopyOnWrite;
  spec.inputs_from = request.inputs_from() == v1::REMOTE ? InputsFrom::kRemote
                                                         : InputsFrom::kStore;
  spec.owner_uid = peer.uid;
  spec.owner_gid = peer.gid;
  if (request.has_owner()) {
    RETURN_IF_ERROR(CheckOwner(peer, request.owner()));
    spec.owner_uid = request.owner().uid();
    spec.owner_gid = request.owner().gid();
  }
  spec.label = request.label();
  spec.scratch_bytes_max = request.scratch_bytes_max();
  spec.nodes_max = request.nodes_max();
  return spec;
}

absl::Status CheckPaths(const v1::CollectRequest& request) {
  if (request.paths_size() > kPathsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("collect: more than ", kPathsMax, " paths"));
  }
  for (const std::string& path : request.paths()) {
    if (path.size() <= kPathBytesMax) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("path ", absl::Utf8SafeCEscape(path.substr(0, 64)),
                     "...: longer than ", kPathBytesMax, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SandboxesService::CheckAccess(const Peer& peer,
                                           absl::string_view name) {
  if (peer.IsPrivileged()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const SandboxInfo info, table_.Info(name));
  if (info.spec.owner_uid == peer.uid) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(
      "sandbox ", info.name, ": belongs to user ", info.spec.owner_uid));
}

absl::StatusOr<SandboxInfo> SandboxesService::CreateFor(
    const Peer& peer, const v1::CreateRequest& request) {
  ASSIGN_OR_RETURN(const SandboxSpec spec, SpecOf(peer, request));
  const std::string& session = request.session_id();
  if (!session.empty()) RETURN_IF_ERROR(sessions_.CheckLive(session));
  std::optional<Cgroup> cgroup;
  if (!request.cgroup().empty()) {
    ASSIGN_OR_RETURN(cgroup, Cgroup::Open(request.cgroup(), peer));
  }
  ASSIGN_OR_RETURN(SandboxInfo info,
                   table_.Create(spec, request.reuse() != v1::NEVER));
  if (cgroup.has_value()) {
    MutexLock lock(mu_);
    cgroups_.insert_or_assign(info.name, *std::move(cgroup));
  }
  if (session.empty()) return info;
  // The session may have ended in between, and nobody would release this then.
  if (const absl::Status attached = sessions_.Attach(session, info.name);
      !attached.ok()) {
    End(info.name, /*stash=*/false).IgnoreError();
    return attached;
  }
  return info;
}

absl::Status SandboxesService::End(const std::string& name, bool stash) {
  std::optional<Cgroup> cgroup;
  {
    MutexLock lock(mu_);
    if (const auto found = cgroups_.find(name); found != cgroups_.end()) {
      cgroup = std::move(found->second);
      cgroups_.erase(found);
    }
  }
  // Who does not die may still write: nothing for the next action.
  const bool is_empty =
      !cgroup.has_value() || cgroup->Kill(kCgroupTimeout).ok();
  return table_.Release(name, stash && is_empty);
}

grpc::Status SandboxesService::Create(grpc::ServerContext* context,
                                      const v1::CreateRequest* request,
                                      v1::Sandbox* response) {
  const absl::StatusOr<Peer> peer = PeerOfConnection(context->peer());
  if (!peer.ok()) return ToGrpc(peer.status());
  const absl::Time start = absl::Now();
  const absl::StatusOr<SandboxInfo> info = CreateFor(*peer, *request);
  if (!info.ok()) return ToGrpc(info.status());
  SetMessage(*info, response);
  response->set_create_nanoseconds(
      absl::ToInt64Nanoseconds(absl::Now() - start));
  return grpc::Status::OK;
}

grpc::Status SandboxesService::Diff(
    grpc::ServerContext* context, const v1::DiffRequest* request,
    grpc::ServerWriter<v1::DiffResponse>* writer) {
  const absl::StatusOr<Peer> peer = PeerOfConnection(context->peer());
  if (!peer.ok()) return ToGrpc(peer.status());
  if (const absl::Status access = CheckAccess(*peer, request->name());
      !access.ok()) {
    return ToGrpc(access);
  }
  const absl::StatusOr<std::vector<Change>> changes =
      table_.Diff(request->name());
  if (!changes.ok()) return ToGrpc(changes.status());
  PieceWriter<v1::DiffResponse> pieces(*writer);
  for (const Change& change : *changes) {
    v1::Change& message = *pieces.piece().add_changes();
    message.set_kind(ToMessage(change.kind));
    message.set_path(change.path);
    pieces.Added(kEntryBytes + change.path.size());
  }
  pieces.Flush();
  return grpc::Status::OK;
}

absl::StatusOr<Collected> SandboxesService::CollectFor(
    const Peer& peer, const v1::CollectRequest& request) {
  RETURN_IF_ERROR(CheckPaths(request));
  RETURN_IF_ERROR(CheckAccess(peer, request.name()));
  const std::vector<std::string> paths(request.paths().begin(),
                                       request.paths().end());
  if (!request.send()) {
    return table_.Collect(request.name(), paths, request.force(),
                          /*stored=*/nullptr);
  }
  if (sender_ == nullptr) return NoRemoteStatus("collect");
  BlobSender::Sending sending(*sender_);
  ASSIGN_OR_RETURN(Collected collected,
                   table_.Collect(request.name(), paths, request.force(),
                                  [&sending](const Digest& digest) {
                                    sending.Add(digest);
                                  }));
  RETURN_IF_ERROR(Annotate(sending.Wait(), "collect ", request.name()));
  return collected;
}

grpc::Status SandboxesService::Collect(
    grpc::ServerContext* context, const v1::CollectRequest* request,
    grpc::ServerWriter<v1::CollectResponse>* writer) {
  const absl::StatusOr<Peer> peer = PeerOfConnection(context->peer());
  if (!peer.ok()) return ToGrpc(peer.status());
  const absl::StatusOr<Collected> collected = CollectFor(*peer, *request);
  if (!collected.ok()) return ToGrpc(collected.status());
  PieceWriter<v1::CollectResponse> pieces(*writer);
  for (const Output& output : collected->outputs) {
    SetMessage(output, pieces.piece().add_outputs());
    pieces.Added(kEntryBytes + output.path.size() + output.target.size());
  }
  for (const std::string& path : collected->missing) {
    pieces.piece().add_missing(path);
    pieces.Added(kEntryBytes + path.size());
  }
  pieces.Flush();
  return grpc::Status::OK;
}

absl::Status SandboxesService::ReleaseFor(const Peer& peer,
                                          const v1::ReleaseRequest& request) {
  RETURN_IF_ERROR(CheckAccess(peer, request.name()));
  // First: once it is released, another sandbox of another session can take the
  // name.
  const std::string session = sessions_.Detach(request.name());
  absl::Status released = End(request.name(), request.stash());
  if (released.ok() || session.empty() || absl::IsNotFound(released)) {
    return released;
  }
  // It is still there, so it still has to end with its session.
  if (!sessions_.Attach(session, request.name()).ok()) {
    return End(request.name(), /*stash=*/false);
  }
  return released;
}

grpc::Status SandboxesService::Release(grpc::ServerContext* context,
                                       const v1::ReleaseRequest* request,
                                       v1::ReleaseResponse*) {
  const absl::StatusOr<Peer> peer = PeerOfConnection(context->peer());
  if (!peer.ok()) return ToGrpc(peer.status());
  return ToGrpc(ReleaseFor(*peer, *request));
}

grpc::Status SandboxesService::List(
    grpc::ServerContext* context, const v1::ListRequest*,
    grpc::ServerWriter<v1::ListResponse>* writer) {
  const absl::StatusOr<Peer> peer = PeerOfConnection(context->peer());
  if (!peer.ok()) return ToGrpc(peer.status());
  PieceWriter<v1::ListResponse> pieces(*writer);
  for (const SandboxInfo& info : table_.List()) {
    if (!peer->IsPrivileged() && info.spec.owner_uid != peer->uid) continue;
    SetMessage(info, pieces.piece().add_sandboxes());
    pieces.Added(kEntryBytes + info.path.size() + info.spec.label.size());
  }
  pieces.Flush();
  return grpc::Status::OK;
}

grpc::Status SandboxesService::Session(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>* stream) {
  const absl::StatusOr<std::string> id = sessions_.Start();
  if (!id.ok()) return ToGrpc(id.status());
  open_sessions_.Add(context);
  v1::SessionResponse response;
  response.set_session_id(*id);
  stream->Write(response);
  // False when the peer closes the stream, cancels it or dies.
  v1::SessionRequest request;
  while (stream->Read(&request)) {
  }
  open_sessions_.Remove(context);
  for (const std::string& sandbox : sessions_.End(*id)) {
    End(sandbox, /*stash=*/false).IgnoreError();
  }
  return grpc::Status::OK;
}

}  // namespace casement
