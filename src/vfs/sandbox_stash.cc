// Stash() and Retarget(): a sandbox is kept when its action has ended, and
// serves the next one with all that the kernel remembers of it.
//
// Stash() undoes what the action did, so that what is left are inputs that the
// kernel has looked at. Retarget() compares the old and the new input root
// where the kernel has looked, and tells it what is different: a Merkle diff.
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/time/clock.h"
#include "base/check.h"
#include "vfs/sandbox.h"
#include "vfs/shown.h"
#include "vfs/stash.h"

namespace casement {
namespace {

// Rough costs in microseconds (FUSE-FACTS): what a lookup would take, what a
// note takes, and what dropping a node takes the kernel.
constexpr int64_t kLookupCost = 20;
constexpr int64_t kNoteCost = 10;
constexpr int64_t kDropCost = 4;
// How many roots of earlier actions a sandbox may keep in memory.
constexpr size_t kBasesMax = 64;

bool IsSameInput(const Directory::Entry& one, const Directory::Entry& other) {
  return one.type == other.type && one.digest == other.digest &&
         one.is_executable == other.is_executable &&
         one.target == other.target && one.properties == other.properties;
}

// Calls `pair` for each name in one of two Directories or in both, with its
// index in each.
template <typename Function>
void Merge(const Directory& from, const Directory& to, Function pair) {
  const auto& old_entries = from.entries();
  const auto& new_entries = to.entries();
  size_t i = 0;
  size_t j = 0;
  while (i < old_entries.size() || j < new_entries.size()) {
    const int order = i == old_entries.size() ? 1
                      : j == new_entries.size()
                          ? -1
                          : old_entries[i].name.compare(new_entries[j].name);
    if (order < 0) {
      pair(std::optional<size_t>(i++), std::optional<size_t>());
    } else if (order > 0) {
      pair(std::optional<size_t>(), std::optional<size_t>(j++));
    } else {
      pair(std::optional<size_t>(i++), std::optional<size_t>(j++));
    }
  }
}

uint64_t LookupsOf(const SandboxNode& node) {
  return node.is_file() ? static_cast<const FileNode&>(node).all_lookups()
                        : node.lookups;
}

// How many nodes the kernel knows from `top` on down.
int64_t KnownBelow(const SandboxNode& top) {
  int64_t known = 0;
  std::vector<const SandboxNode*> walk = {&top};
  while (!walk.empty()) {
    const SandboxNode& node = *walk.back();
    walk.pop_back();
    if (LookupsOf(node) > 0) ++known;
    if (!node.is_directory()) continue;
    for (const auto& [name, child] :
         static_cast<const DirectoryNode&>(node).children) {
      walk.push_back(child.get());
    }
  }
  return known;
}

}  // namespace

// What a new input root means for the nodes that the kernel knows. Only looks;
// the sandbox's mutex must be held from making it until it is applied.
class Sandbox::RetargetPlan {
 public:
  RetargetPlan(DirectoryNode& root, const InternedDirectory& to,
               int64_t kernel_nodes) {
    cost_.kept = kernel_nodes;
    if (root.base->digest() != to.digest()) steps_.push_back({&root, &to});
    // The list grows while it is worked on: parents come first.
    for (size_t i = 0; i < steps_.size() && IsWorthwhile(); ++i) {
      const Step step = steps_[i];
      Look(step);
    }
  }

  struct Step {
    DirectoryNode* directory;
    const InternedDirectory* to;
  };
  const std::vector<Step>& steps() const { return steps_; }
  std::vector<KernelNote>& notes() { return notes_; }

  RetargetCost cost() const {
    RetargetCost cost = cost_;
    cost.notes = static_cast<int64_t>(notes_.size());
    cost.score = Score();
    return cost;
  }

 private:
  int64_t Score() const {
    return cost_.kept * kLookupCost - lost_ * kDropCost -
           static_cast<int64_t>(notes_.size()) * kNoteCost;
  }
  bool IsWorthwhile() const { return Score() > 0; }

  void Look(const Step& step) {
    ++cost_.visited;
    DirectoryNode& directory = *step.directory;
    bool listing_differs = false;
    Merge(directory.base->directory(), step.to->directory(),
          [&](std::optional<size_t> before, std::optional<size_t> after) {
            if (LookAtName(step, before, after)) listing_differs = true;
          });
    if (directory.lookups > 0 &&
        (listing_differs || !HasSameAttributes(directory, *step.to))) {
      notes_.push_back(KernelNote::OfNode(directory.id));
    }
  }

  // Whether a listing shows something else: a name, or a name's type.
  bool LookAtName(const Step& step, std::optional<size_t> before,
                  std::optional<size_t> after) {
    DirectoryNode& directory = *step.directory;
    if (!before.has_value()) {
      if (directory.missed && directory.lookups > 0) {
        const auto& added = step.to->directory().entries()[*after];
        notes_.push_back(
            KernelNote::Entry(directory.id, std::string(added.name)));
      }
      return true;
    }
    const Directory::Entry& was =
        directory.base->directory().entries()[*before];
    const auto child = directory.children.find(was.name);
    const bool known = child != directory.children.end();
    if (!after.has_value()) {
      if (known) Lose(directory, was.name, *child->second);
      return true;
    }
    const Directory::Entry& now = step.to->directory().entries()[*after];
    if (IsSameInput(was, now)) {
      if (was.type == EntryType::kDirectory) ++cost_.skipped;
      return false;
    }
    const bool same_type = was.type == now.type;
    if (!known) return !same_type;
    if (same_type && was.type == EntryType::kDirectory) {
      steps_.push_back({static_cast<DirectoryNode*>(child->second.get()),
                        step.to->child(*after).get()});
      return false;
    }
    Lose(directory, was.name, *child->second);
    return !same_type;
  }

  void Lose(const DirectoryNode& directory, absl::string_view name,
            const SandboxNode& node) {
    const int64_t known = KnownBelow(node);
    cost_.kept -= known;
    lost_ += known;
    if (directory.lookups > 0) {
      notes_.push_back(KernelNote::Entry(directory.id, std::string(name)));
    }
  }

  static bool HasSameAttributes(const DirectoryNode& directory,
                                const InternedDirectory& to) {
    const NodeProperties& was = directory.base->directory().properties();
    return was == to.directory().properties() &&
           directory.subdirectories == DirectoriesIn(to.directory());
  }

  std::vector<Step> steps_;
  std::vector<KernelNote> notes_;
  RetargetCost cost_;
  int64_t lost_ = 0;
};

void Sandbox::DetachLocked(const NodePtr& top, std::vector<NodePtr>& dropped) {
  top->home = nullptr;
  size_t next = dropped.size();
  dropped.push_back(top);
  for (; next < dropped.size(); ++next) {
    const NodePtr node = dropped[next];
    node->gone = true;
    node->xattrs = nullptr;
    if (node->is_file()) {
      auto& file = static_cast<FileNode&>(*node);
      file.DropBytes();
    }
    if (!node->is_directory()) continue;
    auto& directory = static_cast<DirectoryNode&>(*node);
    for (auto& [name, child] : directory.children) {
      child->home = nullptr;
      dropped.push_back(std::move(child));
    }
    directory.children.clear();
  }
}

void Sandbox::ShowInputLocked(DirectoryNode& directory) {
  const NodeProperties& properties = directory.base->directory().properties();
  const bool is_root = &directory == root_.get();
  directory.mode =
      S_IFDIR | (is_root ? kRootMode : properties.unix_mode.value_or(0755));
  directory.uid = spec_.owner_uid;
  directory.gid = spec_.owner_gid;
  directory.atime = directory.mtime = directory.ctime = MtimeOf(properties);
  directory.subdirectories = DirectoriesIn(directory.base->directory());
  directory.xattrs = nullptr;
  directory.changed = directory.below_changed = false;
}

// Takes the names back that the action added, removed or wrote to.
void Sandbox::UndoNamesLocked(DirectoryNode& directory,
                              std::vector<KernelNote>& notes,
                              std::vector<NodePtr>& dropped) {
  std::set<std::string> names;
  for (const uint32_t index : directory.names().hidden) {
    names.emplace(directory.base->directory().entries()[index].name);
  }
  for (const auto& [position, name] : directory.names().added)
    names.insert(name);
  for (const auto& [name, child] : directory.children) {
    if (child->changed && !child->is_directory()) names.emplace(name);
  }
  for (const std::string& name : names) {
    const auto child = directory.children.find(name);
    if (child != directory.children.end()) {
      DetachLocked(child->second, dropped);
      directory.children.erase(child);
    }
    if (directory.lookups > 0) {
      notes.push_back(KernelNote::Entry(directory.id, name));
    }
  }
  directory.own_names = nullptr;
}

void Sandbox::UndoLocked(std::vector<KernelNote>& notes,
                         std::vector<NodePtr>& dropped) {
  std::vector<boost::intrusive_ptr<DirectoryNode>> touched;
  if (root_->changed || root_->below_changed) touched.push_back(root_);
  for (size_t i = 0; i < touched.size(); ++i) {
    DirectoryNode& directory = *touched[i];
    UndoNamesLocked(directory, notes, dropped);
    for (const auto& [name, child] : directory.children) {
      if (!child->is_directory()) continue;
      auto below = boost::static_pointer_cast<DirectoryNode>(child);
      if (below->changed || below->below_changed) touched.push_back(below);
    }
    ShowInputLocked(directory);
    if (directory.lookups > 0) {
      notes.push_back(KernelNote::OfNode(directory.id));
    }
  }
  // Those that the kernel does not know were only kept for what was changed.
  for (auto node = touched.rbegin(); node != touched.rend(); ++node) {
    DropIfCleanLocked(**node);
  }
}

std::optional<Sandbox::Refusal> Sandbox::Stash() {
  std::vector<KernelNote> notes;
  {
    // These die after the lock is given back.
    std::vector<NodePtr> dropped;
    ClosureLease inputs;
    MutexLock lock(mu_);
    if (dead_ || stashed_ || readers_ > 0) return Refusal::kBusy;
    if (open_files_ > 0) return Refusal::kOpen;
    if (bases_.size() >= kBasesMax) return Refusal::kWorn;
    UndoLocked(notes, dropped);
    added_nodes_ = 0;
    stashed_ = true;
    // From here on its blobs may be evicted.
    inputs = std::move(inputs_);
  }
  // It may be given to somebody else once this returns.
  return context_.notifier.Tell(std::move(notes))
             ? std::nullopt
             : std::optional<Refusal>(Refusal::kRefused);
}

std::vector<Digest> Sandbox::HeavyDirectories() const {
  std::shared_ptr<const InternedDirectory> root;
  {
    MutexLock lock(mu_);
    root = bases_.back();
  }
  return Stashes::HeavyDirectories(*root);
}

RetargetCost Sandbox::CostOf(const InternedDirectory& root) {
  MutexLock lock(mu_);
  if (dead_ || !stashed_) return {};
  return RetargetPlan(*root_, root, kernel_nodes_).cost();
}

void Sandbox::RetargetDirectoryLocked(DirectoryNode& directory,
                                      const InternedDirectory& to,
                                      std::vector<NodePtr>& dropped) {
  const InternedDirectory& from = *directory.base;
  auto numbers = std::make_unique<std::vector<DirectoryNode::EntryNumbers>>(
      to.directory().entries().size());
  DirectoryNode::Children kept;
  kept.reserve(directory.children.size());
  Merge(from.directory(), to.directory(),
        [&](std::optional<size_t> before, std::optional<size_t> after) {
          const Directory::Entry* const now =
              after.has_value() ? &to.directory().entries()[*after] : nullptr;
          const Directory::Entry* const was =
              before.has_value() ? &from.directory().entries()[*before]
                                 : nullptr;
          const bool same_type =
              was != nullptr && now != nullptr && was->type == now->type;
          const bool same = same_type && IsSameInput(*was, *now);
          const bool is_directory =
              now != nullptr && now->type == EntryType::kDirectory;
          if (now != nullptr) {
            DirectoryNode::EntryNumbers& number = (*numbers)[*after];
            if (same_type) number = directory.NumbersOf(*before);
            if (!same_type || (is_directory && !same)) {
              number.below = context_.nodes.NewNumbers(
                  is_directory ? to.child(*after)->paths() : 1);
            }
            if (!same_type) number.own = number.below;
          }
          if (was == nullptr) return;
          const auto child = directory.children.find(was->name);
          if (child == directory.children.end()) return;
          if (same || (same_type && is_directory)) {
            child->second->input = now;
            kept.emplace(now->name, std::move(child->second));
          } else {
            DetachLocked(child->second, dropped);
          }
        });
  directory.children = std::move(kept);
  directory.numbers = std::move(numbers);
  directory.base = &to;
  ShowInputLocked(directory);
}

std::optional<RetargetCost> Sandbox::Retarget(const SandboxSpec& spec,
                                              ClosureLease& inputs) {
  std::vector<KernelNote> notes;
  RetargetCost cost;
  {
    std::vector<NodePtr> dropped;  // Dies after the lock is given back.
    MutexLock lock(mu_);
    CASEMENT_CHECK(stashed_ && !dead_);
    RetargetPlan plan(*root_, *inputs.root(), kernel_nodes_);
    cost = plan.cost();
    if (cost.score <= 0) return std::nullopt;
    for (const RetargetPlan::Step& step : plan.steps()) {
      RetargetDirectoryLocked(*step.directory, *step.to, dropped);
    }
    notes = std::move(plan.notes());
    if (bases_.back() != inputs.root()) bases_.push_back(inputs.root());
    spec_ = spec;
    budget_ = std::make_shared<ByteBudget>(spec.scratch_bytes_max);
    xattr_budget_ = std::make_shared<ByteBudget>(kSandboxXattrBytesMax);
    inputs_ = std::move(inputs);
    inputs_opened_ = 0;
    inputs_read_.clear();
    ++life_;
    stashed_ = false;
  }
  if (context_.notifier.Tell(std::move(notes))) return cost;
  MutexLock lock(mu_);
  inputs = std::move(inputs_);
  stashed_ = true;
  return std::nullopt;
}

bool Sandbox::WaitUntilClosed(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mu_);
  while (open_files_ > 0 && !dead_) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    closed_.WaitFor(mu_, left);
  }
  return !dead_;
}

}  // namespace casement
