// Which blobs an ActionResult names.
#ifndef CASEMENT_STORE_ACTION_BLOBS_H_
#define CASEMENT_STORE_ACTION_BLOBS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/digest.h"
#include "store/blob_store.h"

namespace casement {

// The blobs that `result` names and that are not in `store`, each once: output
// files, stdout and stderr, and Trees and Directories with all that these name.
// Marks the others as used. InvalidArgument if the result or one of its Trees
// is malformed.
absl::StatusOr<std::vector<Digest>> MissingBlobsOf(
    BlobStore& store,
    const ::build::bazel::remote::execution::v2::ActionResult& result);

}  // namespace casement

#endif  // CASEMENT_STORE_ACTION_BLOBS_H_
