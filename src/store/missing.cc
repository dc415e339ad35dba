#include "store/missing.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "base/check.h"
#include "base/status.h"
#include "casement/digest.h"
#include "google/rpc/error_details.pb.h"
#include "model/resource_name.h"

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
  return AbsentBlobStatus(digest, digest.size_bytes());
}

absl::Status AbsentBlobStatus(const Digest& digest, int64_t upto) {
  absl::Status status =
      ErrnoStatusAs(absl::StatusCode::kNotFound, EIO, "the blob is not here");
  status.SetPayload(kAbsentType,
                    absl::Cord(absl::StrCat(digest.ToString(), " ", upto)));
  return status;
}

std::optional<AbsentBlob> AbsentBlobOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kAbsentType);
  if (!payload.has_value()) return std::nullopt;
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(std::string(*payload), ' ');
  const absl::StatusOr<Digest> digest = Digest::Parse(parts.first);
  AbsentBlob absent;
  CASEMENT_CHECK(digest.ok() && absl::SimpleAtoi(parts.second, &absent.upto));
  absent.digest = *digest;
  return absent;
}

void AddMissing(absl::Span<const Digest> missing, absl::Status& status) {
  google::rpc::PreconditionFailure failure;
  for (const Digest& digest :
       missing.subspan(0, std::min(missing.size(), kViolationsMax))) {
    google::rpc::PreconditionFailure::Violation& violation =
        *failure.add_violations();
    violation.set_type("MISSING");
    violation.set_subject(ReadName({.digest = digest}));
  }
  std::string payload;
  CASEMENT_CHECK(failure.SerializeToString(&payload));
  status.SetPayload(kPreconditionFailureType, absl::Cord(payload));
}

}  // namespace casement
