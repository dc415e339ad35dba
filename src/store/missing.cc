#include "store/missing.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/check.h"
#include "base/status.h"
#include "casement/digest.h"
#include "google/rpc/error_details.pb.h"

namespace casement {
namespace {

constexpr char kAbsentType[] = "casement/absent-blob";

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

absl::Status AbsentBlobStatus(const Digest& digest) {
  absl::Status status =
      ErrnoStatusAs(absl::StatusCode::kNotFound, EIO, "the blob is not here");
  status.SetPayload(kAbsentType, absl::Cord(digest.ToString()));
  return status;
}

std::optional<Digest> AbsentBlobOf(const absl::Status& status) {
  const absl::optional<absl::Cord> name = status.GetPayload(kAbsentType);
  if (!name.has_value()) return std::nullopt;
  const absl::StatusOr<Digest> digest = Digest::Parse(std::string(*name));
  CASEMENT_CHECK(digest.ok());
  return *digest;
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
