// The words of `casement`, one a line: understood, or refused in one line.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/check.h"
#include "cli/invocation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> words = absl::StrSplit(text, '\n');
  const auto invocation = casement::ParseInvocation(words);
  if (invocation.ok()) return 0;
  CASEMENT_CHECK(absl::IsInvalidArgument(invocation.status()));
  CASEMENT_CHECK(!invocation.status().message().empty());
  return 0;
}
