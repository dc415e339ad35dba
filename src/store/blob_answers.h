// What is said of many blobs, one by one and from any thread, as one Status.
//
// For() and Wait() are for one thread. It may be dropped while answers are
// still to come.
#ifndef CASEMENT_STORE_BLOB_ANSWERS_H_
#define CASEMENT_STORE_BLOB_ANSWERS_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "casement/digest.h"

namespace casement {

class BlobAnswers {
 public:
  using Done = std::function<void(const absl::Status&)>;

  BlobAnswers();

  // To be called once, with what became of the blob. It does not block.
  Done For(const Digest& digest);

  // Waits for all of them. The first error; but NotFound only if there is no
  // other, as MissingBlobsStatus() of all such blobs.
  absl::Status Wait();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace casement

#endif  // CASEMENT_STORE_BLOB_ANSWERS_H_
