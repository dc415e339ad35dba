// Calls to a remote: over which connection, with which headers, how many at a
// time, how often tried. While calls find it unavailable, its name is looked up
// and it is connected to about once a second.
//
// Thread safe.
#ifndef CASEMENT_REMOTE_REMOTE_CALLS_H_
#define CASEMENT_REMOTE_REMOTE_CALLS_H_

#include <grpcpp/channel.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "remote/in_flight.h"
#include "remote/remote_headers.h"
#include "remote/tries.h"

namespace casement {

// The services at the other end of one connection.
struct RemoteServices {
  explicit RemoteServices(std::shared_ptr<grpc::Channel> its_channel);

  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<
      ::build::bazel::remote::execution::v2::Capabilities::StubInterface>
      capabilities;
  std::unique_ptr<::build::bazel::remote::execution::v2::
                      ContentAddressableStorage::StubInterface>
      cas;
  std::unique_ptr<::google::bytestream::ByteStream::StubInterface> bytes;
};

class RemoteCalls {
 public:
  struct Options {
    RemoteHeaders headers;
    absl::Duration timeout;  // Of a call's tries (Tries).
    size_t calls_max;        // At one time; more wait.
  };
  // Over `channels`, which are not empty, in turn.
  RemoteCalls(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
              Options options);

  // One call, begun and ended, with the context that it must have.
  using Exchange =
      absl::FunctionRef<absl::Status(grpc::ClientContext&, RemoteServices&)>;

  Tries NewTries() { return Tries(in_flight_, options_.timeout, retries_); }
  // Makes one call, once: waits for its turn at most as long as `tries` has
  // left.
  absl::Status Try(const Tries& tries, Exchange exchange);
  // Makes one call of one message each way until it works or is given up. All
  // tries together have the time that `tries` has left.
  absl::Status Ask(Tries& tries, Exchange exchange);

  // Begins to connect, which the first calls would else have to wait for.
  void Connect();
  // Ends all, those to come as well, with Cancelled.
  void Cancel() { in_flight_.Cancel(); }
  // How often a call was tried again.
  int64_t retries() const { return retries_.load(std::memory_order_relaxed); }

 private:
  // Has gRPC look the remote's name up and connect again now.
  void Reconnect();

  const Options options_;
  std::vector<RemoteServices> connections_;  // Set once.
  std::atomic<int64_t> reconnected_ms_ = 0;  // Of a steady clock.
  std::atomic<size_t> turn_ = 0;
  std::atomic<int64_t> retries_ = 0;
  InFlight in_flight_;
};

}  // namespace casement

#endif  // CASEMENT_REMOTE_REMOTE_CALLS_H_
