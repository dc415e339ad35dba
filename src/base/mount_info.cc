#include "base/mount_info.h"

#include <algorithm>
#include <fstream>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace casement {
namespace {

bool IsOctal(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= '0' && c <= '7'; });
}

// White space and '\\' are written as a '\\' and three octal digits.
std::string Unescaped(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || text.size() - i < 4 ||
        !IsOctal(text.substr(i + 1, 3))) {
      plain.push_back(text[i]);
      continue;
    }
    plain.push_back(static_cast<char>((text[i + 1] - '0') << 6 |
                                      (text[i + 2] - '0') << 3 |
                                      (text[i + 3] - '0')));
    i += 3;
  }
  return plain;
}

}  // namespace

std::vector<MountInfo> ReadMountInfo(const std::string& file) {
  std::vector<MountInfo> mounts;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    // "36 35 98:0 /root /path options optional... - type source options"
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 2) continue;
    mounts.push_back({.id = std::string(fields[0]),
                      .device = std::string(fields[2]),
                      .root = Unescaped(fields[3]),
                      .path = Unescaped(fields[4]),
                      .type = std::string(dash[1])});
  }
  return mounts;
}

}  // namespace casement
