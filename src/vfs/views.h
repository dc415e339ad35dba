// cas/ and tree/: the store's blobs and Directories, read-only.
//
//   cas/<hash>-<size>        a blob, 0444
//   cas/<hash>-<size>.exec   the same bytes, 0555
//   tree/<hash>-<size>/...   an REv2 Directory, at any depth
//
// A view keeps no blob from being evicted. It only keeps the bytes of files
// that the kernel knows readable (BlobRef), and tells the kernel to forget
// their names when they are evicted; open handles read on. Listing tree/ itself
// shows nothing: any Directory of the store can be named there.
//
// Thread safe.
#ifndef CASEMENT_VFS_VIEWS_H_
#define CASEMENT_VFS_VIEWS_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "vfs/area.h"
#include "vfs/data_path.h"
#include "vfs/kernel_notifier.h"
#include "vfs/node_table.h"

namespace casement {

inline constexpr InodeId kCasId = 2;
inline constexpr InodeId kTreeId = 3;

// What the views work with. All of it outlives them.
struct ViewContext {
  BlobStore& store;
  DirectoryTable& directories;
  NodeTable& nodes;
  KernelNotifier& notifier;
  DataPath data_path;
  uid_t uid;  // Whom everything belongs to.
  gid_t gid;
  timespec started;                // The times of what has none of its own.
  BlobFetcher* fetcher = nullptr;  // If there is a remote cache.
};

class Views final : public Area, public std::enable_shared_from_this<Views> {
 public:
  explicit Views(const ViewContext& context);
  ~Views() override;

  // Makes cas/ and tree/ and puts them into the node table.
  void Start();
  // Lets go of them. No call may be under way.
  void Stop();

  absl::StatusOr<Entry> Lookup(Node& directory,
                               absl::string_view name) override;
  void Forget(Node& node, InodeId id, uint64_t count) override;
  absl::StatusOr<Attributes> GetAttributes(Node& node) override;
  absl::Status List(Node& directory, uint64_t position,
                    const ListSink& sink) override;
  absl::StatusOr<std::string> ReadLink(Node& node) override;
  absl::StatusOr<Opened> Open(Node& node, InodeId id,
                              const OpenRequest& request) override;
  absl::StatusOr<size_t> Read(Node& node, int64_t offset,
                              absl::Span<char> buffer) override;
  absl::StatusOr<int64_t> Seek(Node& node, int64_t offset, int whence) override;
  absl::StatusOr<Limits> GetLimits() override;
  absl::StatusOr<std::string> GetXattr(Node& node,
                                       absl::string_view name) override;

  // The store's listener (BlobStore::Listener).
  void OnPublished(const Digest& digest);
  void OnEvicted(const Digest& digest);

  // I8  every node in a children_ map is in the node table and its parent's
  // I9  by_digest_ holds exactly the linked nodes that show a digest
  void CheckInvariants() const;

 private:
  struct ViewNode;
  using ViewNodePtr = boost::intrusive_ptr<ViewNode>;

  absl::StatusOr<Entry> LookupBlob(ViewNode& cas, absl::string_view name);
  absl::StatusOr<Entry> LookupRoot(ViewNode& tree, absl::string_view name);
  absl::StatusOr<Entry> LookupInDirectory(ViewNode& parent,
                                          absl::string_view name);
  absl::Status ListBlobs(const ViewNode& cas, uint64_t position,
                         const ListSink& sink);
  absl::Status ListDirectory(const ViewNode& node, uint64_t position,
                             const ListSink& sink);
  ViewNodePtr NewNode(ViewNode& parent, absl::string_view name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Makes the node findable: by the kernel, by its name and by its digest.
  void LinkLocked(const ViewNodePtr& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void UnlinkLocked(ViewNode& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Entry AnswerLocked(ViewNode& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What is said of an entry whose blob is not here.
  absl::StatusOr<Entry> Absent(const Digest& digest) const;
  Entry MissLocked(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<std::shared_ptr<const OpenBlob>> OpenBlobOf(ViewNode& node);
  // True if the kernel had to be told.
  bool ForgetListing();

  const ViewContext context_;
  // Whether the kernel may remember a listing of cas/.
  std::atomic<bool> cas_listed_{false};

  // Order: Views::mu_ before the node table's and the store's.
  mutable Mutex mu_;
  ViewNodePtr cas_ ABSL_GUARDED_BY(mu_);
  ViewNodePtr tree_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<Digest, std::vector<ViewNode*>> by_digest_
      ABSL_GUARDED_BY(mu_);
  // Names in cas/ that the kernel may remember as missing.
  absl::flat_hash_set<std::string> misses_ ABSL_GUARDED_BY(mu_);
};

}  // namespace casement

#endif  // CASEMENT_VFS_VIEWS_H_
