// Digests in text: what parses is written back as it was.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "casement/digest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<casement::Digest> digest = casement::Digest::Parse(text);
  if (digest.ok()) CASEMENT_CHECK(digest->ToString() == text);
  if (!digest.ok()) CASEMENT_CHECK(!digest.status().message().empty());
  return 0;
}
