// Runs a loop on several threads.
#ifndef CASEMENT_BASE_PARALLEL_H_
#define CASEMENT_BASE_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <system_error>  // NOLINT
#include <thread>        // NOLINT
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"

namespace casement {

inline size_t CoreCount() {
  return std::max(1u, std::thread::hardware_concurrency());
}

// Up to `count` threads that call `run`, fewer where no more can be had.
template <typename Run>
std::vector<std::thread> StartThreads(size_t count, const Run& run) {
  std::vector<std::thread> threads;
  try {
    while (threads.size() < count) threads.emplace_back(run);
  } catch (const std::system_error&) {
    // EAGAIN: too many threads.
  }
  return threads;
}

// Calls `body(i)` for each i below `count`, on up to `threads` threads (fewer
// where no more can be had), until one fails; then returns the error that came
// first. Nothing runs any more when it returns.
template <typename Body>
absl::Status ParallelFor(size_t count, size_t threads, const Body& body) {
  std::atomic<size_t> next = 0;
  Mutex mu;
  absl::Status error;  // Guarded by mu.
  const auto run = [&] {
    for (;;) {
      const size_t i = next.fetch_add(1);
      if (i >= count) return;
      const absl::Status status = body(i);
      if (status.ok()) continue;
      next.store(count);
      MutexLock lock(mu);
      if (error.ok()) error = status;
      return;
    }
  };
  const size_t wanted = std::max<size_t>(std::min(threads, count), 1);
  std::vector<std::thread> others = StartThreads(wanted - 1, run);
  run();
  for (std::thread& other : others) other.join();
  return error;
}

}  // namespace casement

#endif  // CASEMENT_BASE_PARALLEL_H_
