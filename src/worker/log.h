// The worker's log: lines on standard error.
#ifndef CASEMENT_WORKER_LOG_H_
#define CASEMENT_WORKER_LOG_H_

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/quote.h"

namespace casement {

// One line, whatever the message holds. Any thread.
inline void Log(absl::string_view message) {
  const std::string line =
      absl::StrCat("casement-worker: ", OneLine(message), "\n");
  std::fputs(line.c_str(), stderr);
}

}  // namespace casement

#endif  // CASEMENT_WORKER_LOG_H_
