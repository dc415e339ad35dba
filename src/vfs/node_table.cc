#include "vfs/node_table.h"

#include <utility>

namespace casement {

void NodeTable::Insert(const boost::intrusive_ptr<Node>& node) {
  InsertAs(node->id, node);
}

void NodeTable::InsertAs(InodeId id, const boost::intrusive_ptr<Node>& node) {
  Shard& shard = ShardOf(id);
  MutexLock lock(shard.mu);
  if (shard.nodes.emplace(id, node).second) size_.fetch_add(1);
}

void NodeTable::Erase(InodeId id) {
  boost::intrusive_ptr<Node> node;  // Dies after the lock is given back.
  Shard& shard = ShardOf(id);
  MutexLock lock(shard.mu);
  const auto found = shard.nodes.find(id);
  if (found == shard.nodes.end()) return;
  node = std::move(found->second);
  shard.nodes.erase(found);
  size_.fetch_sub(1);
  // A table keeps the room that it once had.
  if (shard.nodes.size() < shard.nodes.capacity() / 8) shard.nodes.rehash(0);
}

void NodeTable::Clear() {
  for (Shard& shard : shards_) {
    absl::flat_hash_map<InodeId, boost::intrusive_ptr<Node>> nodes;
    MutexLock lock(shard.mu);
    nodes.swap(shard.nodes);
    size_.fetch_sub(static_cast<int64_t>(nodes.size()));
  }
}

boost::intrusive_ptr<Node> NodeTable::Find(InodeId id) const {
  const Shard& shard = ShardOf(id);
  MutexLock lock(shard.mu);
  const auto found = shard.nodes.find(id);
  return found == shard.nodes.end() ? nullptr : found->second;
}

}  // namespace casement
