// Where a remote is, and the headers for it.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "remote/remote_address.h"
#include "remote/remote_headers.h"

namespace casement {
namespace {

void CheckAddress(absl::string_view text) {
  const absl::StatusOr<RemoteAddress> parsed = RemoteAddress::Parse(text);
  if (!parsed.ok()) {
    CASEMENT_CHECK(absl::IsInvalidArgument(parsed.status()));
    return;
  }
  // gRPC takes it for a URI.
  for (const char byte : parsed->target()) {
    CASEMENT_CHECK(absl::ascii_isgraph(byte) &&
                   !absl::StrContains("?#[]", byte));
  }
  const std::string again =
      parsed->instance().empty()
          ? parsed->ToString()
          : absl::StrCat(parsed->ToString(), "/", parsed->instance());
  const absl::StatusOr<RemoteAddress> same = RemoteAddress::Parse(again);
  CASEMENT_CHECK(same.ok() && same->target() == parsed->target() &&
                 same->instance() == parsed->instance() &&
                 same->is_tls() == parsed->is_tls() &&
                 same->is_unix() == parsed->is_unix());
}

void CheckHeaders(absl::string_view text) {
  const absl::StatusOr<RemoteHeaders> parsed = ParseRemoteHeaders(text);
  if (!parsed.ok()) {
    CASEMENT_CHECK(absl::IsInvalidArgument(parsed.status()));
    return;
  }
  for (const auto& [name, value] : *parsed) {
    for (const char byte : name) CASEMENT_CHECK(absl::ascii_isgraph(byte));
    for (const char byte : value) CASEMENT_CHECK(absl::ascii_isprint(byte));
  }
}

}  // namespace
}  // namespace casement

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  casement::CheckAddress(text);
  casement::CheckHeaders(text);
  return 0;
}
