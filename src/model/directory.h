// An REv2 Directory message as an immutable, validated value.
//
// What Parse() accepts can be shown by a file system without further checks:
// names are valid, unique and sorted, digests are well formed. Directories may
// be shared between threads.
#ifndef CASEMENT_MODEL_DIRECTORY_H_
#define CASEMENT_MODEL_DIRECTORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "casement/digest.h"

namespace casement {

// No system call can reach a longer name, so a Directory holding one is refused
// when parsed instead of being listed and never opened (NAME_MAX, limits.h).
inline constexpr size_t kNameBytesMax = 255;
// symlink(2) refuses longer targets (PATH_MAX with its NUL, limits.h).
inline constexpr size_t kSymlinkTargetBytesMax = 4095;
// A message larger than this is refused unread. At 100 bytes an entry it leaves
// room for more than half a million entries in one directory.
inline constexpr int64_t kDirectoryBytesMax = int64_t{64} << 20;

// InvalidArgument, saying why, unless `name` can be a file's name: 1 to 255
// bytes, neither "." nor "..", without '/' and NUL.
absl::Status CheckName(absl::string_view name);

// REv2's NodeProperties, as far as a file system can show them.
struct NodeProperties {
  std::optional<absl::Time> mtime;
  // Permission bits, 0 to 07777.
  std::optional<uint32_t> unix_mode;

  friend bool operator==(const NodeProperties&,
                         const NodeProperties&) = default;
};

enum class EntryType : uint8_t { kFile, kDirectory, kSymlink };

class Directory {
 public:
  struct Entry {
    absl::string_view name;  // Points into the Directory.
    EntryType type = EntryType::kFile;
    bool is_executable = false;  // Files only.
    Digest digest;               // Files and directories only.
    absl::string_view target;    // Symlinks only. Points into the Directory.
    NodeProperties properties;   // Files and symlinks only.
  };

  // InvalidArgument, naming the entry and the fault, if `bytes` are no
  // Directory message, hold fields that REv2 does not know, or if a list is
  // unsorted, a name invalid or used twice, a digest malformed, a symlink's
  // target empty, too long or with a NUL, a property out of range.
  static absl::StatusOr<std::shared_ptr<const Directory>> Parse(
      absl::string_view bytes);

  // All entries, sorted by name as bytes, whatever their type.
  const std::vector<Entry>& entries() const { return entries_; }
  // The index in entries(), or nullopt.
  std::optional<size_t> Find(absl::string_view name) const;
  // Of the Directory itself (REv2's Directory.node_properties).
  const NodeProperties& properties() const { return properties_; }

  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

 private:
  Directory() = default;
  void SortAndOwnTexts();

  std::string text_;  // All names and targets, one after the other.
  std::vector<Entry> entries_;
  NodeProperties properties_;
};

// Writes the canonical form of a Directory: lists sorted by name, nothing said
// that is a default. Entries may be added in any order. One thread at a time.
class DirectoryBuilder {
 public:
  DirectoryBuilder();
  ~DirectoryBuilder();
  DirectoryBuilder(DirectoryBuilder&&) noexcept;
  DirectoryBuilder& operator=(DirectoryBuilder&&) noexcept;

  // Names must be valid and used once: Directory::Parse() says if they are not.
  void AddFile(absl::string_view name, const Digest& digest, bool is_executable,
               const NodeProperties& properties = {});
  void AddDirectory(absl::string_view name, const Digest& digest);
  void AddSymlink(absl::string_view name, absl::string_view target,
                  const NodeProperties& properties = {});
  void SetProperties(const NodeProperties& properties);

  // The message's bytes, whose Digest::Of() is the Directory's digest.
  std::string Build() const;

 private:
  struct Rep;  // The protobuf message.
  std::unique_ptr<Rep> rep_;
};

}  // namespace casement

#endif  // CASEMENT_MODEL_DIRECTORY_H_
