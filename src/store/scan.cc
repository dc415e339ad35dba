#include "store/scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "model/hasher.h"
#include "store/blob_path.h"

namespace casement {
namespace {

constexpr size_t kHashBufferBytes = size_t{256} << 10;

// Looks at one name after the other.
class Scanner {
 public:
  Scanner(Disk& disk, int cas, size_t shard, const ScanOptions& options)
      : disk_(disk), cas_(cas), shard_(shard), options_(options) {}

  absl::Status Look(const std::string& name) {
    const std::string path = absl::StrCat(ShardName(shard_), "/", name);
    const absl::StatusOr<struct stat> attributes = disk_.StatPath(cas_, path);
    if (ErrnoOf(attributes.status()) == ENOENT) return absl::OkStatus();
    if (!attributes.ok()) return attributes.status();
    const std::optional<Digest> digest = BlobOfName(shard_, name);
    if (!digest.has_value() || !S_ISREG(attributes->st_mode)) {
      return Leave(path, *attributes, "it is no blob");
    }
    const FoundBlob found = {*digest, int64_t{attributes->st_blocks} * 512,
                             ChangedNs(*attributes)};
    const bool is_whole = attributes->st_size == digest->size_bytes();
    if (!options_.may_be_torn(found)) {
      if (!is_whole) return Leave(path, *attributes, "its size is wrong");
    } else {
      ASSIGN_OR_RETURN(const bool is_good, is_whole
                                               ? Hashes(path, *digest)
                                               : absl::StatusOr<bool>(false));
      if (!is_good) return DropTorn(path, *digest);
    }
    scan_.blobs.push_back(found);
    return absl::OkStatus();
  }

  ShardScan Take() { return std::move(scan_); }

 private:
  absl::Status Leave(const std::string& path, const struct stat& attributes,
                     absl::string_view why) {
    scan_.foreign_bytes += int64_t{attributes.st_blocks} * 512;
    options_.log(absl::StrCat("left alone cas/", path, ": ", why));
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Hashes(const std::string& path, const Digest& digest) {
    ASSIGN_OR_RETURN(const UniqueFd fd,
                     disk_.Open(cas_, path, kBlobOpenFlags, 0));
    const absl::StatusOr<Digest> hashed =
        HashFile(disk_, fd.get(), [](int64_t) {});
    // What cannot be read cannot be served either.
    if (ErrnoOf(hashed.status()) == EIO) return false;
    if (!hashed.ok()) return hashed.status();
    return *hashed == digest;
  }

  absl::Status DropTorn(const std::string& path, const Digest& digest) {
    RETURN_IF_ERROR(disk_.Unlink(cas_, path));
    options_.log(absl::StrCat("dropped cas/", path, ": torn by a power loss"));
    scan_.torn.push_back(digest);
    return absl::OkStatus();
  }

  Disk& disk_;
  const int cas_;
  const size_t shard_;
  const ScanOptions& options_;
  ShardScan scan_;
};

int64_t Nanoseconds(const struct timespec& time) {
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

}  // namespace

int64_t ChangedNs(const struct stat& attributes) {
  return Nanoseconds(attributes.st_ctim);
}

int64_t ModifiedNs(const struct stat& attributes) {
  return Nanoseconds(attributes.st_mtim);
}

absl::StatusOr<ShardScan> ScanShard(Disk& disk, int cas, size_t shard,
                                    const ScanOptions& options) {
  std::vector<std::string> names;
  const absl::Status listed = disk.ReadDirectory(
      cas, ShardName(shard),
      [&](absl::string_view name, unsigned char) { names.emplace_back(name); });
  if (ErrnoOf(listed) == ENOENT) return ShardScan();
  // Somebody put a file or a symlink where the directory should be.
  if (ErrnoOf(listed) == ENOTDIR || ErrnoOf(listed) == ELOOP) {
    options.log(absl::StrCat("left alone cas/", ShardName(shard),
                             ": it is no directory"));
    return ShardScan();
  }
  RETURN_IF_ERROR(listed);
  Scanner scanner(disk, cas, shard, options);
  for (const std::string& name : names) RETURN_IF_ERROR(scanner.Look(name));
  return scanner.Take();
}

absl::StatusOr<Digest> HashFile(Disk& disk, int fd,
                                absl::FunctionRef<void(int64_t)> progress) {
  const auto buffer = std::make_unique<char[]>(kHashBufferBytes);
  Hasher hasher;
  for (;;) {
    ASSIGN_OR_RETURN(
        const size_t count,
        disk.Read(fd, absl::MakeSpan(buffer.get(), kHashBufferBytes),
                  hasher.size_bytes()));
    if (count == 0) return hasher.Finish();
    hasher.Update(absl::string_view(buffer.get(), count));
    progress(static_cast<int64_t>(count));
  }
}

}  // namespace casement
