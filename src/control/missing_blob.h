// Names a blob in an error. The store's NotFound has no message, because to
// file systems a missing name is an answer; a client is owed one, and the
// details by which REv2's clients know what to send again.
#ifndef CASEMENT_CONTROL_MISSING_BLOB_H_
#define CASEMENT_CONTROL_MISSING_BLOB_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "casement/digest.h"
#include "store/missing.h"

namespace casement {

inline absl::Status NamingBlob(const absl::Status& status,
                               const Digest& digest) {
  if (!absl::IsNotFound(status) || !status.message().empty()) return status;
  absl::Status named = absl::NotFoundError(
      absl::StrCat("blob ", digest.ToString(), " is not in the store"));
  AddMissing({digest}, named);
  return named;
}

}  // namespace casement

#endif  // CASEMENT_CONTROL_MISSING_BLOB_H_
