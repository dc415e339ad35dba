// Who stays beside a program that we start, so that nothing of it outlives us.
//
// A program that is killed with its parent (PR_SET_PDEATHSIG) may have started
// others by then that are not: bubblewrap, while it sets its namespaces up. The
// keeper is their reaper (PR_SET_CHILD_SUBREAPER, Linux 3.4): what loses its
// parent becomes its child, and is killed.
#ifndef CASEMENT_RUN_KEEPER_H_
#define CASEMENT_RUN_KEEPER_H_

#include <sys/types.h>

#include <csignal>

#include "absl/functional/function_ref.h"

namespace casement {

// Starts a process that runs `become_program`, which calls exec and does not
// return, and its keeper, whose pid this returns: -1 with errno if it cannot be
// started. Both are forks, in which only async-signal-safe calls may be made.
//
// The keeper ends when all that the program started has ended, with the
// program's exit status or signal. When the program ends, when the keeper gets
// SIGTERM, and when the thread that called this ends, all of it is killed.
pid_t StartKept(absl::FunctionRef<void()> become_program);

}  // namespace casement

#endif  // CASEMENT_RUN_KEEPER_H_
