// What ByteStream calls a blob: "[INSTANCE/]blobs/<hash>/<size>" to read, and
// "[INSTANCE/]uploads/<uuid>/blobs/<hash>/<size>[/METADATA]" to write (REv2).
// INSTANCE and METADATA may hold slashes; both are passed over.
#ifndef CASEMENT_CONTROL_RESOURCE_NAME_H_
#define CASEMENT_CONTROL_RESOURCE_NAME_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "casement/digest.h"

namespace casement {

inline constexpr size_t kResourceNameBytesMax = 4096;

// InvalidArgument, saying why, for any other name.
absl::StatusOr<Digest> ParseReadName(absl::string_view name);
absl::StatusOr<Digest> ParseWriteName(absl::string_view name);

}  // namespace casement

#endif  // CASEMENT_CONTROL_RESOURCE_NAME_H_
