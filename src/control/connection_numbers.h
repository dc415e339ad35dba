// Gives connections descriptor numbers that come again late.
//
// gRPC tells a handler only by its number which connection a call came on
// (peer.h). A number that were given out again at once could make a call that
// is still on its way look like another peer's. One thread at a time.
#ifndef CASEMENT_CONTROL_CONNECTION_NUMBERS_H_
#define CASEMENT_CONTROL_CONNECTION_NUMBERS_H_

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace casement {

class ConnectionNumbers {
 public:
  // Uses the upper half of the numbers that RLIMIT_NOFILE allows, at most those
  // from 32768 to 65536: the kernel's table grows with the highest.
  ConnectionNumbers();

  // The same connection under the next number. ResourceExhausted if all are in
  // use.
  absl::StatusOr<UniqueFd> Move(UniqueFd connection);

 private:
  int first_;
  int end_;
  int next_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_CONNECTION_NUMBERS_H_
