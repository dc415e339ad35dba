#include "vfs/stash.h"

#include <algorithm>
#include <queue>
#include <tuple>
#include <utility>

namespace casement {
namespace {

constexpr size_t kHeavyMax = 16;
// How many stashes are compared with a root before one is chosen.
constexpr size_t kCandidatesMax = 16;

absl::string_view PackageOf(absl::string_view label) {
  return label.substr(0, label.find(':'));
}

// 2 for the same label, 1 for the same package, 0 for a different one.
int Likeness(absl::string_view one, absl::string_view other) {
  if (one.empty() || other.empty()) return 0;
  if (one == other) return 2;
  return PackageOf(one) == PackageOf(other) ? 1 : 0;
}

// What the kernel remembers of files holds their owner and mode.
bool CanServe(const SandboxSpec& stash, const SandboxSpec& spec) {
  return stash.owner_uid == spec.owner_uid &&
         stash.owner_gid == spec.owner_gid && stash.inputs == spec.inputs;
}

}  // namespace

std::vector<Digest> Stashes::HeavyDirectories(const InternedDirectory& root) {
  const auto lighter = [](const InternedDirectory* one,
                          const InternedDirectory* other) {
    return one->paths() < other->paths();
  };
  std::priority_queue<const InternedDirectory*,
                      std::vector<const InternedDirectory*>, decltype(lighter)>
      queue(lighter);
  std::vector<Digest> heavy;
  absl::flat_hash_set<const InternedDirectory*> seen = {&root};
  queue.push(&root);
  while (!queue.empty() && heavy.size() < kHeavyMax) {
    const InternedDirectory& directory = *queue.top();
    queue.pop();
    heavy.push_back(directory.digest());
    const auto& entries = directory.directory().entries();
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].type != EntryType::kDirectory) continue;
      const InternedDirectory* const child = directory.child(i).get();
      if (seen.insert(child).second) queue.push(child);
    }
  }
  return heavy;
}

Stash Stashes::RemoveLocked(Id id) {
  const auto found = stashes_.find(id);
  Stash stash = std::move(found->second);
  stashes_.erase(found);
  nodes_ -= stash.nodes;
  for (const Digest& digest : stash.heavy) {
    const auto ids = by_heavy_.find(digest);
    ids->second.erase(id);
    if (ids->second.empty()) by_heavy_.erase(ids);
  }
  return stash;
}

std::vector<Stash> Stashes::Add(Stash stash) {
  std::vector<Stash> surplus;
  MutexLock lock(mu_);
  const Id id = ++last_id_;
  nodes_ += stash.nodes;
  for (const Digest& digest : stash.heavy) by_heavy_[digest].insert(id);
  stashes_.emplace(id, std::move(stash));
  while (static_cast<int64_t>(stashes_.size()) > options_.stashes_max ||
         nodes_ > options_.nodes_max) {
    surplus.push_back(RemoveLeastLocked());
  }
  return surplus;
}

Stash Stashes::RemoveLeastLocked() {
  const auto least = std::min_element(
      stashes_.begin(), stashes_.end(), [](const auto& one, const auto& two) {
        return one.second.nodes < two.second.nodes;
      });
  return RemoveLocked(least->first);
}

std::vector<Stash> Stashes::TakeHalf() {
  std::vector<Stash> half;
  MutexLock lock(mu_);
  const size_t count = (stashes_.size() + 1) / 2;
  half.reserve(count);
  while (half.size() < count) half.push_back(RemoveLeastLocked());
  return half;
}

std::vector<Stashes::Id> Stashes::CandidatesLocked(
    const SandboxSpec& spec, const InternedDirectory& root) const {
  // How many of the root's heavy Directories each has; those come heaviest
  // first, the root itself before all others.
  absl::flat_hash_map<Id, int> votes;
  const std::vector<Digest> heavy = HeavyDirectories(root);
  for (size_t i = 0; i < heavy.size(); ++i) {
    const auto ids = by_heavy_.find(heavy[i]);
    if (ids == by_heavy_.end()) continue;
    for (const Id id : ids->second) {
      votes[id] += static_cast<int>(i == 0 ? 2 * kHeavyMax : kHeavyMax - i);
    }
  }
  std::vector<std::tuple<bool, int, int, Id>> ranked;
  for (const auto& [id, stash] : stashes_) {
    const auto found = votes.find(id);
    const int vote = found != votes.end() ? found->second : 0;
    const int likeness = Likeness(stash.spec.label, spec.label);
    if ((vote == 0 && likeness == 0) || !CanServe(stash.spec, spec)) continue;
    ranked.emplace_back(stash.spec.root == root.digest(), vote, likeness, id);
  }
  std::sort(ranked.rbegin(), ranked.rend());
  if (ranked.size() > kCandidatesMax) ranked.resize(kCandidatesMax);
  std::vector<Id> candidates;
  candidates.reserve(ranked.size());
  for (const auto& [exact, vote, likeness, id] : ranked) {
    candidates.push_back(id);
  }
  return candidates;
}

std::optional<Stashes::Choice> Stashes::Take(const SandboxSpec& spec,
                                             const InternedDirectory& root) {
  std::vector<std::pair<Id, Stash>> candidates;
  {
    MutexLock lock(mu_);
    for (const Id id : CandidatesLocked(spec, root)) {
      candidates.emplace_back(id, stashes_.at(id));
    }
  }
  // Exact ones first; then by what they save, then by label, then the latest.
  std::vector<std::tuple<bool, int64_t, int, Id>> ranked;
  for (const auto& [id, stash] : candidates) {
    const int64_t score = stash.sandbox->CostOf(root).score;
    if (score <= 0) continue;
    ranked.emplace_back(stash.spec.root == root.digest(), score,
                        Likeness(stash.spec.label, spec.label), id);
  }
  std::sort(ranked.rbegin(), ranked.rend());
  MutexLock lock(mu_);
  for (const auto& [exact, score, likeness, id] : ranked) {
    // Somebody else may have been faster.
    if (stashes_.contains(id)) return Choice{RemoveLocked(id), exact};
  }
  return std::nullopt;
}

std::vector<Stash> Stashes::TakeAll() {
  std::vector<Stash> all;
  MutexLock lock(mu_);
  while (!stashes_.empty()) {
    all.push_back(RemoveLocked(stashes_.begin()->first));
  }
  return all;
}

std::vector<Stash> Stashes::List() const {
  std::vector<Stash> list;
  MutexLock lock(mu_);
  for (const auto& [id, stash] : stashes_) list.push_back(stash);
  return list;
}

int64_t Stashes::nodes() const {
  MutexLock lock(mu_);
  return nodes_;
}

}  // namespace casement
