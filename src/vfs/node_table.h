// Node number -> node, and the counters that both kinds of numbers come from.
//
// Thread safe; its locks are leaves: nothing else is locked while one is held.
//
// Numbers are given out in their order, so that those of a time lie side by
// side in pages: less memory than a hash map of all, and seldom out of cache.
#ifndef CASEMENT_VFS_NODE_TABLE_H_
#define CASEMENT_VFS_NODE_TABLE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "vfs/node.h"

namespace casement {

class NodeTable {
 public:
  // A fresh number for a node.
  InodeId NewId() { return next_id_.fetch_add(1); }
  // The first of `count` fresh st_ino numbers.
  uint64_t NewNumbers(uint64_t count) { return next_number_.fetch_add(count); }

  void Insert(const boost::intrusive_ptr<Node>& node);
  // Under a second number: see Sandbox::Reborn.
  void InsertAs(InodeId id, const boost::intrusive_ptr<Node>& node);
  void Erase(InodeId id);
  // For the end: nodes and their areas hold each other.
  void Clear();
  // Null if there is no such node, or no more.
  boost::intrusive_ptr<Node> Find(InodeId id) const;
  int64_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  // Enough that threads seldom meet.
  static constexpr size_t kShards = 64;
  // A page stays while one of its nodes does, which then costs all of it.
  static constexpr size_t kPageNodes = 32;

  struct Page {
    std::array<boost::intrusive_ptr<Node>, kPageNodes> nodes;
    size_t used = 0;
  };
  struct alignas(64) Shard {
    mutable Mutex mu;
    absl::flat_hash_map<uint64_t, std::unique_ptr<Page>> pages
        ABSL_GUARDED_BY(mu);
  };
  // Numbers that follow one another are in different shards.
  Shard& ShardOf(InodeId id) { return shards_[id % kShards]; }
  const Shard& ShardOf(InodeId id) const { return shards_[id % kShards]; }
  static uint64_t PageOf(InodeId id) { return id / kShards / kPageNodes; }
  static size_t PlaceOf(InodeId id) { return id / kShards % kPageNodes; }

  // The first hundred numbers are for the fixed directories.
  std::atomic<InodeId> next_id_{100};
  std::atomic<uint64_t> next_number_{100};
  std::atomic<int64_t> size_{0};
  std::array<Shard, kShards> shards_;
};

}  // namespace casement

#endif  // CASEMENT_VFS_NODE_TABLE_H_
