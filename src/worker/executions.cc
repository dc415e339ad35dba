#include "worker/executions.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/quote.h"
#include "proto/grpc_status.h"

namespace casement {

Execution::Stage Execution::WaitForChange(Stage seen, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  MutexLock lock(mu_);
  while (stage_ == seen) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) break;
    changed_.WaitFor(mu_, left);
  }
  return stage_;
}

void Execution::Enter(Stage stage) {
  MutexLock lock(mu_);
  stage_ = stage;
  changed_.NotifyAll();
}

void Execution::Finish(rev2::ExecuteResponse response) {
  response_ = std::move(response);
  Enter(rev2::ExecutionStage::COMPLETED);
}

Executions::Executions(const Options& options, Run run)
    : options_(options),
      run_(std::move(run)),
      prefix_(absl::StrCat(absl::Hex(absl::ToUnixNanos(absl::Now())), "-")) {
  for (size_t i = 0; i < options_.jobs; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
}

Executions::~Executions() { Stop(); }

absl::StatusOr<std::shared_ptr<Execution>> Executions::Start(ActionSpec spec) {
  const std::string key = spec.action.ToString();
  const bool may_share = !spec.do_not_cache;
  MutexLock lock(mu_);
  if (is_stopping_) return absl::UnavailableError("the worker ends");
  if (const auto found = shared_.find(key);
      may_share && found != shared_.end()) {
    return found->second;
  }
  if (waiting_.size() >= options_.waiting_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat("action ", key, ": ", waiting_.size(), " wait already"));
  }
  auto execution = std::make_shared<Execution>(absl::StrCat(prefix_, ++last_),
                                               std::move(spec), absl::Now());
  waiting_.push_back(execution);
  by_name_[execution->name()] = execution;
  if (may_share) shared_[key] = execution;
  work_.NotifyAll();
  return execution;
}

absl::StatusOr<std::shared_ptr<Execution>> Executions::Find(
    absl::string_view name) {
  MutexLock lock(mu_);
  const auto found = by_name_.find(name);
  if (found != by_name_.end()) return found->second;
  return absl::NotFoundError(absl::StrCat(
      "operation ", QuoteName(name.substr(0, 256)), ": there is none"));
}

void Executions::Forget(const std::shared_ptr<Execution>& done) {
  MutexLock lock(mu_);
  const auto found = shared_.find(done->spec().action.ToString());
  if (found != shared_.end() && found->second == done) shared_.erase(found);
  done_.push_back(done->name());
  while (done_.size() > options_.remembered_max) {
    by_name_.erase(done_.front());
    done_.pop_front();
  }
}

void Executions::Work() {
  for (;;) {
    std::shared_ptr<Execution> execution;
    bool is_stopping = false;
    {
      MutexLock lock(mu_);
      while (waiting_.empty() && !is_stopping_) work_.Wait(mu_);
      if (waiting_.empty()) return;
      execution = std::move(waiting_.front());
      waiting_.pop_front();
      is_stopping = is_stopping_;
    }
    rev2::ExecuteResponse response;
    if (is_stopping) {
      *response.mutable_status() =
          ToProto(absl::UnavailableError("the worker ends"));
    } else {
      execution->Enter(rev2::ExecutionStage::EXECUTING);
      response = run_(execution->spec(), execution->queued());
    }
    // First, so that whoever knows that it is done and asks again is not given
    // the same one.
    Forget(execution);
    execution->Finish(std::move(response));
  }
}

void Executions::Stop() {
  {
    MutexLock lock(mu_);
    is_stopping_ = true;
    work_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace casement
