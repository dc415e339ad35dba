#include "store/missing.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/check.h"
#include "casement/digest.h"
#include "google/rpc/error_details.pb.h"

namespace casement {
namespace {

constexpr size_t kNamedMax = 20;
// About 1 MiB of payload; a client asks for the rest once it has these.
constexpr size_t kViolationsMax = 10000;

}  // namespace

absl::Status MissingBlobsStatus(absl::Span<const Digest> missing) {
  std::string message = absl::StrCat(missing.size(), " missing blob",
                                     missing.size() == 1 ? "" : "s");
  for (size_t i = 0; i < std::min(missing.size(), kNamedMax); ++i) {
    absl::StrAppend(&message, i == 0 ? ": " : ", ", missing[i].ToString());
  }
  if (missing.size() > kNamedMax) absl::StrAppend(&message, ", ...");
  absl::Status status = absl::FailedPreconditionError(message);
  AddMissing(missing, status);
  return status;
}

void AddMissing(absl::Span<const Digest> missing, absl::Status& status) {
  google::rpc::PreconditionFailure failure;
  for (const Digest& digest :
       missing.subspan(0, std::min(missing.size(), kViolationsMax))) {
    google::rpc::PreconditionFailure::Violation& violation =
        *failure.add_violations();
    violation.set_type("MISSING");
    violation.set_subject(
        absl::StrCat("blobs/", digest.HexHash(), "/", digest.size_bytes()));
  }
  std::string payload;
  CASEMENT_CHECK(failure.SerializeToString(&payload));
  status.SetPayload(kPreconditionFailureType, absl::Cord(payload));
}

}  // namespace casement
