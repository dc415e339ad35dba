#include "casement/client.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/v1/sandboxes.grpc.pb.h"
#include "casement/v1/store.grpc.pb.h"
#include "client/blob_transfer.h"
#include "client/connect.h"
#include "client/local_tree.h"
#include "client/progress.h"
#include "client/tree_upload.h"
#include "model/digest_message.h"
#include "proto/grpc_lifetime.h"
#include "proto/grpc_status.h"
#include "proto/socket_path.h"

namespace casement {
namespace {

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& socket) {
  grpc::ChannelArguments arguments;
  // Lists and batches come in pieces that are far smaller.
  arguments.SetMaxReceiveMessageSize(128 << 20);
  // After the daemon was restarted. A unix socket answers at once or never.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Clients in one process do not share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  return grpc::CreateCustomChannel(
      "unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
}

// Of digests. The others would hide it.
using casement::FromMessage;

absl::StatusOr<RunningSandbox> FromMessage(const v1::Sandbox& message) {
  RunningSandbox info;
  info.name = message.name();
  info.path = message.path();
  ASSIGN_OR_RETURN(info.spec.root, FromMessage(message.root()));
  info.spec.name = message.name();
  info.spec.inputs = message.inputs() == v1::READ_ONLY
                         ? InputsPolicy::kReadOnly
                         : InputsPolicy::kCopyOnWrite;
  info.spec.inputs_from = message.inputs_from() == v1::REMOTE
                              ? InputsFrom::kRemote
                              : InputsFrom::kStore;
  info.spec.owner_uid = message.owner().uid();
  info.spec.owner_gid = message.owner().gid();
  info.spec.label = message.label();
  info.spec.scratch_bytes_max = message.scratch_bytes_max();
  info.spec.nodes_max = message.nodes_max();
  info.created = absl::FromUnixSeconds(message.created().seconds()) +
                 absl::Nanoseconds(message.created().nanos());
  info.input_files = message.input_files();
  info.inputs_opened = message.inputs_opened();
  info.scratch_bytes = message.scratch_bytes();
  info.nodes = message.nodes();
  info.is_stash = message.is_stash();
  return info;
}

ReusedSandbox FromMessage(const v1::Reused& message) {
  return {.stash = message.stash(),
          .score = message.score(),
          .nodes_kept = message.nodes_kept(),
          .notifications = message.notifications(),
          .directories_visited = message.directories_visited(),
          .directories_skipped = message.directories_skipped(),
          .time = absl::Nanoseconds(message.nanoseconds())};
}

absl::StatusOr<SandboxChange> FromMessage(const v1::Change& message) {
  SandboxChange change;
  change.path = message.path();
  switch (message.kind()) {
    case v1::Change::ADDED:
      change.kind = SandboxChange::Kind::kAdded;
      return change;
    case v1::Change::MODIFIED:
      change.kind = SandboxChange::Kind::kModified;
      return change;
    case v1::Change::DELETED:
      change.kind = SandboxChange::Kind::kDeleted;
      return change;
    case v1::Change::TYPE_OR_MODE:
      change.kind = SandboxChange::Kind::kTypeOrMode;
      return change;
    default:
      return absl::InternalError(absl::StrCat(
          "diff: a change of unknown kind ", static_cast<int>(message.kind())));
  }
}

absl::StatusOr<CollectedOutput::Kind> KindOf(const v1::Output& message) {
  switch (message.kind()) {
    case v1::Output::FILE:
      return CollectedOutput::Kind::kFile;
    case v1::Output::EXECUTABLE:
      return CollectedOutput::Kind::kExecutable;
    case v1::Output::DIRECTORY:
      return CollectedOutput::Kind::kDirectory;
    case v1::Output::SYMLINK:
      return CollectedOutput::Kind::kSymlink;
    default:
      return absl::InternalError(
          absl::StrCat("collect: an output of unknown kind ",
                       static_cast<int>(message.kind())));
  }
}

absl::StatusOr<CollectedOutput> FromMessage(const v1::Output& message) {
  CollectedOutput output;
  ASSIGN_OR_RETURN(output.kind, KindOf(message));
  output.path = message.path();
  output.target = message.target();
  if (output.kind == CollectedOutput::Kind::kSymlink) return output;
  ASSIGN_OR_RETURN(output.digest, FromMessage(message.digest()));
  if (output.kind != CollectedOutput::Kind::kDirectory) return output;
  ASSIGN_OR_RETURN(output.root_directory,
                   FromMessage(message.root_directory()));
  return output;
}

Metric FromMessage(const v1::Metric& message) {
  Metric metric = {.name = message.name(),
                   .help = message.help(),
                   .kind = message.kind() == v1::Metric::COUNTER
                               ? Metric::Kind::kCounter
                               : Metric::Kind::kGauge,
                   .labels = {},
                   .value = message.value()};
  for (const v1::Metric::Label& label : message.labels()) {
    metric.labels.emplace_back(label.name(), label.value());
  }
  return metric;
}

v1::CreateRequest RequestFor(const SandboxSpec& spec, const Session* session,
                             const CreateOptions& options) {
  v1::CreateRequest request;
  SetMessage(spec.root, request.mutable_root());
  request.set_name(spec.name);
  request.set_inputs(spec.inputs == InputsPolicy::kReadOnly
                         ? v1::READ_ONLY
                         : v1::COPY_ON_WRITE);
  request.set_inputs_from(spec.inputs_from == InputsFrom::kRemote ? v1::REMOTE
                                                                  : v1::STORE);
  if (!options.owner_is_peer) {
    request.mutable_owner()->set_uid(spec.owner_uid);
    request.mutable_owner()->set_gid(spec.owner_gid);
  }
  request.set_label(spec.label);
  request.set_scratch_bytes_max(spec.scratch_bytes_max);
  request.set_nodes_max(spec.nodes_max);
  request.set_reuse(options.never_reuse ? v1::NEVER : v1::AUTO);
  if (session != nullptr) request.set_session_id(session->id());
  request.set_cgroup(options.cgroup);
  return request;
}

absl::StatusOr<UniqueFd> OpenRegular(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat attributes;
  if (!fd.valid() || ::fstat(fd.get(), &attributes) != 0) {
    return ErrnoStatus(errno, path);
  }
  if (!S_ISREG(attributes.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is no regular file"));
  }
  return fd;
}

absl::Status WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "writing");
    }
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

// Reads a whole stream, calling `take` with each piece.
template <typename Response, typename Take>
absl::Status ReadStream(grpc::ClientContext& context,
                        grpc::ClientReader<Response>& reader,
                        const Take& take) {
  Response response;
  while (reader.Read(&response)) {
    absl::Status taken = take(response);
    if (taken.ok()) continue;
    context.TryCancel();
    reader.Finish();
    return taken;
  }
  return FromGrpc(reader.Finish());
}

class OpenSession final : public Session {
 public:
  using Stream =
      grpc::ClientReaderWriter<v1::SessionRequest, v1::SessionResponse>;

  static absl::StatusOr<std::unique_ptr<Session>> Open(
      v1::Sandboxes::Stub& stub) {
    std::unique_ptr<OpenSession> session(new OpenSession);
    session->stream_ = stub.Session(&session->context_);
    v1::SessionResponse response;
    if (!session->stream_->Read(&response)) {
      session->is_open_ = false;
      const absl::Status status = FromGrpc(session->stream_->Finish());
      return status.ok() ? absl::InternalError("session: no answer") : status;
    }
    session->id_ = response.session_id();
    return session;
  }

  // The daemon ends the stream when the sandboxes are gone.
  ~OpenSession() override {
    if (!is_open_) return;
    stream_->WritesDone();
    v1::SessionResponse response;
    while (stream_->Read(&response)) {
    }
    stream_->Finish();
  }

  const std::string& id() const override { return id_; }

 private:
  OpenSession() = default;

  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  std::string id_;
  bool is_open_ = true;
};

}  // namespace

struct Client::Rep {
  Rep(std::string path, const std::shared_ptr<grpc::Channel>& channel)
      : socket(std::move(path)),
        blobs(channel),
        sandboxes(v1::Sandboxes::NewStub(channel)),
        store(v1::Store::NewStub(channel)) {}

  // In words of ours if the daemon is gone.
  absl::Status Explain(const absl::Status& status) const {
    if (!absl::IsUnavailable(status) || IsOfRemoteCache(status)) return status;
    const absl::Status probe = ProbeSocket(socket, absl::Seconds(1));
    if (!probe.ok()) return probe;
    return absl::UnavailableError(
        absl::StrCat("casementd at ", socket, " hung up: ", status.message()));
  }
  template <typename T>
  absl::StatusOr<T> Explain(absl::StatusOr<T> result) const {
    if (result.ok()) return result;
    return Explain(result.status());
  }

  absl::StatusOr<Digest> Put(absl::string_view bytes);
  absl::StatusOr<Digest> PutFile(const std::string& path);
  absl::StatusOr<PutTreeResult> PutTree(const std::string& directory,
                                        const PutTreeOptions& options);
  absl::StatusOr<EvictResult> Evict(const v1::EvictRequest& request);

  const std::string socket;
  BlobTransfer blobs;
  const std::unique_ptr<v1::Sandboxes::Stub> sandboxes;
  const std::unique_ptr<v1::Store::Stub> store;
};

Client::Client(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(
    absl::string_view socket) {
  ASSIGN_OR_RETURN(std::string path, ResolveSocketPath(socket));
  RETURN_IF_ERROR(ProbeSocket(path));
  KeepGrpcRunning();
  const std::shared_ptr<grpc::Channel> channel = MakeChannel(path);
  return std::unique_ptr<Client>(
      new Client(std::make_unique<Rep>(std::move(path), channel)));
}

absl::StatusOr<Digest> Client::Rep::Put(absl::string_view bytes) {
  const Digest digest = Digest::Of(bytes);
  ASSIGN_OR_RETURN(const std::vector<Digest> missing,
                   blobs.Missing({&digest, 1}));
  if (!missing.empty()) RETURN_IF_ERROR(blobs.SendBytes(digest, bytes));
  return digest;
}

absl::StatusOr<Digest> Client::Rep::PutFile(const std::string& path) {
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenRegular(path));
  ASSIGN_OR_RETURN(const Digest digest, HashFile(fd.get(), path));
  ASSIGN_OR_RETURN(const std::vector<Digest> missing,
                   blobs.Missing({&digest, 1}));
  if (!missing.empty()) {
    RETURN_IF_ERROR(blobs.SendFile(digest, fd.get(), path));
  }
  return digest;
}

absl::StatusOr<PutTreeResult> Client::Rep::PutTree(
    const std::string& directory, const PutTreeOptions& options) {
  ProgressGatherer progress(options.progress);
  ASSIGN_OR_RETURN(
      const LocalTree tree,
      LocalTree::Scan(directory, {.node_properties = options.node_properties},
                      progress));
  RETURN_IF_ERROR(UploadTree(tree, blobs, progress));
  return PutTreeResult{.root = tree.root(),
                       .total = progress.Finish(),
                       .directories = static_cast<int64_t>(tree.directories()),
                       .symlinks = static_cast<int64_t>(tree.symlinks())};
}

absl::StatusOr<Digest> Client::Put(absl::string_view bytes) {
  return rep_->Explain(rep_->Put(bytes));
}

absl::StatusOr<Digest> Client::PutFile(const std::string& path) {
  return rep_->Explain(rep_->PutFile(path));
}

absl::StatusOr<PutTreeResult> Client::PutTree(const std::string& directory,
                                              const PutTreeOptions& options) {
  return rep_->Explain(rep_->PutTree(directory, options));
}

absl::StatusOr<std::vector<Digest>> Client::Missing(
    absl::Span<const Digest> digests) {
  return rep_->Explain(rep_->blobs.Missing(digests));
}

absl::Status Client::Get(const Digest& digest, int fd,
                         const ByteProgress& progress) {
  int64_t done = 0;
  return rep_->Explain(
      rep_->blobs.Receive(digest, [&](absl::string_view piece) -> absl::Status {
        RETURN_IF_ERROR(Annotate(WriteAll(fd, piece), digest.ToString()));
        done += piece.size();
        if (progress) progress(done, digest.size_bytes());
        return absl::OkStatus();
      }));
}

absl::StatusOr<std::string> Client::GetBytes(const Digest& digest,
                                             int64_t bytes_max) {
  if (digest.size_bytes() > bytes_max) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "blob ", digest.ToString(), ": larger than ", bytes_max, " bytes"));
  }
  std::string bytes;
  const absl::Status received =
      rep_->blobs.Receive(digest, [&](absl::string_view piece) {
        bytes.append(piece.data(), piece.size());
        return absl::OkStatus();
      });
  if (!received.ok()) return rep_->Explain(received);
  return bytes;
}

absl::Status Client::Send(absl::Span<const Digest> digests) {
  v1::SendRequest request;
  for (const Digest& digest : digests) {
    SetMessage(digest, request.add_digests());
  }
  v1::SendResponse response;
  grpc::ClientContext context;
  return rep_->Explain(
      FromGrpc(rep_->store->Send(&context, request, &response)));
}

absl::StatusOr<std::unique_ptr<Session>> Client::StartSession() {
  return rep_->Explain(OpenSession::Open(*rep_->sandboxes));
}

absl::StatusOr<CreatedSandbox> Client::Create(const SandboxSpec& spec,
                                              const Session* session,
                                              const CreateOptions& options) {
  v1::Sandbox response;
  grpc::ClientContext context;
  RETURN_IF_ERROR(rep_->Explain(FromGrpc(rep_->sandboxes->Create(
      &context, RequestFor(spec, session, options), &response))));
  CreatedSandbox created;
  ASSIGN_OR_RETURN(created.info, FromMessage(response));
  created.create_time = absl::Nanoseconds(response.create_nanoseconds());
  if (response.has_reused()) created.reused = FromMessage(response.reused());
  return created;
}

absl::StatusOr<std::vector<SandboxChange>> Client::Diff(
    absl::string_view name) {
  v1::DiffRequest request;
  request.set_name(std::string(name));
  std::vector<SandboxChange> changes;
  grpc::ClientContext context;
  RETURN_IF_ERROR(rep_->Explain(ReadStream(
      context, *rep_->sandboxes->Diff(&context, request),
      [&changes](const v1::DiffResponse& piece) -> absl::Status {
        for (const v1::Change& message : piece.changes()) {
          ASSIGN_OR_RETURN(SandboxChange change, FromMessage(message));
          changes.push_back(std::move(change));
        }
        return absl::OkStatus();
      })));
  return changes;
}

absl::StatusOr<CollectedOutputs> Client::Collect(
    absl::string_view name, absl::Span<const std::string> paths,
    const CollectOptions& options) {
  v1::CollectRequest request;
  request.set_name(std::string(name));
  for (const std::string& path : paths) request.add_paths(path);
  request.set_force(options.force);
  request.set_send(options.send);
  CollectedOutputs collected;
  grpc::ClientContext context;
  RETURN_IF_ERROR(rep_->Explain(ReadStream(
      context, *rep_->sandboxes->Collect(&context, request),
      [&collected](const v1::CollectResponse& piece) -> absl::Status {
        for (const v1::Output& message : piece.outputs()) {
          ASSIGN_OR_RETURN(CollectedOutput output, FromMessage(message));
          collected.outputs.push_back(std::move(output));
        }
        for (const std::string& path : piece.missing()) {
          collected.missing.push_back(path);
        }
        return absl::OkStatus();
      })));
  return collected;
}

absl::Status Client::Release(absl::string_view name, bool stash) {
  v1::ReleaseRequest request;
  request.set_name(std::string(name));
  request.set_stash(stash);
  v1::ReleaseResponse response;
  grpc::ClientContext context;
  return rep_->Explain(
      FromGrpc(rep_->sandboxes->Release(&context, request, &response)));
}

absl::StatusOr<std::vector<RunningSandbox>> Client::List() {
  std::vector<RunningSandbox> sandboxes;
  grpc::ClientContext context;
  RETURN_IF_ERROR(rep_->Explain(ReadStream(
      context, *rep_->sandboxes->List(&context, v1::ListRequest()),
      [&sandboxes](const v1::ListResponse& piece) -> absl::Status {
        for (const v1::Sandbox& message : piece.sandboxes()) {
          ASSIGN_OR_RETURN(RunningSandbox info, FromMessage(message));
          sandboxes.push_back(std::move(info));
        }
        return absl::OkStatus();
      })));
  return sandboxes;
}

absl::StatusOr<StoreStats> Client::Stats() {
  v1::StatsResponse response;
  grpc::ClientContext context;
  RETURN_IF_ERROR(rep_->Explain(
      FromGrpc(rep_->store->Stats(&context, v1::StatsRequest(), &response))));
  StoreStats stats;
  stats.capacity_bytes = response.capacity_bytes();
  for (const v1::OwnerBytes& accounted : response.accounted()) {
    stats.accounted_bytes += accounted.bytes();
    stats.accounted_by_owner.emplace_back(accounted.owner(), accounted.bytes());
  }
  stats.blobs = response.blobs();
  stats.leased_blobs = response.leased_blobs();
  stats.zombies = response.zombies();
  stats.size_bytes = response.size_bytes();
  stats.sandboxes = response.sandboxes();
  stats.sessions = response.sessions();
  stats.evictions = response.evictions();
  stats.published = response.published();
  stats.damaged = response.damaged();
  for (const v1::Metric& metric : response.metrics()) {
    stats.metrics.push_back(FromMessage(metric));
  }
  return stats;
}

absl::StatusOr<EvictResult> Client::Rep::Evict(
    const v1::EvictRequest& request) {
  v1::EvictResponse response;
  grpc::ClientContext context;
  RETURN_IF_ERROR(FromGrpc(store->Evict(&context, request, &response)));
  EvictResult result = {
      .blobs = response.blobs(), .bytes = response.bytes(), .failures = {}};
  for (const v1::EvictResponse::Failure& failure : response.failures()) {
    ASSIGN_OR_RETURN(const Digest digest, FromMessage(failure.digest()));
    result.failures.emplace_back(digest, FromProto(failure.status()));
  }
  return result;
}

absl::StatusOr<EvictResult> Client::Evict(absl::Span<const Digest> digests) {
  v1::EvictRequest request;
  for (const Digest& digest : digests) {
    SetMessage(digest, request.add_digests());
  }
  return rep_->Explain(rep_->Evict(request));
}

absl::StatusOr<EvictResult> Client::EvictUnleased() {
  v1::EvictRequest request;
  request.set_unleased(true);
  return rep_->Explain(rep_->Evict(request));
}

absl::StatusOr<VerifyResult> Client::Verify(const VerifyOptions& options,
                                            const ByteProgress& progress) {
  v1::VerifyRequest request;
  request.set_repair(options.repair);
  request.set_quarantine(options.quarantine);
  request.set_disk_share_percent(options.disk_share_percent);
  VerifyResult result;
  bool is_complete = false;
  grpc::ClientContext context;
  RETURN_IF_ERROR(rep_->Explain(ReadStream(
      context, *rep_->store->Verify(&context, request),
      [&](const v1::VerifyResponse& response) -> absl::Status {
        if (response.has_progress() && progress) {
          progress(response.progress().bytes_done(),
                   response.progress().bytes_total());
        }
        if (!response.has_report()) return absl::OkStatus();
        const v1::VerifyResponse::Report& report = response.report();
        is_complete = true;
        result.blobs = report.blobs();
        result.bytes = report.bytes();
        for (const DigestMessage& message : report.damaged()) {
          ASSIGN_OR_RETURN(const Digest digest, FromMessage(message));
          result.damaged.push_back(digest);
        }
        result.accounted_bytes = report.accounted_bytes();
        result.allocated_bytes = report.allocated_bytes();
        result.unaccounted_bytes = report.unaccounted_bytes();
        result.dropped = report.dropped();
        result.moved = report.moved();
        result.stays = report.stays();
        return absl::OkStatus();
      })));
  if (!is_complete) return absl::InternalError("verify: no report came");
  return result;
}

}  // namespace casement
