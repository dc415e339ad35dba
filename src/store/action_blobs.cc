#include "store/action_blobs.h"

#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "model/directory.h"

namespace casement {
namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;

// Of a Tree message, which is read as a whole.
constexpr int64_t kTreeBytesMax = int64_t{256} << 20;
// Of one result, by any way.
constexpr size_t kDigestsMax = size_t{4} << 20;

absl::StatusOr<Digest> FromMessage(const rev2::Digest& message) {
  return Digest::FromParts(message.hash(), message.size_bytes());
}

// Gathers digests, each once.
class Gatherer {
 public:
  explicit Gatherer(BlobStore& store) : store_(store) {}

  absl::Status AddResult(const rev2::ActionResult& result) {
    for (const rev2::OutputFile& file : result.output_files()) {
      RETURN_IF_ERROR(Annotate(Add(file.digest()), "output file"));
    }
    for (const rev2::OutputDirectory& directory : result.output_directories()) {
      RETURN_IF_ERROR(Annotate(AddOutput(directory), "output directory"));
    }
    if (result.has_stdout_digest()) {
      RETURN_IF_ERROR(Annotate(Add(result.stdout_digest()), "stdout"));
    }
    if (result.has_stderr_digest()) {
      RETURN_IF_ERROR(Annotate(Add(result.stderr_digest()), "stderr"));
    }
    return absl::OkStatus();
  }

  const std::vector<Digest>& digests() const { return digests_; }

 private:
  absl::Status Add(const rev2::Digest& message) {
    ASSIGN_OR_RETURN(const Digest digest, FromMessage(message));
    return AddDigest(digest);
  }

  absl::Status AddDigest(const Digest& digest) {
    if (seen_.insert(digest).second) digests_.push_back(digest);
    if (digests_.size() <= kDigestsMax) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", kDigestsMax, " blobs"));
  }

  absl::Status AddOutput(const rev2::OutputDirectory& output) {
    const bool names_directories = output.has_root_directory_digest();
    if (output.has_tree_digest()) {
      RETURN_IF_ERROR(AddTree(output.tree_digest(), names_directories));
    }
    if (!names_directories) {
      return output.has_tree_digest()
                 ? absl::OkStatus()
                 : absl::InvalidArgumentError("neither Tree nor Directory");
    }
    ASSIGN_OR_RETURN(const Digest root,
                     FromMessage(output.root_directory_digest()));
    if (output.has_tree_digest()) return AddDigest(root);
    return AddDirectories(root);
  }

  // A Tree has the messages of its Directories; these need not be blobs unless
  // the result says so by a root's digest.
  absl::Status AddTree(const rev2::Digest& message, bool names_directories) {
    ASSIGN_OR_RETURN(const Digest digest, FromMessage(message));
    RETURN_IF_ERROR(AddDigest(digest));
    const absl::StatusOr<std::string> bytes =
        store_.Read(digest, kTreeBytesMax);
    if (absl::IsNotFound(bytes.status())) return absl::OkStatus();
    if (!bytes.ok()) return bytes.status();
    rev2::Tree tree;
    if (!tree.ParseFromString(*bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat(digest.ToString(), ": no Tree"));
    }
    RETURN_IF_ERROR(AddDirectory(tree.root(), names_directories));
    for (const rev2::Directory& child : tree.children()) {
      RETURN_IF_ERROR(AddDirectory(child, names_directories));
    }
    return absl::OkStatus();
  }

  absl::Status AddDirectory(const rev2::Directory& directory,
                            bool names_directories) {
    for (const rev2::FileNode& file : directory.files()) {
      RETURN_IF_ERROR(Add(file.digest()));
    }
    if (!names_directories) return absl::OkStatus();
    for (const rev2::DirectoryNode& child : directory.directories()) {
      RETURN_IF_ERROR(Add(child.digest()));
    }
    return absl::OkStatus();
  }

  absl::Status AddDirectories(const Digest& root) {
    // digests_ also has files, which are passed over.
    absl::flat_hash_set<Digest> queued = {root};
    std::vector<Digest> queue = {root};
    while (!queue.empty()) {
      const Digest digest = queue.back();
      queue.pop_back();
      RETURN_IF_ERROR(AddDigest(digest));
      const absl::StatusOr<std::string> bytes =
          store_.Read(digest, kDirectoryBytesMax);
      if (absl::IsNotFound(bytes.status())) continue;
      if (!bytes.ok()) return bytes.status();
      ASSIGN_OR_RETURN(const auto directory, Directory::Parse(*bytes));
      for (const Directory::Entry& entry : directory->entries()) {
        if (entry.type == EntryType::kFile) {
          RETURN_IF_ERROR(AddDigest(entry.digest));
        } else if (entry.type == EntryType::kDirectory &&
                   queued.insert(entry.digest).second) {
          queue.push_back(entry.digest);
        }
      }
    }
    return absl::OkStatus();
  }

  BlobStore& store_;
  absl::flat_hash_set<Digest> seen_;
  std::vector<Digest> digests_;
};

}  // namespace

absl::StatusOr<std::vector<Digest>> MissingBlobsOf(
    BlobStore& store, const rev2::ActionResult& result) {
  Gatherer gatherer(store);
  RETURN_IF_ERROR(gatherer.AddResult(result));
  return store.Missing(gatherer.digests());
}

}  // namespace casement
