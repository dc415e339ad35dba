#include "daemon/log.h"

#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace casement {

void Log(absl::string_view line) {
  const std::string text = absl::StrCat("casementd: ", line, "\n");
  // Nobody can be told if this fails.
  [[maybe_unused]] const ssize_t wrote =
      write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace casement
