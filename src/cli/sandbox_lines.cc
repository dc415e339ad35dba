#include "cli/sandbox_lines.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/quote.h"
#include "cli/words.h"

namespace casement {

std::string LinesOf(const std::vector<SandboxChange>& changes) {
  std::string lines;
  for (const SandboxChange& change : changes) {
    absl::StrAppend(&lines, WordFor(change.kind), " ", QuoteName(change.path),
                    "\n");
  }
  return lines;
}

std::string LinesOf(const std::vector<CollectedOutput>& outputs) {
  std::string lines;
  for (const CollectedOutput& output : outputs) {
    const bool is_symlink = output.kind == CollectedOutput::Kind::kSymlink;
    absl::StrAppend(
        &lines, WordFor(output.kind), " ",
        is_symlink ? QuoteName(output.target) : output.digest.ToString(), "  ",
        QuoteName(output.path), "\n");
  }
  return lines;
}

void PrintMissing(const std::vector<std::string>& missing) {
  for (const std::string& path : missing) {
    std::fprintf(stderr, "missing %s\n", QuoteName(path).c_str());
  }
}

}  // namespace casement
