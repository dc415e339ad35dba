#include "control/store_service.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/quote.h"
#include "base/status.h"
#include "control/missing_blob.h"
#include "control/no_remote.h"
#include "control/peer.h"
#include "model/digest_message.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

// How often a client hears of a verification's progress.
constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);
// What a verification takes of the disk if it is not told: as much as it
// leaves.
constexpr int kDiskSharePercent = 50;

const char* NameOf(Owner owner) {
  switch (owner) {
    case Owner::kBlobs:
      return "blobs";
    case Owner::kZombies:
      return "zombies";
    case Owner::kUploads:
      return "uploads";
    case Owner::kScratch:
      return "scratch";
    case Owner::kIndex:
      return "index";
  }
  return "";
}

void SetMessage(const Metric& metric, v1::Metric* message) {
  message->set_name(metric.name);
  message->set_help(metric.help);
  message->set_kind(metric.kind == Metric::Kind::kCounter ? v1::Metric::COUNTER
                                                          : v1::Metric::GAUGE);
  for (const auto& [name, value] : metric.labels) {
    v1::Metric::Label& label = *message->add_labels();
    label.set_name(name);
    label.set_value(value);
  }
  message->set_value(metric.value);
}

void SetMessage(const BlobStore::VerifyReport& report,
                v1::VerifyResponse::Report* message) {
  message->set_blobs(report.blobs);
  message->set_bytes(report.bytes);
  for (const Digest& digest : report.damaged) {
    SetMessage(digest, message->add_damaged());
  }
  message->set_accounted_bytes(report.accounted_bytes);
  message->set_allocated_bytes(report.allocated_bytes);
  message->set_unaccounted_bytes(report.unaccounted_bytes);
  message->set_dropped(report.dropped);
  message->set_moved(report.moved);
  message->set_stays(OneLine(absl::string_view(report.stays.message())));
}

}  // namespace

grpc::Status StoreService::Stats(grpc::ServerContext*, const v1::StatsRequest*,
                                 v1::StatsResponse* response) {
  const BlobStore::Stats stats = store_.GetStats();
  response->set_capacity_bytes(stats.capacity_bytes);
  for (size_t i = 0; i < kOwnerCount; ++i) {
    const Owner owner = static_cast<Owner>(i);
    v1::OwnerBytes& accounted = *response->add_accounted();
    accounted.set_owner(NameOf(owner));
    accounted.set_bytes(store_.ledger().Get(owner));
  }
  response->set_blobs(stats.blobs);
  response->set_leased_blobs(stats.leased_blobs);
  response->set_zombies(stats.zombies);
  response->set_size_bytes(stats.size_bytes);
  const std::vector<SandboxInfo> sandboxes = sandboxes_.List();
  response->set_sandboxes(std::count_if(
      sandboxes.begin(), sandboxes.end(),
      [](const SandboxInfo& sandbox) { return !sandbox.is_stash; }));
  response->set_sessions(sessions_.size());
  response->set_evictions(stats.evictions);
  response->set_published(stats.published);
  response->set_damaged(stats.damaged);
  if (metrics_) {
    for (const Metric& metric : metrics_()) {
      SetMessage(metric, response->add_metrics());
    }
  }
  return grpc::Status::OK;
}

absl::Status StoreService::EvictOne(const Digest& digest) {
  const absl::Status evicted = store_.Evict(digest);
  if (!absl::IsFailedPrecondition(evicted)) return evicted;
  // A closure that no sandbox uses any more may still hold it.
  directories_.GiveUpAllIdleLeases();
  return store_.Evict(digest);
}

grpc::Status StoreService::Evict(grpc::ServerContext*,
                                 const v1::EvictRequest* request,
                                 v1::EvictResponse* response) {
  const absl::StatusOr<std::vector<Digest>> digests =
      FromMessages(request->digests());
  if (!digests.ok()) return ToGrpc(digests.status());
  BlobStore::Evicted evicted;
  for (const Digest& digest : *digests) {
    const absl::Status status = NamingBlob(EvictOne(digest), digest);
    if (status.ok()) {
      ++evicted.blobs;
      evicted.bytes += digest.size_bytes();
      continue;
    }
    v1::EvictResponse::Failure& failure = *response->add_failures();
    SetMessage(digest, failure.mutable_digest());
    *failure.mutable_status() = ToProto(status);
  }
  if (request->unleased()) {
    directories_.GiveUpAllIdleLeases();
    const BlobStore::Evicted unleased = store_.EvictUnleased();
    evicted.blobs += unleased.blobs;
    evicted.bytes += unleased.bytes;
  }
  response->set_blobs(evicted.blobs);
  response->set_bytes(evicted.bytes);
  return grpc::Status::OK;
}

absl::StatusOr<BlobStore::VerifyOptions> StoreService::OptionsOf(
    const grpc::ServerContext& context, const v1::VerifyRequest& request) {
  BlobStore::VerifyOptions options = {.repair = request.repair(),
                                      .quarantine = request.quarantine(),
                                      .mount = mount_path_};
  options.disk_share_percent = request.disk_share_percent() == 0
                                   ? kDiskSharePercent
                                   : request.disk_share_percent();
  options.is_cancelled = [&context] { return context.IsCancelled(); };
  if (request.quarantine().empty()) return options;
  ASSIGN_OR_RETURN(const Peer peer, PeerOfConnection(context.peer()));
  if (!peer.IsPrivileged()) {
    return absl::PermissionDeniedError(
        "quarantine: only root and the daemon's own user may name one");
  }
  return options;
}

grpc::Status StoreService::Verify(
    grpc::ServerContext* context, const v1::VerifyRequest* request,
    grpc::ServerWriter<v1::VerifyResponse>* writer) {
  absl::StatusOr<BlobStore::VerifyOptions> options =
      OptionsOf(*context, *request);
  if (!options.ok()) return ToGrpc(Annotate(options.status(), "verify"));
  absl::Time told = absl::InfinitePast();
  options->progress = [writer, &told](int64_t done, int64_t total) {
    const absl::Time now = absl::Now();
    if (now - told < kProgressInterval) return;
    told = now;
    v1::VerifyResponse response;
    response.mutable_progress()->set_bytes_done(done);
    response.mutable_progress()->set_bytes_total(total);
    writer->Write(response);
  };
  if (is_verifying_.exchange(true)) {
    return ToGrpc(absl::ResourceExhaustedError(
        "verify: another verification is running"));
  }
  const absl::StatusOr<BlobStore::VerifyReport> report =
      store_.Verify(*options);
  is_verifying_ = false;
  if (!report.ok()) return ToGrpc(Annotate(report.status(), "verify"));
  v1::VerifyResponse response;
  SetMessage(*report, response.mutable_report());
  writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status StoreService::Send(grpc::ServerContext*,
                                const v1::SendRequest* request,
                                v1::SendResponse*) {
  const absl::StatusOr<std::vector<Digest>> digests =
      FromMessages(request->digests());
  if (!digests.ok()) return ToGrpc(digests.status());
  if (sender_ == nullptr) return ToGrpc(NoRemoteStatus("send"));
  BlobSender::Sending sending(*sender_);
  for (const Digest& digest : *digests) sending.Add(digest);
  return ToGrpc(Annotate(sending.Wait(), "send"));
}

}  // namespace casement
