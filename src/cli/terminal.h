// Standard output and standard error, and who looks at them.
#ifndef CASEMENT_CLI_TERMINAL_H_
#define CASEMENT_CLI_TERMINAL_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace casement {

// Standard output. Errors are kept for FlushOutput().
void Print(absl::string_view text);
absl::Status FlushOutput();

// One line on standard error: "casement: <message>".
void PrintError(absl::string_view message);

// "3.2 MiB".
std::string HumanBytes(int64_t bytes);

// A line on standard error that is written over again and again, if that is a
// terminal, and goes when this is destroyed. One thread at a time.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // False: nobody looks, so there is no need to call Show().
  bool is_shown() const { return is_terminal_; }
  // At most ten times a second; others are left out.
  void Show(absl::string_view text);
  // "<what> 3.2 MiB of 1.0 GiB".
  void ShowBytes(absl::string_view what, int64_t done, int64_t total);

 private:
  const bool is_terminal_;
  bool is_dirty_ = false;
  int64_t shown_nanoseconds_ = 0;
};

}  // namespace casement

#endif  // CASEMENT_CLI_TERMINAL_H_
