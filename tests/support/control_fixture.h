// What tests of the control socket's services share: a server, stubs of what
// any gRPC client speaks, and blobs to speak of.
#ifndef CASEMENT_TESTS_SUPPORT_CONTROL_FIXTURE_H_
#define CASEMENT_TESTS_SUPPORT_CONTROL_FIXTURE_H_

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "casement/v1/sandboxes.grpc.pb.h"
#include "casement/v1/store.grpc.pb.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "gtest/gtest.h"
#include "support/blob_messages.h"
#include "support/control_harness.h"

namespace casement {

namespace rev2 = ::build::bazel::remote::execution::v2;

inline constexpr int kMiB = 1 << 20;

inline std::string Pattern(size_t bytes) {
  std::string pattern(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) {
    pattern[i] = static_cast<char>((i * 2654435761u) >> 13);
  }
  return pattern;
}

inline std::string UploadName(const Digest& digest) {
  return absl::StrCat("any/instance/uploads/1-2-3/", BlobName(digest));
}

template <typename Condition>
bool Eventually(absl::Duration timeout, const Condition& condition) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

class ControlServerTest : public ::testing::Test {
 protected:
  explicit ControlServerTest(ControlServer::Options options = {},
                             BlobSource* remote = nullptr,
                             int64_t capacity_bytes = int64_t{1} << 30)
      : harness_(std::move(options), capacity_bytes, remote),
        channel_(NewChannel()),
        cas_(rev2::ContentAddressableStorage::NewStub(channel_)),
        bytes_(google::bytestream::ByteStream::NewStub(channel_)),
        sandboxes_(v1::Sandboxes::NewStub(channel_)),
        store_(v1::Store::NewStub(channel_)) {}

  std::shared_ptr<grpc::Channel> NewChannel() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel(absl::StrCat("unix:", harness_.socket()),
                                     grpc::InsecureChannelCredentials(),
                                     arguments);
  }

  // Of another user's, who is in a group that the server lets in. Needs root.
  std::shared_ptr<grpc::Channel> NewChannelOf(uid_t user, gid_t group) {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {.sun_family = AF_UNIX};
    harness_.socket().copy(address.sun_path, sizeof(address.sun_path) - 1);
    // The system calls themselves are for one thread, unlike setuid(2).
    std::thread([&] {
      EXPECT_EQ(::syscall(SYS_setgroups, 0, nullptr), 0);
      EXPECT_EQ(::syscall(SYS_setresgid, group, group, group), 0);
      EXPECT_EQ(::syscall(SYS_setresuid, user, user, user), 0);
      EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address),
                          sizeof(address)),
                0);
    }).join();
    return grpc::CreateInsecureChannelFromFd("localhost", fd.Release());
  }

  Digest PutNow(const std::string& bytes) {
    const Digest digest = Digest::Of(bytes);
    EXPECT_TRUE(harness_.store().Put(digest, bytes).ok());
    return digest;
  }

  grpc::Status Read(const std::string& name, int64_t offset, int64_t limit,
                    std::string* got) {
    google::bytestream::ReadRequest request;
    request.set_resource_name(name);
    request.set_read_offset(offset);
    request.set_read_limit(limit);
    grpc::ClientContext context;
    auto reader = bytes_->Read(&context, request);
    google::bytestream::ReadResponse response;
    while (reader->Read(&response)) got->append(response.data());
    return reader->Finish();
  }

  // Sends the pieces as they are.
  grpc::Status Write(
      const std::vector<google::bytestream::WriteRequest>& pieces,
      google::bytestream::WriteResponse* response) {
    grpc::ClientContext context;
    auto writer = bytes_->Write(&context, response);
    for (const google::bytestream::WriteRequest& piece : pieces) {
      if (!writer->Write(piece)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }

  google::bytestream::WriteRequest Piece(const std::string& name,
                                         int64_t offset,
                                         const std::string& data,
                                         bool is_last) {
    google::bytestream::WriteRequest request;
    request.set_resource_name(name);
    request.set_write_offset(offset);
    request.set_data(data);
    request.set_finish_write(is_last);
    return request;
  }

  grpc::Status Create(const v1::CreateRequest& request, v1::Sandbox* sandbox) {
    grpc::ClientContext context;
    return sandboxes_->Create(&context, request, sandbox);
  }

  ControlHarness harness_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<rev2::ContentAddressableStorage::Stub> cas_;
  std::unique_ptr<google::bytestream::ByteStream::Stub> bytes_;
  std::unique_ptr<v1::Sandboxes::Stub> sandboxes_;
  std::unique_ptr<v1::Store::Stub> store_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_CONTROL_FIXTURE_H_
