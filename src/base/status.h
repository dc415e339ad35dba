// Errors: what failed, to what, and why.
//
// A Status that stands for a system call's failure also carries its errno, as a
// payload, because absl's canonical codes make ENOTDIR, EISDIR and ENOTEMPTY
// the same. ErrnoOf() gets it back.
#ifndef CASEMENT_BASE_STATUS_H_
#define CASEMENT_BASE_STATUS_H_

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#define RETURN_IF_ERROR(expression)                                         \
  do {                                                                      \
    if (absl::Status casement_status = (expression); !casement_status.ok()) \
        [[unlikely]] {                                                      \
      return casement_status;                                               \
    }                                                                       \
  } while (false)

#define CASEMENT_CONCAT_INNER_(a, b) a##b
#define CASEMENT_CONCAT_(a, b) CASEMENT_CONCAT_INNER_(a, b)
#define ASSIGN_OR_RETURN(lhs, expression)                                    \
  CASEMENT_ASSIGN_OR_RETURN_(CASEMENT_CONCAT_(casement_statusor_, __LINE__), \
                             lhs, expression)
#define CASEMENT_ASSIGN_OR_RETURN_(statusor, lhs, expression) \
  auto statusor = (expression);                               \
  if (!statusor.ok()) [[unlikely]] {                          \
    return std::move(statusor).status();                      \
  }                                                           \
  lhs = *std::move(statusor)

namespace casement {

// The status of a system call that failed with `error_number`. The message is
// `what` and, after a colon, the errno in words.
absl::Status MakeErrnoStatus(int error_number, absl::string_view what);

// `status` under another code; message and payloads stay.
absl::Status WithCode(absl::StatusCode code, const absl::Status& status);

template <typename... Parts>
absl::Status ErrnoStatus(int error_number, const Parts&... what) {
  return MakeErrnoStatus(error_number, absl::StrCat(what...));
}

// The same with another code than the errno's own.
template <typename... Parts>
absl::Status ErrnoStatusAs(absl::StatusCode code, int error_number,
                           const Parts&... what) {
  return WithCode(code, MakeErrnoStatus(error_number, absl::StrCat(what...)));
}

// The errno that ErrnoStatus() or absl::ErrnoToStatus() stored; nullopt if
// none did.
std::optional<int> ErrnoOf(const absl::Status& status);

// `status` with "what: " put before its message; code and payloads stay.
absl::Status MakeAnnotated(const absl::Status& status, absl::string_view what);

template <typename... Parts>
absl::Status Annotate(const absl::Status& status, const Parts&... what) {
  if (status.ok()) return status;
  return MakeAnnotated(status, absl::StrCat(what...));
}

}  // namespace casement

#endif  // CASEMENT_BASE_STATUS_H_
