#include "daemon/memory_pressure.h"

#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace casement {

std::optional<double> MemoryPressure(const std::string& file) {
  std::ifstream words(file);
  std::string kind;
  std::string average;
  words >> kind >> average;  // "some avg10=0.00"
  absl::string_view number = average;
  double percent = 0;
  if (kind != "some" || !absl::ConsumePrefix(&number, "avg10=") ||
      !absl::SimpleAtod(number, &percent)) {
    return std::nullopt;
  }
  return percent;
}

}  // namespace casement
