#include "base/status.h"

#include <string>
#include <system_error>  // NOLINT

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"

namespace casement {
namespace {

constexpr absl::string_view kErrnoPayload = "casement/errno";

void CopyPayloads(const absl::Status& from, absl::Status& to) {
  from.ForEachPayload([&to](absl::string_view type, const absl::Cord& payload) {
    to.SetPayload(type, payload);
  });
}

}  // namespace

absl::Status MakeErrnoStatus(int error_number, absl::string_view what) {
  absl::Status status(
      absl::ErrnoToStatusCode(error_number),
      absl::StrCat(what, ": ", std::generic_category().message(error_number)));
  status.SetPayload(kErrnoPayload, absl::Cord(absl::StrCat(error_number)));
  return status;
}

absl::Status WithCode(absl::StatusCode code, const absl::Status& status) {
  absl::Status other(code, status.message());
  CopyPayloads(status, other);
  return other;
}

std::optional<int> ErrnoOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrnoPayload);
  int error_number = 0;
  if (!payload.has_value() ||
      !absl::SimpleAtoi(std::string(*payload), &error_number)) {
    return std::nullopt;
  }
  return error_number;
}

absl::Status MakeAnnotated(const absl::Status& status, absl::string_view what) {
  absl::Status annotated(status.code(),
                         absl::StrCat(what, ": ", status.message()));
  CopyPayloads(status, annotated);
  return annotated;
}

}  // namespace casement
