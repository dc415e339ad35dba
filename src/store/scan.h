// What lies in a shard (a directory of blobs), when the index cannot tell.
#ifndef CASEMENT_STORE_SCAN_H_
#define CASEMENT_STORE_SCAN_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "casement/digest.h"
#include "store/disk.h"

namespace casement {

struct FoundBlob {
  Digest digest;
  int64_t allocated_bytes = 0;
  int64_t changed_ns = 0;
};

struct ShardScan {
  std::vector<FoundBlob> blobs;
  std::vector<Digest> torn;   // Dropped.
  int64_t foreign_bytes = 0;  // Allocated by what is no blob.
};

struct ScanOptions {
  // After a power loss a file may hold less than was written. True if this
  // blob's may: it is hashed then, and dropped if it is torn.
  std::function<bool(const FoundBlob&)> may_be_torn;
  // Gets one line about each thing that is no blob. Such things are left where
  // they are, and never served.
  std::function<void(absl::string_view)> log;
};

// Nanoseconds since 1970 of a file's ctime and mtime.
int64_t ChangedNs(const struct stat& attributes);
int64_t ModifiedNs(const struct stat& attributes);

// `cas` is the directory of shards. A shard that does not exist is empty.
absl::StatusOr<ShardScan> ScanShard(Disk& disk, int cas, size_t shard,
                                    const ScanOptions& options);

// Reads the file and hashes it. `progress` gets the size of each piece read.
absl::StatusOr<Digest> HashFile(Disk& disk, int fd,
                                absl::FunctionRef<void(int64_t)> progress);

}  // namespace casement

#endif  // CASEMENT_STORE_SCAN_H_
