// How an error says that a blob's bytes are lost.
#ifndef CASEMENT_STORE_DAMAGED_H_
#define CASEMENT_STORE_DAMAGED_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "casement/digest.h"

namespace casement {

// DataLoss, with EIO.
absl::Status DamagedBlobStatus(const Digest& digest, absl::string_view why);

}  // namespace casement

#endif  // CASEMENT_STORE_DAMAGED_H_
