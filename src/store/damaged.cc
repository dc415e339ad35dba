#include "store/damaged.h"

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "casement/digest.h"

namespace casement {

absl::Status DamagedBlobStatus(const Digest& digest, absl::string_view why) {
  const absl::Status status =
      ErrnoStatus(EIO, "blob ", digest.ToString(), " is damaged: ", why);
  // To absl, EIO is an unknown error.
  absl::Status damaged(absl::StatusCode::kDataLoss, status.message());
  status.ForEachPayload(
      [&damaged](absl::string_view type, const absl::Cord& payload) {
        damaged.SetPayload(type, payload);
      });
  return damaged;
}

}  // namespace casement
