#include "casement/digest.h"

#include <array>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/check.h"
#include "model/hasher.h"

namespace casement {
namespace {

// sha256sum /dev/null
constexpr Digest::Hash kEmptyHash = {
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
    0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
    0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};

// What is quoted of a text that is no digest.
constexpr size_t kQuotedBytesMax = 100;

std::string Quote(absl::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kQuotedBytesMax)),
                      text.size() > kQuotedBytesMax ? "...\"" : "\"");
}

constexpr char kHexDigits[] = "0123456789abcdef";

// Tables: nobody could foretell the branches that tell digits from letters.
constexpr int kNoHexDigit = -1;
constexpr std::array<int, 256> kHexValues = [] {
  std::array<int, 256> values = {};
  values.fill(kNoHexDigit);
  for (int i = 0; i < 16; ++i) {
    values[static_cast<unsigned char>(kHexDigits[i])] = i;
  }
  return values;
}();

bool ParseHash(absl::string_view hex, Digest::Hash& hash) {
  if (hex.size() != 2 * hash.size()) return false;
  int all = 0;  // Negative once one of them was.
  for (size_t i = 0; i < hash.size(); ++i) {
    const int high = kHexValues[static_cast<unsigned char>(hex[2 * i])];
    const int low = kHexValues[static_cast<unsigned char>(hex[2 * i + 1])];
    all |= high | low;
    hash[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return all >= 0;
}

// absl::SimpleAtoi takes spaces, signs and leading zeros, which would give one
// blob many names.
bool ParseSize(absl::string_view text, int64_t& size_bytes) {
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return false;
  size_bytes = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    const int digit = c - '0';
    if (size_bytes > (std::numeric_limits<int64_t>::max() - digit) / 10) {
      return false;
    }
    size_bytes = size_bytes * 10 + digit;
  }
  return true;
}

}  // namespace

Digest::Digest() : hash_(kEmptyHash), size_bytes_(0) {}

absl::StatusOr<Digest> Digest::Parse(absl::string_view text) {
  const size_t hyphen = text.find('-');
  if (hyphen == absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bad digest ", Quote(text), ": it must be \"<hash>-<size>\""));
  }
  int64_t size_bytes = 0;
  if (!ParseSize(text.substr(hyphen + 1), size_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad digest ", Quote(text),
                     ": the size must be a decimal number without sign or "
                     "leading zeros"));
  }
  return FromParts(text.substr(0, hyphen), size_bytes);
}

absl::StatusOr<Digest> Digest::FromParts(absl::string_view hex_hash,
                                         int64_t size_bytes) {
  Hash hash;
  if (!ParseHash(hex_hash, hash)) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad digest: the hash ", Quote(hex_hash),
                     " must be 64 lower-case hex digits"));
  }
  if (size_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bad digest ", hex_hash, ": the size ", size_bytes, " is negative"));
  }
  if (size_bytes == 0 && hash != kEmptyHash) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bad digest ", hex_hash, "-0: no blob of size 0 but the empty one"));
  }
  return Digest(hash, size_bytes);
}

Digest Digest::FromHash(const Hash& hash, int64_t size_bytes) {
  CASEMENT_CHECK(size_bytes >= 0);
  return Digest(hash, size_bytes);
}

Digest Digest::Of(absl::string_view bytes) {
  Hasher hasher;
  hasher.Update(bytes);
  return hasher.Finish();
}

std::string Digest::HexHash() const {
  std::string text(2 * kHashBytes, '\0');
  for (size_t i = 0; i < kHashBytes; ++i) {
    text[2 * i] = kHexDigits[hash_[i] >> 4];
    text[2 * i + 1] = kHexDigits[hash_[i] & 15];
  }
  return text;
}

std::string Digest::ToString() const {
  return absl::StrCat(HexHash(), "-", size_bytes_);
}

}  // namespace casement
