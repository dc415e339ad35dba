// SHA-256 of bytes that come piece by piece. One thread at a time.
#ifndef CASEMENT_MODEL_HASHER_H_
#define CASEMENT_MODEL_HASHER_H_

#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "casement/digest.h"

namespace casement {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void Update(absl::string_view bytes);
  int64_t size_bytes() const { return size_bytes_; }
  // The digest of everything so far. Call it once, last.
  Digest Finish();

 private:
  struct Context;  // OpenSSL's EVP_MD_CTX.
  std::unique_ptr<Context> context_;
  int64_t size_bytes_ = 0;
};

}  // namespace casement

#endif  // CASEMENT_MODEL_HASHER_H_
