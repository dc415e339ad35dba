// Which sandboxes end with which session (G12).
//
// Only the bookkeeping: who ends a session releases what it held. Thread safe.
#ifndef CASEMENT_CONTROL_SESSIONS_H_
#define CASEMENT_CONTROL_SESSIONS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"

namespace casement {

class Sessions {
 public:
  explicit Sessions(size_t sessions_max) : sessions_max_(sessions_max) {}

  // A new session's id, which cannot be guessed. ResourceExhausted past the
  // limit.
  absl::StatusOr<std::string> Start();
  // NotFound if it has ended, or never was.
  absl::Status CheckLive(absl::string_view id) const;
  // From now on `sandbox` ends with the session. NotFound as above.
  absl::Status Attach(absl::string_view id, absl::string_view sandbox);
  // From now on `sandbox` ends with no session. The one it ended with, or "".
  std::string Detach(absl::string_view sandbox);
  // The sandboxes that are to be released now.
  std::vector<std::string> End(absl::string_view id);

  size_t size() const;

 private:
  const size_t sessions_max_;
  mutable Mutex mu_;
  // Session id -> names of sandboxes.
  absl::flat_hash_map<std::string, absl::flat_hash_set<std::string>> live_
      ABSL_GUARDED_BY(mu_);
  // The reverse: name of sandbox -> session id.
  absl::flat_hash_map<std::string, std::string> session_of_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_SESSIONS_H_
