#include "store/index.h"

#include <fcntl.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "casement/digest.h"
#include "store/scan.h"

namespace casement {
namespace {

// The last digit is the version of the format.
constexpr char kMagic[8] = {'C', 'A', 'S', 'E', 'I', 'D', 'X', '1'};
// 229 KiB: large enough to be read at the disk's speed.
constexpr uint64_t kBlockEntries = 4096;

struct RawHeader {
  char magic[8];
  char boot_id[40];
  uint64_t entries;
  ShardStamp shards[kShardCount];
};

struct RawEntry {
  uint8_t hash[Digest::kHashBytes];
  int64_t size_bytes;
  int64_t allocated_bytes;
  int64_t changed_ns;
};
static_assert(sizeof(RawEntry) == 56);
static_assert(std::is_trivially_copyable_v<RawHeader>);

constexpr size_t kChecksumBytes = sizeof(uint64_t);

// `position` is that in the file, so that blocks cannot change places.
std::string Checksum(absl::string_view bytes, int64_t position) {
  const uint64_t sum = XXH3_64bits_withSeed(bytes.data(), bytes.size(),
                                            static_cast<uint64_t>(position));
  return std::string(reinterpret_cast<const char*>(&sum), sizeof(sum));
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(what);
}

bool ToEntry(const RawEntry& raw, IndexEntry& entry) {
  if (raw.size_bytes < 0 || raw.allocated_bytes < 0) return false;
  Digest::Hash hash;
  std::copy(std::begin(raw.hash), std::end(raw.hash), hash.begin());
  entry.digest = Digest::FromHash(hash, raw.size_bytes);
  entry.allocated_bytes = raw.allocated_bytes;
  entry.changed_ns = raw.changed_ns;
  // The same test as in Digest::FromParts().
  return raw.size_bytes > 0 || entry.digest == Digest();
}

}  // namespace

IndexWriter::IndexWriter(Disk& disk, int store, UniqueFd fd)
    : disk_(&disk),
      store_(store),
      fd_(std::move(fd)),
      offset_(sizeof(RawHeader) + kChecksumBytes) {}

absl::StatusOr<IndexWriter> IndexWriter::Start(Disk& disk, int store) {
  ASSIGN_OR_RETURN(UniqueFd fd,
                   disk.Open(store, kNewIndexName,
                             O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  IndexWriter writer(disk, store, std::move(fd));
  ASSIGN_OR_RETURN(const struct stat attributes, disk.Stat(writer.fd_.get()));
  writer.started_ns_ = ModifiedNs(attributes);
  return writer;
}

absl::Status IndexWriter::Add(const IndexEntry& entry) {
  RawEntry raw;
  std::copy(entry.digest.hash().begin(), entry.digest.hash().end(), raw.hash);
  raw.size_bytes = entry.digest.size_bytes();
  raw.allocated_bytes = entry.allocated_bytes;
  raw.changed_ns = entry.changed_ns;
  block_.append(reinterpret_cast<const char*>(&raw), sizeof(raw));
  ++entries_;
  if (block_.size() < kBlockEntries * sizeof(RawEntry)) return absl::OkStatus();
  return WriteBlock();
}

absl::Status IndexWriter::WriteBlock() {
  if (block_.empty()) return absl::OkStatus();
  block_ += Checksum(block_, offset_);
  RETURN_IF_ERROR(WriteAll(*disk_, fd_.get(), block_, offset_));
  offset_ += static_cast<int64_t>(block_.size());
  block_.clear();
  return absl::OkStatus();
}

absl::StatusOr<int64_t> IndexWriter::Finish(const IndexHeader& header) {
  RETURN_IF_ERROR(WriteBlock());
  RawHeader raw = {};
  std::memcpy(raw.magic, kMagic, sizeof(kMagic));
  header.boot_id.copy(raw.boot_id, sizeof(raw.boot_id));
  raw.entries = entries_;
  std::copy(header.shards.begin(), header.shards.end(), raw.shards);
  std::string bytes(reinterpret_cast<const char*>(&raw), sizeof(raw));
  bytes += Checksum(bytes, 0);
  RETURN_IF_ERROR(WriteAll(*disk_, fd_.get(), bytes, 0));
  RETURN_IF_ERROR(disk_->Sync(fd_.get()));
  ASSIGN_OR_RETURN(const struct stat attributes, disk_->Stat(fd_.get()));
  RETURN_IF_ERROR(disk_->Rename(store_, kNewIndexName, kIndexName));
  return int64_t{attributes.st_blocks} * 512;
}

int64_t IndexWriter::BytesOf(uint64_t entries) {
  const uint64_t blocks = (entries + kBlockEntries - 1) / kBlockEntries;
  return static_cast<int64_t>(sizeof(RawHeader) + kChecksumBytes +
                              entries * sizeof(RawEntry) +
                              blocks * kChecksumBytes);
}

absl::StatusOr<IndexReader> IndexReader::Open(Disk& disk, int store) {
  ASSIGN_OR_RETURN(UniqueFd fd,
                   disk.Open(store, kIndexName, kBlobOpenFlags, 0));
  ASSIGN_OR_RETURN(const struct stat attributes, disk.Stat(fd.get()));
  IndexReader reader(disk, std::move(fd));
  if (!S_ISREG(attributes.st_mode)) return Damaged("it is no file");
  RETURN_IF_ERROR(reader.ReadHeader(attributes.st_size));
  return reader;
}

absl::StatusOr<std::string> IndexReader::ReadExactly(size_t count) {
  std::string bytes(count, '\0');
  size_t done = 0;
  while (done < count) {
    ASSIGN_OR_RETURN(
        const size_t read,
        disk_->Read(fd_.get(), absl::MakeSpan(&bytes[done], count - done),
                    offset_ + static_cast<int64_t>(done)));
    if (read == 0) return Damaged("it is too short");
    done += read;
  }
  const absl::string_view data(bytes.data(), count - kChecksumBytes);
  if (Checksum(data, offset_) != bytes.substr(data.size())) {
    return Damaged("a checksum does not fit");
  }
  offset_ += static_cast<int64_t>(count);
  return bytes;
}

absl::Status IndexReader::ReadHeader(int64_t file_bytes) {
  ASSIGN_OR_RETURN(const std::string bytes,
                   ReadExactly(sizeof(RawHeader) + kChecksumBytes));
  RawHeader raw;
  std::memcpy(&raw, bytes.data(), sizeof(raw));
  if (std::memcmp(raw.magic, kMagic, sizeof(kMagic)) != 0) {
    return Damaged("it is in another format");
  }
  // Also bounds the count, before anything is done with it.
  if (raw.entries > static_cast<uint64_t>(file_bytes) ||
      IndexWriter::BytesOf(raw.entries) != file_bytes) {
    return Damaged("its size does not fit");
  }
  header_.boot_id.assign(raw.boot_id,
                         strnlen(raw.boot_id, sizeof(raw.boot_id)));
  std::copy(std::begin(raw.shards), std::end(raw.shards),
            header_.shards.begin());
  header_.entries = entries_left_ = raw.entries;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<IndexEntry>> IndexReader::Next() {
  std::vector<IndexEntry> entries;
  const size_t count = std::min(entries_left_, kBlockEntries);
  if (count == 0) return entries;
  ASSIGN_OR_RETURN(const std::string bytes,
                   ReadExactly(count * sizeof(RawEntry) + kChecksumBytes));
  entries.resize(count);
  for (size_t i = 0; i < count; ++i) {
    RawEntry raw;
    std::memcpy(&raw, bytes.data() + i * sizeof(raw), sizeof(raw));
    if (!ToEntry(raw, entries[i])) return Damaged("an entry is malformed");
  }
  entries_left_ -= count;
  return entries;
}

}  // namespace casement
