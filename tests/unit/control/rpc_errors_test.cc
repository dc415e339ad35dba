// Errors that the .proto files document, as far as tests of what the RPCs do
// have not met them.
#include <filesystem>  // NOLINT
#include <string>
#include <utility>
#include <vector>

#include "build/buildgrid/local_cas.grpc.pb.h"
#include "gmock/gmock.h"
#include "google/rpc/status.pb.h"
#include "model/directory.h"
#include "support/control_fixture.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
namespace local_cas = ::build::buildgrid;
using google::bytestream::WriteResponse;
using grpc::ClientContext;
using grpc::StatusCode;
using ::testing::Each;

class RpcErrorsTest : public ControlServerTest {
 protected:
  explicit RpcErrorsTest(int64_t capacity_bytes = int64_t{1} << 30)
      : ControlServerTest({}, nullptr, capacity_bytes),
        actions_(rev2::ActionCache::NewStub(channel_)),
        local_(local_cas::LocalContentAddressableStorage::NewStub(channel_)) {}

  StatusCode CreateFails(const v1::CreateRequest& request) {
    v1::Sandbox sandbox;
    return Create(request, &sandbox).error_code();
  }
  // Whatever comes before the end.
  template <typename Response>
  static StatusCode CodeOf(
      const std::unique_ptr<grpc::ClientReader<Response>>& reader) {
    Response response;
    while (reader->Read(&response)) {
    }
    return reader->Finish().error_code();
  }
  StatusCode VerifyFails(const v1::VerifyRequest& request) {
    ClientContext context;
    return CodeOf(store_->Verify(&context, request));
  }
  rev2::BatchUpdateBlobsResponse Update(const rev2::Digest& digest,
                                        const std::string& data) {
    rev2::BatchUpdateBlobsRequest request;
    *request.add_requests()->mutable_digest() = digest;
    request.mutable_requests(0)->set_data(data);
    ClientContext context;
    rev2::BatchUpdateBlobsResponse response;
    EXPECT_TRUE(cas_->BatchUpdateBlobs(&context, request, &response).ok());
    return response;
  }
  int BatchReadCode(const rev2::Digest& digest) {
    rev2::BatchReadBlobsRequest request;
    *request.add_digests() = digest;
    ClientContext context;
    rev2::BatchReadBlobsResponse response;
    EXPECT_TRUE(cas_->BatchReadBlobs(&context, request, &response).ok());
    return response.responses(0).status().code();
  }
  // Cuts the file of a blob short.
  void Damage(const Digest& digest) {
    const std::string name = digest.ToString();
    const fs::path file =
        harness_.folder() / ("store/cas/" + name.substr(0, 2) + "/" + name);
    fs::permissions(file, fs::perms(0600));
    fs::resize_file(file, digest.size_bytes() / 2);
  }
  // Of a Directory with one file.
  Digest PutRoot(const Digest& file) {
    DirectoryBuilder builder;
    builder.AddFile("file", file, false);
    return PutNow(builder.Build());
  }

  std::unique_ptr<rev2::ActionCache::Stub> actions_;
  std::unique_ptr<local_cas::LocalContentAddressableStorage::Stub> local_;
};

TEST_F(RpcErrorsTest, EachRequestWithADigestFunctionHasToNameOurs) {
  constexpr auto kOther = static_cast<rev2::DigestFunction::Value>(9);
  const auto context = [] { return std::make_unique<ClientContext>(); };
  std::vector<StatusCode> codes;
  const auto ask = [&](auto stub, auto method, auto request, auto response) {
    request.set_digest_function(kOther);
    codes.push_back(
        (stub->*method)(context().get(), request, &response).error_code());
  };
  using Cas = rev2::ContentAddressableStorage::Stub;
  using Actions = rev2::ActionCache::Stub;
  ask(cas_.get(), &Cas::FindMissingBlobs, rev2::FindMissingBlobsRequest(),
      rev2::FindMissingBlobsResponse());
  ask(cas_.get(), &Cas::BatchUpdateBlobs, rev2::BatchUpdateBlobsRequest(),
      rev2::BatchUpdateBlobsResponse());
  ask(cas_.get(), &Cas::BatchReadBlobs, rev2::BatchReadBlobsRequest(),
      rev2::BatchReadBlobsResponse());
  rev2::UpdateActionResultRequest update;
  *update.mutable_action_digest() = MessageOf(Digest::Of("action"));
  update.mutable_action_result();
  ask(actions_.get(), &Actions::UpdateActionResult, update,
      rev2::ActionResult());
  rev2::GetTreeRequest tree;
  *tree.mutable_root_digest() = MessageOf(PutNow(""));
  tree.set_digest_function(kOther);
  const auto call = context();
  codes.push_back(CodeOf(cas_->GetTree(call.get(), tree)));
  EXPECT_THAT(codes, Each(StatusCode::INVALID_ARGUMENT));
  EXPECT_EQ(codes.size(), 5u);
}

TEST_F(RpcErrorsTest, MalformedDigestsInABatchAreInvalidEachForItself) {
  rev2::Digest malformed;
  malformed.set_hash("abc");
  malformed.set_size_bytes(3);
  EXPECT_EQ(Update(malformed, "abc").responses(0).status().code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(BatchReadCode(malformed), StatusCode::INVALID_ARGUMENT);
}

TEST_F(RpcErrorsTest, DamagedBlobsAreDataLossAndThenNotFound) {
  const Digest batch = PutNow(Pattern(10'000));
  const Digest stream = PutNow(Pattern(3 * kMiB));
  const Digest compressed = PutNow(Pattern(3 * kMiB + 1));
  for (const Digest& digest : {batch, stream, compressed}) Damage(digest);
  EXPECT_EQ(BatchReadCode(MessageOf(batch)), StatusCode::DATA_LOSS);
  EXPECT_EQ(BatchReadCode(MessageOf(batch)), StatusCode::NOT_FOUND);
  const std::vector<std::string> names = {
      BlobName(stream),
      absl::StrCat("compressed-blobs/zstd/", compressed.HexHash(), "/",
                   compressed.size_bytes())};
  for (const std::string& name : names) {
    std::string got;
    EXPECT_EQ(Read(name, 0, 0, &got).error_code(), StatusCode::DATA_LOSS);
    EXPECT_EQ(Read(name, 0, 0, &got).error_code(), StatusCode::NOT_FOUND);
  }
}

TEST_F(RpcErrorsTest, OnlyUploadsHaveAStatus) {
  google::bytestream::QueryWriteStatusRequest request;
  google::bytestream::QueryWriteStatusResponse response;
  for (const std::string& name :
       {std::string(), BlobName(Digest::Of("x")), std::string("uploads/x"),
        std::string(5000, 'x')}) {
    request.set_resource_name(name);
    ClientContext context;
    EXPECT_EQ(
        bytes_->QueryWriteStatus(&context, request, &response).error_code(),
        StatusCode::INVALID_ARGUMENT);
  }
}

TEST_F(RpcErrorsTest, SandboxesThatThereAreNotAreNotFound) {
  ClientContext contexts[3];
  v1::DiffRequest diff;
  diff.set_name("absent");
  EXPECT_EQ(CodeOf(sandboxes_->Diff(&contexts[0], diff)),
            StatusCode::NOT_FOUND);
  v1::CollectRequest collect;
  collect.set_name("absent");
  collect.add_paths("x");
  EXPECT_EQ(CodeOf(sandboxes_->Collect(&contexts[1], collect)),
            StatusCode::NOT_FOUND);
  v1::ReleaseRequest release;
  release.set_name("absent");
  v1::ReleaseResponse released;
  EXPECT_EQ(sandboxes_->Release(&contexts[2], release, &released).error_code(),
            StatusCode::NOT_FOUND);
}

TEST_F(RpcErrorsTest, SandboxesThatCannotBeAreRefused) {
  v1::CreateRequest taken;
  taken.set_name("taken");
  EXPECT_EQ(CreateFails(taken), StatusCode::OK);
  EXPECT_EQ(CreateFails(taken), StatusCode::ALREADY_EXISTS);
  for (const std::string& name :
       {std::string("a/b"), std::string(".."), std::string(256, 'n')}) {
    v1::CreateRequest request;
    request.set_name(name);
    EXPECT_EQ(CreateFails(request), StatusCode::INVALID_ARGUMENT) << name;
  }
  v1::CreateRequest no_directory;
  *no_directory.mutable_root() = MessageOf(PutNow("\x0f no Directory"));
  EXPECT_EQ(CreateFails(no_directory), StatusCode::INVALID_ARGUMENT);
  v1::CreateRequest nowhere;
  nowhere.set_inputs_from(static_cast<v1::InputsFrom>(7));
  EXPECT_EQ(CreateFails(nowhere), StatusCode::INVALID_ARGUMENT);
  v1::CreateRequest no_remote;
  no_remote.set_inputs_from(v1::REMOTE);
  EXPECT_EQ(CreateFails(no_remote), StatusCode::FAILED_PRECONDITION);
  v1::CreateRequest no_group;
  no_group.set_cgroup("/etc");
  EXPECT_EQ(CreateFails(no_group), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(harness_.table().List().size(), 1u);
}

TEST_F(RpcErrorsTest, VerificationsThatCannotBeAreInvalid) {
  for (const int share : {-1, 101}) {
    v1::VerifyRequest request;
    request.set_disk_share_percent(share);
    EXPECT_EQ(VerifyFails(request), StatusCode::INVALID_ARGUMENT) << share;
  }
  for (const std::string& folder :
       {std::string("relative"), harness_.folder() / "store/cas"}) {
    v1::VerifyRequest request;
    request.set_quarantine(folder);
    EXPECT_EQ(VerifyFails(request), StatusCode::INVALID_ARGUMENT) << folder;
  }
}

TEST_F(RpcErrorsTest, CapturesOfAllKindsTakeSoManyPathsAndNoMore) {
  const auto capture = [this](auto method, auto request, auto response) {
    for (int i = 0; i < 65537; ++i) request.add_path()->push_back('x');
    ClientContext context;
    return (local_.get()->*method)(&context, request, &response).error_code();
  };
  using Local = local_cas::LocalContentAddressableStorage::Stub;
  EXPECT_EQ(capture(&Local::CaptureTree, local_cas::CaptureTreeRequest(),
                    local_cas::CaptureTreeResponse()),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(capture(&Local::CaptureFiles, local_cas::CaptureFilesRequest(),
                    local_cas::CaptureFilesResponse()),
            StatusCode::INVALID_ARGUMENT);
}

// A store that is full of leased bytes.
class FullStoreTest : public RpcErrorsTest {
 protected:
  FullStoreTest() : RpcErrorsTest(2 * kMiB) {
    v1::CreateRequest request;
    *request.mutable_root() =
        MessageOf(PutRoot(PutNow(Pattern(kMiB + kMiB / 2))));
    v1::Sandbox sandbox;
    EXPECT_TRUE(Create(request, &sandbox).ok());
  }

  // G16: what it has is read on.
  ~FullStoreTest() override {
    std::string got;
    EXPECT_TRUE(
        Read(BlobName(Digest::Of(Pattern(kMiB + kMiB / 2))), 0, 0, &got).ok());
    harness_.store().CheckInvariants();
  }
};

TEST_F(FullStoreTest, BlobsAreExhausted) {
  const std::string bytes = Pattern(kMiB);
  const rev2::BatchUpdateBlobsResponse response =
      Update(MessageOf(Digest::Of(bytes)), bytes);
  EXPECT_EQ(response.responses(0).status().code(),
            StatusCode::RESOURCE_EXHAUSTED);
  const std::string name = UploadName(Digest::Of(bytes));
  WriteResponse written;
  EXPECT_EQ(Write({Piece(name, 0, bytes, true)}, &written).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(harness_.store().ledger().Get(Owner::kUploads), 0);
}

TEST_F(FullStoreTest, ResultsAreExhausted) {
  rev2::UpdateActionResultRequest request;
  request.mutable_action_result()->set_execution_metadata(
      std::string(kMiB - 1000, 'x'));
  *request.mutable_action_digest() = MessageOf(Digest::Of("action"));
  ClientContext context;
  rev2::ActionResult response;
  EXPECT_EQ(
      actions_->UpdateActionResult(&context, request, &response).error_code(),
      StatusCode::RESOURCE_EXHAUSTED);
}

// It says so rather than that they are missing: they could not come.
TEST_F(FullStoreTest, TreesThatDoNotFitAreExhausted) {
  const Digest root = PutRoot(*Digest::FromParts(std::string(64, '7'), kMiB));
  v1::CreateRequest create;
  *create.mutable_root() = MessageOf(root);
  EXPECT_EQ(CreateFails(create), StatusCode::RESOURCE_EXHAUSTED);
  local_cas::FetchTreeRequest fetch;
  *fetch.mutable_root_digest() = MessageOf(root);
  fetch.set_fetch_file_blobs(true);
  ClientContext contexts[3];
  local_cas::FetchTreeResponse fetched;
  EXPECT_EQ(local_->FetchTree(&contexts[0], fetch, &fetched).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
  local_cas::UploadTreeRequest upload;
  *upload.mutable_root_digest() = MessageOf(root);
  local_cas::UploadTreeResponse uploaded;
  EXPECT_EQ(local_->UploadTree(&contexts[1], upload, &uploaded).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
  local_cas::StageTreeRequest stage;
  *stage.mutable_root_digest() = MessageOf(root);
  const auto stream = local_->StageTree(&contexts[2]);
  stream->Write(stage);
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace casement
