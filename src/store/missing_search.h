// Asks the source which of many blobs it lacks: part by part, in threads of its
// own, while more of them are still being found.
//
// Of one thread. The fetcher must outlive it; its end waits for what was asked.
#ifndef CASEMENT_STORE_MISSING_SEARCH_H_
#define CASEMENT_STORE_MISSING_SEARCH_H_

#include <cstddef>
#include <deque>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/side_thread.h"
#include "casement/digest.h"
#include "store/blob_fetcher.h"

namespace casement {

class MissingSearch {
 public:
  explicit MissingSearch(BlobFetcher& fetcher) : fetcher_(fetcher) {}

  // Waits while as many parts are under way as may be.
  void Add(const Digest& digest);

  // Asks for what was added and is too little for a part.
  void Ask();

  // Asks, and waits for the answers: those that are neither in the store nor at
  // the source, each once and in any order, or the first error. To be called
  // once, last.
  absl::StatusOr<std::vector<Digest>> Finish();

 private:
  BlobFetcher& fetcher_;
  std::vector<Digest> next_;  // Not asked for yet.
  size_t parts_ = 0;

  Mutex mu_;
  absl::flat_hash_set<Digest> missing_ ABSL_GUARDED_BY(mu_);
  absl::Status error_ ABSL_GUARDED_BY(mu_);

  std::deque<SideThread> threads_;  // Last: they use the others.
};

}  // namespace casement

#endif  // CASEMENT_STORE_MISSING_SEARCH_H_
