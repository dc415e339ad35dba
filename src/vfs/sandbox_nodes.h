// What a sandbox's tree is made of. Guarded by the sandbox's mutex.
//
// A node starts as an input: it is made when the kernel first looks it up and
// thrown away when the kernel forgets it, because it can be made again from the
// Directory it came from. Once it differs from its input, or has none, it is
// `changed` and stays for as long as it has a name.
#ifndef CASEMENT_VFS_SANDBOX_NODES_H_
#define CASEMENT_VFS_SANDBOX_NODES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "model/directory.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "vfs/node.h"
#include "vfs/scratch_file.h"

namespace casement {

struct DirectoryNode;

// Of a sandbox's own directory, until its owner changes it.
inline constexpr uint32_t kRootMode = 0700;

// A node's extended attributes by name, "user." included, and their bytes.
struct Xattrs {
  explicit Xattrs(std::shared_ptr<ByteBudget> budget)
      : budget(std::move(budget)) {}
  ~Xattrs() { budget->GiveBack(bytes); }
  Xattrs(const Xattrs&) = delete;
  Xattrs& operator=(const Xattrs&) = delete;

  const std::shared_ptr<ByteBudget> budget;
  std::map<std::string, std::string> values;
  int64_t bytes = 0;  // Of names and values; taken from the budget.
};

struct SandboxNode : Node {
  using Node::Node;

  bool is_directory() const { return S_ISDIR(mode); }
  bool is_file() const { return S_ISREG(mode); }
  bool is_symlink() const { return S_ISLNK(mode); }

  uint32_t mode = 0;    // With the type.
  uint64_t number = 0;  // st_ino
  timespec atime{};
  timespec mtime{};
  timespec ctime{};
  // The directory that it is in. Null once it has no name there. A file with
  // several names has one of them here.
  DirectoryNode* home = nullptr;
  // What it was made from, in its directory's Directory; null if new. Stays
  // when it is moved.
  const Directory::Entry* input = nullptr;
  std::unique_ptr<Xattrs> xattrs;  // Null: none.
  uint32_t links = 1;
  uint32_t uid = 0;
  uint32_t gid = 0;
  // What derived nodes have in a few bytes begins where these end.
  bool changed : 1 = false;
  // It belongs to an earlier action: every call fails with ESTALE.
  bool gone : 1 = false;
};

struct FileNode final : SandboxNode {
  using SandboxNode::SandboxNode;

  bool wrote : 1 = false;    // Its bytes were, be it with the same ones.
  bool copying : 1 = false;  // A thread is making `scratch`; the others wait.
  // Once is for ever: a node that was served is not opened in passthrough mode.
  bool opened_for_writing : 1 = false;
  bool nameless : 1 = false;  // Made without a name; it may be given one.
  // A direct write failed, after which the kernel cuts the file to the size
  // that it had (fuse_direct_IO in Linux, when it was to become longer). Nobody
  // asked for that, and no time tells of it.
  bool direct_write_failed : 1 = false;
  // Files open since before all of their blob had come; while there are any,
  // `id` cannot be opened in passthrough mode.
  uint16_t arriving_opens = 0;
  // In which life of the sandbox it was counted in SandboxInfo::inputs_opened.
  uint32_t opened_in = 0;
  // Files open in passthrough mode, all of them under `id`. The kernel allows
  // no other way of opening that number meanwhile.
  uint32_t passthrough_opens = 0;

  // A scratch file that was collected: the same bytes as a leased blob.
  struct Published {
    Digest digest;
    Lease lease;
  };
  // Names of the file, each with the number of its directory.
  using Names = absl::flat_hash_set<std::pair<InodeId, std::string>>;
  // What only files have that are written, or opened for it. Most are not.
  struct Writing {
    // Where the bytes are: `scratch` if set, else the blob `published` if set,
    // else `input`'s blob.
    std::shared_ptr<ScratchFile> scratch;
    std::unique_ptr<Published> published;
    // A written file is never opened in passthrough mode: the daemon must see
    // the writes. If it became written while passthrough_opens > 0, the kernel
    // gets to know it under this second number. 0: none.
    InodeId reborn_id = 0;
    uint64_t reborn_lookups = 0;
    // Those that the kernel knows as the second number's.
    Names reborn_names;
    // Files open for writing, mapped ones included: until the last mapping goes
    // the kernel keeps the file open. Counted in passthrough mode only; in
    // cached mode opens are not seen.
    uint32_t writers = 0;
  };
  const Writing& writing() const {
    static const Writing none{};
    return own_writing == nullptr ? none : *own_writing;
  }
  Writing& mutable_writing() {
    if (own_writing == nullptr) own_writing = std::make_unique<Writing>();
    return *own_writing;
  }
  std::unique_ptr<Writing> own_writing;

  const Digest& digest() const {
    const Published* const published = writing().published.get();
    return published != nullptr ? published->digest : input->digest;
  }
  // Whether the bytes are the daemon's to serve, not a blob's own file.
  bool served() const {
    return writing().scratch != nullptr || writing().published != nullptr ||
           opened_for_writing;
  }
  // Whether the bytes are those of its input, as far as anybody knows.
  bool is_input() const { return input != nullptr && !wrote; }
  // Those that are not its input's.
  void DropBytes() {
    if (own_writing == nullptr) return;
    own_writing->scratch = nullptr;
    own_writing->published = nullptr;
  }

  InodeId current_id() const {
    return writing().reborn_id != 0 ? writing().reborn_id : id;
  }
  uint64_t all_lookups() const { return lookups + writing().reborn_lookups; }
};
// Most nodes are these: the benchmark keys has a target, memory_per_node.
static_assert(sizeof(FileNode) <= 160);

struct SymlinkNode final : SandboxNode {
  using SandboxNode::SandboxNode;
  std::string target;
};

// A FIFO, a socket or a device node: the kernel does the rest.
struct SpecialNode final : SandboxNode {
  using SandboxNode::SandboxNode;
  uint64_t device = 0;
};

struct DirectoryNode final : SandboxNode {
  using SandboxNode::SandboxNode;

  // Something in it or below it differs from its input.
  bool below_changed = false;
  // The kernel may remember that a name is not here.
  bool missed = false;
  uint32_t subdirectories = 0;

  // Positions in a listing, never reused: "." is 1, ".." is 2, then come the
  // Directory's entries by index, then the added names, the newest first. So a
  // name that is added while a program lists those comes before where it is,
  // and a program that renames every name that it reads comes to an end.
  static constexpr uint64_t kFirstPosition = 2;
  static uint64_t PositionOf(size_t index) {
    return kFirstPosition + index + 1;
  }
  uint64_t base_size() const {
    return base == nullptr ? 0 : base->directory().entries().size();
  }

  // The Directory it came from; null if new. Alive while the sandbox is.
  const InternedDirectory* base = nullptr;
  // The number of `base` itself: its paths are numbered from here...
  uint64_t base_number = 0;
  // ...unless these are set, for each entry of `base`: in a reused sandbox,
  // where paths that were there before keep their numbers.
  struct EntryNumbers {
    uint64_t own = 0;
    uint64_t below = 0;  // What a child directory is numbered from.
  };
  std::unique_ptr<std::vector<EntryNumbers>> numbers;

  EntryNumbers NumbersOf(size_t index) const {
    if (numbers != nullptr) return (*numbers)[index];
    const uint64_t own = base_number + base->number(index);
    return {own, own};
  }

  // How its names differ from `base`'s. Most directories' do not.
  struct Names {
    absl::flat_hash_set<uint32_t> hidden;  // Entries without their names.
    // Names that are not `base`'s, by position, and the other way round.
    std::map<uint64_t, std::string> added;
    absl::flat_hash_map<absl::string_view, uint64_t> positions;
    uint64_t next_position = uint64_t{1} << 48;  // Of an added name.

    // `name` as it is kept in `added`.
    absl::string_view Add(absl::string_view name) {
      const auto kept = added.emplace(next_position--, name).first;
      positions.emplace(kept->second, kept->first);
      return kept->second;
    }
    // False if it was not added.
    bool Remove(absl::string_view name) {
      const auto found = positions.find(name);
      if (found == positions.end()) return false;
      const uint64_t position = found->second;
      positions.erase(found);
      added.erase(position);
      return true;
    }
  };
  const Names& names() const {
    static const Names same{};
    return own_names == nullptr ? same : *own_names;
  }
  Names& mutable_names() {
    if (own_names == nullptr) own_names = std::make_unique<Names>();
    return *own_names;
  }
  std::unique_ptr<Names> own_names;
  // The children that the kernel knows or that changed, by their names as
  // `base` or `own_names` keeps them.
  using Children =
      absl::flat_hash_map<absl::string_view, boost::intrusive_ptr<SandboxNode>>;
  Children children;

  uint64_t visible() const {
    return base_size() - names().hidden.size() + names().added.size();
  }
};

}  // namespace casement

#endif  // CASEMENT_VFS_SANDBOX_NODES_H_
