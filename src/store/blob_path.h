// Where a blob's file is, below STORE/cas: "<hh>/<hash>-<size>".
#ifndef CASEMENT_STORE_BLOB_PATH_H_
#define CASEMENT_STORE_BLOB_PATH_H_

#include <fcntl.h>

#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "casement/digest.h"

namespace casement {

// Directories of blobs: one for each first byte of a hash.
inline constexpr size_t kShardCount = 256;

inline size_t ShardOf(const Digest& digest) { return digest.hash()[0]; }
std::string ShardName(size_t shard);
bool IsShardName(absl::string_view name);
std::string BlobPath(const Digest& digest);
// How a blob's file is opened. If something else has been put in its place, a
// symlink is not followed and a FIFO not waited for.
inline constexpr int kBlobOpenFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
// nullopt if no blob's file in this shard can have this name.
std::optional<Digest> BlobOfName(size_t shard, absl::string_view name);

}  // namespace casement

#endif  // CASEMENT_STORE_BLOB_PATH_H_
