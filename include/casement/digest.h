// The name of a blob: the SHA-256 of its bytes and its size.
//
// As in REv2's Digest message. Its text form is "<hash>-<size>": 64 lower-case
// hex digits, a hyphen, and the size in bytes as a decimal number without sign
// or leading zeros. A value of this type is always well formed. Immutable; any
// thread may use it.
#ifndef CASEMENT_DIGEST_H_
#define CASEMENT_DIGEST_H_

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace casement {

class Digest {
 public:
  static constexpr size_t kHashBytes = 32;
  using Hash = std::array<uint8_t, kHashBytes>;

  // The digest of the empty blob, which every store has.
  Digest();

  // From "<hash>-<size>". InvalidArgument, saying what is wrong, otherwise.
  static absl::StatusOr<Digest> Parse(absl::string_view text);
  // From the two fields of REv2's message. InvalidArgument if `hex_hash` is not
  // 64 lower-case hex digits, if `size_bytes` is negative, or if it is 0 with
  // any hash but the empty blob's.
  static absl::StatusOr<Digest> FromParts(absl::string_view hex_hash,
                                          int64_t size_bytes);
  // From a finished hash. `size_bytes` must not be negative.
  static Digest FromHash(const Hash& hash, int64_t size_bytes);
  // Of these bytes.
  static Digest Of(absl::string_view bytes);

  const Hash& hash() const { return hash_; }
  int64_t size_bytes() const { return size_bytes_; }
  std::string HexHash() const;
  std::string ToString() const;

  friend bool operator==(const Digest&, const Digest&) = default;
  friend auto operator<=>(const Digest&, const Digest&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const Digest& digest) {
    return H::combine(std::move(state), digest.hash_, digest.size_bytes_);
  }

 private:
  Digest(const Hash& hash, int64_t size_bytes)
      : hash_(hash), size_bytes_(size_bytes) {}

  Hash hash_;
  int64_t size_bytes_;
};

}  // namespace casement

#endif  // CASEMENT_DIGEST_H_
