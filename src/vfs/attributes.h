// What the file system says of a file, and what it can be asked to change:
// stat(2) and its kin without any message format.
#ifndef CASEMENT_VFS_ATTRIBUTES_H_
#define CASEMENT_VFS_ATTRIBUTES_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>

#include "absl/strings/string_view.h"
#include "store/blob_store.h"

namespace casement {

// How the kernel names a node. A counter, never reused.
using InodeId = uint64_t;
inline constexpr InodeId kRootId = 1;

struct Attributes {
  uint64_t number = 0;  // st_ino: unique in the mount, stable for its path.
  uint32_t mode = 0;    // With the type (S_IFMT).
  uint32_t links = 1;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t size = 0;
  int64_t blocks = 0;   // Of 512 bytes.
  uint64_t device = 0;  // Of a device node, as makedev(3) makes it.
  timespec atime{};
  timespec mtime{};
  timespec ctime{};
  // Whether the kernel may remember them until it is told otherwise.
  bool cacheable = true;
};

// The answer to a lookup. `id` 0 says that the name does not exist.
struct Entry {
  InodeId id = 0;
  Attributes attributes;
  // Whether the kernel may remember the answer until it is told otherwise.
  bool cacheable = true;
};

// A time to set: a given one, or the current one.
struct NewTime {
  bool now = false;
  timespec time{};
};

struct AttributeChange {
  std::optional<uint32_t> mode;  // Permission bits only.
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<int64_t> size;
  std::optional<NewTime> atime;
  std::optional<NewTime> mtime;
  // S_ISUID and S_ISGID are to go, as after a write by another user.
  bool clear_suid = false;
};

// Who asks.
struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
  // Whether it is in this group, be it by a supplementary one. May read files:
  // not to be asked with a lock held.
  std::function<bool(uint32_t gid)> is_in_group;
};

struct WriteRequest {
  // The kernel writes pages back, of a mapping: the file gets no longer.
  bool from_page_cache = false;
  bool is_direct = false;   // The file is open with O_DIRECT.
  bool clear_suid = false;  // S_ISUID and S_ISGID are to go.
  Caller caller;
};

struct OpenRequest {
  int flags = 0;            // As in open(2).
  bool clear_suid = false;  // With O_TRUNC: S_ISUID and S_ISGID are to go.
  Caller caller;
};

// The answer to an open. Data calls work from the node alone, so there is no
// handle.
struct Opened {
  // If set, the kernel is to use this file's pages and data itself, for as long
  // as the file is open; end it with FileSystem::Closed().
  std::shared_ptr<const OpenBlob> passthrough;
  // It is counted as one that can write: end it with FileSystem::Closed().
  bool writer = false;
  // It reads a blob that is still on its way, and is counted so: end it with
  // FileSystem::Closed().
  bool arriving = false;
  // What goes through it is to go past the kernel's pages, and to drop those
  // that it changes.
  bool direct = false;
};

// What an open file was, when it is closed.
enum class OpenedAs : uint8_t { kPassthrough, kWriter, kArriving };

// What to make: a regular file, a FIFO, a socket or a device node.
struct NewFile {
  uint32_t mode = 0;    // With the type (S_IFMT).
  uint64_t device = 0;  // Of a device node.
};

// One name of a listing. `position` is where the listing goes on after it.
struct Listed {
  absl::string_view name;
  uint64_t number = 0;
  uint32_t mode = 0;
  uint64_t position = 0;
};

struct Limits {
  int64_t blocks = 0;  // Of 4096 bytes.
  int64_t blocks_free = 0;
  int64_t nodes = 0;
  int64_t nodes_free = 0;
};

}  // namespace casement

#endif  // CASEMENT_VFS_ATTRIBUTES_H_
