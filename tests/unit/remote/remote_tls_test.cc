// RemoteCas over TLS: whom it trusts, and who it is.
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "remote/remote_cas.h"
#include "support/fake_remote.h"
#include "support/temp_directory.h"

// AddressSanitizer asks for it. Not ours: libcrypto's list of errors of each of
// gRPC's threads, which outlive main(), and a few bytes of every lookup that
// gRPC has c-ares make.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libcrypto.so\nleak:libcares.so\n";
}

namespace casement {
namespace {

template <typename Write>
std::string InPem(const Write& write) {
  BIO* const memory = BIO_new(BIO_s_mem());
  CASEMENT_CHECK(memory != nullptr && write(memory) == 1);
  char* bytes = nullptr;
  const int64_t size = BIO_get_mem_data(memory, &bytes);
  std::string pem(bytes, size);
  BIO_free(memory);
  return pem;
}

// Somebody with a key and a certificate.
class Party {
 public:
  // Signed by `issuer`, or by itself, as an authority.
  Party(const std::string& name, const Party* issuer)
      : key_(EVP_EC_gen("P-256")), certificate_(X509_new()) {
    CASEMENT_CHECK(key_ != nullptr && certificate_ != nullptr);
    X509_set_version(certificate_, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate_),
                     issuer == nullptr ? 1 : 2);
    X509_gmtime_adj(X509_getm_notBefore(certificate_), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate_), 3600);
    X509_set_pubkey(certificate_, key_);
    X509_NAME_add_entry_by_txt(
        X509_get_subject_name(certificate_), "CN", MBSTRING_ASC,
        reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    const Party& signer = issuer == nullptr ? *this : *issuer;
    X509_set_issuer_name(certificate_,
                         X509_get_subject_name(signer.certificate_));
    if (issuer == nullptr) {
      Extend(NID_basic_constraints, "critical,CA:TRUE");
      Extend(NID_key_usage, "critical,keyCertSign");
    } else {
      Extend(NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost");
    }
    CASEMENT_CHECK(X509_sign(certificate_, signer.key_, EVP_sha256()) != 0);
  }
  ~Party() {
    X509_free(certificate_);
    EVP_PKEY_free(key_);
  }
  Party(const Party&) = delete;
  Party& operator=(const Party&) = delete;

  std::string Certificate() const {
    return InPem(
        [this](BIO* out) { return PEM_write_bio_X509(out, certificate_); });
  }
  std::string Key() const {
    return InPem([this](BIO* out) {
      return PEM_write_bio_PrivateKey(out, key_, nullptr, nullptr, 0, nullptr,
                                      nullptr);
    });
  }

 private:
  void Extend(int which, const char* value) {
    X509_EXTENSION* const extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, which, value);
    CASEMENT_CHECK(extension != nullptr);
    X509_add_ext(certificate_, extension, -1);
    X509_EXTENSION_free(extension);
  }

  EVP_PKEY* const key_;
  X509* const certificate_;
};

class RemoteTls : public ::testing::Test {
 protected:
  void StartServer(bool asks_for_certificate,
                   const std::string& host = "127.0.0.1") {
    grpc::SslServerCredentialsOptions options(
        asks_for_certificate
            ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
            : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
    options.pem_root_certs = authority_.Certificate();
    options.pem_key_cert_pairs.push_back({party_.Key(), party_.Certificate()});
    server_.Start(host + ":0", grpc::SslServerCredentials(options));
  }
  std::string Written(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name) << bytes;
    return folder_ / name;
  }
  absl::Status Ask(const RemoteTlsFiles& tls,
                   const std::string& host = "127.0.0.1",
                   const std::string& scheme = "grpcs") {
    auto remote =
        RemoteCas::Open({.address = *RemoteAddress::Parse(absl::StrCat(
                             scheme, "://", host, ":", server_.port())),
                         .tls = tls,
                         .timeout = absl::Seconds(2)});
    if (!remote.ok()) return remote.status();
    return (*remote)->FindMissing({Digest::Of("any")}).status();
  }

  TempDirectory folder_;
  const Party authority_{"The farm", nullptr};
  const Party other_authority_{"Somebody else", nullptr};
  const Party party_{"A cache", &authority_};
  const Party stranger_{"A stranger", &other_authority_};
  const std::string roots_ = Written("roots", authority_.Certificate());
  FakeRemote server_;
};

TEST_F(RemoteTls, AServerOfTheAuthorityIsTrusted) {
  StartServer(/*asks_for_certificate=*/false);
  EXPECT_EQ(Ask({.roots = roots_}), absl::OkStatus());
  EXPECT_EQ(Ask({.roots = roots_}, "localhost"), absl::OkStatus());
}

TEST_F(RemoteTls, AServerOfAnotherAuthorityIsRefused) {
  StartServer(/*asks_for_certificate=*/false);
  const std::string others = Written("others", other_authority_.Certificate());
  EXPECT_TRUE(absl::IsUnavailable(Ask({.roots = others})));
  // And so is one that no list of the host's knows.
  EXPECT_TRUE(absl::IsUnavailable(Ask({})));
  EXPECT_EQ(server_.Calls("GetCapabilities"), 0);
}

TEST_F(RemoteTls, AServerWithAnotherNameIsRefused) {
  // Not among the certificate's names.
  StartServer(/*asks_for_certificate=*/false, "127.0.0.2");
  EXPECT_TRUE(absl::IsUnavailable(Ask({.roots = roots_}, "127.0.0.2")));
  EXPECT_EQ(server_.Calls("GetCapabilities"), 0);
}

TEST_F(RemoteTls, NobodySpeaksToAServerWithTlsWithout) {
  StartServer(/*asks_for_certificate=*/false);
  EXPECT_FALSE(Ask({}, "127.0.0.1", "grpc").ok());
  EXPECT_EQ(server_.Calls("GetCapabilities"), 0);
}

TEST_F(RemoteTls, AServerThatAsksForACertificateGetsIt) {
  StartServer(/*asks_for_certificate=*/true);
  const std::string certificate = Written("certificate", party_.Certificate());
  const std::string key = Written("key", party_.Key());
  EXPECT_EQ(Ask({.roots = roots_, .certificate = certificate, .key = key}),
            absl::OkStatus());
  EXPECT_TRUE(absl::IsUnavailable(Ask({.roots = roots_})));
  const std::string strange = Written("strange", stranger_.Certificate());
  const std::string strange_key = Written("strange_key", stranger_.Key());
  EXPECT_TRUE(absl::IsUnavailable(
      Ask({.roots = roots_, .certificate = strange, .key = strange_key})));
  EXPECT_EQ(server_.Calls("GetCapabilities"), 1);
}

TEST_F(RemoteTls, ACertificateInPlaceOfAKeyIsSaidAtTheStart) {
  StartServer(/*asks_for_certificate=*/false);
  const std::string certificate = Written("certificate", party_.Certificate());
  EXPECT_TRUE(absl::IsInvalidArgument(
      Ask({.certificate = certificate, .key = certificate})));
}

}  // namespace
}  // namespace casement
