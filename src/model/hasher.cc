#include "model/hasher.h"

#include <openssl/evp.h>

#include <memory>

#include "absl/strings/string_view.h"
#include "base/check.h"

namespace casement {
namespace {

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

// OpenSSL 3 looks an algorithm up by name, under a lock, whenever EVP_sha256()
// is given to EVP_DigestInit; fetched once it is found once. That counts for
// small blobs (openssl-evp(7), "performance").
const EVP_MD* Sha256() {
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  CASEMENT_CHECK(sha256 != nullptr);
  return sha256;
}

}  // namespace

struct Hasher::Context {
  std::unique_ptr<EVP_MD_CTX, FreeContext> evp{EVP_MD_CTX_new()};
};

// OpenSSL's calls fail only if memory or the algorithm is missing.
Hasher::Hasher() : context_(std::make_unique<Context>()) {
  CASEMENT_CHECK(context_->evp != nullptr);
  CASEMENT_CHECK(EVP_DigestInit_ex(context_->evp.get(), Sha256(), nullptr) ==
                 1);
}

Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::Update(absl::string_view bytes) {
  CASEMENT_CHECK(
      EVP_DigestUpdate(context_->evp.get(), bytes.data(), bytes.size()) == 1);
  size_bytes_ += static_cast<int64_t>(bytes.size());
}

Digest Hasher::Finish() {
  Digest::Hash hash;
  CASEMENT_CHECK(
      EVP_DigestFinal_ex(context_->evp.get(), hash.data(), nullptr) == 1);
  return Digest::FromHash(hash, size_bytes_);
}

}  // namespace casement
