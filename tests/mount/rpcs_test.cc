// Every RPC of casementd and of casement-worker, against what each has to
// stand: it succeeds, a request that is too large, a client that cancels it at
// any time or is killed, and 64 clients at once. What errors each documents has
// tests of its own (tests/unit/control).
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>  // NOLINT
#include <cstdio>
#include <functional>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "build/buildgrid/local_cas.grpc.pb.h"
#include "casement/v1/sandboxes.grpc.pb.h"
#include "casement/v1/store.grpc.pb.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "gtest/gtest.h"
#include "model/directory.h"
#include "support/blob_messages.h"
#include "support/running_daemon.h"
#include "support/running_worker.h"

namespace casement {
namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;
namespace local_cas = ::build::buildgrid;
using google::bytestream::ByteStream;
using google::longrunning::Operation;
using grpc::ClientContext;
using grpc::Status;
using grpc::StatusCode;

// What is there for the calls: made by the tests, named alike in the clients
// that they start.
constexpr char kSmall[] = "a small blob";
constexpr char kSandbox[] = "made-before";

std::string LargeBytes() {
  std::string bytes(8 << 20, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>((i * 2654435761u) >> 13);
  }
  return bytes;
}
const std::string& Large() {
  static const std::string* const large = new std::string(LargeBytes());
  return *large;
}

// A name that no other call has, in any process.
std::string NewName() {
  static std::atomic<int> last{0};
  return absl::StrCat("n", getpid(), "-", ++last);
}

// Directories below each other, and a file.
std::vector<std::string> TreeMessages() {
  std::vector<std::string> messages;
  Digest below;
  for (int i = 0; i < 40; ++i) {
    DirectoryBuilder builder;
    builder.AddFile("file", Digest::Of(kSmall), false);
    if (i > 0) builder.AddDirectory("below", below);
    messages.push_back(builder.Build());
    below = Digest::Of(messages.back());
  }
  return messages;
}
Digest Root() { return Digest::Of(TreeMessages().back()); }

std::string CommandBytes() {
  rev2::Command command;
  for (const char* word : {"/bin/sh", "-c", "cat file"}) {
    command.add_arguments(word);
  }
  return command.SerializeAsString();
}
std::string ActionBytes() {
  rev2::Action action;
  *action.mutable_command_digest() = MessageOf(Digest::Of(CommandBytes()));
  *action.mutable_input_root_digest() = MessageOf(Root());
  return action.SerializeAsString();
}

// Where to call: the folder of a RunningDaemon, and its daemon or its worker.
struct Server {
  std::string folder;
  bool is_worker = false;

  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
    return grpc::CreateCustomChannel(
        absl::StrCat("unix:", folder, is_worker ? "/worker" : "/socket"),
        grpc::InsecureChannelCredentials(), arguments);
  }
};

// A client with a connection of its own.
struct Caller {
  explicit Caller(const Server& where)
      : server(where),
        channel(where.NewChannel()),
        cas(rev2::ContentAddressableStorage::NewStub(channel)),
        actions(rev2::ActionCache::NewStub(channel)),
        capabilities(rev2::Capabilities::NewStub(channel)),
        execution(rev2::Execution::NewStub(channel)),
        bytes(ByteStream::NewStub(channel)),
        local(local_cas::LocalContentAddressableStorage::NewStub(channel)),
        sandboxes(v1::Sandboxes::NewStub(channel)),
        store(v1::Store::NewStub(channel)) {}

  const Server server;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<rev2::ContentAddressableStorage::Stub> cas;
  const std::unique_ptr<rev2::ActionCache::Stub> actions;
  const std::unique_ptr<rev2::Capabilities::Stub> capabilities;
  const std::unique_ptr<rev2::Execution::Stub> execution;
  const std::unique_ptr<ByteStream::Stub> bytes;
  const std::unique_ptr<local_cas::LocalContentAddressableStorage::Stub> local;
  const std::unique_ptr<v1::Sandboxes::Stub> sandboxes;
  const std::unique_ptr<v1::Store::Stub> store;
};

// One call of an RPC, to its end; an answer that is not what it should be is
// DATA_LOSS. Sandboxes are made in sessions, so that they go with their client.
struct Rpc {
  std::string name;
  std::function<Status(Caller&, ClientContext&)> call;
  bool one_at_a_time = false;  // Others are RESOURCE_EXHAUSTED meanwhile.
};

Status Expect(const Status& status, bool is_right) {
  if (!status.ok() || is_right) return status;
  return Status(StatusCode::DATA_LOSS, "a wrong answer");
}

// Of a call whose answers come one by one: how many there were, too.
template <typename Response>
Status ReadAll(grpc::ClientReader<Response>& reader,
               const std::function<int(const Response&)>& count, int expected) {
  Response response;
  int counted = 0;
  while (reader.Read(&response)) counted += count(response);
  const Status status = reader.Finish();
  return Expect(status, counted == expected);
}

// A unary call, whose request `fill` makes and whose answer `check` looks at.
template <typename Stub, typename Request, typename Response, typename Fill,
          typename Check>
std::function<Status(Caller&, ClientContext&)> Ask(
    const std::unique_ptr<Stub> Caller::*stub,
    Status (Stub::*method)(ClientContext*, const Request&, Response*),
    Fill fill, Check check) {
  return [=](Caller& caller, ClientContext& context) {
    Request request;
    fill(caller, request);
    Response response;
    const Status status =
        ((*(caller.*stub)).*method)(&context, request, &response);
    return Expect(status, check(response));
  };
}

// The blobs of REv2, and what actions gave.

Status FindMissing(Caller& caller, ClientContext& context) {
  rev2::FindMissingBlobsRequest request;
  *request.add_blob_digests() = MessageOf(Digest::Of(kSmall));
  *request.add_blob_digests() = MessageOf(Digest::Of("absent"));
  rev2::FindMissingBlobsResponse response;
  const Status status =
      caller.cas->FindMissingBlobs(&context, request, &response);
  return Expect(status, response.missing_blob_digests_size() == 1);
}

Status BatchUpdate(Caller& caller, ClientContext& context) {
  rev2::BatchUpdateBlobsRequest request;
  auto& update = *request.add_requests();
  update.set_data(absl::StrCat(NewName(), Large().substr(0, 1 << 20)));
  *update.mutable_digest() = MessageOf(Digest::Of(update.data()));
  rev2::BatchUpdateBlobsResponse response;
  const Status status =
      caller.cas->BatchUpdateBlobs(&context, request, &response);
  return Expect(status, response.responses_size() == 1 &&
                            response.responses(0).status().code() == 0);
}

Status BatchRead(Caller& caller, ClientContext& context) {
  rev2::BatchReadBlobsRequest request;
  *request.add_digests() = MessageOf(Digest::Of(kSmall));
  rev2::BatchReadBlobsResponse response;
  const Status status =
      caller.cas->BatchReadBlobs(&context, request, &response);
  return Expect(status, response.responses_size() == 1 &&
                            response.responses(0).data() == kSmall);
}

Status GetTree(Caller& caller, ClientContext& context) {
  rev2::GetTreeRequest request;
  *request.mutable_root_digest() = MessageOf(Root());
  return ReadAll<rev2::GetTreeResponse>(
      *caller.cas->GetTree(&context, request),
      [](const auto& page) { return page.directories_size(); }, 40);
}

rev2::ActionResult Result() {
  rev2::ActionResult result;
  *result.mutable_stdout_digest() = MessageOf(Digest::Of(kSmall));
  return result;
}

Status UpdateResult(Caller& caller, ClientContext& context) {
  rev2::UpdateActionResultRequest request;
  *request.mutable_action_digest() = MessageOf(Digest::Of(kSmall));
  *request.mutable_action_result() = Result();
  rev2::ActionResult response;
  return caller.actions->UpdateActionResult(&context, request, &response);
}

Status GetResult(Caller& caller, ClientContext& context) {
  rev2::GetActionResultRequest request;
  *request.mutable_action_digest() = MessageOf(Digest::Of(kSmall));
  request.set_inline_stdout(true);
  rev2::ActionResult response;
  const Status status =
      caller.actions->GetActionResult(&context, request, &response);
  return Expect(status, response.stdout_raw() == kSmall);
}

Status GetCapabilities(Caller& caller, ClientContext& context) {
  rev2::ServerCapabilities response;
  return caller.capabilities->GetCapabilities(&context, {}, &response);
}

// Blobs of any size.

Status Read(Caller& caller, ClientContext& context) {
  google::bytestream::ReadRequest request;
  request.set_resource_name(BlobName(Digest::Of(Large())));
  const auto reader = caller.bytes->Read(&context, request);
  google::bytestream::ReadResponse response;
  std::string got;
  while (reader->Read(&response)) got += response.data();
  const Status status = reader->Finish();
  return Expect(status, got == Large());
}

Status Write(Caller& caller, ClientContext& context) {
  const std::string bytes = absl::StrCat(NewName(), Large());
  google::bytestream::WriteResponse response;
  const auto writer = caller.bytes->Write(&context, &response);
  google::bytestream::WriteRequest piece;
  piece.set_resource_name(
      absl::StrCat("uploads/", NewName(), "/", BlobName(Digest::Of(bytes))));
  constexpr size_t kPiece = 256 << 10;
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    piece.set_write_offset(static_cast<int64_t>(at));
    piece.set_data(bytes.substr(at, kPiece));
    piece.set_finish_write(at + kPiece >= bytes.size());
    if (!writer->Write(piece)) break;
  }
  writer->WritesDone();
  const Status status = writer->Finish();
  return Expect(
      status, response.committed_size() == static_cast<int64_t>(bytes.size()));
}

Status QueryWriteStatus(Caller& caller, ClientContext& context) {
  google::bytestream::QueryWriteStatusRequest request;
  request.set_resource_name(
      absl::StrCat("uploads/x/", BlobName(Digest::Of(kSmall))));
  google::bytestream::QueryWriteStatusResponse response;
  const Status status =
      caller.bytes->QueryWriteStatus(&context, request, &response);
  return Expect(status, response.complete());
}

// LocalCAS.

std::string StagePath(const Caller& caller) {
  return caller.server.folder + "/stage";
}

Status StageTree(Caller& caller, ClientContext& context) {
  const auto stream = caller.local->StageTree(&context);
  local_cas::StageTreeRequest request;
  *request.mutable_root_digest() = MessageOf(Root());
  request.set_path(absl::StrCat(caller.server.folder, "/", NewName()));
  stream->Write(request);
  local_cas::StageTreeResponse response;
  bool is_there = stream->Read(&response) &&
                  ReadFile(response.path() + "/below/file") == kSmall;
  stream->WritesDone();
  local_cas::StageTreeResponse end;
  while (stream->Read(&end)) {
  }
  const Status status = stream->Finish();
  return Expect(status, is_there);
}

// casement.v1.

// A session for as long as this lives.
class OpenSession {
 public:
  explicit OpenSession(Caller& caller)
      : stream_(caller.sandboxes->Session(&context_)) {
    v1::SessionResponse response;
    if (stream_->Read(&response)) id_ = response.session_id();
  }
  ~OpenSession() {
    stream_->WritesDone();
    stream_->Finish();
  }
  OpenSession(const OpenSession&) = delete;
  OpenSession& operator=(const OpenSession&) = delete;

  v1::CreateRequest Request() const {
    v1::CreateRequest request;
    request.set_session_id(id_);
    request.set_name(NewName());
    *request.mutable_root() = MessageOf(Root());
    return request;
  }

 private:
  ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::SessionRequest, v1::SessionResponse>>
      stream_;
  std::string id_;
};

Status Create(Caller& caller, ClientContext& context) {
  const OpenSession session(caller);
  v1::Sandbox sandbox;
  const Status status =
      caller.sandboxes->Create(&context, session.Request(), &sandbox);
  return Expect(status,
                ReadFile(sandbox.path() + "/below/below/file") == kSmall);
}

Status Release(Caller& caller, ClientContext& context) {
  const OpenSession session(caller);
  ClientContext before;
  v1::Sandbox sandbox;
  const Status made =
      caller.sandboxes->Create(&before, session.Request(), &sandbox);
  if (!made.ok()) return made;
  v1::ReleaseRequest request;
  request.set_name(sandbox.name());
  v1::ReleaseResponse response;
  const Status status = caller.sandboxes->Release(&context, request, &response);
  return Expect(status, access(sandbox.path().c_str(), F_OK) != 0);
}

Status Diff(Caller& caller, ClientContext& context) {
  v1::DiffRequest request;
  request.set_name(kSandbox);
  return ReadAll<v1::DiffResponse>(
      *caller.sandboxes->Diff(&context, request),
      [](const auto& piece) { return piece.changes_size(); }, 100);
}

Status Collect(Caller& caller, ClientContext& context) {
  v1::CollectRequest request;
  request.set_name(kSandbox);
  for (int i = 0; i < 100; ++i) request.add_paths(absl::StrCat("new", i));
  return ReadAll<v1::CollectResponse>(
      *caller.sandboxes->Collect(&context, request),
      [](const auto& piece) { return piece.outputs_size(); }, 100);
}

Status List(Caller& caller, ClientContext& context) {
  return ReadAll<v1::ListResponse>(
      *caller.sandboxes->List(&context, {}),
      [](const auto& piece) {
        return static_cast<int>(std::count_if(
            piece.sandboxes().begin(), piece.sandboxes().end(),
            [](const v1::Sandbox& one) { return one.name() == kSandbox; }));
      },
      1);
}

Status Session(Caller& caller, ClientContext& context) {
  const auto stream = caller.sandboxes->Session(&context);
  v1::SessionResponse response;
  const bool is_there = stream->Read(&response);
  stream->WritesDone();
  const Status status = stream->Finish();
  return Expect(status, is_there && !response.session_id().empty());
}

Status Verify(Caller& caller, ClientContext& context) {
  v1::VerifyRequest request;
  request.set_disk_share_percent(100);
  return ReadAll<v1::VerifyResponse>(
      *caller.store->Verify(&context, request),
      [](const auto& part) {
        return part.has_report() && part.report().damaged().empty() ? 1 : 0;
      },
      1);
}

// Actions.

int IsDone(const Operation& operation) {
  rev2::ExecuteResponse response;
  return operation.done() && operation.response().UnpackTo(&response) &&
                 response.status().code() == 0 &&
                 response.result().exit_code() == 0
             ? 1
             : 0;
}

rev2::ExecuteRequest ExecuteRequest() {
  rev2::ExecuteRequest request;
  *request.mutable_action_digest() = MessageOf(Digest::Of(ActionBytes()));
  return request;
}

Status Execute(Caller& caller, ClientContext& context) {
  return ReadAll<Operation>(
      *caller.execution->Execute(&context, ExecuteRequest()), IsDone, 1);
}

Status WaitExecution(Caller& caller, ClientContext& context) {
  ClientContext before;
  // Results out of the cache have no operation.
  rev2::ExecuteRequest execute = ExecuteRequest();
  execute.set_skip_cache_lookup(true);
  const auto first = caller.execution->Execute(&before, execute);
  Operation operation;
  first->Read(&operation);
  rev2::WaitExecutionRequest request;
  request.set_name(operation.name());
  const Status status = ReadAll<Operation>(
      *caller.execution->WaitExecution(&context, request), IsDone, 1);
  before.TryCancel();
  first->Finish();
  return status;
}

// What both serve.
std::vector<Rpc> Rev2Rpcs() {
  const std::string rev2 = "build.bazel.remote.execution.v2.";
  const std::string cas = rev2 + "ContentAddressableStorage/";
  const std::string bytes = "google.bytestream.ByteStream/";
  return {
      {cas + "FindMissingBlobs", FindMissing},
      {cas + "BatchUpdateBlobs", BatchUpdate},
      {cas + "BatchReadBlobs", BatchRead},
      {cas + "GetTree", GetTree},
      {rev2 + "ActionCache/GetActionResult", GetResult},
      {rev2 + "ActionCache/UpdateActionResult", UpdateResult},
      {rev2 + "Capabilities/GetCapabilities", GetCapabilities},
      {bytes + "Read", Read},
      {bytes + "Write", Write},
      {bytes + "QueryWriteStatus", QueryWriteStatus},
  };
}

std::vector<Rpc> LocalCasRpcs() {
  const std::string service = "build.buildgrid.LocalContentAddressableStorage/";
  using Stub = local_cas::LocalContentAddressableStorage::Stub;
  const auto local = &Caller::local;
  const auto nothing = [](Caller&, auto&) {};
  const auto blobs = [](Caller&, auto& request) {
    *request.add_blob_digests() = MessageOf(Digest::Of(kSmall));
  };
  const auto root = [](Caller&, auto& request) {
    *request.mutable_root_digest() = MessageOf(Root());
  };
  const auto directory = [](Caller& caller, auto& request) {
    request.add_path(StagePath(caller) + "/below");
  };
  const auto file = [](Caller& caller, auto& request) {
    request.add_path(StagePath(caller) + "/new");
  };
  const auto any = [](const auto&) { return true; };
  const auto none = [](const auto& response) {
    return response.responses_size() == 0;
  };
  const auto captured = [](const auto& response) {
    return response.responses_size() == 1 &&
           response.responses(0).status().code() == 0;
  };
  return {
      {service + "GetLocalServerDetails",
       Ask(local, &Stub::GetLocalServerDetails, nothing, any)},
      {service + "FetchMissingBlobs",
       Ask(local, &Stub::FetchMissingBlobs, blobs, none)},
      {service + "UploadMissingBlobs",
       Ask(local, &Stub::UploadMissingBlobs, blobs, none)},
      {service + "FetchTree", Ask(local, &Stub::FetchTree, root, any)},
      {service + "UploadTree", Ask(local, &Stub::UploadTree, root, any)},
      {service + "StageTree", StageTree},
      {service + "CaptureTree",
       Ask(local, &Stub::CaptureTree, directory, captured)},
      {service + "CaptureFiles",
       Ask(local, &Stub::CaptureFiles, file, captured)},
      {service + "HashFiles", Ask(local, &Stub::HashFiles, file, captured)},
      {service + "GetInstanceNameForRemote",
       Ask(local, &Stub::GetInstanceNameForRemote, nothing, any)},
      {service + "GetInstanceNameForRemotes",
       Ask(local, &Stub::GetInstanceNameForRemotes, nothing, any)},
      {service + "GetLocalDiskUsage",
       Ask(local, &Stub::GetLocalDiskUsage, nothing,
           [](const auto& response) { return response.size_bytes() > 0; })},
  };
}

std::vector<Rpc> OwnRpcs() {
  using Stub = v1::Store::Stub;
  return {
      {"casement.v1.Sandboxes/Create", Create},
      {"casement.v1.Sandboxes/Diff", Diff},
      {"casement.v1.Sandboxes/Collect", Collect},
      {"casement.v1.Sandboxes/Release", Release},
      {"casement.v1.Sandboxes/List", List},
      {"casement.v1.Sandboxes/Session", Session},
      {"casement.v1.Store/Stats",
       Ask(
           &Caller::store, &Stub::Stats, [](Caller&, auto&) {},
           [](const auto& response) { return response.blobs() > 0; })},
      {"casement.v1.Store/Evict",
       Ask(
           &Caller::store, &Stub::Evict,
           [](Caller&, auto& request) {
             *request.add_digests() = MessageOf(Digest::Of("absent"));
           },
           [](const auto& response) { return response.failures_size() == 1; })},
      {"casement.v1.Store/Send", Ask(
                                     &Caller::store, &Stub::Send,
                                     [](Caller&, auto& request) {
                                       *request.add_digests() =
                                           MessageOf(Digest::Of(kSmall));
                                     },
                                     [](const auto&) { return true; })},
      {"casement.v1.Store/Verify", Verify, /*one_at_a_time=*/true},
  };
}

std::vector<Rpc> RpcsOf(bool is_worker) {
  std::vector<Rpc> rpcs = Rev2Rpcs();
  if (is_worker) {
    const std::string service = "build.bazel.remote.execution.v2.Execution/";
    rpcs.push_back({service + "Execute", Execute});
    rpcs.push_back({service + "WaitExecution", WaitExecution});
    return rpcs;
  }
  for (Rpc& rpc : LocalCasRpcs()) rpcs.push_back(std::move(rpc));
  for (Rpc& rpc : OwnRpcs()) rpcs.push_back(std::move(rpc));
  return rpcs;
}

// Another one is running, maybe of a client that is gone.
bool IsBusy(const Rpc& rpc, const Status& status) {
  return rpc.one_at_a_time &&
         status.error_code() == StatusCode::RESOURCE_EXHAUSTED;
}

void SetDeadline(ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(60));
}

template <typename Condition>
bool Eventually(const Condition& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

// A client in a process of its own, which calls again and again.
class ClientProcess {
 public:
  // Returns when its first call is over.
  ClientProcess(const Server& server, const std::string& rpc) {
    int out[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    std::vector<std::string> words = {"/proc/self/exe", "--call", server.folder,
                                      server.is_worker ? "worker" : "daemon",
                                      rpc};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    EXPECT_EQ(
        posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ),
        0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    char byte = 0;
    EXPECT_EQ(read(out[0], &byte, 1), 1) << "its first call failed";
    close(out[0]);
  }
  // Kills it.
  ~ClientProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;

  // What it is.
  static int Main(const Server& server, const std::string& name) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const std::vector<Rpc> rpcs = RpcsOf(server.is_worker);
    const auto rpc =
        std::find_if(rpcs.begin(), rpcs.end(),
                     [&](const Rpc& one) { return one.name == name; });
    if (rpc == rpcs.end()) return 2;
    Caller caller(server);
    for (bool is_first = true;;) {
      ClientContext context;
      SetDeadline(context);
      const Status status = rpc->call(caller, context);
      if (IsBusy(*rpc, status)) continue;
      if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.error_message().c_str());
        return 1;
      }
      if (is_first && write(1, "1", 1) != 1) return 3;
      is_first = false;
    }
  }

 private:
  pid_t pid_ = -1;
};

struct Case {
  bool is_worker = false;
  Rpc rpc;

  friend std::ostream& operator<<(std::ostream& out, const Case& one) {
    return out << one.rpc.name;
  }
};

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const bool is_worker : {false, true}) {
    for (Rpc& rpc : RpcsOf(is_worker)) {
      cases.push_back({is_worker, std::move(rpc)});
    }
  }
  return cases;
}

class EveryRpc : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    farm_ = new RunningDaemon();
    daemon_ =
        new RunningDaemon({"--remote", absl::StrCat("unix:", farm_->socket())});
    worker_ = new RunningWorker(*daemon_, {});
    Client& client = daemon_->client();
    for (const std::string& bytes :
         {std::string(kSmall), Large(), CommandBytes(), ActionBytes()}) {
      ASSERT_TRUE(client.Put(bytes).ok());
    }
    for (const std::string& bytes : TreeMessages()) {
      ASSERT_TRUE(client.Put(bytes).ok());
    }
    SandboxSpec spec;
    spec.root = Root();
    spec.name = kSandbox;
    const auto sandbox = client.Create(spec);
    ASSERT_TRUE(sandbox.ok()) << sandbox.status();
    for (int i = 0; i < 100; ++i) {
      WriteFile(absl::StrCat(sandbox->info.path, "/new", i), absl::StrCat(i));
    }
    caller_ = new Caller({daemon_->folder(), false});
    ClientContext context;
    ASSERT_TRUE(UpdateResult(*caller_, context).ok());
    stage_context_ = new ClientContext();
    stage_ = caller_->local->StageTree(stage_context_);
    local_cas::StageTreeRequest request;
    *request.mutable_root_digest() = MessageOf(Root());
    request.set_path(StagePath(*caller_));
    ASSERT_TRUE(stage_->Write(request));
    local_cas::StageTreeResponse response;
    ASSERT_TRUE(stage_->Read(&response));
    WriteFile(StagePath(*caller_) + "/new", "new");
  }
  static void TearDownTestSuite() {
    stage_context_->TryCancel();
    stage_->Finish();
    stage_.reset();
    delete stage_context_;
    delete caller_;
    delete worker_;
    delete daemon_;
    delete farm_;
  }

  // Whatever became of the clients: nothing of theirs is left, and the next one
  // is served.
  void TearDown() override {
    const auto is_clean = [] {
      const auto stats = daemon_->client().Stats();
      return stats.ok() && stats->sandboxes == 2 && stats->sessions == 0;
    };
    EXPECT_TRUE(Eventually(is_clean)) << daemon_->client().Stats()->sandboxes;
    auto verified = daemon_->client().Verify({.disk_share_percent = 100});
    while (absl::IsResourceExhausted(verified.status())) {
      verified = daemon_->client().Verify({.disk_share_percent = 100});
    }
    ASSERT_TRUE(verified.ok()) << verified.status();
    EXPECT_TRUE(verified->damaged.empty());
    EXPECT_EQ(verified->unaccounted_bytes, 0);
    ExpectServed();
  }

  Server Where() const { return {daemon_->folder(), GetParam().is_worker}; }
  const Rpc& rpc() const { return GetParam().rpc; }
  void ExpectServed() {
    Caller caller(Where());
    Status status;
    do {
      ClientContext context;
      SetDeadline(context);
      status = rpc().call(caller, context);
    } while (IsBusy(rpc(), status));
    EXPECT_TRUE(status.ok())
        << status.error_code() << " " << status.error_message();
  }

  static RunningDaemon* farm_;  // The remote cache.
  static RunningDaemon* daemon_;
  static RunningWorker* worker_;
  static Caller* caller_;
  static ClientContext* stage_context_;
  static std::unique_ptr<grpc::ClientReaderWriter<local_cas::StageTreeRequest,
                                                  local_cas::StageTreeResponse>>
      stage_;
};

RunningDaemon* EveryRpc::farm_ = nullptr;
RunningDaemon* EveryRpc::daemon_ = nullptr;
RunningWorker* EveryRpc::worker_ = nullptr;
Caller* EveryRpc::caller_ = nullptr;
ClientContext* EveryRpc::stage_context_ = nullptr;
std::unique_ptr<grpc::ClientReaderWriter<local_cas::StageTreeRequest,
                                         local_cas::StageTreeResponse>>
    EveryRpc::stage_;

INSTANTIATE_TEST_SUITE_P(
    , EveryRpc, testing::ValuesIn(AllCases()), [](const auto& info) {
      std::string name = info.param.rpc.name;
      name = name.substr(name.rfind('.') + 1);
      name.erase(std::remove(name.begin(), name.end(), '/'), name.end());
      return name + (info.param.is_worker ? "OfTheWorker" : "");
    });

// A call of any kind, with these bytes as its request.
Status CallWith(const Server& server, const std::string& rpc,
                const std::string& bytes) {
  grpc::GenericStub stub(server.NewChannel());
  grpc::CompletionQueue queue;
  ClientContext context;
  SetDeadline(context);
  const auto call = stub.PrepareCall(&context, "/" + rpc, &queue);
  const auto is_done = [&queue] {
    void* tag = nullptr;
    bool is_good = false;
    return queue.Next(&tag, &is_good) && is_good;
  };
  call->StartCall(nullptr);
  is_done();
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  call->Write(request, nullptr);
  is_done();
  call->WritesDone(nullptr);
  is_done();
  grpc::ByteBuffer response;
  do {
    call->Read(&response, nullptr);
  } while (is_done());
  Status status;
  call->Finish(&status, nullptr);
  is_done();
  queue.Shutdown();
  is_done();
  return status;
}

TEST_P(EveryRpc, Succeeds) { ExpectServed(); }

TEST_P(EveryRpc, RequestsOfMoreThanEightMebibytesAreExhausted) {
  const Status status =
      CallWith(Where(), rpc().name, std::string((8 << 20) + 1, 'x'));
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED)
      << status.error_message();
}

// G22
TEST_P(EveryRpc, WhatIsNoMessageHarmsNobody) {
  EXPECT_NE(
      CallWith(Where(), rpc().name, std::string(1000, '\xff')).error_code(),
      StatusCode::UNAVAILABLE);
}

TEST_P(EveryRpc, CanBeCancelledAtAnyTime) {
  Caller caller(Where());
  for (int i = 0; i < 24; ++i) {
    ClientContext context;
    SetDeadline(context);
    std::thread canceller([&context, i] {
      absl::SleepFor(absl::Microseconds(50 * i * i));
      context.TryCancel();
    });
    const Status status = rpc().call(caller, context);
    canceller.join();
    const bool is_expected = status.ok() || IsBusy(rpc(), status) ||
                             status.error_code() == StatusCode::CANCELLED;
    EXPECT_TRUE(is_expected)
        << status.error_code() << " " << status.error_message();
  }
}

// G12
TEST_P(EveryRpc, ItsClientMayBeKilledOnTheWay) {
  for (int i = 0; i < 3; ++i) {
    const ClientProcess client(Where(), rpc().name);
    absl::SleepFor(absl::Milliseconds(3 * i));
  }
}

TEST_P(EveryRpc, SixtyFourClientsAreServedAtOnce) {
  std::atomic<int> served{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([this, &served] {
      Caller caller(Where());
      ClientContext context;
      SetDeadline(context);
      const Status status = rpc().call(caller, context);
      if (status.ok()) {
        ++served;
      } else if (!IsBusy(rpc(), status)) {
        ADD_FAILURE() << status.error_code() << " " << status.error_message();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_GE(served, 1);
}

TEST(EveryRpcOf, EachServiceIsInTheList) {
  std::set<std::string> tested;
  for (const Case& one : AllCases()) tested.insert(one.rpc.name);
  std::set<std::string> declared;
  for (const char* const name :
       {"build.bazel.remote.execution.v2.ContentAddressableStorage",
        "build.bazel.remote.execution.v2.ActionCache",
        "build.bazel.remote.execution.v2.Capabilities",
        "build.bazel.remote.execution.v2.Execution",
        "google.bytestream.ByteStream",
        "build.buildgrid.LocalContentAddressableStorage",
        "casement.v1.Sandboxes", "casement.v1.Store"}) {
    const auto* const service =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
            name);
    ASSERT_NE(service, nullptr) << name;
    for (int i = 0; i < service->method_count(); ++i) {
      declared.insert(absl::StrCat(name, "/", service->method(i)->name()));
    }
  }
  EXPECT_EQ(tested, declared);
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "--call") {
    return casement::ClientProcess::Main(
        {argv[2], std::string(argv[3]) == "worker"}, argv[4]);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
