// Question: how fast do an upload and a download of 1 GiB go over the unix
// socket, against the slower of what neither can do without: the SHA-256 of
// these bytes on one core, and a gRPC stream of the same pieces to a process
// that does nothing with them?
//
// Both go through the same client: pieces of 512 KiB, copied into and out of
// protobuf's messages. The blob is in memory on one side, in the page cache on
// the other.
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/bench.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "model/hasher.h"
#include "support/running_daemon.h"
#include "support/temp_directory.h"

namespace casement {
namespace {

using google::bytestream::ByteStream;
using google::bytestream::ReadRequest;
using google::bytestream::ReadResponse;
using google::bytestream::WriteRequest;
using google::bytestream::WriteResponse;

constexpr size_t kPieceBytes = size_t{512} << 10;

void Check(const grpc::Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", what, status.error_message().c_str());
  std::exit(1);
}

// gRPC alone: takes what comes, gives as many bytes as the read limit says.
class Nothing final : public ByteStream::Service {
 public:
  grpc::Status Read(grpc::ServerContext*, const ReadRequest* request,
                    grpc::ServerWriter<ReadResponse>* writer) override {
    ReadResponse piece;
    piece.mutable_data()->assign(kPieceBytes, 'x');
    for (int64_t left = request->read_limit(); left > 0;
         left -= static_cast<int64_t>(kPieceBytes)) {
      if (!writer->Write(piece)) break;
    }
    return grpc::Status::OK;
  }
  grpc::Status Write(grpc::ServerContext*,
                     grpc::ServerReader<WriteRequest>* reader,
                     WriteResponse* response) override {
    WriteRequest piece;
    int64_t bytes = 0;
    while (reader->Read(&piece)) {
      bytes += static_cast<int64_t>(piece.data().size());
    }
    response->set_committed_size(bytes);
    return grpc::Status::OK;
  }
};

// A process that serves Nothing. Made before this one uses gRPC, which does not
// outlive a fork().
class PlainServer {
 public:
  PlainServer() {
    int ready[2];
    Require(pipe(ready) == 0, "pipe");
    pid_ = fork();
    Require(pid_ >= 0, "fork");
    if (pid_ == 0) Serve(ready[1]);
    close(ready[1]);
    char byte = 0;
    Require(read(ready[0], &byte, 1) == 1, "the plain gRPC server");
    close(ready[0]);
  }
  ~PlainServer() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  PlainServer(const PlainServer&) = delete;
  PlainServer& operator=(const PlainServer&) = delete;

  std::string socket() const { return folder_ / "socket"; }

 private:
  [[noreturn]] void Serve(int ready) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Nothing service;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(absl::StrCat("unix:", socket()),
                             grpc::InsecureServerCredentials());
    builder.RegisterService(&service);
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr || write(ready, "r", 1) != 1) std::_Exit(1);
    server->Wait();
    std::_Exit(0);
  }

  TempDirectory folder_;
  pid_t pid_ = -1;
};

// The same client for both servers. Each call's result is its seconds.
class Transfer {
 public:
  Transfer(const std::string& socket, const std::string& blob,
           const Digest& digest)
      : stub_(ByteStream::NewStub(
            grpc::CreateChannel(absl::StrCat("unix:", socket),
                                grpc::InsecureChannelCredentials()))),
        blob_(blob),
        name_(absl::StrCat("blobs/", digest.HexHash(), "/",
                           digest.size_bytes())) {}

  double Upload() {
    return Seconds([this] {
      grpc::ClientContext context;
      WriteResponse response;
      const auto writer = stub_->Write(&context, &response);
      WriteRequest piece;
      piece.set_resource_name("uploads/1-2-3/" + name_);
      for (size_t at = 0; at < blob_.size(); at += kPieceBytes) {
        const size_t bytes = std::min(kPieceBytes, blob_.size() - at);
        piece.mutable_data()->assign(blob_, at, bytes);
        piece.set_write_offset(static_cast<int64_t>(at));
        piece.set_finish_write(at + bytes == blob_.size());
        if (!writer->Write(piece)) break;
        piece.clear_resource_name();
      }
      writer->WritesDone();
      Check(writer->Finish(), "upload");
      Require(response.committed_size() == static_cast<int64_t>(blob_.size()),
              "an upload of all bytes");
    });
  }

  double Download() {
    return Seconds([this] {
      grpc::ClientContext context;
      ReadRequest request;
      request.set_resource_name(name_);
      request.set_read_limit(static_cast<int64_t>(blob_.size()));
      const auto reader = stub_->Read(&context, request);
      ReadResponse piece;
      size_t bytes = 0;
      while (reader->Read(&piece)) {
        bytes += piece.data().size();
        sum_ += static_cast<unsigned char>(piece.data().back());
      }
      Check(reader->Finish(), "download");
      Require(bytes == blob_.size(), "a download of all bytes");
    });
  }

  uint64_t sum() const { return sum_; }

 private:
  const std::unique_ptr<ByteStream::Stub> stub_;
  const std::string& blob_;
  const std::string name_;
  uint64_t sum_ = 0;
};

Digest Hash(const std::string& blob) {
  Hasher hasher;
  for (size_t at = 0; at < blob.size(); at += kPieceBytes) {
    hasher.Update(absl::string_view(blob).substr(at, kPieceBytes));
  }
  return hasher.Finish();
}

std::string RandomBytes(size_t bytes) {
  std::mt19937_64 random(1);  // The same every time.
  std::string blob(bytes, '\0');
  for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = random();
    blob.replace(at, sizeof(word), reinterpret_cast<const char*>(&word),
                 sizeof(word));
  }
  return blob;
}

void Run(const BenchOptions& options, const PlainServer& plain_server) {
  RunningDaemon daemon(options.daemon);
  const std::string blob =
      RandomBytes(size_t{options.quick ? 32U : 1024U} << 20);
  const Digest digest = Hash(blob);
  Transfer casement(daemon.socket(), blob, digest);
  Transfer plain(plain_server.socket(), blob, digest);
  const std::vector<std::vector<double>> took = TakeTurns(
      options.rounds,
      {[&] { return Seconds([&] { Require(Hash(blob) == digest, "hash"); }); },
       [&] { return plain.Upload(); },
       [&] {
         Must(daemon.client().Evict({digest}));
         return casement.Upload();
       },
       [&] { return plain.Download(); },
       [&] {
         Must(daemon.client().Put(blob));
         return casement.Download();
       }});
  const double gigabytes = static_cast<double>(blob.size()) / 1e9;
  const auto line = [gigabytes](const char* what,
                                const std::vector<double>& seconds) {
    std::printf("  %-28s %s s, %.3g GB/s\n", what, Spread(seconds).c_str(),
                gigabytes / Median(seconds));
  };
  const auto ratio = [&took](size_t control, size_t subject) {
    std::printf("  %-28s %.3g\n", "ratio to the slower control",
                std::max(Median(took[0]), Median(took[control])) /
                    Median(took[subject]));
  };
  std::printf("  checksum %llu\n",
              static_cast<unsigned long long>(casement.sum()));  // NOLINT
  line("SHA-256 on one core", took[0]);
  line("plain stream up", took[1]);
  line("upload", took[2]);
  ratio(1, 2);
  line("plain stream down", took[3]);
  line("download", took[4]);
  ratio(3, 4);
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  const casement::BenchOptions options =
      casement::ParseBenchOptions(argc, argv);
  const casement::PlainServer plain_server;
  casement::PrintHeading(absl::StrFormat(
      "%d MiB over the unix socket, against SHA-256 of it and a plain stream",
      options.quick ? 32 : 1024));
  casement::Run(options, plain_server);
  return 0;
}
