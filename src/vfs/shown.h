// How values of the layers below are shown as files: sizes as blocks, entries
// as modes, blobs as bytes. Used by every area. No state.
#ifndef CASEMENT_VFS_SHOWN_H_
#define CASEMENT_VFS_SHOWN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "casement/sandbox_spec.h"
#include "model/directory.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "vfs/area.h"
#include "vfs/attributes.h"

namespace casement {

// st_size of a directory: what ext4 answers for one with few entries.
inline constexpr int64_t kDirectorySize = 4096;

// st_blocks of a file of `size_bytes` without holes.
int64_t BlocksOf(int64_t size_bytes);

// How many of its entries are Directories: what they add to its link count.
uint32_t DirectoriesIn(const Directory& directory);

// S_IFREG, S_IFDIR or S_IFLNK.
uint32_t TypeBits(EntryType type);

// The mode, with the type, that entry `index` of a sandbox's input has at
// first.
uint32_t InputMode(const InternedDirectory& directory, size_t index,
                   InputsPolicy policy);

// The mtime property, else 2000-01-01T00:00:00Z.
timespec MtimeOf(const NodeProperties& properties);

// A st_ino for `name` in the directory shown as `parent`, the same whenever it
// is asked for. For trees whose paths are not counted.
uint64_t ChildNumber(uint64_t parent, absl::string_view name);

// Lists "." and "..", as positions 1 and 2, as far as they come after
// `position`. False if the sink is full.
bool ListDots(uint64_t number, uint64_t parent, uint64_t position,
              const ListSink& sink);

// Fills `buffer` from `offset` on; fewer bytes at the end of the file only.
// EIO if the file is shorter than its digest says.
absl::StatusOr<size_t> ReadBlob(const OpenBlob& blob, int64_t offset,
                                absl::Span<char> buffer);
// pread(2) until `buffer` is full or the file ends.
absl::StatusOr<size_t> ReadFully(int fd, int64_t offset,
                                 absl::Span<char> buffer);

// The extended attribute by which Bazel (--unix_digest_hash_attribute_name) and
// others learn a file's hash without reading it: 32 bytes, not hex. It is not
// listed, so that no tool copies it to where it would become untrue.
inline constexpr absl::string_view kChecksumXattr = "user.checksum.sha256";
std::string ChecksumXattr(const Digest& digest);

// lseek(2) with SEEK_HOLE or SEEK_DATA.
absl::StatusOr<int64_t> SeekIn(int fd, int64_t offset, int whence);

// What the store has room for, in blocks of 4096 bytes.
Limits StoreLimits(BlobStore& store);

}  // namespace casement

#endif  // CASEMENT_VFS_SHOWN_H_
