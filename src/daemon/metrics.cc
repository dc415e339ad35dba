#include "daemon/metrics.h"

#include <string>

namespace casement {

std::vector<Metric> CollectMetrics(const Adapter& adapter,
                                   const Notifier& notifier,
                                   const NodeTable& nodes) {
  std::vector<Metric> metrics;
  for (size_t i = 0; i < kRequestKinds; ++i) {
    metrics.push_back(
        {.name = "fuse_requests_total",
         .help = "Requests of the kernel.",
         .labels = {{"opcode", std::string(NameOf(static_cast<Request>(i)))}},
         .value = static_cast<double>(adapter.requests[i].load())});
  }
  metrics.push_back({.name = "fuse_notifications_total",
                     .help = "Notifications sent to the kernel.",
                     .value = static_cast<double>(notifier.sent())});
  metrics.push_back({.name = "fuse_notifications_failed_total",
                     .help = "Notifications that the kernel refused.",
                     .value = static_cast<double>(notifier.failed())});
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

}  // namespace casement
