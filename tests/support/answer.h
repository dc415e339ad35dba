// What became of one blob that somebody wanted.
#ifndef CASEMENT_TESTS_SUPPORT_ANSWER_H_
#define CASEMENT_TESTS_SUPPORT_ANSWER_H_

#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/status.h"
#include "store/blob_answers.h"

namespace casement {

// Thread safe.
class Answer {
 public:
  BlobAnswers::Done Done() {
    return [this](const absl::Status& status) {
      MutexLock lock(mu_);
      ++count_;
      status_ = WithCode(status.code(), status);
      changed_.NotifyAll();
    };
  }
  absl::Status Wait() {
    MutexLock lock(mu_);
    while (count_ == 0) changed_.Wait(mu_);
    return status_;
  }
  int count() {
    MutexLock lock(mu_);
    return count_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_ANSWER_H_
