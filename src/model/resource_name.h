// What ByteStream calls a blob (REv2): to read
//   [INSTANCE/]blobs/<hash>/<size>
//   [INSTANCE/]compressed-blobs/zstd/<hash>/<size>
// and to write
//   [INSTANCE/]uploads/<uuid>/blobs/<hash>/<size>[/METADATA]
//   [INSTANCE/]uploads/<uuid>/compressed-blobs/zstd/<hash>/<size>[/METADATA]
// Hash and size are those of the blob, compressed or not. INSTANCE and METADATA
// may hold slashes; both are passed over when a name is parsed.
#ifndef CASEMENT_MODEL_RESOURCE_NAME_H_
#define CASEMENT_MODEL_RESOURCE_NAME_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "casement/digest.h"

namespace casement {

inline constexpr size_t kResourceNameBytesMax = 4096;

struct ResourceName {
  Digest digest;
  bool is_zstd = false;  // How its bytes travel.
};

// InvalidArgument, saying why, for any other name.
absl::StatusOr<ResourceName> ParseReadName(absl::string_view name);
absl::StatusOr<ResourceName> ParseWriteName(absl::string_view name);

// `instance` is empty for none.
std::string ReadName(const ResourceName& blob, absl::string_view instance = "");
// Another one each time: REv2 wants a UUID that no other upload has.
std::string WriteName(const ResourceName& blob,
                      absl::string_view instance = "");

}  // namespace casement

#endif  // CASEMENT_MODEL_RESOURCE_NAME_H_
