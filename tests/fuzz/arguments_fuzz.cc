// Command lines: NUL-separated words, for the daemon's options.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/arguments.h"
#include "base/check.h"

namespace casement {
namespace {

void Try(absl::string_view bytes) {
  ArgumentParser parser("program [OPTION]... FILE...", "A program.");
  parser.Add({.name = "output", .letter = 'o', .placeholder = "FILE"})
      .Add({.name = "size", .placeholder = "SIZE", .default_value = "4KiB"})
      .Add({.name = "mode", .placeholder = "MODE", .choices = {"a", "b"}})
      .Add({.name = "flag", .letter = 'f'})
      .Operands("FILE", 0, 4);
  const std::vector<std::string> words = absl::StrSplit(bytes, '\0');
  const absl::StatusOr<Arguments> arguments = parser.Parse(words);
  if (!arguments.ok()) {
    CASEMENT_CHECK(absl::IsInvalidArgument(arguments.status()));
    CASEMENT_CHECK(!absl::StrContains(arguments.status().message(), '\n'));
    return;
  }
  if (arguments->Has("help")) return;  // Nothing else counts then.
  CASEMENT_CHECK(arguments->operands().size() <= 4);
  const absl::StatusOr<int64_t> size = arguments->GetBytes("size");
  CASEMENT_CHECK(!size.ok() || *size >= 0);
}

}  // namespace
}  // namespace casement

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  casement::Try(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
