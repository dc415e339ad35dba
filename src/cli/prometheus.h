// The daemon's numbers in Prometheus' text format.
#ifndef CASEMENT_CLI_PROMETHEUS_H_
#define CASEMENT_CLI_PROMETHEUS_H_

#include <string>

#include "casement/client.h"

namespace casement {

// Each name begins with "casement_" and has one HELP and one TYPE line; metrics
// of one name follow each other.
std::string ToPrometheus(const StoreStats& stats);

}  // namespace casement

#endif  // CASEMENT_CLI_PROMETHEUS_H_
