// Every request of every service, over a real socket, to a real store and real
// sandboxes without a mount. Whatever comes, an answer comes, and the store and
// its leases are sound.
//
// An input is the method's number, and then messages: each two bytes of its
// length, the lower first, and so many bytes. They are sent as they are, so
// that gRPC parses them, or refuses to.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>  // NOLINT
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/clock.h"
#include "control/control_server.h"
#include "model/directory.h"
#include "store/action_cache.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "store/disk.h"
#include "vfs/kernel_notifier.h"
#include "vfs/node_table.h"
#include "vfs/sandbox_directory.h"
#include "vfs/scratch_file.h"

namespace casement {
namespace {

constexpr std::array<const char*, 32> kMethods = {
    "/casement.v1.Sandboxes/Create",
    "/casement.v1.Sandboxes/Diff",
    "/casement.v1.Sandboxes/Collect",
    "/casement.v1.Sandboxes/Release",
    "/casement.v1.Sandboxes/List",
    "/casement.v1.Sandboxes/Session",
    "/casement.v1.Store/Stats",
    "/casement.v1.Store/Evict",
    "/casement.v1.Store/Verify",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/"
    "FindMissingBlobs",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/"
    "BatchUpdateBlobs",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs",
    "/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree",
    "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities",
    "/google.bytestream.ByteStream/Read",
    "/google.bytestream.ByteStream/Write",
    "/google.bytestream.ByteStream/QueryWriteStatus",
    "/build.bazel.remote.execution.v2.ActionCache/GetActionResult",
    "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult",
    "/build.buildgrid.LocalContentAddressableStorage/GetLocalServerDetails",
    "/build.buildgrid.LocalContentAddressableStorage/FetchMissingBlobs",
    "/build.buildgrid.LocalContentAddressableStorage/UploadMissingBlobs",
    "/build.buildgrid.LocalContentAddressableStorage/FetchTree",
    "/build.buildgrid.LocalContentAddressableStorage/UploadTree",
    "/build.buildgrid.LocalContentAddressableStorage/StageTree",
    "/build.buildgrid.LocalContentAddressableStorage/CaptureTree",
    "/build.buildgrid.LocalContentAddressableStorage/CaptureFiles",
    "/build.buildgrid.LocalContentAddressableStorage/HashFiles",
    "/build.buildgrid.LocalContentAddressableStorage/GetInstanceNameForRemote",
    "/build.buildgrid.LocalContentAddressableStorage/GetInstanceNameForRemotes",
    "/build.buildgrid.LocalContentAddressableStorage/GetLocalDiskUsage",
    "/casement.v1.Store/Send",
};

class NoKernel final : public KernelNotifier {
 public:
  void Queue(KernelNote) override {}
  void Settle(InodeId) override {}
  void Drain() override {}
  bool Tell(std::vector<KernelNote>) override { return true; }
};

// Made once a process.
class Service {
 public:
  Service() {
    CASEMENT_CHECK(mkdtemp(folder_.data()) != nullptr);
    std::filesystem::create_directory(folder_ + "/store");
    auto store = BlobStore::Open(disk_, clock_,
                                 {.directory = folder_ + "/store",
                                  .capacity_bytes = int64_t{64} << 20,
                                  .log = [](absl::string_view) {}});
    CASEMENT_CHECK(store.ok());
    store_ = *std::move(store);
    directories_ =
        std::make_unique<DirectoryTable>(*store_, DirectoryTable::Options());
    auto actions = ActionCache::Open(
        disk_, *store_,
        {.directory = folder_ + "/store", .log = [](absl::string_view) {}});
    CASEMENT_CHECK(actions.ok());
    actions_ = *std::move(actions);
    store_->SetListener({.give_up_idle_leases = [this](uint64_t used) {
      return directories_->GiveUpIdleLeases(used);
    }});
    scratch_files_ = std::make_unique<ScratchFiles>(*store_);
    sandboxes_ = std::make_shared<SandboxDirectory>(
        SandboxContext{.store = *store_,
                       .scratch_files = *scratch_files_,
                       .directories = *directories_,
                       .nodes = nodes_,
                       .notifier = kernel_,
                       .clock = clock_,
                       .data_path = DataPath::kCached},
        SandboxDirectory::Options{
            .path = folder_ + "/mount/sandbox",
            .attributes = {.number = kSandboxesId, .mode = S_IFDIR | 0555},
            .sandboxes_max = 50});
    sandboxes_->Start();
    Fill();
    const std::string socket = folder_ + "/socket";
    server_ = std::make_unique<ControlServer>(
        *store_, *directories_, *actions_, *sandboxes_, nullptr,
        ControlServer::Options{.socket_path = socket,
                               .mount_path = folder_ + "/mount"});
    CASEMENT_CHECK(server_->Start().ok());
    channel_ = grpc::CreateChannel(absl::StrCat("unix:", socket),
                                   grpc::InsecureChannelCredentials());
  }
  ~Service() {
    channel_.reset();
    server_->Shutdown();
    sandboxes_->ReleaseAll();
    store_->SetListener({});
    sandboxes_.reset();
    nodes_.Clear();
    directories_.reset();
    server_.reset();
    actions_.reset();
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  void Try(const char* method, const std::vector<std::string>& messages) {
    const grpc::Status status = Call(method, messages);
    // It answers in the end, and says why if it does not do it. gRPC itself
    // gives no reason for a message that it cannot parse.
    CASEMENT_CHECK(status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED);
    CASEMENT_CHECK(status.error_code() != grpc::StatusCode::UNAVAILABLE);
    CASEMENT_CHECK(status.ok() || !status.error_message().empty() ||
                   status.error_code() == grpc::StatusCode::INTERNAL);
    store_->CheckInvariants();
    directories_->CheckInvariants();
    actions_->CheckInvariants();
    if (sandboxes_->List().size() > 40) {
      sandboxes_->ReleaseAll();
      Fill();
    }
  }

 private:
  // Something to ask for, which the corpus names.
  void Fill() {
    const auto put = [this](const std::string& bytes) {
      CASEMENT_CHECK(store_->Put(Digest::Of(bytes), bytes).ok());
      return Digest::Of(bytes);
    };
    DirectoryBuilder below;
    below.AddFile("file", put("hello"), true);
    DirectoryBuilder root;
    root.AddDirectory("below", put(below.Build()));
    root.AddFile("file", put("hello"), false);
    root.AddSymlink("link", "/etc/passwd");
    const auto created =
        sandboxes_->Create({.root = put(root.Build()), .name = "s"}, false);
    CASEMENT_CHECK(created.ok() || absl::IsAlreadyExists(created.status()));
  }

  grpc::Status Call(const char* method,
                    const std::vector<std::string>& messages) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(60));
    grpc::CompletionQueue queue;
    const auto done = [&queue] {
      void* tag = nullptr;
      bool is_ok = false;
      CASEMENT_CHECK(queue.Next(&tag, &is_ok));
      return is_ok;
    };
    auto call = stub.PrepareCall(&context, method, &queue);
    call->StartCall(nullptr);
    bool goes_on = done();
    for (const std::string& message : messages) {
      if (!goes_on) break;
      const grpc::Slice slice(message);
      call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
      goes_on = done();
    }
    if (goes_on) {
      call->WritesDone(nullptr);
      done();
    }
    grpc::ByteBuffer response;
    do {
      call->Read(&response, nullptr);
    } while (done());
    grpc::Status status;
    call->Finish(&status, nullptr);
    done();
    queue.Shutdown();
    void* tag = nullptr;
    bool is_ok = false;
    while (queue.Next(&tag, &is_ok)) {
    }
    return status;
  }

  std::string folder_ = "/tmp/casement-fuzz-XXXXXX";
  RealDisk disk_;
  SystemClock clock_;
  NoKernel kernel_;
  NodeTable nodes_;
  std::unique_ptr<BlobStore> store_;
  std::unique_ptr<DirectoryTable> directories_;
  std::unique_ptr<ActionCache> actions_;
  std::unique_ptr<ScratchFiles> scratch_files_;
  std::shared_ptr<SandboxDirectory> sandboxes_;
  std::unique_ptr<ControlServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

std::vector<std::string> Split(absl::string_view bytes) {
  std::vector<std::string> messages;
  while (bytes.size() >= 2) {
    const size_t size = static_cast<uint8_t>(bytes[0]) |
                        size_t{static_cast<uint8_t>(bytes[1])} << 8;
    bytes.remove_prefix(2);
    messages.emplace_back(bytes.substr(0, size));
    bytes.remove_prefix(messages.back().size());
  }
  return messages;
}

}  // namespace
}  // namespace casement

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static casement::Service service;
  if (size == 0) return 0;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  service.Try(casement::kMethods[data[0] % casement::kMethods.size()],
              casement::Split(bytes.substr(1)));
  return 0;
}
