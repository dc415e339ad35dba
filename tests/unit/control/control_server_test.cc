// The control socket, spoken to as any gRPC client would, with real sockets and
// processes.
#include "control/control_server.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "casement/v1/sandboxes.grpc.pb.h"
#include "casement/v1/store.grpc.pb.h"
#include "gmock/gmock.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "model/directory.h"
#include "proto/http2_preface.h"
#include "support/control_fixture.h"

namespace casement {
namespace {

using google::bytestream::WriteRequest;
using google::bytestream::WriteResponse;
using grpc::ClientContext;
using grpc::StatusCode;
using ::testing::HasSubstr;

constexpr uid_t kNobody = 65534;

// -1 if the connection is refused.
UniqueFd ConnectTo(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                sizeof(address)) != 0) {
    return UniqueFd();
  }
  return fd;
}

// Whether the other end answers a client's beginning, rather than closing,
// within 5 s.
bool HearsSomething(int fd) {
  ::send(fd, kHttp2Preface.data(), kHttp2Preface.size(), MSG_NOSIGNAL);
  pollfd waiting = {.fd = fd, .events = POLLIN, .revents = 0};
  char byte;
  return ::poll(&waiting, 1, 5000) == 1 && ::recv(fd, &byte, 1, 0) == 1;
}

// Runs `body` in a child process; its return value is the exit status.
int InChild(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Who gets in (G24).

TEST_F(ControlServerTest, SocketIsForItsOwnerOnly) {
  struct stat attributes;
  ASSERT_EQ(::stat(harness_.socket().c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0600u);
}

TEST_F(ControlServerTest, OtherUsersAreRefusedEvenIfTheyReachTheSocket) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  EXPECT_EQ(InChild([this] {
              if (::setuid(kNobody) != 0) return 9;
              return ConnectTo(harness_.socket()).valid() ? 1 : 0;
            }),
            0)
      << "the socket's mode lets others in";
  ASSERT_EQ(::chmod(harness_.socket().c_str(), 0777), 0);
  EXPECT_EQ(InChild([this] {
              if (::setuid(kNobody) != 0) return 9;
              const UniqueFd fd = ConnectTo(harness_.socket());
              if (!fd.valid()) return 8;
              return HearsSomething(fd.get()) ? 1 : 0;
            }),
            0);
  EXPECT_EQ(harness_.server().refused_connections(), 1);
}

TEST_F(ControlServerTest, OwnUserIsHeard) {
  const UniqueFd fd = ConnectTo(harness_.socket());
  ASSERT_TRUE(fd.valid());
  EXPECT_TRUE(HearsSomething(fd.get()));
}

class GroupTest : public ControlServerTest {
 protected:
  static constexpr gid_t kGroup = 4242;
  GroupTest() : ControlServerTest({.allow_group = kGroup}) {}
};

TEST_F(GroupTest, SocketIsOpenToTheGroup) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give files away";
  struct stat attributes;
  ASSERT_EQ(::stat(harness_.socket().c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0660u);
  EXPECT_EQ(attributes.st_gid, kGroup);
}

TEST_F(ControlServerTest, GarbageEndsItsConnectionOnly) {
  for (const std::string& garbage :
       {Pattern(100'000), std::string("GET / HTTP/1.1\r\n\r\n"),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + Pattern(5000)}) {
    const UniqueFd fd = ConnectTo(harness_.socket());
    ASSERT_TRUE(fd.valid());
    [[maybe_unused]] const ssize_t sent =
        ::send(fd.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    char buffer[4096];
    EXPECT_TRUE(Eventually(absl::Seconds(5), [&] {
      const ssize_t got =
          ::recv(fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
      return got == 0 || (got < 0 && errno != EAGAIN);
    })) << "the connection stays";
  }
  ClientContext context;
  v1::StatsResponse response;
  EXPECT_TRUE(store_->Stats(&context, {}, &response).ok());
}

TEST_F(ControlServerTest, SilentConnectionsHinderNobody) {
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 100; ++i) silent.push_back(ConnectTo(harness_.socket()));
  // Half open: the other direction is closed.
  for (const UniqueFd& fd : silent) ::shutdown(fd.get(), SHUT_WR);
  ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(5));
  v1::StatsResponse response;
  EXPECT_TRUE(store_->Stats(&context, {}, &response).ok());
}

class ImpatientTest : public ControlServerTest {
 protected:
  ImpatientTest()
      : ControlServerTest({.connections_of_user_max = 20,
                           .connection_patience = absl::Milliseconds(300)}) {}

  static bool IsClosed(const UniqueFd& fd) {
    char byte;
    const ssize_t got = ::recv(fd.get(), &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }
};

// G22
TEST_F(ImpatientTest, ConnectionsThatNeverBeginAreClosedInTime) {
  std::vector<UniqueFd> connections;
  for (const std::string beginning : {"", "P", "PRI * HTTP/2.0\r\n\r\nSM"}) {
    connections.push_back(ConnectTo(harness_.socket()));
    ::send(connections.back().get(), beginning.data(), beginning.size(),
           MSG_NOSIGNAL);
  }
  for (const UniqueFd& fd : connections) {
    EXPECT_TRUE(Eventually(absl::Seconds(10), [&] { return IsClosed(fd); }));
  }
}

TEST_F(ImpatientTest, ConnectionsOfAUserHaveALimit) {
  std::vector<UniqueFd> connections;
  for (int i = 0; i < 60; ++i) {
    connections.push_back(ConnectTo(harness_.socket()));
    ::send(connections.back().get(), kHttp2Preface.data(), kHttp2Preface.size(),
           MSG_NOSIGNAL);
  }
  EXPECT_TRUE(Eventually(absl::Seconds(10), [&] {
    return harness_.server().refused_connections() == 40;
  })) << harness_.server().refused_connections();
  connections.clear();
  EXPECT_TRUE(Eventually(absl::Seconds(10), [&] {
    ClientContext context;
    v1::StatsResponse response;
    return store_->Stats(&context, {}, &response).ok();
  }));
}

TEST_F(ControlServerTest, RequestsOfMoreThanEightMebibytesAreExhausted) {
  rev2::BatchUpdateBlobsRequest request;
  request.add_requests()->set_data(std::string(9 * kMiB, 'x'));
  ClientContext context;
  rev2::BatchUpdateBlobsResponse response;
  EXPECT_EQ(cas_->BatchUpdateBlobs(&context, request, &response).error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
}

// Blobs.

TEST_F(ControlServerTest, BlobsOfEverySizeComeBackAsTheyWent) {
  for (const int size :
       {0, 1, 4 * kMiB - 1, 4 * kMiB, 4 * kMiB + 1, 64 * kMiB}) {
    const std::string bytes = Pattern(size);
    const Digest digest = Digest::Of(bytes);
    std::vector<WriteRequest> pieces;
    int offset = 0;
    do {
      const int length = std::min(size - offset, kMiB - 7);
      pieces.push_back(Piece(UploadName(digest), offset,
                             bytes.substr(offset, length),
                             offset + length == size));
      offset += length;
    } while (offset < size);
    WriteResponse written;
    const grpc::Status status = Write(pieces, &written);
    ASSERT_TRUE(status.ok()) << size << " " << status.error_message();
    EXPECT_EQ(written.committed_size(), size);
    std::string got;
    EXPECT_TRUE(Read(absl::StrCat("i/", BlobName(digest)), 0, 0, &got).ok());
    EXPECT_TRUE(got == bytes) << size;
  }
}

TEST_F(ControlServerTest, ReadsTakeOffsetsAndLimits) {
  const std::string bytes = Pattern(3 * kMiB);
  const std::string name = BlobName(PutNow(bytes));
  for (const auto& [offset, limit] : std::vector<std::pair<int, int>>{
           {0, 1}, {1, 0}, {kMiB - 1, 2}, {3 * kMiB, 0}, {3 * kMiB - 1, 5}}) {
    std::string got;
    EXPECT_TRUE(Read(name, offset, limit, &got).ok());
    EXPECT_TRUE(got == bytes.substr(offset, limit == 0 ? bytes.npos : limit))
        << offset << " " << limit;
  }
}

// As REv2's clients find out what they have to send again.
TEST_F(ControlServerTest, ErrorsNameMissingBlobsInTheirDetails) {
  const Digest absent = Digest::Of("absent");
  const auto expect_named = [&](const google::rpc::Status& status) {
    EXPECT_EQ(status.code(), StatusCode::NOT_FOUND);
    ASSERT_EQ(status.details_size(), 1);
    google::rpc::PreconditionFailure failure;
    ASSERT_TRUE(status.details(0).UnpackTo(&failure));
    ASSERT_EQ(failure.violations_size(), 1);
    EXPECT_EQ(failure.violations(0).type(), "MISSING");
    EXPECT_EQ(failure.violations(0).subject(), BlobName(absent));
  };
  google::rpc::Status details;
  std::string got;
  ASSERT_TRUE(details.ParseFromString(
      Read(BlobName(absent), 0, 0, &got).error_details()));
  expect_named(details);
  rev2::BatchReadBlobsRequest read;
  *read.add_digests() = MessageOf(absent);
  ClientContext context;
  rev2::BatchReadBlobsResponse response;
  ASSERT_TRUE(cas_->BatchReadBlobs(&context, read, &response).ok());
  expect_named(response.responses(0).status());
  rev2::GetTreeRequest tree;
  *tree.mutable_root_digest() = MessageOf(absent);
  ClientContext second;
  ASSERT_TRUE(details.ParseFromString(
      cas_->GetTree(&second, tree)->Finish().error_details()));
  expect_named(details);
}

TEST_F(ControlServerTest, WrongReadsAreRefused) {
  const std::string name = BlobName(PutNow("hello"));
  std::string got;
  EXPECT_EQ(Read(name, -1, 0, &got).error_code(), StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Read(name, 6, 0, &got).error_code(), StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Read(name, 0, -1, &got).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Read("blobs/xyz/5", 0, 0, &got).error_code(),
            StatusCode::INVALID_ARGUMENT);
  const Digest absent = Digest::Of("absent");
  const grpc::Status missing = Read(BlobName(absent), 0, 0, &got);
  EXPECT_EQ(missing.error_code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(missing.error_message(), HasSubstr(absent.ToString()));
  EXPECT_EQ(got, "");
}

TEST_F(ControlServerTest, WrongUploadsAreRefusedAndLeaveNothing) {
  const Digest digest = Digest::Of("hello");
  const std::string name = UploadName(digest);
  const std::vector<std::vector<WriteRequest>> uploads = {
      {},
      {Piece("blobs/x", 0, "hello", true)},
      {Piece(BlobName(digest), 0, "hello", true)},
      {Piece(name, 0, "hullo", true)},
      {Piece(name, 0, "hell", true)},
      {Piece(name, 0, "hello!", true)},
      {Piece(name, 1, "hello", true)},
      {Piece(name, 0, "he", false), Piece(name, 3, "llo", true)},
      {Piece(name, 0, "he", false), Piece(name + "1", 2, "llo", true)},
  };
  for (size_t i = 0; i < uploads.size(); ++i) {
    WriteResponse response;
    EXPECT_EQ(Write(uploads[i], &response).error_code(),
              StatusCode::INVALID_ARGUMENT)
        << "upload " << i;
  }
  EXPECT_FALSE(harness_.store().Contains(digest));
  EXPECT_EQ(harness_.store().ledger().Get(Owner::kUploads), 0);
}

TEST_F(ControlServerTest, UploadOfWhatIsThereIsAnsweredAtOnce) {
  const std::string bytes = Pattern(2 * kMiB);
  const Digest digest = PutNow(bytes);
  ClientContext context;
  WriteResponse response;
  auto writer = bytes_->Write(&context, &response);
  writer->Write(Piece(UploadName(digest), 0, bytes.substr(0, 10), false));
  // Not even told that the pieces end.
  EXPECT_TRUE(writer->Finish().ok());
  EXPECT_EQ(response.committed_size(), 2 * kMiB);
}

class ForgetfulTest : public ControlServerTest {
 protected:
  ForgetfulTest()
      : ControlServerTest({.upload_patience = absl::Milliseconds(200)}) {}
};

TEST_F(ForgetfulTest, UploadOfAClientThatDiesLeavesNothing) {
  const std::string bytes = Pattern(4 * kMiB);
  const Digest digest = Digest::Of(bytes);
  {
    ClientContext context;
    WriteResponse response;
    auto writer = bytes_->Write(&context, &response);
    writer->Write(Piece(UploadName(digest), 0, bytes.substr(0, kMiB), false));
    context.TryCancel();
    writer->Finish();
  }
  EXPECT_TRUE(Eventually(absl::Seconds(5), [this] {
    return harness_.store().ledger().Get(Owner::kUploads) == 0;
  }));
  EXPECT_FALSE(harness_.store().Contains(digest));
}

TEST_F(ControlServerTest, QueryWriteStatusKnowsWholeBlobs) {
  const Digest digest = PutNow("hello");
  google::bytestream::QueryWriteStatusRequest request;
  google::bytestream::QueryWriteStatusResponse response;
  request.set_resource_name(UploadName(digest));
  ClientContext context;
  ASSERT_TRUE(bytes_->QueryWriteStatus(&context, request, &response).ok());
  EXPECT_TRUE(response.complete());
  EXPECT_EQ(response.committed_size(), 5);
  request.set_resource_name(UploadName(Digest::Of("absent")));
  ClientContext second;
  EXPECT_EQ(bytes_->QueryWriteStatus(&second, request, &response).error_code(),
            StatusCode::NOT_FOUND);
}

TEST_F(ControlServerTest, MissingBlobsAreFoundInOrderEachOnce) {
  const Digest here = PutNow("here");
  const Digest a = Digest::Of("a");
  const Digest b = Digest::Of("b");
  rev2::FindMissingBlobsRequest request;
  for (const Digest& digest : {b, here, a, b, Digest()}) {
    *request.add_blob_digests() = MessageOf(digest);
  }
  ClientContext context;
  rev2::FindMissingBlobsResponse response;
  ASSERT_TRUE(cas_->FindMissingBlobs(&context, request, &response).ok());
  ASSERT_EQ(response.missing_blob_digests_size(), 2);
  EXPECT_EQ(response.missing_blob_digests(0).hash(), b.HexHash());
  EXPECT_EQ(response.missing_blob_digests(1).hash(), a.HexHash());
}

TEST_F(ControlServerTest, MalformedDigestsAreInvalid) {
  for (const auto& [hash, size] : std::vector<std::pair<std::string, int64_t>>{
           {"", 0},
           {"abc", 3},
           {std::string(64, 'G'), 3},
           {std::string(64, 'a'), -1},
           {std::string(64, 'a'), 0}}) {
    rev2::FindMissingBlobsRequest request;
    request.add_blob_digests()->set_hash(hash);
    request.mutable_blob_digests(0)->set_size_bytes(size);
    ClientContext context;
    rev2::FindMissingBlobsResponse response;
    EXPECT_EQ(cas_->FindMissingBlobs(&context, request, &response).error_code(),
              StatusCode::INVALID_ARGUMENT)
        << hash << " " << size;
  }
}

TEST_F(ControlServerTest, OtherDigestFunctionsAreInvalid) {
  rev2::FindMissingBlobsRequest request;
  request.set_digest_function(static_cast<rev2::DigestFunction::Value>(9));
  ClientContext context;
  rev2::FindMissingBlobsResponse response;
  EXPECT_EQ(cas_->FindMissingBlobs(&context, request, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(ControlServerTest, EachBlobOfABatchHasItsOwnStatus) {
  rev2::BatchUpdateBlobsRequest request;
  const auto add = [&request](const Digest& digest, const std::string& data) {
    auto& update = *request.add_requests();
    *update.mutable_digest() = MessageOf(digest);
    update.set_data(data);
  };
  add(Digest::Of("right"), "right");
  add(Digest::Of("wrong"), "wrung");
  add(Digest::Of("zipped"), "zipped");
  request.mutable_requests(2)->set_compressor(
      static_cast<rev2::Compressor::Value>(7));
  ClientContext context;
  rev2::BatchUpdateBlobsResponse response;
  ASSERT_TRUE(cas_->BatchUpdateBlobs(&context, request, &response).ok());
  ASSERT_EQ(response.responses_size(), 3);
  EXPECT_EQ(response.responses(0).status().code(), StatusCode::OK);
  EXPECT_EQ(response.responses(1).status().code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(response.responses(2).status().code(),
            StatusCode::INVALID_ARGUMENT);

  rev2::BatchReadBlobsRequest read;
  *read.add_digests() = MessageOf(Digest::Of("right"));
  *read.add_digests() = MessageOf(Digest::Of("wrong"));
  ClientContext second;
  rev2::BatchReadBlobsResponse got;
  ASSERT_TRUE(cas_->BatchReadBlobs(&second, read, &got).ok());
  ASSERT_EQ(got.responses_size(), 2);
  EXPECT_EQ(got.responses(0).data(), "right");
  EXPECT_EQ(got.responses(1).status().code(), StatusCode::NOT_FOUND);
}

TEST_F(ControlServerTest, BatchesTakeFourMebibytesOfBlobsAndNoMore) {
  for (const auto& [last, expected] :
       {std::pair{2 * kMiB, StatusCode::OK},
        std::pair{2 * kMiB + 1, StatusCode::INVALID_ARGUMENT}}) {
    rev2::BatchUpdateBlobsRequest request;
    rev2::BatchReadBlobsRequest read;
    for (const int size : {2 * kMiB, last}) {
      auto& update = *request.add_requests();
      update.set_data(Pattern(size));
      *update.mutable_digest() = MessageOf(Digest::Of(update.data()));
      *read.add_digests() = update.digest();
    }
    ClientContext context;
    rev2::BatchUpdateBlobsResponse response;
    EXPECT_EQ(cas_->BatchUpdateBlobs(&context, request, &response).error_code(),
              expected);
    ClientContext second;
    rev2::BatchReadBlobsResponse got;
    EXPECT_EQ(cas_->BatchReadBlobs(&second, read, &got).error_code(), expected);
  }
}

TEST_F(ControlServerTest, CapabilitiesAreWhatIsServed) {
  auto stub = rev2::Capabilities::NewStub(channel_);
  ClientContext context;
  rev2::ServerCapabilities capabilities;
  ASSERT_TRUE(stub->GetCapabilities(&context, {}, &capabilities).ok());
  EXPECT_EQ(capabilities.cache_capabilities().digest_functions(0),
            rev2::DigestFunction::SHA256);
  EXPECT_EQ(capabilities.cache_capabilities().max_batch_total_size_bytes(),
            4 * kMiB);
  EXPECT_EQ(capabilities.high_api_version().major(), 2);
}

class GetTreeTest : public ControlServerTest {
 protected:
  // A chain of `depth` Directories, each with the next one twice.
  Digest PutChain(int depth) {
    Digest below = PutNow(DirectoryBuilder().Build());
    for (int i = 1; i < depth; ++i) {
      DirectoryBuilder builder;
      builder.AddDirectory("a", below);
      builder.AddDirectory("b", below);
      below = PutNow(builder.Build());
    }
    return below;
  }

  grpc::Status Get(const rev2::GetTreeRequest& request,
                   std::vector<rev2::Directory>* directories,
                   std::string* token) {
    ClientContext context;
    auto reader = cas_->GetTree(&context, request);
    rev2::GetTreeResponse response;
    while (reader->Read(&response)) {
      for (const auto& directory : response.directories()) {
        directories->push_back(directory);
      }
      *token = response.next_page_token();
    }
    return reader->Finish();
  }
};

TEST_F(GetTreeTest, GivesEveryDirectoryOnceTheRootFirst) {
  rev2::GetTreeRequest request;
  *request.mutable_root_digest() = MessageOf(PutChain(40));
  std::vector<rev2::Directory> directories;
  std::string token;
  ASSERT_TRUE(Get(request, &directories, &token).ok());
  EXPECT_EQ(directories.size(), 40u);
  EXPECT_EQ(directories.front().directories_size(), 2);
  EXPECT_EQ(token, "");
}

TEST_F(GetTreeTest, PagesMakeUpTheWhole) {
  rev2::GetTreeRequest request;
  *request.mutable_root_digest() = MessageOf(PutChain(10));
  request.set_page_size(4);
  std::vector<rev2::Directory> directories;
  std::vector<size_t> pages;
  std::string token;
  do {
    request.set_page_token(token);
    token.clear();
    const size_t before = directories.size();
    ASSERT_TRUE(Get(request, &directories, &token).ok());
    pages.push_back(directories.size() - before);
  } while (!token.empty());
  EXPECT_THAT(pages, ::testing::ElementsAre(4, 4, 2));
}

// A page is one message, whatever its client asks for.
TEST_F(GetTreeTest, PagesOfLargeDirectoriesHaveFewer) {
  DirectoryBuilder root;
  for (int i = 0; i < 4; ++i) {
    DirectoryBuilder builder;
    for (int file = 0; file < 2000; ++file) {
      builder.AddFile(absl::StrCat(i, std::string(200, 'x'), file),
                      Digest::Of("x"), false);
    }
    root.AddDirectory(absl::StrCat(i), PutNow(builder.Build()));
  }
  rev2::GetTreeRequest request;
  *request.mutable_root_digest() = MessageOf(PutNow(root.Build()));
  request.set_page_size(1'000'000);
  std::vector<rev2::Directory> directories;
  std::string token;
  int pages = 0;
  do {
    request.set_page_token(token);
    token.clear();
    ASSERT_TRUE(Get(request, &directories, &token).ok());
    ++pages;
  } while (!token.empty());
  EXPECT_EQ(directories.size(), 5u);
  EXPECT_GE(pages, 2);
}

TEST_F(GetTreeTest, WrongRequestsAreRefused) {
  rev2::GetTreeRequest request;
  std::vector<rev2::Directory> directories;
  std::string token;
  EXPECT_EQ(Get(request, &directories, &token).error_code(),
            StatusCode::INVALID_ARGUMENT);
  *request.mutable_root_digest() = MessageOf(Digest::Of("absent"));
  EXPECT_EQ(Get(request, &directories, &token).error_code(),
            StatusCode::NOT_FOUND);
  *request.mutable_root_digest() = MessageOf(PutNow("\x0f no Directory"));
  EXPECT_EQ(Get(request, &directories, &token).error_code(),
            StatusCode::INVALID_ARGUMENT);
  *request.mutable_root_digest() = MessageOf(PutChain(3));
  request.set_page_token("nonsense");
  EXPECT_EQ(Get(request, &directories, &token).error_code(),
            StatusCode::INVALID_ARGUMENT);
  request.set_page_token("");
  request.set_page_size(-1);
  EXPECT_EQ(Get(request, &directories, &token).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

// Sandboxes.

TEST_F(ControlServerTest, OwnerOfASandboxIsThePeer) {
  v1::Sandbox sandbox;
  ASSERT_TRUE(Create({}, &sandbox).ok());
  EXPECT_EQ(sandbox.owner().uid(), ::geteuid());
  EXPECT_EQ(sandbox.owner().gid(), ::getegid());
  EXPECT_GT(sandbox.create_nanoseconds(), 0);
}

TEST_F(ControlServerTest, EverythingInASpecArrives) {
  v1::CreateRequest request;
  request.set_name("name");
  request.set_inputs(v1::READ_ONLY);
  request.set_label("//a:b");
  request.set_scratch_bytes_max(7);
  request.set_nodes_max(8);
  v1::Sandbox sandbox;
  ASSERT_TRUE(Create(request, &sandbox).ok());
  const SandboxSpec spec = harness_.table().Info("name")->spec;
  EXPECT_EQ(spec.inputs, InputsPolicy::kReadOnly);
  EXPECT_EQ(spec.label, "//a:b");
  EXPECT_EQ(spec.scratch_bytes_max, 7);
  EXPECT_EQ(spec.nodes_max, 8);
  EXPECT_EQ(sandbox.nodes_max(), 8);
  EXPECT_EQ(sandbox.path(), harness_.table().Info("name")->path);
}

TEST_F(ControlServerTest, WrongSpecsAreInvalid) {
  std::vector<v1::CreateRequest> wrong(5);
  wrong[0].mutable_root()->set_hash("abc");
  wrong[1].set_label(std::string(4097, 'l'));
  wrong[2].set_scratch_bytes_max(-1);
  wrong[3].set_nodes_max(-1);
  wrong[4].set_inputs(static_cast<v1::InputsPolicy>(7));
  for (size_t i = 0; i < wrong.size(); ++i) {
    v1::Sandbox sandbox;
    EXPECT_EQ(Create(wrong[i], &sandbox).error_code(),
              StatusCode::INVALID_ARGUMENT)
        << i;
  }
}

TEST_F(ControlServerTest, MissingInputsAreNamedInTheErrorsDetails) {
  DirectoryBuilder builder;
  const Digest absent = Digest::Of("absent");
  builder.AddFile("f", absent, false);
  v1::CreateRequest request;
  *request.mutable_root() = MessageOf(PutNow(builder.Build()));
  v1::Sandbox sandbox;
  const grpc::Status status = Create(request, &sandbox);
  ASSERT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), StatusCode::FAILED_PRECONDITION);
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::PreconditionFailure failure;
  ASSERT_TRUE(details.details(0).UnpackTo(&failure));
  ASSERT_EQ(failure.violations_size(), 1);
  EXPECT_EQ(failure.violations(0).type(), "MISSING");
  EXPECT_EQ(failure.violations(0).subject(), BlobName(absent));
}

TEST_F(ControlServerTest, CollectLimitsPaths) {
  v1::Sandbox sandbox;
  ASSERT_TRUE(Create({}, &sandbox).ok());
  std::vector<v1::CollectRequest> wrong(3);
  wrong[0].add_paths(std::string(4096, 'p'));
  wrong[1].add_paths("../escape");
  for (int i = 0; i < 65537; ++i) wrong[2].add_paths(std::string(1, 'p'));
  for (v1::CollectRequest& request : wrong) {
    request.set_name(sandbox.name());
    ClientContext context;
    v1::CollectResponse response;
    auto reader = sandboxes_->Collect(&context, request);
    EXPECT_FALSE(reader->Read(&response));
    EXPECT_EQ(reader->Finish().error_code(), StatusCode::INVALID_ARGUMENT);
  }
}

// Sessions (G12).

class SessionTest : public ControlServerTest {
 protected:
  struct Open {
    ClientContext context;
    std::unique_ptr<
        grpc::ClientReaderWriter<v1::SessionRequest, v1::SessionResponse>>
        stream;
    std::string id;
  };

  std::unique_ptr<Open> OpenSession() {
    auto open = std::make_unique<Open>();
    open->stream = sandboxes_->Session(&open->context);
    v1::SessionResponse response;
    EXPECT_TRUE(open->stream->Read(&response));
    open->id = response.session_id();
    return open;
  }

  grpc::Status CreateUnder(const std::string& session,
                           const std::string& name) {
    v1::CreateRequest request;
    request.set_session_id(session);
    request.set_name(name);
    v1::Sandbox sandbox;
    return Create(request, &sandbox);
  }

  bool Exists(const std::string& name) {
    return harness_.table().Info(name).ok();
  }
};

TEST_F(SessionTest, ItsSandboxesAreGoneWhenItsStreamHasEnded) {
  auto session = OpenSession();
  ASSERT_TRUE(CreateUnder(session->id, "a").ok());
  ASSERT_TRUE(CreateUnder(session->id, "b").ok());
  ASSERT_TRUE(CreateUnder("", "other").ok());
  EXPECT_TRUE(session->stream->WritesDone());
  EXPECT_TRUE(session->stream->Finish().ok());
  EXPECT_FALSE(Exists("a"));
  EXPECT_FALSE(Exists("b"));
  EXPECT_TRUE(Exists("other"));
}

TEST_F(SessionTest, CancellingEndsIt) {
  auto session = OpenSession();
  ASSERT_TRUE(CreateUnder(session->id, "a").ok());
  session->context.TryCancel();
  session->stream->Finish();
  EXPECT_TRUE(Eventually(absl::Seconds(1), [this] { return !Exists("a"); }));
}

TEST_F(SessionTest, OneThatHasEndedOrNeverWasIsNotFound) {
  EXPECT_EQ(CreateUnder("never", "a").error_code(), StatusCode::NOT_FOUND);
  auto session = OpenSession();
  session->stream->WritesDone();
  session->stream->Finish();
  EXPECT_EQ(CreateUnder(session->id, "a").error_code(), StatusCode::NOT_FOUND);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(SessionTest, NameThatWasReleasedAndTakenAgainIsNotItsOwnAnyMore) {
  auto session = OpenSession();
  ASSERT_TRUE(CreateUnder(session->id, "a").ok());
  v1::ReleaseRequest request;
  request.set_name("a");
  ClientContext context;
  v1::ReleaseResponse response;
  ASSERT_TRUE(sandboxes_->Release(&context, request, &response).ok());
  ASSERT_TRUE(CreateUnder("", "a").ok());
  session->stream->WritesDone();
  session->stream->Finish();
  EXPECT_TRUE(Exists("a"));
}

TEST_F(SessionTest, ShutdownEndsThemAndTheirSandboxes) {
  auto session = OpenSession();
  ASSERT_TRUE(CreateUnder(session->id, "a").ok());
  const absl::Time start = absl::Now();
  harness_.server().Shutdown();
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
  EXPECT_FALSE(Exists("a"));
  session->stream->Finish();
}

TEST(ControlServerLimits, SessionsPastTheirNumberAreExhausted) {
  ControlHarness harness({.sessions_max = 2});
  const std::unique_ptr<Client> client = harness.Connect();
  auto first = client->StartSession();
  auto second = client->StartSession();
  ASSERT_TRUE(first.ok() && second.ok());
  const auto third = client->StartSession();
  EXPECT_TRUE(absl::IsResourceExhausted(third.status())) << third.status();
  first->reset();
  EXPECT_TRUE(client->StartSession().ok());
}

// Starting and stopping.

TEST_F(ControlServerTest, ShutdownRemovesTheSocket) {
  harness_.server().Shutdown();
  struct stat attributes;
  EXPECT_NE(::lstat(harness_.socket().c_str(), &attributes), 0);
}

TEST_F(ControlServerTest, SecondDaemonOnTheSocketIsRefused) {
  ControlServer second(harness_.store(), harness_.directories(),
                       harness_.actions(), harness_.table(), nullptr,
                       {.socket_path = harness_.socket()});
  const absl::Status started = second.Start();
  EXPECT_TRUE(absl::IsFailedPrecondition(started));
  EXPECT_EQ(started.message(), absl::StrCat("socket ", harness_.socket(),
                                            ": another daemon answers there"));
  ClientContext context;
  v1::StatsResponse response;
  EXPECT_TRUE(store_->Stats(&context, {}, &response).ok());
}

// The store.

TEST_F(ControlServerTest, StatsTellWhatTheStoreHas) {
  const Digest digest = PutNow(Pattern(10'000));
  ClientContext context;
  v1::StatsResponse response;
  ASSERT_TRUE(store_->Stats(&context, {}, &response).ok());
  EXPECT_EQ(response.capacity_bytes(), int64_t{1} << 30);
  EXPECT_EQ(response.blobs(), 1);
  EXPECT_EQ(response.size_bytes(), digest.size_bytes());
  ASSERT_EQ(response.accounted_size(), 5);
  EXPECT_EQ(response.accounted(0).owner(), "blobs");
  EXPECT_GE(response.accounted(0).bytes(), 10'000);
  ASSERT_EQ(response.metrics_size(), 1);
  EXPECT_EQ(response.metrics(0).name(), "things_total");
  EXPECT_EQ(response.metrics(0).value(), 3);
}

TEST_F(ControlServerTest, EvictTellsWhyOthersStay) {
  const Digest file = PutNow("file");
  DirectoryBuilder builder;
  builder.AddFile("f", file, false);
  v1::CreateRequest create;
  *create.mutable_root() = MessageOf(PutNow(builder.Build()));
  v1::Sandbox sandbox;
  ASSERT_TRUE(Create(create, &sandbox).ok());
  const Digest free = PutNow("free");
  const Digest absent = Digest::Of("absent");
  v1::EvictRequest request;
  for (const Digest& digest : {free, absent, file}) {
    *request.add_digests() = MessageOf(digest);
  }
  ClientContext context;
  v1::EvictResponse response;
  ASSERT_TRUE(store_->Evict(&context, request, &response).ok());
  EXPECT_EQ(response.blobs(), 1);
  EXPECT_EQ(response.bytes(), 4);
  ASSERT_EQ(response.failures_size(), 2);
  EXPECT_EQ(response.failures(0).status().code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(response.failures(0).status().message(),
              HasSubstr(absent.ToString()));
  EXPECT_EQ(response.failures(1).status().code(),
            StatusCode::FAILED_PRECONDITION);
}

TEST_F(ControlServerTest, WhatNoSandboxUsesAnyMoreCanBeEvicted) {
  const Digest file = PutNow("file");
  DirectoryBuilder builder;
  builder.AddFile("f", file, false);
  v1::CreateRequest create;
  create.set_name("s");
  *create.mutable_root() = MessageOf(PutNow(builder.Build()));
  v1::Sandbox sandbox;
  ASSERT_TRUE(Create(create, &sandbox).ok());
  ASSERT_TRUE(harness_.table().Release("s", false).ok());
  v1::EvictRequest request;
  *request.add_digests() = MessageOf(file);
  ClientContext context;
  v1::EvictResponse response;
  ASSERT_TRUE(store_->Evict(&context, request, &response).ok());
  EXPECT_EQ(response.blobs(), 1) << response.DebugString();
}

TEST_F(ControlServerTest, MalformedDigestEvictsNothing) {
  const Digest free = PutNow("free");
  v1::EvictRequest request;
  *request.add_digests() = MessageOf(free);
  request.add_digests()->set_hash("abc");
  ClientContext context;
  v1::EvictResponse response;
  EXPECT_EQ(store_->Evict(&context, request, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(harness_.store().Contains(free));
}

TEST_F(ControlServerTest, VerifyEndsWithAReport) {
  PutNow("one");
  PutNow("three");
  ClientContext context;
  auto reader = store_->Verify(&context, {});
  v1::VerifyResponse response;
  v1::VerifyResponse last;
  while (reader->Read(&response)) last = response;
  ASSERT_TRUE(reader->Finish().ok());
  ASSERT_TRUE(last.has_report());
  EXPECT_EQ(last.report().blobs(), 2);
  EXPECT_EQ(last.report().bytes(), 8);
  EXPECT_GE(last.report().accounted_bytes(), last.report().allocated_bytes());
}

TEST_F(ControlServerTest, VerifyEndsWithItsCall) {
  PutNow(std::string(3 << 20, 'x'));
  v1::VerifyRequest request;
  request.set_disk_share_percent(1);
  {
    ClientContext context;
    auto reader = store_->Verify(&context, request);
    v1::VerifyResponse response;
    ASSERT_TRUE(reader->Read(&response));  // It has begun.
    context.TryCancel();
    while (reader->Read(&response)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
  }
  // Only one runs at a time: so this waits for the end of the first.
  for (;;) {
    ClientContext context;
    request.set_disk_share_percent(100);
    auto reader = store_->Verify(&context, request);
    v1::VerifyResponse response;
    while (reader->Read(&response)) {
    }
    const grpc::Status status = reader->Finish();
    if (status.ok()) break;
    ASSERT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  }
}

// G23: a daemon that is told to end does not wait for it.
TEST_F(ControlServerTest, ShutdownEndsAVerification) {
  PutNow(std::string(32 << 20, 'x'));
  // Looked at after that, and dropped.
  const std::string later = PutNow("later").ToString();
  const std::string folder = harness_.folder() / "store/cas/";
  std::filesystem::resize_file(folder + later.substr(0, 2) + "/" + later, 1);
  v1::VerifyRequest request;
  request.set_repair(true);
  request.set_disk_share_percent(1);
  ClientContext context;
  auto reader = store_->Verify(&context, request);
  v1::VerifyResponse response;
  ASSERT_TRUE(reader->Read(&response));
  harness_.server().Shutdown();
  while (reader->Read(&response)) {
    EXPECT_FALSE(response.has_report());
  }
  EXPECT_FALSE(reader->Finish().ok());
  EXPECT_EQ(harness_.store().GetStats().damaged, 0) << "it went on to its end";
}

}  // namespace
}  // namespace casement
