#include "vfs/shown.h"

#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>

#include "base/status.h"

namespace casement {
namespace {

constexpr int64_t kBlockBytes = 4096;

}  // namespace

int64_t BlocksOf(int64_t size_bytes) {
  return (size_bytes + kBlockBytes - 1) / kBlockBytes * (kBlockBytes / 512);
}

uint32_t DirectoriesIn(const Directory& directory) {
  return static_cast<uint32_t>(
      std::count_if(directory.entries().begin(), directory.entries().end(),
                    [](const Directory::Entry& entry) {
                      return entry.type == EntryType::kDirectory;
                    }));
}

uint32_t TypeBits(EntryType type) {
  switch (type) {
    case EntryType::kFile:
      return S_IFREG;
    case EntryType::kDirectory:
      return S_IFDIR;
    case EntryType::kSymlink:
      return S_IFLNK;
  }
  return 0;
}

uint32_t InputMode(const InternedDirectory& directory, size_t index,
                   InputsPolicy policy) {
  const Directory::Entry& entry = directory.directory().entries()[index];
  switch (entry.type) {
    case EntryType::kDirectory: {
      const NodeProperties& own =
          directory.child(index)->directory().properties();
      return S_IFDIR | own.unix_mode.value_or(0755);
    }
    case EntryType::kSymlink:
      return S_IFLNK | 0777;
    case EntryType::kFile:
      break;
  }
  const uint32_t mode =
      entry.properties.unix_mode.value_or(entry.is_executable ? 0755 : 0644);
  const bool read_only = policy == InputsPolicy::kReadOnly;
  return S_IFREG | (read_only ? mode & ~0222U : mode);
}

timespec MtimeOf(const NodeProperties& properties) {
  // Not 0: some tools take the epoch for "unknown". Any fixed time serves.
  static const absl::Time kDefault = absl::FromUnixSeconds(946684800);
  return absl::ToTimespec(properties.mtime.value_or(kDefault));
}

uint64_t ChildNumber(uint64_t parent, absl::string_view name) {
  // Bit 62 keeps these away from the counted numbers, and bit 63 belongs to
  // the blobs' views.
  const uint64_t hash = XXH3_64bits_withSeed(name.data(), name.size(), parent);
  return (hash >> 2) | uint64_t{1} << 62;
}

bool ListDots(uint64_t number, uint64_t parent, uint64_t position,
              const ListSink& sink) {
  if (position < 1 &&
      !sink({.name = ".", .number = number, .mode = S_IFDIR, .position = 1})) {
    return false;
  }
  return position >= 2 ||
         sink({.name = "..", .number = parent, .mode = S_IFDIR, .position = 2});
}

absl::StatusOr<size_t> ReadFully(int fd, int64_t offset,
                                 absl::Span<char> buffer) {
  size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t got = pread(fd, buffer.data() + done, buffer.size() - done,
                              offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "reading");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

absl::StatusOr<size_t> ReadBlob(const OpenBlob& blob, int64_t offset,
                                absl::Span<char> buffer) {
  const int64_t left =
      std::max(int64_t{0}, blob.digest().size_bytes() - offset);
  const size_t wanted = std::min(buffer.size(), static_cast<size_t>(left));
  ASSIGN_OR_RETURN(const size_t got,
                   ReadFully(blob.fd(), offset, buffer.first(wanted)));
  if (got < wanted) {
    return ErrnoStatus(EIO, "blob ", blob.digest().ToString(), " is cut short");
  }
  return got;
}

std::string ChecksumXattr(const Digest& digest) {
  return std::string(digest.hash().begin(), digest.hash().end());
}

absl::StatusOr<int64_t> SeekIn(int fd, int64_t offset, int whence) {
  const off_t found = lseek(fd, offset, whence);
  if (found < 0) return ErrnoStatus(errno, "seeking");
  return found;
}

Limits StoreLimits(BlobStore& store) {
  const BlobStore::Stats stats = store.GetStats();
  // What is not leased can be evicted to make room, but only the store knows
  // how much that is when it comes to it; this is what is unused now.
  const int64_t free =
      std::max(int64_t{0}, stats.capacity_bytes - store.ledger().Total());
  return {.blocks = stats.capacity_bytes / kBlockBytes,
          .blocks_free = free / kBlockBytes};
}

}  // namespace casement
