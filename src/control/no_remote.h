// What is said to who wants something sent to a remote cache that is not there.
#ifndef CASEMENT_CONTROL_NO_REMOTE_H_
#define CASEMENT_CONTROL_NO_REMOTE_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace casement {

inline absl::Status NoRemoteStatus(absl::string_view call) {
  return absl::FailedPreconditionError(absl::StrCat(
      call, ": nothing is sent, as casementd has no remote cache (--remote)"));
}

}  // namespace casement

#endif  // CASEMENT_CONTROL_NO_REMOTE_H_
