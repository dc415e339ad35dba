// Collect(): output paths become what REv2's ActionResult wants.
//
// It takes two steps. First the scratch files below the outputs are hashed and
// published by link, without the mutex. Then, with it, the Directories are
// built from digests alone; nothing that was not written is read.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_split.h"
#include "base/status.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "model/digest_message.h"
#include "vfs/sandbox.h"

namespace casement {
namespace {

namespace rev2 = build::bazel::remote::execution::v2;

// "a//b/./c" -> {"a", "b", "c"}.
absl::StatusOr<std::vector<std::string>> Components(absl::string_view path) {
  if (!path.empty() && path.front() == '/') {
    return absl::InvalidArgumentError(absl::StrCat(
        "output path \"", path, "\" is absolute; it must be relative"));
  }
  std::vector<std::string> components;
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      return absl::InvalidArgumentError(
          absl::StrCat("output path \"", path, "\" leaves the sandbox"));
    }
    RETURN_IF_ERROR(Annotate(CheckName(part), "output path \"", path, "\""));
    components.emplace_back(part);
  }
  return components;
}

// A Directory is in the store, and so are its files.
void TellOf(const Digest& digest, const rev2::Directory& directory,
            const SandboxTable::Stored& stored) {
  stored(digest);
  for (const auto& file : directory.files()) {
    const absl::StatusOr<Digest> of_file = FromMessage(file.digest());
    if (of_file.ok()) stored(*of_file);
  }
}

}  // namespace

Sandbox::NodePtr Sandbox::WalkLocked(
    const std::vector<std::string>& components) {
  NodePtr node = root_;
  for (const std::string& name : components) {
    if (node == nullptr || !node->is_directory()) return nullptr;
    node = FindChildLocked(static_cast<DirectoryNode&>(*node), name);
  }
  return node;
}

absl::StatusOr<std::optional<Digest>> Sandbox::PublishFile(FileNode& file) {
  std::shared_ptr<ScratchFile> scratch;
  {
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked());
    if (file.is_input()) return std::optional<Digest>(file.input->digest);
    scratch = file.writing().scratch;
    // Published before.
    if (scratch == nullptr) return std::optional<Digest>(file.digest());
  }
  absl::StatusOr<BlobStore::PublishedScratch> published = scratch->Publish();
  MutexLock lock(mu_);
  copied_.NotifyAll();
  if (file.writing().scratch == scratch) {
    RETURN_IF_ERROR(published.status());
    file.mutable_writing().published = std::make_unique<FileNode::Published>(
        FileNode::Published{published->digest, std::move(published->lease)});
    file.mutable_writing().scratch = nullptr;
  } else {
    // Another collection published it meanwhile.
    RETURN_IF_ERROR(CheckAliveLocked());
  }
  if (file.writing().scratch != nullptr) return std::optional<Digest>();
  return std::optional<Digest>(file.digest());
}

absl::Status Sandbox::PublishBelow(const NodePtr& top, const Stored& stored) {
  std::vector<FilePtr> files;
  {
    MutexLock lock(mu_);
    std::vector<NodePtr> walk = {top};
    while (!walk.empty()) {
      const NodePtr node = std::move(walk.back());
      walk.pop_back();
      if (node->is_file()) {
        files.push_back(boost::static_pointer_cast<FileNode>(node));
      } else if (node->is_directory()) {
        const auto& directory = static_cast<DirectoryNode&>(*node);
        if (!directory.below_changed) continue;
        for (const auto& [name, child] : directory.children) {
          walk.push_back(child);
        }
      }
    }
  }
  for (const FilePtr& file : files) {
    ASSIGN_OR_RETURN(const std::optional<Digest> digest, PublishFile(*file));
    if (stored && digest.has_value()) stored(*digest);
  }
  return absl::OkStatus();
}

// Builds the Directories of one output directory, children first. It does no
// I/O: what is to be stored is listed. The sandbox's mutex must be held.
class Sandbox::Collector {
 public:
  struct Built {
    std::string bytes;  // Of the Directory message.
    Digest digest;
  };

  // A directory's Directory, with all below it in blobs() or untouched().
  absl::StatusOr<Digest> Build(DirectoryNode& top) {
    // Parents before children in `order`, so that backwards works.
    std::vector<DirectoryNode*> order = {&top};
    for (size_t i = 0; i < order.size(); ++i) {
      if (!Differs(*order[i])) continue;
      for (const auto& [name, child] : order[i]->children) {
        if (child->is_directory()) {
          order.push_back(static_cast<DirectoryNode*>(child.get()));
        }
      }
    }
    for (auto node = order.rbegin(); node != order.rend(); ++node) {
      RETURN_IF_ERROR(BuildOne(**node));
    }
    return digests_.at(&top);
  }

  const std::vector<Built>& built() const { return built_; }
  // Unmodified inputs whose Directories are in the store already.
  const std::vector<const InternedDirectory*>& untouched() const {
    return untouched_;
  }

 private:
  static bool Differs(const DirectoryNode& node) {
    return node.base == nullptr || node.below_changed;
  }

  absl::Status BuildOne(DirectoryNode& node) {
    if (!Differs(node)) {
      digests_[&node] = node.base->digest();
      untouched_.push_back(node.base);
      return absl::OkStatus();
    }
    DirectoryBuilder builder;
    for (size_t i = 0; i < node.base_size(); ++i) {
      if (node.names().hidden.contains(static_cast<uint32_t>(i))) continue;
      const Directory::Entry& entry = node.base->directory().entries()[i];
      if (node.children.contains(entry.name)) continue;
      AddInput(builder, node, i);
    }
    for (const auto& [name, child] : node.children) {
      RETURN_IF_ERROR(AddNode(builder, name, *child));
    }
    Built built = {.bytes = builder.Build()};
    built.digest = Digest::Of(built.bytes);
    digests_[&node] = built.digest;
    built_.push_back(std::move(built));
    return absl::OkStatus();
  }

  void AddInput(DirectoryBuilder& builder, const DirectoryNode& node,
                size_t index) {
    const Directory::Entry& entry = node.base->directory().entries()[index];
    switch (entry.type) {
      case EntryType::kFile:
        return builder.AddFile(entry.name, entry.digest, entry.is_executable,
                               entry.properties);
      case EntryType::kSymlink:
        return builder.AddSymlink(entry.name, entry.target, entry.properties);
      case EntryType::kDirectory:
        untouched_.push_back(node.base->child(index).get());
        return builder.AddDirectory(entry.name, entry.digest);
    }
  }

  absl::Status AddNode(DirectoryBuilder& builder, absl::string_view name,
                       const SandboxNode& node) {
    const NodeProperties properties = node.input != nullptr && !node.changed
                                          ? node.input->properties
                                          : NodeProperties{};
    if (node.is_directory()) {
      builder.AddDirectory(
          name, digests_.at(static_cast<const DirectoryNode*>(&node)));
    } else if (node.is_symlink()) {
      builder.AddSymlink(name, static_cast<const SymlinkNode&>(node).target,
                         properties);
    } else if (node.is_file()) {
      const auto& file = static_cast<const FileNode&>(node);
      ASSIGN_OR_RETURN(const Digest digest, DigestOf(file, name));
      builder.AddFile(name, digest, (node.mode & S_IXUSR) != 0, properties);
    } else {
      return absl::FailedPreconditionError(
          absl::StrCat("output \"", name,
                       "\" is a FIFO, socket or device node, which REv2 "
                       "cannot name"));
    }
    return absl::OkStatus();
  }

 public:
  // FailedPrecondition if it was written since PublishBelow().
  static absl::StatusOr<Digest> DigestOf(const FileNode& file,
                                         absl::string_view name) {
    if (file.is_input()) return file.input->digest;
    if (file.writing().scratch == nullptr) return file.digest();
    return absl::AbortedError(absl::StrCat(
        "output \"", name, "\" was written while it was collected"));
  }

 private:
  absl::flat_hash_map<const DirectoryNode*, Digest> digests_;
  std::vector<Built> built_;
  std::vector<const InternedDirectory*> untouched_;
};

absl::StatusOr<Output> Sandbox::CollectDirectory(const NodePtr& node,
                                                 const Stored& stored) {
  Output output = {.kind = Output::Kind::kDirectory};
  std::vector<Collector::Built> built;
  // All Directories of the tree, each once, for the Tree message.
  std::vector<Digest> inputs;
  // Keeps `untouched` alive while it is read from the store.
  std::shared_ptr<const InternedDirectory> keep;
  {
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked());
    Collector collector;
    ASSIGN_OR_RETURN(output.root_directory,
                     collector.Build(static_cast<DirectoryNode&>(*node)));
    built = collector.built();
    keep = inputs_.root();
    for (const InternedDirectory* const directory :
         DirectoriesOf(collector.untouched())) {
      inputs.push_back(directory->digest());
    }
  }
  rev2::Tree tree;
  absl::flat_hash_set<Digest> seen;
  const auto add = [&](const Digest& digest, const std::string& bytes) {
    if (!seen.insert(digest).second) return true;
    rev2::Directory* const directory = digest == output.root_directory
                                           ? tree.mutable_root()
                                           : tree.add_children();
    if (!directory->ParseFromString(bytes)) return false;
    if (stored) TellOf(digest, *directory, stored);
    return true;
  };
  for (const Collector::Built& directory : built) {
    RETURN_IF_ERROR(context_.store.Put(directory.digest, directory.bytes));
    add(directory.digest, directory.bytes);
  }
  // Those from a remote cache may still be on their way to the store.
  if (context_.fetcher != nullptr) {
    RETURN_IF_ERROR(context_.fetcher->FetchAll(inputs));
  }
  for (const Digest& digest : inputs) {
    ASSIGN_OR_RETURN(const std::string bytes,
                     context_.store.Read(digest, kDirectoryBytesMax));
    if (!add(digest, bytes)) {
      return absl::DataLossError(
          absl::StrCat("Directory ", digest.ToString(), " cannot be read"));
    }
  }
  const std::string bytes = tree.SerializeAsString();
  output.digest = Digest::Of(bytes);
  RETURN_IF_ERROR(context_.store.Put(output.digest, bytes));
  if (stored) stored(output.digest);
  return output;
}

absl::StatusOr<std::optional<Output>> Sandbox::CollectPath(
    const std::string& path, const Stored& stored) {
  ASSIGN_OR_RETURN(const std::vector<std::string> components, Components(path));
  NodePtr node;
  {
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked());
    node = WalkLocked(components);
  }
  if (node == nullptr) return std::optional<Output>();
  RETURN_IF_ERROR(PublishBelow(node, stored));
  Output output;
  if (node->is_directory()) {
    ASSIGN_OR_RETURN(output, CollectDirectory(node, stored));
  } else {
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked());
    if (node->is_symlink()) {
      output.kind = Output::Kind::kSymlink;
      output.target = static_cast<const SymlinkNode&>(*node).target;
    } else if (node->is_file()) {
      output.kind = (node->mode & S_IXUSR) != 0 ? Output::Kind::kExecutable
                                                : Output::Kind::kFile;
      ASSIGN_OR_RETURN(
          output.digest,
          Collector::DigestOf(static_cast<const FileNode&>(*node), path));
    } else {
      return absl::FailedPreconditionError(
          absl::StrCat("output \"", path,
                       "\" is a FIFO, socket or device node, which REv2 "
                       "cannot name"));
    }
  }
  output.path = path;
  return std::optional<Output>(std::move(output));
}

bool Sandbox::MayHaveWriterLocked(const FileNode& file) const {
  if (context_.data_path == DataPath::kPassthrough)
    return file.writing().writers > 0;
  return file.all_lookups() > 0;
}

absl::StatusOr<Sandbox::Writables> Sandbox::FindWritables(
    absl::Span<const std::string> paths) {
  Writables found;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(const std::vector<std::string> components,
                     Components(path));
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked());
    std::vector<std::pair<NodePtr, std::string>> walk;
    walk.emplace_back(WalkLocked(components), path);
    while (!walk.empty()) {
      const auto [node, at] = std::move(walk.back());
      walk.pop_back();
      if (node == nullptr) continue;
      if (node->is_file()) {
        const auto& file = static_cast<const FileNode&>(*node);
        if (!MayHaveWriterLocked(file)) continue;
        found.paths.emplace(file.number, at);
        found.ids.push_back(file.id);
        const InodeId reborn_id = file.writing().reborn_id;
        if (reborn_id != 0) found.ids.push_back(reborn_id);
      }
      if (!node->is_directory()) continue;
      for (const auto& [name, child] :
           static_cast<const DirectoryNode&>(*node).children) {
        walk.emplace_back(child, absl::StrCat(at, "/", name));
      }
    }
  }
  return found;
}

absl::StatusOr<Collected> Sandbox::Collect(absl::Span<const std::string> paths,
                                           const Stored& stored) {
  {
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked());
    ++readers_;
  }
  absl::StatusOr<Collected> collected = CollectPaths(paths, stored);
  MutexLock lock(mu_);
  --readers_;
  return collected;
}

absl::StatusOr<Collected> Sandbox::CollectPaths(
    absl::Span<const std::string> paths, const Stored& stored) {
  Collected collected;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(std::optional<Output> output, CollectPath(path, stored));
    if (output.has_value()) {
      collected.outputs.push_back(*std::move(output));
    } else {
      collected.missing.push_back(path);
    }
  }
  return collected;
}

}  // namespace casement
