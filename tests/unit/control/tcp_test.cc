// The services on TCP, in clear text and in TLS, with certificates of the
// test's own making.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/tcp_address.h"
#include "build/buildgrid/local_cas.grpc.pb.h"
#include "control/control_server.h"
#include "proto/http2_preface.h"
#include "support/control_fixture.h"

namespace casement {
namespace {

using grpc::ClientContext;
using grpc::StatusCode;

TcpAddress AnyPort() { return *TcpAddress::Parse("127.0.0.1:0"); }

UniqueFd ConnectTo(const std::string& address_text) {
  const auto address = TcpAddress::Parse(address_text);
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(fd.get(), address->get(), address->size()), 0);
  return fd;
}

bool IsClosed(const UniqueFd& fd) {
  char bytes[4096];
  const ssize_t got = ::recv(fd.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN);
}

void Send(const UniqueFd& fd, absl::string_view bytes) {
  ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

class TcpTest : public ControlServerTest {
 protected:
  explicit TcpTest(ControlServer::Options options = {.tcp_address = AnyPort()})
      : ControlServerTest(std::move(options)) {}

  std::string address() { return harness_.server().tcp_address(); }
  std::shared_ptr<grpc::Channel> Channel(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials =
          grpc::InsecureChannelCredentials()) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel(address(), credentials, arguments);
  }

  // As a client does that asks for nothing.
  static grpc::Status Ask(const std::shared_ptr<grpc::Channel>& channel) {
    ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(5));
    rev2::ServerCapabilities response;
    return rev2::Capabilities::NewStub(channel)->GetCapabilities(&context, {},
                                                                 &response);
  }
};

TEST_F(TcpTest, BlobsComeBackAsTheyWent) {
  const std::string bytes = Pattern(9 * kMiB);
  const Digest digest = Digest::Of(bytes);
  auto channel = Channel();
  bytes_ = google::bytestream::ByteStream::NewStub(channel);
  std::vector<google::bytestream::WriteRequest> pieces;
  for (int i = 0; i < 9; ++i) {
    pieces.push_back(Piece(UploadName(digest), i * kMiB,
                           bytes.substr(i * kMiB, kMiB), i == 8));
  }
  google::bytestream::WriteResponse written;
  const grpc::Status status = Write(pieces, &written);
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::string got;
  EXPECT_TRUE(Read(BlobName(digest), 0, 0, &got).ok());
  EXPECT_TRUE(got == bytes);

  rev2::FindMissingBlobsRequest request;
  *request.add_blob_digests() = MessageOf(digest);
  *request.add_blob_digests() = MessageOf(Digest::Of("absent"));
  rev2::FindMissingBlobsResponse response;
  ClientContext context;
  EXPECT_TRUE(rev2::ContentAddressableStorage::NewStub(channel)
                  ->FindMissingBlobs(&context, request, &response)
                  .ok());
  EXPECT_EQ(response.missing_blob_digests_size(), 1);
}

TEST_F(TcpTest, ResultsOfActionsAreServed) {
  auto actions = rev2::ActionCache::NewStub(Channel());
  rev2::GetActionResultRequest request;
  *request.mutable_action_digest() = MessageOf(Digest::Of("action"));
  rev2::ActionResult result;
  ClientContext context;
  EXPECT_EQ(actions->GetActionResult(&context, request, &result).error_code(),
            StatusCode::NOT_FOUND);
}

// G24
TEST_F(TcpTest, WhatGivesPowerOverTheMachineIsUnimplemented) {
  auto channel = Channel();
  const auto expect_unimplemented = [](const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED)
        << status.error_message();
  };
  {
    ClientContext context;
    v1::Sandbox sandbox;
    expect_unimplemented(
        v1::Sandboxes::NewStub(channel)->Create(&context, {}, &sandbox));
  }
  {
    ClientContext context;
    v1::StatsResponse response;
    expect_unimplemented(
        v1::Store::NewStub(channel)->Stats(&context, {}, &response));
  }
  {
    ClientContext context;
    build::buildgrid::CaptureFilesResponse response;
    expect_unimplemented(
        build::buildgrid::LocalContentAddressableStorage::NewStub(channel)
            ->CaptureFiles(&context, {}, &response));
  }
}

TEST_F(TcpTest, RequestsOfMoreThanEightMebibytesAreExhausted) {
  rev2::BatchUpdateBlobsRequest request;
  request.add_requests()->set_data(std::string(9 * kMiB, 'x'));
  ClientContext context;
  rev2::BatchUpdateBlobsResponse response;
  EXPECT_EQ(rev2::ContentAddressableStorage::NewStub(Channel())
                ->BatchUpdateBlobs(&context, request, &response)
                .error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(TcpTest, SilentConnectionsHinderNobody) {
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 200; ++i) silent.push_back(ConnectTo(address()));
  for (size_t i = 0; i < silent.size(); i += 2) {
    ::shutdown(silent[i].get(), SHUT_WR);
  }
  EXPECT_TRUE(Ask(Channel()).ok());
}

TEST_F(TcpTest, GarbageEndsItsConnectionOnly) {
  for (const std::string& garbage :
       {Pattern(100'000), std::string("GET / HTTP/1.1\r\n\r\n"),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + Pattern(5000)}) {
    const UniqueFd fd = ConnectTo(address());
    Send(fd, garbage);
    EXPECT_TRUE(Eventually(absl::Seconds(10), [&] { return IsClosed(fd); }));
  }
  EXPECT_TRUE(Ask(Channel()).ok());
}

TEST_F(TcpTest, AnAddressInUseIsAnError) {
  ControlServer second(harness_.store(), harness_.directories(),
                       harness_.actions(), harness_.table(), nullptr,
                       {.socket_path = harness_.folder() / "second",
                        .tcp_address = *TcpAddress::Parse(address())});
  const absl::Status started = second.Start();
  EXPECT_TRUE(absl::StrContains(started.message(), "in use")) << started;
  EXPECT_TRUE(Ask(Channel()).ok());
}

TEST_F(TcpTest, ClearTextIsForLoopbackOnly) {
  ControlServer open(harness_.store(), harness_.directories(),
                     harness_.actions(), harness_.table(), nullptr,
                     {.socket_path = harness_.folder() / "second",
                      .tcp_address = *TcpAddress::Parse("0.0.0.0:0")});
  const absl::Status started = open.Start();
  EXPECT_TRUE(absl::IsPermissionDenied(started)) << started;
}

class ImpatientTcpTest : public TcpTest {
 protected:
  ImpatientTcpTest()
      : TcpTest({.connections_of_user_max = 20,
                 .connection_patience = absl::Milliseconds(300),
                 .tcp_address = AnyPort()}) {}
};

// G22
TEST_F(ImpatientTcpTest, ConnectionsThatNeverBeginAreClosedInTime) {
  std::vector<UniqueFd> connections;
  // The last is HTTP/2's whole preface, after which its settings have to come.
  for (const std::string& beginning :
       {std::string(), std::string("P"), std::string(kHttp2Preface)}) {
    connections.push_back(ConnectTo(address()));
    Send(connections.back(), beginning);
  }
  for (const UniqueFd& fd : connections) {
    EXPECT_TRUE(Eventually(absl::Seconds(10), [&] { return IsClosed(fd); }));
  }
}

class CrowdedTcpTest : public TcpTest {
 protected:
  CrowdedTcpTest()
      : TcpTest({.connections_of_user_max = 20, .tcp_address = AnyPort()}) {}
};

TEST_F(CrowdedTcpTest, ConnectionsHaveALimitOfTheirOwn) {
  std::vector<UniqueFd> connections;
  for (int i = 0; i < 60; ++i) {
    connections.push_back(ConnectTo(address()));
    Send(connections.back(), kHttp2Preface);
  }
  EXPECT_TRUE(Eventually(absl::Seconds(10), [&] {
    return harness_.server().refused_connections() == 40;
  })) << harness_.server().refused_connections();
  // The unix socket's are counted apart.
  ClientContext context;
  v1::StatsResponse response;
  EXPECT_TRUE(store_->Stats(&context, {}, &response).ok());
  connections.clear();
  EXPECT_TRUE(
      Eventually(absl::Seconds(10), [&] { return Ask(Channel()).ok(); }));
}

// Certificates: a CA's, a server's and a client's signed by it, and a
// stranger's signed by another CA.
class Certificates {
 public:
  Certificates() {
    MakeCa("ca");
    MakeCa("other");
    Sign("server", "ca");
    Sign("client", "ca");
    Sign("stranger", "other");
  }

  std::string Path(const std::string& name) { return folder_ / name; }
  std::string Read(const std::string& name) {
    std::ostringstream bytes;
    bytes << std::ifstream(folder_ / name).rdbuf();
    return bytes.str();
  }
  TlsFiles ServerFiles() {
    return {.certificate = Read("server.crt"),
            .key = Read("server.key"),
            .client_ca = Read("ca.crt")};
  }
  // Of a client that trusts the CA and is `name`, or nobody.
  std::shared_ptr<grpc::ChannelCredentials> Client(const std::string& name) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = Read("ca.crt");
    if (!name.empty()) {
      options.pem_cert_chain = Read(name + ".crt");
      options.pem_private_key = Read(name + ".key");
    }
    return grpc::SslCredentials(options);
  }

 private:
  void OpenSsl(const std::string& arguments) {
    const std::string command = absl::StrCat(
        "cd ", folder_.path(), " && openssl ", arguments, " 2>openssl.log");
    CASEMENT_CHECK(std::system(command.c_str()) == 0);
  }
  void MakeCa(const std::string& name) {
    OpenSsl(absl::StrCat(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=",
        name, " -keyout ", name, ".key -out ", name, ".crt"));
  }
  void Sign(const std::string& name, const std::string& ca) {
    std::ofstream(folder_ / "names") << "subjectAltName=IP:127.0.0.1\n";
    OpenSsl(absl::StrCat(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "
        "/CN=",
        name, " -keyout ", name, ".key -out ", name, ".csr"));
    OpenSsl(absl::StrCat("x509 -req -days 2 -in ", name, ".csr -CA ", ca,
                         ".crt -CAkey ", ca,
                         ".key -CAcreateserial -extfile "
                         "names -out ",
                         name, ".crt"));
  }

  TempDirectory folder_;
};

Certificates& TheCertificates() {
  static auto& certificates = *new Certificates();
  return certificates;
}

class TlsTest : public TcpTest {
 protected:
  explicit TlsTest(ControlServer::Options options =
                       {.connections_of_user_max = 20,
                        .connection_patience = absl::Milliseconds(300),
                        .tcp_address = AnyPort(),
                        .tls = TheCertificates().ServerFiles()})
      : TcpTest(std::move(options)) {}
};

class PatientTlsTest : public TlsTest {
 protected:
  PatientTlsTest()
      : TlsTest({.tcp_address = AnyPort(),
                 .tls = TheCertificates().ServerFiles()}) {}
};

TEST_F(PatientTlsTest, ClientsWithACertificateAreServed) {
  const grpc::Status status = Ask(Channel(TheCertificates().Client("client")));
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(PatientTlsTest, ClientsWithoutACertificateAreRefused) {
  EXPECT_FALSE(Ask(Channel(TheCertificates().Client(""))).ok());
}

TEST_F(PatientTlsTest, CertificatesThatAnotherCaSignedAreRefused) {
  EXPECT_FALSE(Ask(Channel(TheCertificates().Client("stranger"))).ok());
}

TEST_F(PatientTlsTest, ClearTextIsRefused) {
  EXPECT_FALSE(Ask(Channel()).ok());
  const UniqueFd fd = ConnectTo(address());
  Send(fd, kHttp2Preface);
  EXPECT_TRUE(Eventually(absl::Seconds(5), [&] { return IsClosed(fd); }));
}

// G22
TEST_F(TlsTest, HandshakesThatDoNotEndAreClosedInTime) {
  std::vector<UniqueFd> connections;
  for (const absl::string_view beginning :
       {absl::string_view(), absl::string_view("\x16"),
        absl::string_view("\x16\x03\x01\x02", 4)}) {
    connections.push_back(ConnectTo(address()));
    Send(connections.back(), beginning);
  }
  for (const UniqueFd& fd : connections) {
    EXPECT_TRUE(Eventually(absl::Seconds(10), [&] { return IsClosed(fd); }));
  }
}

TEST_F(TlsTest, ConnectionsHaveALimitBeforeTheirHandshakeEnds) {
  std::vector<UniqueFd> connections;
  for (int i = 0; i < 60; ++i) {
    connections.push_back(ConnectTo(address()));
    Send(connections.back(), "\x16\x03");
  }
  EXPECT_TRUE(Eventually(absl::Seconds(10), [&] {
    return harness_.server().refused_connections() > 0;
  }));
}

class ServerOnlyTlsTest : public TlsTest {
 protected:
  ServerOnlyTlsTest()
      : TlsTest({.tcp_address = AnyPort(),
                 .tls = TlsFiles{
                     .certificate = TheCertificates().Read("server.crt"),
                     .key = TheCertificates().Read("server.key")}}) {}
};

TEST_F(ServerOnlyTlsTest, OnLoopbackClientsNeedNoCertificate) {
  const grpc::Status status = Ask(Channel(TheCertificates().Client("")));
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(TcpTest, KeysThatAreNoneAreInvalid) {
  ControlServer::Options options = {
      .socket_path = harness_.folder() / "second",
      .tcp_address = AnyPort(),
      .tls = TlsFiles{.certificate = "no", .key = "no"}};
  ControlServer server(harness_.store(), harness_.directories(),
                       harness_.actions(), harness_.table(), nullptr, options);
  const absl::Status started = server.Start();
  EXPECT_TRUE(absl::IsInvalidArgument(started)) << started;
  options.tls = TlsFiles{.certificate = TheCertificates().Read("server.crt"),
                         .key = TheCertificates().Read("client.key")};
  ControlServer other(harness_.store(), harness_.directories(),
                      harness_.actions(), harness_.table(), nullptr, options);
  EXPECT_TRUE(absl::IsInvalidArgument(other.Start()));
}

TEST(TlsFiles, SayWhatIsWrongWithThem) {
  const TlsFiles good = TheCertificates().ServerFiles();
  EXPECT_TRUE(CheckUsable(good).ok()) << CheckUsable(good);
  TlsFiles files = good;
  files.certificate = files.key;
  EXPECT_EQ(CheckUsable(files).message(),
            "TLS: the certificate is none in PEM");
  files = good;
  files.key = files.certificate;
  EXPECT_EQ(CheckUsable(files).message(),
            "TLS: the key is none in PEM, or has a password");
  files = good;
  files.key = TheCertificates().Read("client.key");
  EXPECT_EQ(CheckUsable(files).message(),
            "TLS: the key is not the certificate's");
  files = good;
  files.client_ca = "none";
  EXPECT_EQ(CheckUsable(files).message(),
            "TLS: the client CA is no certificate in PEM");
}

}  // namespace
}  // namespace casement
