// What ByteStream calls a blob (REv2): to read
//   [INSTANCE/]blobs/<hash>/<size>
//   [INSTANCE/]compressed-blobs/zstd/<hash>/<size>
// and to write
//   [INSTANCE/]uploads/<uuid>/blobs/<hash>/<size>[/METADATA]
//   [INSTANCE/]uploads/<uuid>/compressed-blobs/zstd/<hash>/<size>[/METADATA]
// Hash and size are those of the blob, compressed or not. INSTANCE and METADATA
// may hold slashes; both are passed over.
#ifndef CASEMENT_CONTROL_RESOURCE_NAME_H_
#define CASEMENT_CONTROL_RESOURCE_NAME_H_

#include <cstddef>

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

}  // namespace casement

#endif  // CASEMENT_CONTROL_RESOURCE_NAME_H_
