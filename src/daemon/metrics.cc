#include "daemon/metrics.h"

#include <array>
#include <string>
#include <utility>

namespace casement {
namespace {

// In the order of KernelNote::Kind.
constexpr std::array<const char*, kKernelNoteKinds> kNoteNames = {
    "entry", "expiry", "node", "attributes"};

void AddNotifications(const Notifier& notifier, std::vector<Metric>& metrics) {
  for (size_t i = 0; i < kKernelNoteKinds; ++i) {
    const auto& counts = notifier.counts(static_cast<KernelNote::Kind>(i));
    const std::pair<const char*, int64_t> results[] = {
        {"done", counts.done},
        {"unknown", counts.unknown},
        {"refused", counts.refused}};
    for (const auto& [result, count] : results) {
      metrics.push_back(
          {.name = "fuse_notifications_total",
           .help = "What the kernel was told to forget, and its answer.",
           .labels = {{"kind", kNoteNames[i]}, {"result", result}},
           .value = static_cast<double>(count)});
    }
  }
}

// In the order of Sandbox::Refusal.
constexpr std::array<const char*, Sandbox::kRefusals> kRefusalNames = {
    "occupied", "open", "busy", "worn", "refused"};

void AddReuse(const SandboxDirectory& sandboxes, std::vector<Metric>& metrics) {
  const SandboxDirectory::ReuseCounts& counts = sandboxes.reuse_counts();
  const std::pair<const char*, int64_t> results[] = {
      {"exact", counts.exact},
      {"overlap", counts.overlap},
      {"miss", counts.misses}};
  for (const auto& [result, count] : results) {
    metrics.push_back(
        {.name = "reuse_total",
         .help = "Sandboxes made of a stash of the same root, of another, or "
                 "of none.",
         .labels = {{"result", result}},
         .value = static_cast<double>(count)});
  }
  for (size_t i = 0; i < Sandbox::kRefusals; ++i) {
    metrics.push_back({.name = "stashes_condemned_total",
                       .help = "Sandboxes that could not be kept or reused.",
                       .labels = {{"reason", kRefusalNames[i]}},
                       .value = static_cast<double>(counts.condemned[i])});
  }
  const auto add = [&metrics](const char* name, const char* help,
                              Metric::Kind kind, double value) {
    metrics.push_back(
        {.name = name, .help = help, .kind = kind, .value = value});
  };
  constexpr auto kCounter = Metric::Kind::kCounter;
  add("stashes_dropped_total", "Stashes given up for want of room.", kCounter,
      static_cast<double>(counts.dropped));
  add("reuse_nodes_kept_total",
      "Nodes that the kernel went on knowing in a reused sandbox.", kCounter,
      static_cast<double>(counts.nodes_kept));
  add("reuse_directories_visited_total",
      "Directories of stashes compared with a new root's.", kCounter,
      static_cast<double>(counts.visited));
  add("reuse_directories_skipped_total",
      "Directories that were equal, with all below them.", kCounter,
      static_cast<double>(counts.skipped));
  add("reuse_seconds_total", "What choosing and retargeting stashes took.",
      kCounter, static_cast<double>(counts.nanoseconds) / 1e9);
  add("stashes", "Stashes now.", Metric::Kind::kGauge,
      static_cast<double>(sandboxes.stashes().List().size()));
  add("stash_nodes", "Nodes that the kernel knows in stashes.",
      Metric::Kind::kGauge, static_cast<double>(sandboxes.stashes().nodes()));
}

}  // namespace

std::vector<Metric> CollectMetrics(const Adapter& adapter,
                                   const Notifier& notifier,
                                   const NodeTable& nodes,
                                   const SandboxDirectory& sandboxes) {
  std::vector<Metric> metrics;
  for (size_t i = 0; i < kRequestKinds; ++i) {
    metrics.push_back(
        {.name = "fuse_requests_total",
         .help = "Requests of the kernel.",
         .labels = {{"opcode", std::string(NameOf(static_cast<Request>(i)))}},
         .value = static_cast<double>(adapter.requests[i].load())});
  }
  AddNotifications(notifier, metrics);
  AddReuse(sandboxes, metrics);
  metrics.push_back(
      {.name = "fuse_passthrough",
       .help = "1 if the kernel reads blobs by itself.",
       .kind = Metric::Kind::kGauge,
       .value = adapter.data_path == DataPath::kPassthrough ? 1.0 : 0.0});
  metrics.push_back({.name = "fuse_io_uring",
                     .help = "1 if requests come through io_uring.",
                     .kind = Metric::Kind::kGauge,
                     .value = adapter.over_io_uring.load() ? 1.0 : 0.0});
  metrics.push_back({.name = "nodes",
                     .help = "Nodes that the kernel knows.",
                     .kind = Metric::Kind::kGauge,
                     .value = static_cast<double>(nodes.size())});
  return metrics;
}

void AddRemoteMetrics(const RemoteCas& remote, const BlobFetcher& fetcher,
                      const BlobSender& sender, std::vector<Metric>& metrics) {
  const RemoteCas::Stats calls = remote.GetStats();
  for (size_t kind = 0; kind < RemoteCas::kKinds; ++kind) {
    for (size_t result = 0; result < RemoteCas::kResults; ++result) {
      metrics.push_back(
          {.name = "remote_calls_total",
           .help = "Calls to the remote cache.",
           .labels = {{"kind", std::string(RemoteCas::NameOf(
                                   static_cast<RemoteCas::Kind>(kind)))},
                      {"result", std::string(RemoteCas::NameOf(
                                     static_cast<RemoteCas::Result>(result)))}},
           .value = static_cast<double>(calls.calls[kind][result])});
    }
  }
  const auto add = [&metrics](const char* name, const char* help,
                              Metric::Kind kind, int64_t value) {
    metrics.push_back({.name = name,
                       .help = help,
                       .kind = kind,
                       .value = static_cast<double>(value)});
  };
  constexpr auto kCounter = Metric::Kind::kCounter;
  const BlobFetcher::Stats blobs = fetcher.GetStats();
  add("remote_retries_total", "Tries after the first one.", kCounter,
      calls.retries);
  add("remote_fetched_blobs_total", "Blobs that came from there.", kCounter,
      blobs.fetched);
  add("remote_fetched_bytes_total", "And their bytes.", kCounter,
      blobs.fetched_bytes);
  add("remote_fetched_ahead_blobs_total",
      "Those among them that nobody was waiting for.", kCounter, blobs.ahead);
  add("remote_failed_blobs_total", "Blobs that did not come.", kCounter,
      blobs.failed);
  add("remote_waiting", "Requests and calls that wait for a blob.",
      Metric::Kind::kGauge, blobs.waiting);
  const BlobSender::Stats sent = sender.GetStats();
  add("remote_sent_blobs_total", "Blobs that were sent there.", kCounter,
      sent.sent);
  add("remote_sent_bytes_total", "And their bytes.", kCounter, sent.sent_bytes);
  add("remote_unsent_blobs_total", "Blobs that could not be sent.", kCounter,
      sent.failed);
  add("remote_sending", "Blobs that wait to be sent, or are on their way.",
      Metric::Kind::kGauge, sent.waiting);
}

}  // namespace casement
