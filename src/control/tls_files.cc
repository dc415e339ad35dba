#include "control/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace casement {
namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Source = std::unique_ptr<BIO, decltype(&BIO_free)>;

Source SourceOf(const std::string& pem) {
  return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free};
}

// So that OpenSSL does not ask at the terminal.
int NoPassword(char*, int, int, void*) { return -1; }

Certificate CertificateOf(const std::string& pem) {
  const Source source = SourceOf(pem);
  return {PEM_read_bio_X509(source.get(), nullptr, NoPassword, nullptr),
          X509_free};
}

absl::Status Unusable(absl::string_view what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat("TLS: ", what));
}

}  // namespace

absl::Status CheckUsable(const TlsFiles& files) {
  const Certificate certificate = CertificateOf(files.certificate);
  if (certificate == nullptr) {
    return Unusable("the certificate is none in PEM");
  }
  const Source source = SourceOf(files.key);
  const Key key(
      PEM_read_bio_PrivateKey(source.get(), nullptr, NoPassword, nullptr),
      EVP_PKEY_free);
  if (key == nullptr) {
    return Unusable("the key is none in PEM, or has a password");
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return Unusable("the key is not the certificate's");
  }
  if (!files.client_ca.empty() && CertificateOf(files.client_ca) == nullptr) {
    return Unusable("the client CA is no certificate in PEM");
  }
  return absl::OkStatus();
}

}  // namespace casement
