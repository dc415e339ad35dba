#include "vfs/read_lists.h"

#include <utility>

namespace casement {

void ReadLists::Set(absl::string_view label, std::vector<Digest> digests) {
  if (label.empty()) return;
  MutexLock lock(mu_);
  const auto known = by_label_.find(label);
  if (known != by_label_.end()) {
    digests_ -= known->second->digests.size();
    lists_.erase(known->second);
    by_label_.erase(known);
  }
  if (digests.empty() || digests.size() > digests_max_) return;
  digests_ += digests.size();
  lists_.push_front({std::string(label), std::move(digests)});
  by_label_.emplace(label, lists_.begin());
  while (digests_ > digests_max_) {
    digests_ -= lists_.back().digests.size();
    by_label_.erase(lists_.back().label);
    lists_.pop_back();
  }
}

std::vector<Digest> ReadLists::Get(absl::string_view label) {
  MutexLock lock(mu_);
  const auto known = by_label_.find(label);
  if (known == by_label_.end()) return {};
  lists_.splice(lists_.begin(), lists_, known->second);
  return known->second->digests;
}

}  // namespace casement
