#include "remote/remote_calls.h"

#include <chrono>  // NOLINT
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace casement {

namespace rev2 = ::build::bazel::remote::execution::v2;

RemoteServices::RemoteServices(std::shared_ptr<grpc::Channel> its_channel)
    : channel(std::move(its_channel)),
      capabilities(rev2::Capabilities::NewStub(channel)),
      cas(rev2::ContentAddressableStorage::NewStub(channel)),
      bytes(google::bytestream::ByteStream::NewStub(channel)) {}

RemoteCalls::RemoteCalls(
    const std::vector<std::shared_ptr<grpc::Channel>>& channels,
    Options options)
    : options_(std::move(options)), in_flight_(options_.calls_max) {
  CASEMENT_CHECK(!channels.empty());
  connections_.reserve(channels.size());
  for (const auto& channel : channels) connections_.emplace_back(channel);
}

void RemoteCalls::Connect() {
  for (const RemoteServices& connection : connections_) {
    connection.channel->GetState(/*try_to_connect=*/true);
  }
}

absl::Status RemoteCalls::Try(const Tries& tries, Exchange exchange) {
  OneCall call(in_flight_);
  RETURN_IF_ERROR(call.Begin(tries.left()));
  for (const auto& [name, value] : options_.headers) {
    call.context().AddMetadata(name, value);
  }
  const size_t turn = turn_.fetch_add(1, std::memory_order_relaxed);
  absl::Status status =
      exchange(call.context(), connections_[turn % connections_.size()]);
  if (absl::IsUnavailable(status)) Reconnect();
  return status;
}

void RemoteCalls::Reconnect() {
  // gRPC's waits between lookups of a name that failed grow to two minutes,
  // and no argument of a channel caps them as it does those between connects.
  constexpr int64_t kPauseMs = 1000;
  const int64_t now_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(
          std::chrono::steady_clock::now().time_since_epoch())
          .count();
  int64_t last_ms = reconnected_ms_.load(std::memory_order_relaxed);
  if (now_ms - last_ms < kPauseMs ||
      !reconnected_ms_.compare_exchange_strong(last_ms, now_ms)) {
    return;  // Or another thread does.
  }
  for (const RemoteServices& connection : connections_) {
    grpc::experimental::ChannelResetConnectionBackoff(connection.channel.get());
  }
}

absl::Status RemoteCalls::Ask(Tries& tries, Exchange exchange) {
  for (;;) {
    absl::Status asked =
        Try(tries, [&](grpc::ClientContext& context, RemoteServices& remote) {
          context.set_deadline(GrpcDeadline(tries.left()));
          return exchange(context, remote);
        });
    if (asked.ok()) {
      tries.Worked();
      return asked;
    }
    // gRPC says "Deadline Exceeded", and may do so a little early: its clock is
    // another, and coarser.
    if (absl::IsDeadlineExceeded(asked) &&
        tries.left() <= absl::Milliseconds(20)) {
      asked = absl::DeadlineExceededError(
          absl::StrCat("no answer in ", absl::FormatDuration(tries.timeout())));
    }
    if (!tries.Again(asked)) return asked;
  }
}

}  // namespace casement
