// LocalCAS, as buildbox's clients speak it. Its sandboxes are plain
// directories here.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>  // NOLINT
#include <fstream>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "build/buildgrid/local_cas.grpc.pb.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "model/directory.h"
#include "support/control_fixture.h"
#include "support/fake_blob_source.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
namespace local_cas = ::build::buildgrid;
using grpc::ClientContext;
using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LocalCasTest : public ControlServerTest {
 protected:
  using Stub = local_cas::LocalContentAddressableStorage::Stub;

  explicit LocalCasTest(ControlServer::Options options = {},
                        BlobSource* remote = nullptr)
      : ControlServerTest(std::move(options), remote),
        local_(local_cas::LocalContentAddressableStorage::NewStub(channel_)) {}

  // dir/file, and an executable.
  Digest PutTree() {
    DirectoryBuilder below;
    below.AddFile("file", PutNow("in a directory"), false);
    DirectoryBuilder root;
    root.AddDirectory("dir", PutNow(below.Build()));
    root.AddFile("tool", PutNow("a tool"), true);
    return PutNow(root.Build());
  }

  // A stream that stages, from its first answer to its destruction.
  class Stage {
   public:
    Stage(Stub& stub, const local_cas::StageTreeRequest& request)
        : stream_(stub.StageTree(&context_)) {
      stream_->Write(request);
      local_cas::StageTreeResponse response;
      if (stream_->Read(&response)) path_ = response.path();
    }
    ~Stage() {
      if (is_over_) return;
      context_.TryCancel();
      stream_->Finish();
    }
    const std::string& path() const { return path_; }  // "": it failed.
    // As a client says that it is done.
    grpc::Status End() {
      stream_->Write({});
      stream_->WritesDone();
      local_cas::StageTreeResponse response;
      while (stream_->Read(&response)) {
      }
      is_over_ = true;
      return stream_->Finish();
    }
    grpc::Status Finish() {
      is_over_ = true;
      return stream_->Finish();
    }

   private:
    ClientContext context_;
    std::unique_ptr<grpc::ClientReaderWriter<local_cas::StageTreeRequest,
                                             local_cas::StageTreeResponse>>
        stream_;
    std::string path_;
    bool is_over_ = false;
  };

  static local_cas::StageTreeRequest RequestOf(const Digest& root,
                                               const std::string& path = "") {
    local_cas::StageTreeRequest request;
    *request.mutable_root_digest() = MessageOf(root);
    request.set_path(path);
    return request;
  }

  StatusCode StageFails(const local_cas::StageTreeRequest& request) {
    Stage stage(*local_, request);
    return stage.path().empty() ? stage.Finish().error_code() : StatusCode::OK;
  }

  void ExpectNoStages() {
    EXPECT_TRUE(Eventually(absl::Seconds(10),
                           [this] { return harness_.table().List().empty(); }));
  }

  std::unique_ptr<Stub> local_;
};

TEST_F(LocalCasTest, SaysWhoItIs) {
  ClientContext context;
  local_cas::LocalServerDetails details;
  ASSERT_TRUE(local_->GetLocalServerDetails(&context, {}, &details).ok());
  EXPECT_NE(details.hostname(), "");
  EXPECT_EQ(details.process_uid(), ::geteuid());
  EXPECT_EQ(details.storage_root(), std::string(harness_.folder() / "store"));
  PutNow("hello");
  ClientContext second;
  local_cas::GetLocalDiskUsageResponse usage;
  ASSERT_TRUE(local_->GetLocalDiskUsage(&second, {}, &usage).ok());
  EXPECT_EQ(usage.size_bytes(), harness_.store().ledger().Total());
  EXPECT_EQ(usage.quota_bytes(), int64_t{1} << 30);
}

TEST_F(LocalCasTest, ReportsTheBlobsThatAreNotHere) {
  const Digest here = PutNow("here");
  const Digest absent = Digest::Of("absent");
  const auto fill = [&](auto& request) {
    *request.add_blob_digests() = MessageOf(here);
    *request.add_blob_digests() = MessageOf(absent);
    request.add_blob_digests()->set_hash("abc");
  };
  const auto expect_reported = [&](const auto& response) {
    ASSERT_EQ(response.responses_size(), 2);
    EXPECT_EQ(response.responses(0).status().code(),
              StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(response.responses(1).digest().hash(), absent.HexHash());
    EXPECT_EQ(response.responses(1).status().code(), StatusCode::NOT_FOUND);
  };
  local_cas::FetchMissingBlobsRequest fetch;
  fill(fetch);
  ClientContext context;
  local_cas::FetchMissingBlobsResponse fetched;
  ASSERT_TRUE(local_->FetchMissingBlobs(&context, fetch, &fetched).ok());
  expect_reported(fetched);
  local_cas::UploadMissingBlobsRequest upload;
  fill(upload);
  ClientContext second;
  local_cas::UploadMissingBlobsResponse uploaded;
  ASSERT_TRUE(local_->UploadMissingBlobs(&second, upload, &uploaded).ok());
  expect_reported(uploaded);
}

TEST_F(LocalCasTest, TreesAreHereOrTheirMissingBlobsAreNamed) {
  const Digest root = PutTree();
  const auto fetch = [&](const Digest& digest, bool with_files) {
    local_cas::FetchTreeRequest request;
    *request.mutable_root_digest() = MessageOf(digest);
    request.set_fetch_file_blobs(with_files);
    ClientContext context;
    local_cas::FetchTreeResponse response;
    return local_->FetchTree(&context, request, &response);
  };
  const auto upload = [&](const Digest& digest) {
    local_cas::UploadTreeRequest request;
    *request.mutable_root_digest() = MessageOf(digest);
    ClientContext context;
    local_cas::UploadTreeResponse response;
    return local_->UploadTree(&context, request, &response);
  };
  EXPECT_TRUE(fetch(root, false).ok());
  EXPECT_TRUE(fetch(root, true).ok());
  EXPECT_TRUE(upload(root).ok());
  harness_.directories().GiveUpAllIdleLeases();
  const Digest file = Digest::Of("in a directory");
  ASSERT_TRUE(harness_.store().Evict(file).ok());
  EXPECT_TRUE(fetch(root, false).ok());
  for (const grpc::Status& status : {fetch(root, true), upload(root)}) {
    EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
    google::rpc::Status details;
    ASSERT_TRUE(details.ParseFromString(status.error_details()));
    google::rpc::PreconditionFailure failure;
    ASSERT_TRUE(details.details(0).UnpackTo(&failure));
    EXPECT_EQ(failure.violations(0).subject(), BlobName(file));
  }
  EXPECT_EQ(fetch(Digest::Of("absent"), false).error_code(),
            StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(fetch(PutNow("\x0f no Directory"), false).error_code(),
            StatusCode::INVALID_ARGUMENT);
  ClientContext context;
  local_cas::FetchTreeResponse response;
  EXPECT_EQ(local_->FetchTree(&context, {}, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(LocalCasTest, AStageLivesAsLongAsItsStream) {
  const Digest root = PutTree();
  {
    Stage stage(*local_, RequestOf(root));
    ASSERT_NE(stage.path(), "");
    EXPECT_TRUE(fs::exists(stage.path() + "/dir/file"));
    ASSERT_EQ(harness_.table().List().size(), 1u);
    EXPECT_TRUE(stage.End().ok());
    EXPECT_TRUE(harness_.table().List().empty()) << "End() comes too early";
    EXPECT_FALSE(fs::exists(stage.path()));
  }
  // G12: as a client that dies.
  { Stage stage(*local_, RequestOf(root)); }
  ExpectNoStages();
}

TEST_F(LocalCasTest, AStageCanBeWhereItsClientWantsIt) {
  const std::string path = harness_.folder() / "wanted";
  for (const bool is_there : {false, true}) {
    if (is_there) fs::create_directory(path);
    if (is_there) fs::permissions(path, fs::perms(0711));
    Stage stage(*local_, RequestOf(PutTree(), path + "/./"));
    EXPECT_EQ(stage.path(), path);
    EXPECT_TRUE(fs::is_symlink(path));
    EXPECT_TRUE(fs::exists(path + "/dir/file"));
    EXPECT_TRUE(stage.End().ok());
    EXPECT_EQ(fs::exists(fs::symlink_status(path)), is_there);
  }
  EXPECT_TRUE(fs::is_directory(fs::symlink_status(path)));
  EXPECT_EQ(fs::status(path).permissions(), fs::perms(0711));
}

TEST_F(LocalCasTest, APathThatIsTakenIsRefused) {
  const Digest root = PutTree();
  const std::string full = harness_.folder() / "full";
  fs::create_directories(full + "/of things");
  const std::string file = harness_.folder() / "a file";
  std::ofstream{file} << "x";
  EXPECT_EQ(StageFails(RequestOf(root, full)), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(StageFails(RequestOf(root, file)), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(StageFails(RequestOf(root, "/no/such/folder/here")),
            StatusCode::NOT_FOUND);
  const std::string path = harness_.folder() / "path";
  Stage stage(*local_, RequestOf(root, path));
  EXPECT_EQ(StageFails(RequestOf(root, path)), StatusCode::ALREADY_EXISTS);
  EXPECT_TRUE(fs::is_symlink(path));
  EXPECT_EQ(harness_.table().List().size(), 1u);
  // What somebody else put there stays.
  fs::remove(path);
  fs::create_directory(path);
  EXPECT_TRUE(stage.End().ok());
  EXPECT_TRUE(fs::is_directory(path));
}

// By a daemon that was killed: to a sandbox that is no more, or whose name came
// again.
TEST_F(LocalCasTest, ASymlinkThatWasLeftIsReplaced) {
  const std::string path = harness_.folder() / "wanted";
  const std::string sandboxes = harness_.folder() / "sandboxes/";
  for (const std::string& left :
       {std::string("no more"),
        absl::StrCat("s", harness_.table().List().size() + 2)}) {
    fs::create_symlink(sandboxes + left, path);
    Stage stage(*local_, RequestOf(PutTree(), path));
    EXPECT_EQ(stage.path(), path) << left;
    EXPECT_EQ(fs::read_symlink(path), harness_.table().List()[0].path);
    EXPECT_TRUE(stage.End().ok());
    EXPECT_FALSE(fs::is_symlink(path));
  }
  ASSERT_TRUE(harness_.table().Create({.name = "live"}, true).ok());
  for (const std::string& target :
       {sandboxes + "live", sandboxes + "no more/below", std::string("/etc"),
        std::string("no more")}) {
    fs::create_symlink(target, path);
    EXPECT_EQ(StageFails(RequestOf(PutTree(), path)),
              StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(fs::read_symlink(path), target);
    fs::remove(path);
  }
}

TEST_F(LocalCasTest, WrongStagesAreRefused) {
  const Digest root = PutTree();
  for (const std::string path : {"relative", "/a/../b"}) {
    EXPECT_EQ(StageFails(RequestOf(root, path)), StatusCode::INVALID_ARGUMENT);
  }
  EXPECT_EQ(StageFails({}), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(StageFails(RequestOf(Digest::Of("absent"))),
            StatusCode::FAILED_PRECONDITION);
  local_cas::StageTreeRequest commands = RequestOf(root);
  commands.add_pre_unstage_commands("true");
  EXPECT_EQ(StageFails(commands), StatusCode::UNIMPLEMENTED);
  local_cas::StageTreeRequest sockets = RequestOf(root);
  sockets.mutable_remote_apis_socket()->set_path("socket");
  EXPECT_EQ(StageFails(sockets), StatusCode::UNIMPLEMENTED);
  local_cas::StageTreeRequest nobody = RequestOf(root);
  nobody.mutable_access_credentials()->set_uid(-1);
  EXPECT_EQ(StageFails(nobody), StatusCode::INVALID_ARGUMENT);
  ClientContext context;
  auto stream = local_->StageTree(&context);
  stream->WritesDone();
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(harness_.table().List().empty());
}

TEST_F(LocalCasTest, AStageBelongsToWhomItsCredentialsName) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root may choose";
  local_cas::StageTreeRequest request = RequestOf(PutTree());
  request.mutable_access_credentials()->set_uid(4321);
  request.mutable_access_credentials()->set_gid(1234);
  Stage stage(*local_, request);
  ASSERT_EQ(harness_.table().List().size(), 1u);
  EXPECT_EQ(harness_.table().List()[0].spec.owner_uid, 4321u);
  EXPECT_EQ(harness_.table().List()[0].spec.owner_gid, 1234u);
}

// G24
class MembersTest : public LocalCasTest {
 protected:
  static constexpr uid_t kMember = 4343;
  static constexpr gid_t kGroup = 4242;
  MembersTest() : LocalCasTest({.allow_group = kGroup}) {}

  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
    member_ = local_cas::LocalContentAddressableStorage::NewStub(
        NewChannelOf(kMember, kGroup));
  }
  StatusCode MemberFails(const local_cas::StageTreeRequest& request) {
    Stage stage(*member_, request);
    return stage.path().empty() ? stage.Finish().error_code() : StatusCode::OK;
  }
  // Of a capture of one path.
  template <typename Response, typename Method, typename Request>
  int MemberCaptures(Method method, Request request, const std::string& path) {
    request.add_path(path);
    ClientContext context;
    Response response;
    EXPECT_TRUE((*member_.*method)(&context, request, &response).ok());
    return response.responses(0).status().code();
  }

  std::unique_ptr<Stub> member_;
};

TEST_F(MembersTest, ChooseNeitherAPathNorAnotherUser) {
  const Digest root = PutTree();
  const std::string path = harness_.folder() / "wanted";
  EXPECT_EQ(MemberFails(RequestOf(root, path)), StatusCode::PERMISSION_DENIED);
  EXPECT_FALSE(fs::is_symlink(path));
  for (const auto& [uid, gid] : std::vector<std::pair<uid_t, gid_t>>{
           {0, 0}, {kMember, 0}, {4444, kGroup}}) {
    local_cas::StageTreeRequest request = RequestOf(root);
    request.mutable_access_credentials()->set_uid(uid);
    request.mutable_access_credentials()->set_gid(gid);
    EXPECT_EQ(MemberFails(request), StatusCode::PERMISSION_DENIED);
  }
  EXPECT_TRUE(harness_.table().List().empty());
  local_cas::StageTreeRequest own = RequestOf(root);
  own.mutable_access_credentials()->set_uid(kMember);
  own.mutable_access_credentials()->set_gid(kGroup);
  const Stage stage(*member_, own);
  ASSERT_NE(stage.path(), "");
  EXPECT_EQ(harness_.table().List()[0].spec.owner_uid, kMember);
}

TEST_F(MembersTest, CaptureFromTheirOwnStagesOnly) {
  const Digest root = PutTree();
  const Stage own(*member_, RequestOf(root));
  const Stage roots(*local_, RequestOf(root));
  for (const auto& [stage, code] :
       {std::pair{&own, StatusCode::OK},
        std::pair{&roots, StatusCode::PERMISSION_DENIED}}) {
    EXPECT_EQ(MemberCaptures<local_cas::CaptureTreeResponse>(
                  &Stub::CaptureTree, local_cas::CaptureTreeRequest(),
                  stage->path() + "/dir"),
              code);
    EXPECT_EQ(MemberCaptures<local_cas::CaptureFilesResponse>(
                  &Stub::CaptureFiles, local_cas::CaptureFilesRequest(),
                  stage->path() + "/tool"),
              code);
    EXPECT_EQ(MemberCaptures<local_cas::HashFilesResponse>(
                  &Stub::HashFiles, local_cas::HashFilesRequest(),
                  stage->path() + "/tool"),
              code);
  }
}

class MountedTest : public LocalCasTest {
 protected:
  MountedTest() : LocalCasTest({.mount_path = "/the/mount"}) {}
};

TEST_F(MountedTest, AStageIsNotPutIntoTheMount) {
  for (const std::string path : {"/the/mount", "/the//mount/sandbox/x"}) {
    EXPECT_EQ(StageFails(RequestOf(PutTree(), path)),
              StatusCode::INVALID_ARGUMENT);
  }
}

class FewStagesTest : public LocalCasTest {
 protected:
  FewStagesTest() : LocalCasTest({.stages_max = 2}) {}
};

TEST_F(FewStagesTest, StagesHaveALimit) {
  const Digest root = PutTree();
  Stage first(*local_, RequestOf(root));
  {
    Stage second(*local_, RequestOf(root));
    EXPECT_NE(second.path(), "");
    EXPECT_EQ(StageFails(RequestOf(root)), StatusCode::RESOURCE_EXHAUSTED);
    second.End();
  }
  EXPECT_TRUE(Eventually(absl::Seconds(5), [&] {
    return Stage(*local_, RequestOf(root)).path() != "";
  }));
}

// G23
TEST_F(LocalCasTest, ShutdownEndsStages) {
  const std::string path = harness_.folder() / "wanted";
  Stage stage(*local_, RequestOf(PutTree(), path));
  ASSERT_TRUE(fs::is_symlink(path));
  harness_.server().Shutdown();
  EXPECT_TRUE(harness_.table().List().empty());
  EXPECT_FALSE(fs::exists(fs::symlink_status(path)));
}

TEST_F(LocalCasTest, FilesOfAStageAreCaptured) {
  const std::string path = harness_.folder() / "wanted";
  Stage stage(*local_, RequestOf(PutTree(), path));
  std::ofstream(path + "/dir/new") << "new bytes";
  local_cas::CaptureFilesRequest request;
  request.set_root(path);
  for (const std::string& file :
       {std::string("dir/new"), path + "/tool", std::string("absent"),
        std::string("dir"), std::string("../x"), std::string("/etc/passwd")}) {
    request.add_path(file);
  }
  ClientContext context;
  local_cas::CaptureFilesResponse response;
  ASSERT_TRUE(local_->CaptureFiles(&context, request, &response).ok());
  std::vector<int> codes;
  for (const auto& result : response.responses()) {
    codes.push_back(result.status().code());
  }
  EXPECT_THAT(
      codes,
      ElementsAre(StatusCode::OK, StatusCode::OK, StatusCode::NOT_FOUND,
                  StatusCode::FAILED_PRECONDITION, StatusCode::INVALID_ARGUMENT,
                  StatusCode::FAILED_PRECONDITION));
  EXPECT_EQ(response.responses(0).digest().hash(),
            Digest::Of("new bytes").HexHash());
  EXPECT_FALSE(response.responses(0).is_executable());
  EXPECT_EQ(response.responses(0).path(), "dir/new");
  EXPECT_TRUE(response.responses(1).is_executable());
  EXPECT_TRUE(harness_.store().Contains(Digest::Of("new bytes")));
  local_cas::HashFilesRequest hash;
  hash.add_path(path + "/tool");
  ClientContext second;
  local_cas::HashFilesResponse hashed;
  ASSERT_TRUE(local_->HashFiles(&second, hash, &hashed).ok());
  EXPECT_EQ(hashed.responses(0).digest().hash(),
            Digest::Of("a tool").HexHash());
  EXPECT_TRUE(hashed.responses(0).is_executable());
}

TEST_F(LocalCasTest, DirectoriesOfAStageAreCaptured) {
  const Digest root = PutTree();
  Stage stage(*local_, RequestOf(root));
  local_cas::CaptureTreeRequest request;
  request.add_path(stage.path() + "/dir");
  request.add_path(stage.path() + "/tool");
  request.add_path(stage.path() + "/absent");
  ClientContext context;
  local_cas::CaptureTreeResponse response;
  ASSERT_TRUE(local_->CaptureTree(&context, request, &response).ok());
  ASSERT_EQ(response.responses_size(), 3);
  EXPECT_EQ(response.responses(0).status().code(), StatusCode::OK)
      << response.responses(0).status().message();
  EXPECT_TRUE(harness_.store().Contains(
      *Digest::FromParts(response.responses(0).tree_digest().hash(),
                         response.responses(0).tree_digest().size_bytes())));
  EXPECT_EQ(response.responses(1).status().code(),
            StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(response.responses(2).status().code(), StatusCode::NOT_FOUND);
  ASSERT_TRUE(stage.End().ok());
  ClientContext second;
  ASSERT_TRUE(local_->CaptureTree(&second, request, &response).ok());
  EXPECT_THAT(response.responses(0).status().message(),
              HasSubstr("in no stage"));
}

TEST_F(LocalCasTest, CapturesTakeSoManyPathsAndNoMore) {
  local_cas::HashFilesRequest request;
  for (int i = 0; i < 65537; ++i) request.add_path()->push_back('x');
  ClientContext context;
  local_cas::HashFilesResponse response;
  EXPECT_EQ(local_->HashFiles(&context, request, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(LocalCasTest, ThereIsNoRemote) {
  ClientContext context;
  local_cas::GetInstanceNameForRemoteRequest one;
  local_cas::GetInstanceNameForRemoteResponse name;
  EXPECT_TRUE(local_->GetInstanceNameForRemote(&context, one, &name).ok());
  one.set_url("http://remote");
  ClientContext second;
  const grpc::Status refused =
      local_->GetInstanceNameForRemote(&second, one, &name);
  EXPECT_EQ(refused.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("none is configured"));
  local_cas::GetInstanceNameForRemotesRequest several;
  local_cas::GetInstanceNameForRemotesResponse names;
  ClientContext third;
  EXPECT_TRUE(local_->GetInstanceNameForRemotes(&third, several, &names).ok());
  several.mutable_action_cache()->set_url("http://remote");
  ClientContext fourth;
  EXPECT_EQ(
      local_->GetInstanceNameForRemotes(&fourth, several, &names).error_code(),
      StatusCode::FAILED_PRECONDITION);
}

// With a remote cache.

struct WithRemote {
  FakeBlobSource remote_;
};

class SendingLocalCasTest : protected WithRemote, public LocalCasTest {
 protected:
  SendingLocalCasTest() : LocalCasTest({}, &remote_) {}

  std::vector<Digest> Blobs() const {
    return {Digest::Of("in a directory"), Digest::Of("a tool")};
  }
  grpc::Status UploadTree(const Digest& root) {
    local_cas::UploadTreeRequest request;
    *request.mutable_root_digest() = MessageOf(root);
    ClientContext context;
    local_cas::UploadTreeResponse response;
    return local_->UploadTree(&context, request, &response);
  }
};

TEST_F(SendingLocalCasTest, MissingBlobsAreUploaded) {
  const Digest here = PutNow("here");
  const Digest there = remote_.Add("there");
  const Digest nowhere = Digest::Of("nowhere");
  local_cas::UploadMissingBlobsRequest request;
  for (const Digest& digest : {here, there, nowhere}) {
    *request.add_blob_digests() = MessageOf(digest);
  }
  request.add_blob_digests()->set_hash("abc");
  ClientContext context;
  local_cas::UploadMissingBlobsResponse response;
  ASSERT_TRUE(local_->UploadMissingBlobs(&context, request, &response).ok());
  ASSERT_EQ(response.responses_size(), 2);
  EXPECT_EQ(response.responses(0).status().code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(response.responses(1).digest().hash(), nowhere.HexHash());
  EXPECT_EQ(response.responses(1).status().code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(remote_.sent(), ElementsAre(here));
  remote_.SetError(absl::UnavailableError("gone"));
  ClientContext second;
  ASSERT_TRUE(local_->UploadMissingBlobs(&second, request, &response).ok());
  ASSERT_EQ(response.responses_size(), 4);
  EXPECT_EQ(response.responses(1).status().code(), StatusCode::UNAVAILABLE);
}

TEST_F(SendingLocalCasTest, TreesAreUploadedWhole) {
  const Digest root = PutTree();
  EXPECT_TRUE(UploadTree(root).ok());
  EXPECT_EQ(remote_.sent().size(), 4u);  // Two Directories, two files.
  for (const Digest& digest : Blobs()) EXPECT_TRUE(remote_.Has(digest));
  EXPECT_TRUE(remote_.Has(root));
  // What is there already need not be here.
  harness_.directories().GiveUpAllIdleLeases();
  ASSERT_TRUE(harness_.store().Evict(Digest::Of("a tool")).ok());
  EXPECT_TRUE(UploadTree(root).ok());
  EXPECT_EQ(remote_.sent().size(), 4u);
  harness_.directories().GiveUpAllIdleLeases();
  remote_.Remove(Digest::Of("a tool"));
  EXPECT_EQ(UploadTree(root).error_code(), StatusCode::FAILED_PRECONDITION);
  PutNow("a tool");
  remote_.SetError(absl::UnavailableError("gone"));
  EXPECT_EQ(UploadTree(root).error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(SendingLocalCasTest, CapturesAreSentUnlessTheyAreNotToBe) {
  Stage stage(*local_, RequestOf(PutTree()));
  std::ofstream(stage.path() + "/new") << "new bytes";
  const Digest digest = Digest::Of("new bytes");
  local_cas::CaptureFilesRequest request;
  request.set_root(stage.path());
  request.add_path("absent");
  request.add_path("new");
  const auto capture = [&] {
    ClientContext context;
    local_cas::CaptureFilesResponse response;
    EXPECT_TRUE(local_->CaptureFiles(&context, request, &response).ok());
    EXPECT_EQ(response.responses(0).status().code(), StatusCode::NOT_FOUND);
    EXPECT_EQ(response.responses(1).digest().hash(), digest.HexHash());
    return response.responses(1).status().code();
  };
  local_cas::HashFilesRequest hash;
  hash.add_path(stage.path() + "/new");
  ClientContext context;
  local_cas::HashFilesResponse hashed;
  EXPECT_TRUE(local_->HashFiles(&context, hash, &hashed).ok());
  request.set_skip_upload(true);
  EXPECT_EQ(capture(), StatusCode::OK);
  EXPECT_FALSE(remote_.Has(digest));
  request.set_skip_upload(false);
  remote_.SetError(absl::DeadlineExceededError("slow"));
  EXPECT_EQ(capture(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(harness_.store().Contains(digest));
  remote_.SetError(absl::OkStatus());
  EXPECT_EQ(capture(), StatusCode::OK);
  EXPECT_TRUE(remote_.Has(digest));
}

// G12
TEST_F(LocalCasTest, SixtyFourClientsStageAndSomeOfThemDie) {
  const Digest root = PutTree();
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([this, i, &root] {
      auto stub =
          local_cas::LocalContentAddressableStorage::NewStub(NewChannel());
      const std::string path = harness_.folder() / absl::StrCat("stage ", i);
      Stage stage(*stub, RequestOf(root, path));
      EXPECT_EQ(stage.path(), path);
      EXPECT_TRUE(fs::exists(path + "/tool"));
      if (i % 2 == 0) {
        EXPECT_TRUE(stage.End().ok());
      }
    });
  }
  for (std::thread& client : clients) client.join();
  ExpectNoStages();
  EXPECT_TRUE(Eventually(absl::Seconds(5), [this] {
    for (int i = 0; i < 64; ++i) {
      const std::string path = harness_.folder() / absl::StrCat("stage ", i);
      if (fs::exists(fs::symlink_status(path))) return false;
    }
    return true;
  }));
}

}  // namespace
}  // namespace casement
