#include "cli/prometheus.h"

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace casement {
namespace {

constexpr Metric::Kind kCounter = Metric::Kind::kCounter;
constexpr Metric::Kind kGauge = Metric::Kind::kGauge;

Metric Number(const char* name, Metric::Kind kind, const char* help,
              int64_t value) {
  return {.name = name,
          .help = help,
          .kind = kind,
          .labels = {},
          .value = static_cast<double>(value)};
}

std::vector<Metric> MetricsOf(const StoreStats& stats) {
  std::vector<Metric> metrics = {
      Number("store_capacity_bytes", kGauge,
             "What the store may allocate on disk", stats.capacity_bytes),
      Number("store_blobs", kGauge, "Resident blobs", stats.blobs),
      Number("store_leased_blobs", kGauge,
             "Resident blobs that cannot be evicted now", stats.leased_blobs),
      Number("store_zombies", kGauge, "Evicted blobs that are still open",
             stats.zombies),
      Number("store_size_bytes", kGauge, "The sum of the blobs' sizes",
             stats.size_bytes),
      Number("sandboxes", kGauge, "Live sandboxes", stats.sandboxes),
      Number("sessions", kGauge, "Open client sessions", stats.sessions),
      Number("store_evictions_total", kCounter, "Blobs evicted",
             stats.evictions),
      Number("store_published_total", kCounter, "Blobs published",
             stats.published),
      Number("store_damaged_total", kCounter, "Blobs found damaged",
             stats.damaged),
  };
  for (const auto& [owner, bytes] : stats.accounted_by_owner) {
    Metric metric = Number("store_accounted_bytes", kGauge,
                           "Bytes allocated on disk, by what owns them", bytes);
    metric.labels = {{"owner", owner}};
    metrics.push_back(std::move(metric));
  }
  metrics.insert(metrics.end(), stats.metrics.begin(), stats.metrics.end());
  return metrics;
}

std::string SampleOf(const Metric& metric) {
  std::string labels;
  for (const auto& [name, value] : metric.labels) {
    absl::StrAppend(&labels, labels.empty() ? "" : ",", name, "=\"",
                    absl::StrReplaceAll(
                        value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}),
                    "\"");
  }
  if (!labels.empty()) labels = absl::StrCat("{", labels, "}");
  // 17 digits give every double back.
  return absl::StrCat("casement_", metric.name, labels, " ",
                      absl::StrFormat("%.17g", metric.value), "\n");
}

}  // namespace

std::string ToPrometheus(const StoreStats& stats) {
  const std::vector<Metric> metrics = MetricsOf(stats);
  std::vector<const Metric*> first_of_name;
  std::map<std::string, std::string> samples;
  for (const Metric& metric : metrics) {
    std::string& of_name = samples[metric.name];
    if (of_name.empty()) first_of_name.push_back(&metric);
    absl::StrAppend(&of_name, SampleOf(metric));
  }
  std::string text;
  for (const Metric* metric : first_of_name) {
    absl::StrAppend(
        &text, "# HELP casement_", metric->name, " ",
        absl::StrReplaceAll(metric->help, {{"\\", "\\\\"}, {"\n", "\\n"}}),
        "\n# TYPE casement_", metric->name,
        metric->kind == kCounter ? " counter\n" : " gauge\n",
        samples[metric->name]);
  }
  return text;
}

}  // namespace casement
