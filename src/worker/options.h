// casement-worker's command line, understood.
#ifndef CASEMENT_WORKER_OPTIONS_H_
#define CASEMENT_WORKER_OPTIONS_H_

#include <string>

#include "absl/status/statusor.h"
#include "base/arguments.h"
#include "worker/worker_server.h"

namespace casement {

// What it understands, and the text of --help.
ArgumentParser WorkerArguments();

// InvalidArgument for a value that cannot be; NotFound if casementd's socket
// cannot be told.
absl::StatusOr<WorkerServer::Options> UnderstandWorkerOptions(
    const Arguments& arguments);

}  // namespace casement

#endif  // CASEMENT_WORKER_OPTIONS_H_
