#include "store/blob_answers.h"

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/status.h"
#include "casement/digest.h"
#include "store/missing.h"

namespace casement {

struct BlobAnswers::State {
  Mutex mu;  // A leaf.
  CondVar all_done;
  size_t left ABSL_GUARDED_BY(mu) = 0;
  std::vector<Digest> missing ABSL_GUARDED_BY(mu);
  absl::Status first ABSL_GUARDED_BY(mu);
};

BlobAnswers::BlobAnswers() : state_(std::make_shared<State>()) {}

BlobAnswers::Done BlobAnswers::For(const Digest& digest) {
  {
    MutexLock lock(state_->mu);
    ++state_->left;
  }
  return [state = state_, digest](const absl::Status& status) {
    MutexLock lock(state->mu);
    if (absl::IsNotFound(status)) {
      state->missing.push_back(digest);
    } else if (state->first.ok()) {
      // A copy that shares nothing: ThreadSanitizer does not see how abseil
      // counts the users of a status.
      state->first = WithCode(status.code(), status);
    }
    if (--state->left == 0) state->all_done.NotifyAll();
  };
}

absl::Status BlobAnswers::Wait() {
  State& state = *state_;
  MutexLock lock(state.mu);
  while (state.left > 0) state.all_done.Wait(state.mu);
  if (state.first.ok() && !state.missing.empty()) {
    return MissingBlobsStatus(state.missing);
  }
  return WithCode(state.first.code(), state.first);  // As above.
}

}  // namespace casement
