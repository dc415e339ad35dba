// ByteStream's resource names.
#include <cstddef>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "model/resource_name.h"

namespace casement {
namespace {

void CheckNames(const absl::StatusOr<ResourceName>& parsed,
                absl::string_view name) {
  if (!parsed.ok()) {
    CASEMENT_CHECK(absl::IsInvalidArgument(parsed.status()));
    return;
  }
  CASEMENT_CHECK(absl::StrContains(
      name, absl::StrCat(parsed->is_zstd ? "blobs/zstd/" : "blobs/",
                         parsed->digest.HexHash(), "/")));
}

}  // namespace
}  // namespace casement

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view name(reinterpret_cast<const char*>(data), size);
  casement::CheckNames(casement::ParseReadName(name), name);
  casement::CheckNames(casement::ParseWriteName(name), name);
  return 0;
}
