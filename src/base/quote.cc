#include "base/quote.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace casement {
namespace {

bool IsControl(char c) { return absl::ascii_iscntrl(c); }

bool IsSpecial(char c) { return IsControl(c) || c == '"' || c == '\\'; }

void AppendEscaped(char c, std::string& out) {
  constexpr absl::string_view kPlain = "\a\b\t\n\v\f\r\"\\";
  constexpr absl::string_view kLetters = "abtnvfr\"\\";
  out.push_back('\\');
  if (const size_t at = kPlain.find(c); at != absl::string_view::npos) {
    out.push_back(kLetters[at]);
    return;
  }
  const unsigned value = static_cast<unsigned char>(c);
  for (const int shift : {6, 3, 0}) {
    out.push_back(static_cast<char>('0' + ((value >> shift) & 7)));
  }
}

template <typename Predicate>
std::string Escape(absl::string_view text, Predicate is_special) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (is_special(c)) {
      AppendEscaped(c, out);
    } else {
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace

std::string QuoteName(absl::string_view name) {
  if (std::none_of(name.begin(), name.end(), IsSpecial)) {
    return std::string(name);
  }
  return absl::StrCat("\"", Escape(name, IsSpecial), "\"");
}

std::string OneLine(absl::string_view message) {
  return Escape(message, IsControl);
}

}  // namespace casement
