// What a peer may ask for at most. Past it: an error, never growth.
#ifndef CASEMENT_CONTROL_REQUEST_LIMITS_H_
#define CASEMENT_CONTROL_REQUEST_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace casement {

// All blobs of one BatchUpdateBlobs or BatchReadBlobs; announced by
// GetCapabilities. As gRPC's customary limit of a message, which clients have.
inline constexpr int64_t kBatchBytesMax = int64_t{4} << 20;
// Of blobs in one ActionResult.
inline constexpr int64_t kInlineBytesMax = int64_t{1} << 20;
// A request, with the digests and names around the blobs.
inline constexpr int kRequestBytesMax = 8 << 20;
// A piece of a blob or of a list that we send. Large enough for gRPC's cost per
// message (about 20 us) to vanish, small enough for many readers at once.
inline constexpr size_t kPieceBytes = size_t{512} << 10;

inline constexpr int kPathsMax = 65536;
// What a system call takes (PATH_MAX without its NUL, limits.h).
inline constexpr size_t kPathBytesMax = 4095;
inline constexpr size_t kLabelBytesMax = 4096;
// Distinct Directories in one GetTree; as in DirectoryTable.
inline constexpr int64_t kTreeDirectoriesMax = int64_t{4} << 20;

}  // namespace casement

#endif  // CASEMENT_CONTROL_REQUEST_LIMITS_H_
