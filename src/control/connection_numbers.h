// Gives connections descriptor numbers that come again late.
//
// gRPC tells a handler only by its number which connection a call came on
// (peer.h). A number that were given out again at once could make a call that
// is still on its way look like another peer's. And limits how many connections
// a user can have, so that nobody takes the descriptors of all. One thread at a
// time.
#ifndef CASEMENT_CONTROL_CONNECTION_NUMBERS_H_
#define CASEMENT_CONTROL_CONNECTION_NUMBERS_H_

#include <sys/types.h>

#include <cstddef>
#include <map>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace casement {

class ConnectionNumbers {
 public:
  // Uses the upper half of the numbers that RLIMIT_NOFILE allows, at most those
  // from 131072 to 262144: the kernel's table grows with the highest. No user
  // gets more than half of these.
  explicit ConnectionNumbers(size_t connections_of_user_max);

  // The same connection under the next number. ResourceExhausted if all are in
  // use, or if this user has too many.
  absl::StatusOr<UniqueFd> Move(UniqueFd connection, uid_t user);

 private:
  size_t CountOf(uid_t user) const;
  // Takes out those that have been closed.
  void Sweep();

  int first_;
  int end_;
  int next_;
  size_t of_user_max_;
  // Who has which number, or had it: they are closed by others.
  std::map<int, uid_t> users_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_CONNECTION_NUMBERS_H_
