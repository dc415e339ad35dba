#include "vfs/node_table.h"

#include <memory>
#include <utility>

namespace casement {

void NodeTable::Insert(const boost::intrusive_ptr<Node>& node) {
  InsertAs(node->id, node);
}

void NodeTable::InsertAs(InodeId id, const boost::intrusive_ptr<Node>& node) {
  Shard& shard = ShardOf(id);
  MutexLock lock(shard.mu);
  std::unique_ptr<Page>& page = shard.pages[PageOf(id)];
  if (page == nullptr) page = std::make_unique<Page>();
  boost::intrusive_ptr<Node>& place = page->nodes[PlaceOf(id)];
  if (place != nullptr) return;
  place = node;
  ++page->used;
  size_.fetch_add(1);
}

void NodeTable::Erase(InodeId id) {
  boost::intrusive_ptr<Node> node;  // Dies after the lock is given back.
  Shard& shard = ShardOf(id);
  MutexLock lock(shard.mu);
  const auto found = shard.pages.find(PageOf(id));
  if (found == shard.pages.end()) return;
  Page& page = *found->second;
  node.swap(page.nodes[PlaceOf(id)]);
  if (node == nullptr) return;
  size_.fetch_sub(1);
  if (--page.used > 0) return;
  shard.pages.erase(found);
  // A table keeps the room that it once had.
  if (shard.pages.size() < shard.pages.capacity() / 8) shard.pages.rehash(0);
}

void NodeTable::Clear() {
  for (Shard& shard : shards_) {
    absl::flat_hash_map<uint64_t, std::unique_ptr<Page>> pages;
    MutexLock lock(shard.mu);
    pages.swap(shard.pages);
    for (const auto& [number, page] : pages) {
      size_.fetch_sub(static_cast<int64_t>(page->used));
    }
  }
}

boost::intrusive_ptr<Node> NodeTable::Find(InodeId id) const {
  const Shard& shard = ShardOf(id);
  MutexLock lock(shard.mu);
  const auto found = shard.pages.find(PageOf(id));
  return found == shard.pages.end() ? nullptr
                                    : found->second->nodes[PlaceOf(id)];
}

}  // namespace casement
