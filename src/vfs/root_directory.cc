#include "vfs/root_directory.h"

#include <algorithm>

#include "vfs/shown.h"

namespace casement {

RootDirectory::RootDirectory(
    Attributes attributes, BlobStore& store, NodeTable& nodes,
    std::vector<std::pair<std::string, InodeId>> children)
    : attributes_(attributes),
      store_(store),
      nodes_(nodes),
      children_(std::move(children)) {}

void RootDirectory::Start() {
  nodes_.Insert(MakeNode<Node>(kRootId, shared_from_this()));
}

absl::StatusOr<Entry> RootDirectory::Lookup(Node& directory,
                                            absl::string_view name) {
  for (const auto& [child_name, id] : children_) {
    if (child_name != name) continue;
    const boost::intrusive_ptr<Node> child = nodes_.Find(id);
    ASSIGN_OR_RETURN(const Attributes attributes,
                     child->area->GetAttributes(*child));
    return Entry{.id = id, .attributes = attributes};
  }
  return Entry{};
}

absl::StatusOr<Attributes> RootDirectory::GetAttributes(Node& node) {
  return attributes_;
}

absl::Status RootDirectory::List(Node& directory, uint64_t position,
                                 const ListSink& sink) {
  if (!ListDots(kRootId, kRootId, position, sink)) return absl::OkStatus();
  constexpr uint64_t kFirst = 2;
  for (uint64_t i = std::max(position, kFirst) - kFirst; i < children_.size();
       ++i) {
    if (!sink({.name = children_[i].first,
               .number = children_[i].second,
               .mode = S_IFDIR,
               .position = kFirst + i + 1})) {
      break;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Limits> RootDirectory::GetLimits() {
  return StoreLimits(store_);
}

}  // namespace casement
