#include "vfs/views.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/check.h"
#include "store/missing.h"
#include "vfs/shown.h"

namespace casement {
namespace {

constexpr absl::string_view kExecSuffix = ".exec";
// How many missing names of cas/ the kernel is allowed to remember, so that the
// list of them here stays small; further misses are asked for again each time.
constexpr size_t kMissesMax = 65536;
// How many blobs a listing takes from the store at a time.
constexpr size_t kListBatch = 256;
// Positions in a listing: "." is 1, ".." is 2, what follows starts here.
constexpr uint64_t kFirstPosition = 2;

// st_ino of a blob's view: from its hash, so that it is the same whenever the
// kernel asks. The top bit keeps it away from the counted numbers.
uint64_t NumberOf(const Digest& digest, bool executable) {
  uint64_t number = 0;
  for (size_t i = 0; i < sizeof(number); ++i) {
    number = number << 8 | digest.hash()[i];
  }
  return uint64_t{1} << 63 | (number & ~uint64_t{1}) | (executable ? 1 : 0);
}

}  // namespace

struct Views::ViewNode final : Node {
  using Node::Node;

  ViewNodePtr parent;
  std::string name;
  Attributes attributes;
  // Of files, and of the Directories right below tree/.
  std::optional<Digest> digest;
  BlobRef blob;                                // Of files.
  std::shared_ptr<const Directory> directory;  // Of directories below tree/.
  std::string target;                          // Of symlinks.
  // The children that the kernel knows.
  absl::flat_hash_map<absl::string_view, ViewNode*> children;
  bool linked = false;
};

Views::Views(const ViewContext& context) : context_(context) {}

Views::~Views() = default;

void Views::Start() {
  MutexLock lock(mu_);
  for (const auto& [slot, id] : {std::pair(&cas_, kCasId), {&tree_, kTreeId}}) {
    *slot = MakeNode<ViewNode>(id, shared_from_this());
    (*slot)->attributes = {.number = id,
                           .mode = S_IFDIR | 0555,
                           .links = 2,
                           .uid = context_.uid,
                           .gid = context_.gid,
                           .size = kDirectorySize,
                           .atime = context_.started,
                           .mtime = context_.started,
                           .ctime = context_.started};
    context_.nodes.Insert(*slot);
  }
}

void Views::Stop() {
  MutexLock lock(mu_);
  by_digest_.clear();
  cas_ = nullptr;
  tree_ = nullptr;
}

Views::ViewNodePtr Views::NewNode(ViewNode& parent, absl::string_view name) {
  auto node = MakeNode<ViewNode>(context_.nodes.NewId(), shared_from_this());
  node->parent = ViewNodePtr(&parent);
  node->name = std::string(name);
  node->attributes = {.uid = context_.uid,
                      .gid = context_.gid,
                      .atime = context_.started,
                      .mtime = context_.started,
                      .ctime = context_.started};
  return node;
}

void Views::LinkLocked(const ViewNodePtr& node) {
  node->linked = true;
  node->parent->children.emplace(node->name, node.get());
  if (node->digest.has_value()) {
    by_digest_[*node->digest].push_back(node.get());
  }
  context_.nodes.Insert(node);
}

void Views::UnlinkLocked(ViewNode& node) {
  if (!node.linked) return;
  node.linked = false;
  node.parent->children.erase(node.name);
  if (!node.digest.has_value()) return;
  const auto same = by_digest_.find(*node.digest);
  std::erase(same->second, &node);
  if (same->second.empty()) by_digest_.erase(same);
}

Entry Views::AnswerLocked(ViewNode& node) {
  ++node.lookups;
  return {.id = node.id, .attributes = node.attributes};
}

Entry Views::MissLocked(absl::string_view name) {
  if (misses_.size() >= kMissesMax) return {.cacheable = false};
  misses_.emplace(name);
  return {};
}

absl::StatusOr<Entry> Views::Lookup(Node& directory, absl::string_view name) {
  auto& parent = static_cast<ViewNode&>(directory);
  if (parent.id == kCasId) return LookupBlob(parent, name);
  if (parent.id == kTreeId) return LookupRoot(parent, name);
  return LookupInDirectory(parent, name);
}

absl::StatusOr<Entry> Views::LookupBlob(ViewNode& cas, absl::string_view name) {
  absl::string_view text = name;
  const bool executable = absl::ConsumeSuffix(&text, kExecSuffix);
  const absl::StatusOr<Digest> digest = Digest::Parse(text);
  // Such a name can never appear, so the kernel may remember it for ever.
  if (!digest.ok()) return Entry{};
  MutexLock lock(mu_);
  const auto known = cas.children.find(name);
  if (known != cas.children.end()) return AnswerLocked(*known->second);
  // The miss is noted before the store is asked, and the store publishes before
  // it tells OnPublished(): one of the two sees the other.
  const Entry miss = MissLocked(name);
  absl::StatusOr<BlobRef> blob = context_.store.Ref(*digest);
  if (absl::IsNotFound(blob.status()) && context_.fetcher == nullptr) {
    return miss;
  }
  misses_.erase(name);
  if (absl::IsNotFound(blob.status())) return AbsentBlobStatus(*digest);
  RETURN_IF_ERROR(blob.status());
  const ViewNodePtr node = NewNode(cas, name);
  node->digest = *digest;
  node->blob = *std::move(blob);
  node->attributes.number = NumberOf(*digest, executable);
  node->attributes.mode = S_IFREG | (executable ? 0555 : 0444);
  node->attributes.size = digest->size_bytes();
  node->attributes.blocks = executable ? 0 : BlocksOf(digest->size_bytes());
  LinkLocked(node);
  return AnswerLocked(*node);
}

absl::StatusOr<Entry> Views::LookupRoot(ViewNode& tree,
                                        absl::string_view name) {
  const absl::StatusOr<Digest> digest = Digest::Parse(name);
  if (!digest.ok()) return Entry{};
  {
    MutexLock lock(mu_);
    const auto known = tree.children.find(name);
    if (known != tree.children.end()) return AnswerLocked(*known->second);
  }
  absl::StatusOr<std::shared_ptr<const Directory>> directory =
      context_.directories.Load(*digest);
  if (absl::IsNotFound(directory.status()) && context_.fetcher != nullptr) {
    return AbsentBlobStatus(*digest);
  }
  // Neither is a blob that is not here, nor one that is no Directory.
  if (absl::IsNotFound(directory.status()) ||
      absl::IsInvalidArgument(directory.status())) {
    return Entry{.cacheable = false};
  }
  RETURN_IF_ERROR(directory.status());
  MutexLock lock(mu_);
  const auto known = tree.children.find(name);  // By another thread meanwhile.
  if (known != tree.children.end()) return AnswerLocked(*known->second);
  const ViewNodePtr node = NewNode(tree, name);
  node->digest = *digest;
  node->directory = *std::move(directory);
  node->attributes.number = NumberOf(*digest, /*executable=*/false) ^ 2;
  node->attributes.mode = S_IFDIR | 0555;
  node->attributes.mtime = MtimeOf(node->directory->properties());
  node->attributes.atime = node->attributes.ctime = node->attributes.mtime;
  node->attributes.links = 2 + DirectoriesIn(*node->directory);
  node->attributes.size = kDirectorySize;
  LinkLocked(node);
  return AnswerLocked(*node);
}

absl::StatusOr<Entry> Views::Absent(const Digest& digest) const {
  if (context_.fetcher != nullptr) return AbsentBlobStatus(digest);
  return Entry{.cacheable = false};
}

absl::StatusOr<Entry> Views::LookupInDirectory(ViewNode& parent,
                                               absl::string_view name) {
  if (parent.directory == nullptr) return ErrnoStatus(ENOTDIR, "lookup");
  const std::optional<size_t> index = parent.directory->Find(name);
  if (!index.has_value()) return Entry{};  // Directories never change.
  const Directory::Entry& found = parent.directory->entries()[*index];
  std::shared_ptr<const Directory> directory;
  BlobRef blob;
  if (found.type == EntryType::kDirectory) {
    auto loaded = context_.directories.Load(found.digest);
    if (absl::IsNotFound(loaded.status())) return Absent(found.digest);
    RETURN_IF_ERROR(loaded.status());
    directory = *std::move(loaded);
  }
  MutexLock lock(mu_);
  const auto known = parent.children.find(name);
  if (known != parent.children.end()) return AnswerLocked(*known->second);
  if (found.type == EntryType::kFile) {
    absl::StatusOr<BlobRef> ref = context_.store.Ref(found.digest);
    if (absl::IsNotFound(ref.status())) return Absent(found.digest);
    RETURN_IF_ERROR(ref.status());
    blob = *std::move(ref);
  }
  const ViewNodePtr node = NewNode(parent, name);
  Attributes& attributes = node->attributes;
  attributes.number = ChildNumber(parent.attributes.number, name);
  // A Directory's properties are in itself, not where it is named.
  attributes.mtime = MtimeOf(directory != nullptr ? directory->properties()
                                                  : found.properties);
  attributes.ctime = attributes.atime = attributes.mtime;
  switch (found.type) {
    case EntryType::kFile:
      node->digest = found.digest;
      node->blob = std::move(blob);
      attributes.mode = S_IFREG | (found.is_executable ? 0555 : 0444);
      attributes.size = found.digest.size_bytes();
      attributes.blocks = BlocksOf(attributes.size);
      break;
    case EntryType::kDirectory:
      node->directory = std::move(directory);
      attributes.mode = S_IFDIR | 0555;
      attributes.links = 2 + DirectoriesIn(*node->directory);
      attributes.size = kDirectorySize;
      break;
    case EntryType::kSymlink:
      node->target = std::string(found.target);
      attributes.mode = S_IFLNK | 0777;
      attributes.size = static_cast<int64_t>(found.target.size());
      break;
  }
  LinkLocked(node);
  return AnswerLocked(*node);
}

void Views::Forget(Node& node, InodeId id, uint64_t count) {
  auto& view = static_cast<ViewNode&>(node);
  BlobRef blob;  // Given back after the lock.
  MutexLock lock(mu_);
  if (id == kCasId || id == kTreeId) return;
  CASEMENT_CHECK(count <= view.lookups);
  view.lookups -= count;
  if (view.lookups > 0) return;
  UnlinkLocked(view);
  context_.nodes.Erase(id);
}

absl::StatusOr<Attributes> Views::GetAttributes(Node& node) {
  MutexLock lock(mu_);
  return static_cast<ViewNode&>(node).attributes;
}

absl::StatusOr<std::string> Views::ReadLink(Node& node) {
  const auto& view = static_cast<ViewNode&>(node);
  if (!S_ISLNK(view.attributes.mode)) return ErrnoStatus(EINVAL, "readlink");
  return view.target;
}

absl::Status Views::List(Node& directory, uint64_t position,
                         const ListSink& sink) {
  const auto& node = static_cast<ViewNode&>(directory);
  const uint64_t parent =
      node.parent == nullptr ? kRootId : node.parent->attributes.number;
  if (!ListDots(node.attributes.number, parent, position, sink)) {
    return absl::OkStatus();
  }
  const uint64_t start = std::max(position, kFirstPosition) - kFirstPosition;
  if (node.id == kCasId) return ListBlobs(node, start, sink);
  if (node.id == kTreeId) return absl::OkStatus();
  return ListDirectory(node, start, sink);
}

// A blob at position p of the store has the positions 2p+1 and 2p+2 here: one
// for each view.
absl::Status Views::ListBlobs(const ViewNode& cas, uint64_t position,
                              const ListSink& sink) {
  cas_listed_ = true;
  uint64_t next = position / 2;
  bool first_view_done = position % 2 == 1;
  while (true) {
    const auto blobs = context_.store.List(next, kListBatch);
    if (blobs.empty()) return absl::OkStatus();
    for (const BlobStore::Listed& blob : blobs) {
      const std::string name = blob.digest.ToString();
      const uint64_t base = kFirstPosition + 2 * blob.position;
      const bool skip_first = first_view_done && blob.position == next;
      if (!skip_first && !sink({.name = name,
                                .number = NumberOf(blob.digest, false),
                                .mode = S_IFREG | 0444,
                                .position = base + 1})) {
        return absl::OkStatus();
      }
      if (!sink({.name = absl::StrCat(name, kExecSuffix),
                 .number = NumberOf(blob.digest, true),
                 .mode = S_IFREG | 0555,
                 .position = base + 2})) {
        return absl::OkStatus();
      }
    }
    next = blobs.back().position + 1;
    first_view_done = false;
  }
}

absl::Status Views::ListDirectory(const ViewNode& node, uint64_t position,
                                  const ListSink& sink) {
  if (node.directory == nullptr) return ErrnoStatus(ENOTDIR, "listing");
  const auto& entries = node.directory->entries();
  for (size_t i = position; i < entries.size(); ++i) {
    if (!sink({.name = entries[i].name,
               .number = ChildNumber(node.attributes.number, entries[i].name),
               .mode = TypeBits(entries[i].type),
               .position = kFirstPosition + i + 1})) {
      break;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const OpenBlob>> Views::OpenBlobOf(
    ViewNode& node) {
  // Set before the node was linked and never after: free to read.
  if (!node.blob.valid()) return ErrnoStatus(EISDIR, "not a file");
  return node.blob.Open();
}

absl::StatusOr<Opened> Views::Open(Node& node, InodeId id,
                                   const OpenRequest& request) {
  if ((request.flags & O_ACCMODE) != O_RDONLY ||
      (request.flags & O_TRUNC) != 0) {
    return ReadOnly();
  }
  auto& view = static_cast<ViewNode&>(node);
  ASSIGN_OR_RETURN(std::shared_ptr<const OpenBlob> blob, OpenBlobOf(view));
  if (context_.data_path == DataPath::kCached) return Opened{};
  return Opened{.passthrough = std::move(blob)};
}

absl::StatusOr<size_t> Views::Read(Node& node, int64_t offset,
                                   absl::Span<char> buffer) {
  auto& view = static_cast<ViewNode&>(node);
  ASSIGN_OR_RETURN(const std::shared_ptr<const OpenBlob> blob,
                   OpenBlobOf(view));
  return ReadBlob(*blob, offset, buffer);
}

absl::StatusOr<int64_t> Views::Seek(Node& node, int64_t offset, int whence) {
  auto& view = static_cast<ViewNode&>(node);
  ASSIGN_OR_RETURN(const std::shared_ptr<const OpenBlob> blob,
                   OpenBlobOf(view));
  return SeekIn(blob->fd(), offset, whence);
}

absl::StatusOr<Limits> Views::GetLimits() {
  return StoreLimits(context_.store);
}

absl::StatusOr<std::string> Views::GetXattr(Node& node,
                                            absl::string_view name) {
  const auto& shown = static_cast<const ViewNode&>(node);
  MutexLock lock(mu_);
  if (name != kChecksumXattr || !S_ISREG(shown.attributes.mode)) {
    return Area::GetXattr(node, name);
  }
  return ChecksumXattr(*shown.digest);
}

bool Views::ForgetListing() {
  if (!cas_listed_.exchange(false)) return false;
  context_.notifier.InvalidateNode(kCasId);
  return true;
}

void Views::OnPublished(const Digest& digest) {
  const std::string name = digest.ToString();
  const std::string exec_name = absl::StrCat(name, kExecSuffix);
  bool missed = false;
  bool exec_missed = false;
  {
    MutexLock lock(mu_);
    missed = misses_.erase(name) > 0;
    exec_missed = misses_.erase(exec_name) > 0;
  }
  if (missed) context_.notifier.InvalidateEntry(kCasId, name);
  if (exec_missed) context_.notifier.InvalidateEntry(kCasId, exec_name);
  const bool listed = ForgetListing();
  // Who has put a blob must find it.
  if (missed || exec_missed || listed) context_.notifier.Drain();
}

void Views::OnEvicted(const Digest& digest) {
  std::vector<std::pair<InodeId, std::string>> gone;
  {
    MutexLock lock(mu_);
    const auto found = by_digest_.find(digest);
    if (found != by_digest_.end()) {
      const std::vector<ViewNode*> nodes = found->second;
      for (ViewNode* node : nodes) {
        gone.emplace_back(node->parent->id, node->name);
        UnlinkLocked(*node);
      }
    }
  }
  for (auto& [parent, name] : gone) {
    context_.notifier.InvalidateEntry(parent, std::move(name));
  }
  const bool listed = ForgetListing();
  if (!gone.empty() || listed) context_.notifier.Drain();
}

void Views::CheckInvariants() const {
  MutexLock lock(mu_);
  for (const auto& [digest, nodes] : by_digest_) {
    CASEMENT_CHECK(!nodes.empty());
    for (const ViewNode* node : nodes) {
      CASEMENT_CHECK(node->linked && node->digest == digest);
      CASEMENT_CHECK(node->parent->children.at(node->name) == node);
      CASEMENT_CHECK(context_.nodes.Find(node->id).get() == node);
    }
  }
}

}  // namespace casement
