// One line about what went wrong or was chosen, on standard error.
#ifndef CASEMENT_DAEMON_LOG_H_
#define CASEMENT_DAEMON_LOG_H_

#include "absl/strings/string_view.h"

namespace casement {

// Thread safe: a line is written in one call.
void Log(absl::string_view line);

}  // namespace casement

#endif  // CASEMENT_DAEMON_LOG_H_
