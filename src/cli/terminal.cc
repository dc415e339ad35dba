#include "cli/terminal.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/quote.h"
#include "base/status.h"

namespace casement {
namespace {

constexpr int64_t kIntervalNanoseconds = 100'000'000;
// To the start of the line, and erase what is there.
constexpr absl::string_view kErase = "\r\033[K";

void WriteError(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

void Print(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

absl::Status FlushOutput() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno == 0 ? EIO : errno, "standard output");
}

void PrintError(absl::string_view message) {
  WriteError(absl::StrCat("casement: ", OneLine(message), "\n"));
}

std::string HumanBytes(int64_t bytes) {
  constexpr absl::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1023.95 && unit + 1 < std::size(kUnits); ++unit) {
    value /= 1024;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

ProgressLine::ProgressLine() : is_terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (is_dirty_) WriteError(kErase);
}

void ProgressLine::Show(absl::string_view text) {
  if (!is_terminal_) return;
  const int64_t now = absl::GetCurrentTimeNanos();
  if (now - shown_nanoseconds_ < kIntervalNanoseconds) return;
  shown_nanoseconds_ = now;
  is_dirty_ = true;
  // A line that wraps could not be erased; 79 columns fit any terminal.
  WriteError(absl::StrCat(kErase, text.substr(0, 79)));
}

void ProgressLine::ShowBytes(absl::string_view what, int64_t done,
                             int64_t total) {
  if (!is_terminal_) return;
  Show(absl::StrCat(what, " ", HumanBytes(done), " of ", HumanBytes(total)));
}

}  // namespace casement
