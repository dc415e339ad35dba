// Sends what a store lacks of a local tree.
#ifndef CASEMENT_CLIENT_TREE_UPLOAD_H_
#define CASEMENT_CLIENT_TREE_UPLOAD_H_

#include "absl/status/status.h"
#include "client/blob_transfer.h"
#include "client/local_tree.h"
#include "client/progress.h"

namespace casement {

// Small blobs in batches, large ones piece by piece, several at a time.
absl::Status UploadTree(const LocalTree& tree, BlobTransfer& transfer,
                        ProgressGatherer& progress);

}  // namespace casement

#endif  // CASEMENT_CLIENT_TREE_UPLOAD_H_
