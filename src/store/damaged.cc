#include "store/damaged.h"

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "casement/digest.h"

namespace casement {

absl::Status DamagedBlobStatus(const Digest& digest, absl::string_view why) {
  // To absl, EIO is an unknown error.
  return ErrnoStatusAs(absl::StatusCode::kDataLoss, EIO, "blob ",
                       digest.ToString(), " is damaged: ", why);
}

}  // namespace casement
