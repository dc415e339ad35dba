// STORE/index: which blobs there were, and in what order they were used.
//
// Only a cache: the directory scan is the truth. It saves a start from looking
// at every file. Each shard (directory of blobs) has a stamp; a shard whose
// stamp still fits is taken from the index, any other is scanned (scan.h). It
// also remembers which blobs a syncfs has made durable, by their ctime: after
// a power loss these need not be hashed again. An index that is damaged in any
// way is as none.
//
// Format, in the machine's byte order (a store moved to a machine of the other
// one is scanned): a Header, its XXH3, then blocks of up to kBlockEntries
// entries, each with its XXH3, least recently used blob first.
#ifndef CASEMENT_STORE_INDEX_H_
#define CASEMENT_STORE_INDEX_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "store/blob_path.h"
#include "store/disk.h"

namespace casement {

inline constexpr char kIndexName[] = "index";
// Renamed to kIndexName when it is complete.
inline constexpr char kNewIndexName[] = "index.new";

// Tells whether a shard's directory has changed.
struct ShardStamp {
  int64_t modified_ns = 0;  // 0: no such directory, or not to be trusted.
  int64_t changed_ns = 0;
  // What lies there and is no blob, so that it is accounted without a scan.
  int64_t foreign_bytes = 0;
  // 1 if all of its blobs were durable: good after a power loss as well.
  int64_t is_durable = 0;
};

struct IndexHeader {
  std::string boot_id;  // Of the boot that wrote it. At most 40 bytes.
  std::array<ShardStamp, kShardCount> shards;
  uint64_t entries = 0;  // Filled in by the writer.
};

struct IndexEntry {
  Digest digest;
  int64_t allocated_bytes = 0;
  int64_t changed_ns = 0;  // 0 if it may not survive a power loss.
};

// One thread at a time, as the reader.
class IndexWriter {
 public:
  // Starts STORE/index.new.
  static absl::StatusOr<IndexWriter> Start(Disk& disk, int store);
  // When that was, in the file system's time.
  int64_t started_ns() const { return started_ns_; }
  absl::Status Add(const IndexEntry& entry);
  // Makes it durable and, by a rename, the index. How many bytes it allocates.
  absl::StatusOr<int64_t> Finish(const IndexHeader& header);

  // The size of an index of so many entries.
  static int64_t BytesOf(uint64_t entries);

 private:
  IndexWriter(Disk& disk, int store, UniqueFd fd);
  absl::Status WriteBlock();

  Disk* disk_;
  int store_;
  UniqueFd fd_;
  int64_t started_ns_ = 0;
  int64_t offset_;  // Where the next block goes.
  uint64_t entries_ = 0;
  std::string block_;
};

class IndexReader {
 public:
  // NotFound if there is none; DataLoss, saying why, if it is damaged.
  static absl::StatusOr<IndexReader> Open(Disk& disk, int store);
  const IndexHeader& header() const { return header_; }
  // The next block of entries; none at the end. DataLoss if it is damaged.
  absl::StatusOr<std::vector<IndexEntry>> Next();

 private:
  IndexReader(Disk& disk, UniqueFd fd) : disk_(&disk), fd_(std::move(fd)) {}
  absl::Status ReadHeader(int64_t file_bytes);
  absl::StatusOr<std::string> ReadExactly(size_t count);

  Disk* disk_;
  UniqueFd fd_;
  IndexHeader header_;
  int64_t offset_ = 0;
  uint64_t entries_left_ = 0;
};

}  // namespace casement

#endif  // CASEMENT_STORE_INDEX_H_
