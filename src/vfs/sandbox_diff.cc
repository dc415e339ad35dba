// Diff(): what is different from the input root, from what the sandbox knows,
// without looking at what nobody touched.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vfs/sandbox.h"
#include "vfs/shown.h"

namespace casement {

// Compares what an input root had with what a sandbox has now. Work is kept in
// a list, not on the stack: trees can be deep.
class SandboxDiff {
 public:
  // The sandbox's mutex must be held for the life of this object.
  SandboxDiff(std::vector<Change>& changes, InputsPolicy policy)
      : changes_(changes), policy_(policy) {}

  void Run(const InternedDirectory* before, DirectoryNode& root) {
    todo_.push_back({before, {&root, root.base}, ""});
    while (!todo_.empty()) {
      const Pair pair = std::move(todo_.back());
      todo_.pop_back();
      CompareDirectories(pair);
    }
  }

 private:
  // A directory as it is now: a node, or an input that nobody looked at.
  struct Now {
    DirectoryNode* node = nullptr;
    const InternedDirectory* base = nullptr;
  };
  struct Pair {
    const InternedDirectory* before;  // Null: there was none.
    Now now;                          // Both null: there is none.
    std::string path;                 // With a '/' at the end, unless empty.
  };
  // A name as it is now. `node` null: as entry `index` of `base`.
  struct Current {
    const SandboxNode* node = nullptr;
    const InternedDirectory* base = nullptr;
    size_t index = 0;

    const Directory::Entry& entry() const {
      return base->directory().entries()[index];
    }
    uint32_t type() const {
      return node != nullptr ? node->mode & S_IFMT : TypeBits(entry().type);
    }
  };

  void Add(Change::Kind kind, std::string path) {
    changes_.push_back({kind, std::move(path)});
  }

  static std::optional<Current> Find(const Now& now, absl::string_view name) {
    if (now.node != nullptr) {
      const auto child = now.node->children.find(name);
      if (child != now.node->children.end()) {
        return Current{.node = child->second.get()};
      }
    }
    if (now.base == nullptr) return std::nullopt;
    const std::optional<size_t> index = now.base->directory().Find(name);
    if (!index.has_value()) return std::nullopt;
    if (now.node != nullptr &&
        now.node->names().hidden.contains(static_cast<uint32_t>(*index))) {
      return std::nullopt;
    }
    return Current{.base = now.base, .index = *index};
  }

  // Every name that the directory has now.
  static std::vector<std::string> Names(const Now& now) {
    std::vector<std::string> names;
    if (now.base != nullptr) {
      const auto& entries = now.base->directory().entries();
      for (size_t i = 0; i < entries.size(); ++i) {
        if (now.node == nullptr ||
            !now.node->names().hidden.contains(static_cast<uint32_t>(i))) {
          names.emplace_back(entries[i].name);
        }
      }
    }
    if (now.node != nullptr) {
      for (const auto& [position, name] : now.node->names().added) {
        names.push_back(name);
      }
    }
    return names;
  }

  // The names that can differ: all of them only if a directory came from
  // elsewhere.
  static std::set<std::string> Suspects(const Pair& pair) {
    std::set<std::string> names;
    const bool same = pair.before != nullptr && pair.now.base != nullptr &&
                      pair.now.base->digest() == pair.before->digest();
    if (!same) {
      for (std::string& name : Names(pair.now)) names.insert(std::move(name));
      if (pair.before == nullptr) return names;
      for (const auto& entry : pair.before->directory().entries()) {
        names.emplace(entry.name);
      }
      return names;
    }
    if (pair.now.node == nullptr || !pair.now.node->below_changed) return names;
    for (const uint32_t index : pair.now.node->names().hidden) {
      names.emplace(pair.before->directory().entries()[index].name);
    }
    for (const auto& [name, child] : pair.now.node->children) {
      if (IsSuspect(*child)) names.emplace(name);
    }
    return names;
  }

  static bool IsSuspect(const SandboxNode& node) {
    return node.changed ||
           (node.is_directory() &&
            static_cast<const DirectoryNode&>(node).below_changed);
  }

  void CompareDirectories(const Pair& pair) {
    for (const std::string& name : Suspects(pair)) {
      std::optional<size_t> before;
      if (pair.before != nullptr) before = pair.before->directory().Find(name);
      Compare(pair, before, Find(pair.now, name),
              absl::StrCat(pair.path, name));
    }
  }

  void Compare(const Pair& in, std::optional<size_t> before,
               const std::optional<Current>& now, const std::string& path) {
    const InternedDirectory* before_directory = nullptr;
    const Directory::Entry* entry = nullptr;
    if (before.has_value()) {
      entry = &in.before->directory().entries()[*before];
      if (entry->type == EntryType::kDirectory) {
        before_directory = in.before->child(*before).get();
      }
    }
    Now now_directory;
    if (now.has_value() && S_ISDIR(now->type())) {
      now_directory = DirectoryOf(*now);
    }
    if (entry == nullptr && !now.has_value()) return;
    if (entry == nullptr) {
      Add(Change::Kind::kAdded, path);
    } else if (!now.has_value()) {
      Add(Change::Kind::kDeleted, path);
    } else {
      CompareNodes(in, *before, *now, path);
    }
    if (before_directory != nullptr || now_directory.node != nullptr ||
        now_directory.base != nullptr) {
      todo_.push_back(
          {before_directory, now_directory, absl::StrCat(path, "/")});
    }
  }

  static Now DirectoryOf(const Current& now) {
    if (now.node == nullptr) {
      return {.base = now.base->child(now.index).get()};
    }
    // Nobody else has the node: the sandbox's mutex is held.
    auto* node = const_cast<DirectoryNode*>(  // NOLINT
        static_cast<const DirectoryNode*>(now.node));
    return {.node = node, .base = node->base};
  }

  void CompareNodes(const Pair& in, size_t before, const Current& now,
                    const std::string& path) {
    const Directory::Entry& was = in.before->directory().entries()[before];
    if (TypeBits(was.type) != now.type()) {
      return Add(Change::Kind::kTypeOrMode, path);
    }
    if (BytesDiffer(was, now)) return Add(Change::Kind::kModified, path);
    if (ModeDiffers(in, before, now)) Add(Change::Kind::kTypeOrMode, path);
  }

  static bool BytesDiffer(const Directory::Entry& was, const Current& now) {
    switch (was.type) {
      case EntryType::kFile:
        if (now.node == nullptr) return now.entry().digest != was.digest;
        {
          const auto& file = static_cast<const FileNode&>(*now.node);
          return !file.is_input() || file.input->digest != was.digest;
        }
      case EntryType::kSymlink:
        if (now.node == nullptr) return now.entry().target != was.target;
        return static_cast<const SymlinkNode&>(*now.node).target != was.target;
      case EntryType::kDirectory:
        return false;
    }
    return false;
  }

  // Inputs that came from elsewhere bring their modes along; those that stayed
  // differ only if they were changed.
  bool ModeDiffers(const Pair& in, size_t before, const Current& now) const {
    const Directory::Entry& was = in.before->directory().entries()[before];
    if (was.type == EntryType::kSymlink) return false;
    const uint32_t mode_before = ModeOf(*in.before, before);
    const uint32_t mode_now = now.node != nullptr
                                  ? now.node->mode & 07777
                                  : ModeOf(*now.base, now.index);
    return mode_before != mode_now;
  }

  uint32_t ModeOf(const InternedDirectory& directory, size_t index) const {
    return InputMode(directory, index, policy_) & 07777;
  }

  std::vector<Change>& changes_;
  const InputsPolicy policy_;
  std::vector<Pair> todo_;
};

absl::StatusOr<std::vector<Change>> Sandbox::Diff() {
  std::vector<Change> changes;
  {
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked());
    SandboxDiff(changes, spec_.inputs).Run(inputs_.root().get(), *root_);
  }
  std::sort(changes.begin(), changes.end(),
            [](const Change& a, const Change& b) { return a.path < b.path; });
  return changes;
}

}  // namespace casement
