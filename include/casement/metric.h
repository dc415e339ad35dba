// One number that the daemon counts or measures.
#ifndef CASEMENT_METRIC_H_
#define CASEMENT_METRIC_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace casement {

struct Metric {
  enum class Kind : uint8_t {
    kCounter,  // Only grows while the daemon runs.
    kGauge,
  };
  // After Prometheus' rules, without a prefix: "fuse_requests_total".
  std::string name;
  std::string help = {};  // One sentence.
  Kind kind = Kind::kCounter;
  // Tell apart metrics of one name: {{"opcode", "LOOKUP"}}.
  std::vector<std::pair<std::string, std::string>> labels = {};
  double value = 0;
};

}  // namespace casement

#endif  // CASEMENT_METRIC_H_
