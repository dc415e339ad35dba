#include "model/directory.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "base/status.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/digest.h"
#include "google/protobuf/arena.h"
#include "google/protobuf/message.h"

namespace casement {
namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;

constexpr uint32_t kUnixModeMax = 07777;
// The range of google.protobuf.Timestamp (timestamp.proto): years 1 to 9999.
constexpr int64_t kTimestampSecondsMin = -62135596800;
constexpr int64_t kTimestampSecondsMax = 253402300799;
constexpr int32_t kNanosMax = 999999999;

// protobuf's strings are not absl's.
absl::string_view View(const std::string& text) { return text; }

std::string Quote(absl::string_view name) {
  return absl::StrCat("\"",
                      absl::Utf8SafeCHexEscape(name.substr(0, kNameBytesMax)),
                      name.size() > kNameBytesMax ? "...\"" : "\"");
}

absl::Status Invalid(absl::string_view what) {
  return absl::InvalidArgumentError(what);
}

bool HasUnknownFields(const google::protobuf::Message& message) {
  return !message.GetReflection()->GetUnknownFields(message).empty();
}

bool HasUnknownFields(const rev2::NodeProperties& properties) {
  const google::protobuf::Message& message = properties;
  if (HasUnknownFields(message)) return true;
  for (const google::protobuf::Message& property : properties.properties()) {
    if (HasUnknownFields(property)) return true;
  }
  const google::protobuf::Message& mtime = properties.mtime();
  const google::protobuf::Message& unix_mode = properties.unix_mode();
  return HasUnknownFields(mtime) || HasUnknownFields(unix_mode);
}

absl::Status CheckTarget(absl::string_view target) {
  if (target.empty()) return Invalid("the symlink's target is empty");
  if (target.size() > kSymlinkTargetBytesMax) {
    return Invalid(absl::StrCat("the symlink's target has ", target.size(),
                                " bytes, ", kSymlinkTargetBytesMax,
                                " is the most"));
  }
  if (target.find('\0') != absl::string_view::npos) {
    return Invalid("the symlink's target holds a NUL");
  }
  return absl::OkStatus();
}

template <typename Node>
absl::StatusOr<NodeProperties> PropertiesOf(const Node& node) {
  NodeProperties properties;
  if (!node.has_node_properties()) return properties;
  const rev2::NodeProperties& message = node.node_properties();
  if (HasUnknownFields(message)) {
    return Invalid("unknown fields in its properties");
  }
  if (message.has_mtime()) {
    const int64_t seconds = message.mtime().seconds();
    const int32_t nanos = message.mtime().nanos();
    if (seconds < kTimestampSecondsMin || seconds > kTimestampSecondsMax ||
        nanos < 0 || nanos > kNanosMax) {
      return Invalid(absl::StrCat("its mtime of ", seconds, " s and ", nanos,
                                  " ns is out of range"));
    }
    properties.mtime =
        absl::FromUnixSeconds(seconds) + absl::Nanoseconds(nanos);
  }
  if (message.has_unix_mode()) {
    const uint32_t mode = message.unix_mode().value();
    if (mode > kUnixModeMax) {
      return Invalid(
          absl::StrCat("its unix_mode ", mode, " is more than permissions"));
    }
    properties.unix_mode = mode;
  }
  return properties;
}

absl::StatusOr<Digest> ParseDigest(const rev2::Digest& message) {
  const google::protobuf::Message& base = message;
  if (HasUnknownFields(base)) return Invalid("unknown fields in its digest");
  return Digest::FromParts(View(message.hash()), message.size_bytes());
}

absl::StatusOr<Directory::Entry> ParseNode(const rev2::FileNode& node) {
  Directory::Entry entry;
  entry.type = EntryType::kFile;
  entry.is_executable = node.is_executable();
  ASSIGN_OR_RETURN(entry.digest, ParseDigest(node.digest()));
  ASSIGN_OR_RETURN(entry.properties, PropertiesOf(node));
  return entry;
}

absl::StatusOr<Directory::Entry> ParseNode(const rev2::DirectoryNode& node) {
  Directory::Entry entry;
  entry.type = EntryType::kDirectory;
  ASSIGN_OR_RETURN(entry.digest, ParseDigest(node.digest()));
  return entry;
}

absl::StatusOr<Directory::Entry> ParseNode(const rev2::SymlinkNode& node) {
  Directory::Entry entry;
  entry.type = EntryType::kSymlink;
  entry.target = View(node.target());
  RETURN_IF_ERROR(CheckTarget(entry.target));
  ASSIGN_OR_RETURN(entry.properties, PropertiesOf(node));
  return entry;
}

// Appends the entries of one of the message's three lists. Their texts point
// into the message.
template <typename Nodes>
absl::Status ParseList(const Nodes& nodes, absl::string_view list,
                       std::vector<Directory::Entry>& entries) {
  absl::string_view previous;
  for (const auto& node : nodes) {
    const absl::string_view name = View(node.name());
    RETURN_IF_ERROR(CheckName(name));
    if (name < previous) {
      return Invalid(absl::StrCat("its ", list, " are not sorted: ",
                                  Quote(name), " is after ", Quote(previous)));
    }
    previous = name;
    const google::protobuf::Message& message = node;
    if (HasUnknownFields(message)) {
      return Invalid(absl::StrCat("unknown fields in entry ", Quote(name)));
    }
    absl::StatusOr<Directory::Entry> entry = ParseNode(node);
    if (!entry.ok()) return Annotate(entry.status(), "entry ", Quote(name));
    entry->name = name;
    entries.push_back(*std::move(entry));
  }
  return absl::OkStatus();
}

absl::Status ParseMessage(absl::string_view bytes, rev2::Directory& message) {
  if (bytes.size() > static_cast<size_t>(kDirectoryBytesMax)) {
    return Invalid(absl::StrCat("it has ", bytes.size(), " bytes, ",
                                kDirectoryBytesMax, " is the most"));
  }
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Invalid("it is no Directory message");
  }
  const google::protobuf::Message& base = message;
  if (HasUnknownFields(base)) {
    return Invalid("it is no Directory message: unknown fields");
  }
  return absl::OkStatus();
}

void FillProperties(const NodeProperties& properties,
                    rev2::NodeProperties& message) {
  if (properties.mtime.has_value()) {
    // Rounds towards the past, so that the nanoseconds are not negative.
    const int64_t seconds = absl::ToUnixSeconds(*properties.mtime);
    message.mutable_mtime()->set_seconds(seconds);
    message.mutable_mtime()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(
            *properties.mtime - absl::FromUnixSeconds(seconds))));
  }
  if (properties.unix_mode.has_value()) {
    message.mutable_unix_mode()->set_value(*properties.unix_mode);
  }
}

bool SaysAnything(const NodeProperties& properties) {
  return properties.mtime.has_value() || properties.unix_mode.has_value();
}

void FillDigest(const Digest& digest, rev2::Digest& message) {
  message.set_hash(digest.HexHash());
  message.set_size_bytes(digest.size_bytes());
}

template <typename Nodes>
void SortByName(Nodes& nodes) {
  std::sort(nodes.begin(), nodes.end(),
            [](const auto& a, const auto& b) { return a.name() < b.name(); });
}

}  // namespace

absl::Status CheckName(absl::string_view name) {
  if (name.empty()) return Invalid("a name is empty");
  if (name.size() > kNameBytesMax) {
    return Invalid(absl::StrCat("the name ", Quote(name), " has ", name.size(),
                                " bytes, ", kNameBytesMax, " is the most"));
  }
  if (name == "." || name == "..") {
    return Invalid(absl::StrCat("the name ", Quote(name), " is reserved"));
  }
  if (name.find('/') != absl::string_view::npos) {
    return Invalid(absl::StrCat("the name ", Quote(name), " holds a '/'"));
  }
  if (name.find('\0') != absl::string_view::npos) {
    return Invalid(absl::StrCat("the name ", Quote(name), " holds a NUL"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Directory>> Directory::Parse(
    absl::string_view bytes) {
  google::protobuf::Arena arena;  // One allocation for many nodes.
  rev2::Directory& message =
      *google::protobuf::Arena::CreateMessage<rev2::Directory>(&arena);
  RETURN_IF_ERROR(ParseMessage(bytes, message));
  std::shared_ptr<Directory> directory(new Directory());
  ASSIGN_OR_RETURN(directory->properties_, PropertiesOf(message));
  std::vector<Entry>& entries = directory->entries_;
  entries.reserve(message.files_size() + message.directories_size() +
                  message.symlinks_size());
  RETURN_IF_ERROR(ParseList(message.files(), "files", entries));
  RETURN_IF_ERROR(ParseList(message.directories(), "directories", entries));
  RETURN_IF_ERROR(ParseList(message.symlinks(), "symlinks", entries));
  directory->SortAndOwnTexts();
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i - 1].name == entries[i].name) {
      return Invalid(
          absl::StrCat("the name ", Quote(entries[i].name), " is used twice"));
    }
  }
  return std::shared_ptr<const Directory>(std::move(directory));
}

void Directory::SortAndOwnTexts() {
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.name < b.name; });
  size_t text_bytes = 0;
  for (const Entry& entry : entries_) {
    text_bytes += entry.name.size() + entry.target.size();
  }
  text_.reserve(text_bytes);  // Or appending would move what views point to.
  const auto own = [this](absl::string_view& text) {
    const size_t begin = text_.size();
    text_.append(text.data(), text.size());
    text = absl::string_view(text_).substr(begin);
  };
  for (Entry& entry : entries_) {
    own(entry.name);
    own(entry.target);
  }
}

std::optional<size_t> Directory::Find(absl::string_view name) const {
  const auto found =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const Entry& entry, absl::string_view sought) {
                         return entry.name < sought;
                       });
  if (found == entries_.end() || found->name != name) return std::nullopt;
  return static_cast<size_t>(found - entries_.begin());
}

struct DirectoryBuilder::Rep {
  rev2::Directory message;
};

DirectoryBuilder::DirectoryBuilder() : rep_(std::make_unique<Rep>()) {}
DirectoryBuilder::~DirectoryBuilder() = default;
DirectoryBuilder::DirectoryBuilder(DirectoryBuilder&&) noexcept = default;
DirectoryBuilder& DirectoryBuilder::operator=(DirectoryBuilder&&) noexcept =
    default;

void DirectoryBuilder::AddFile(absl::string_view name, const Digest& digest,
                               bool is_executable,
                               const NodeProperties& properties) {
  rev2::FileNode& node = *rep_->message.add_files();
  node.set_name(std::string(name));
  FillDigest(digest, *node.mutable_digest());
  node.set_is_executable(is_executable);
  if (SaysAnything(properties)) {
    FillProperties(properties, *node.mutable_node_properties());
  }
}

void DirectoryBuilder::AddDirectory(absl::string_view name,
                                    const Digest& digest) {
  rev2::DirectoryNode& node = *rep_->message.add_directories();
  node.set_name(std::string(name));
  FillDigest(digest, *node.mutable_digest());
}

void DirectoryBuilder::AddSymlink(absl::string_view name,
                                  absl::string_view target,
                                  const NodeProperties& properties) {
  rev2::SymlinkNode& node = *rep_->message.add_symlinks();
  node.set_name(std::string(name));
  node.set_target(std::string(target));
  if (SaysAnything(properties)) {
    FillProperties(properties, *node.mutable_node_properties());
  }
}

void DirectoryBuilder::SetProperties(const NodeProperties& properties) {
  rep_->message.clear_node_properties();
  if (SaysAnything(properties)) {
    FillProperties(properties, *rep_->message.mutable_node_properties());
  }
}

std::string DirectoryBuilder::Build() const {
  rev2::Directory sorted = rep_->message;
  SortByName(*sorted.mutable_files());
  SortByName(*sorted.mutable_directories());
  SortByName(*sorted.mutable_symlinks());
  // Without maps and unknown fields protobuf writes fields in order of number.
  std::string bytes;
  CASEMENT_CHECK(sorted.SerializeToString(&bytes));
  return bytes;
}

}  // namespace casement
