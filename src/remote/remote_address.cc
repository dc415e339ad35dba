#include "remote/remote_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace casement {
namespace {

// A host's name has 253 bytes at most (RFC 1035); instances are short.
constexpr size_t kAddressBytesMax = 4096;
constexpr size_t kHostBytesMax = 253;

// What resource names begin their own parts with, so that an instance cannot
// hold it (REv2, at Execution).
constexpr std::array<absl::string_view, 7> kReserved = {
    "blobs",      "uploads",      "actions",         "actionResults",
    "operations", "capabilities", "compressed-blobs"};

// The bytes that a URI has unchanged, and '/'; others as %XX.
std::string PercentEncoded(absl::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    if (absl::ascii_isalnum(byte) || absl::StrContains("-._~/:", byte)) {
      out.push_back(byte);
    } else {
      absl::StrAppend(&out, "%", absl::BytesToHexString({&byte, 1}));
    }
  }
  return out;
}

absl::Status Wrong(absl::string_view why) {
  return absl::InvalidArgumentError(why);
}

absl::Status CheckHost(absl::string_view host) {
  if (host.empty()) return Wrong("the host is missing");
  if (host.size() > kHostBytesMax) return Wrong("the host is too long");
  const bool is_fine = std::all_of(host.begin(), host.end(), [](char byte) {
    return absl::ascii_isalnum(byte) || byte == '.' || byte == '-' ||
           byte == '_';
  });
  if (is_fine) return absl::OkStatus();
  return Wrong(absl::StrContains(host, ':')
                   ? "an IPv6 address belongs in brackets"
                   : "a host has letters, digits, '.', '-' and '_'");
}

absl::Status CheckIpv6(absl::string_view host) {
  in6_addr ignored;
  if (::inet_pton(AF_INET6, std::string(host).c_str(), &ignored) == 1 &&
      !absl::StrContains(host, '\0')) {
    return absl::OkStatus();
  }
  return Wrong("what is in brackets is no IPv6 address");
}

absl::StatusOr<int> ParsePort(absl::string_view text) {
  int port = 0;
  const bool is_digits =
      !text.empty() && text.size() <= 5 &&
      std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  if (!is_digits || !absl::SimpleAtoi(text, &port) || port < 1 ||
      port > 65535) {
    return Wrong("a port is a number from 1 to 65535");
  }
  return port;
}

absl::Status CheckInstance(absl::string_view instance) {
  for (const absl::string_view part : absl::StrSplit(instance, '/')) {
    if (part.empty()) return Wrong("the instance has an empty part");
    if (std::find(kReserved.begin(), kReserved.end(), part) !=
        kReserved.end()) {
      return Wrong(absl::StrCat("an instance cannot hold \"", part, "\""));
    }
    if (!std::all_of(part.begin(), part.end(), absl::ascii_isprint)) {
      return Wrong("the instance has bytes that cannot be printed");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RemoteAddress> RemoteAddress::ParseUnix(absl::string_view path) {
  if (!absl::StartsWith(path, "/")) return Wrong("the path is not absolute");
  if (absl::StrContains(path, '\0')) return Wrong("the path has a NUL");
  // "//" would begin a URI's host.
  while (absl::StartsWith(path, "//")) path.remove_prefix(1);
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return Wrong(absl::StrCat("the path of a socket has at most ",
                              sizeof(sockaddr_un::sun_path) - 1, " bytes"));
  }
  RemoteAddress address;
  address.is_unix_ = true;
  address.target_ = absl::StrCat("unix:", PercentEncoded(path));
  address.text_ = absl::StrCat("unix:", path);
  return address;
}

absl::StatusOr<RemoteAddress> RemoteAddress::ParseHost(absl::string_view text,
                                                       bool is_tls) {
  RemoteAddress address;
  address.is_tls_ = is_tls;
  const size_t slash = text.find('/');
  absl::string_view place = text.substr(0, slash);
  if (slash != absl::string_view::npos) {
    absl::string_view instance = text.substr(slash + 1);
    if (absl::ConsumeSuffix(&instance, "/") || !instance.empty()) {
      RETURN_IF_ERROR(CheckInstance(instance));
    }
    address.instance_ = std::string(instance);
  }
  std::string host;
  if (absl::ConsumePrefix(&place, "[")) {
    const size_t end = place.find(']');
    if (end == absl::string_view::npos) return Wrong("a ']' is missing");
    RETURN_IF_ERROR(CheckIpv6(place.substr(0, end)));
    host = absl::StrCat("[", place.substr(0, end), "]");
    place.remove_prefix(end + 1);
  } else {
    const size_t colon = place.rfind(':');
    RETURN_IF_ERROR(CheckHost(place.substr(0, colon)));
    host = std::string(place.substr(0, colon));
    place = colon == absl::string_view::npos ? "" : place.substr(colon);
  }
  int port = is_tls ? 443 : 80;
  if (!place.empty()) {
    if (!absl::ConsumePrefix(&place, ":")) {
      return Wrong("after ']' come only a port and an instance");
    }
    ASSIGN_OR_RETURN(port, ParsePort(place));
  }
  const std::string where = absl::StrCat(host, ":", port);
  address.target_ = absl::StrCat("dns:///", PercentEncoded(where));
  address.text_ = absl::StrCat(is_tls ? "grpcs://" : "grpc://", where);
  return address;
}

absl::StatusOr<RemoteAddress> RemoteAddress::Parse(absl::string_view text) {
  absl::StatusOr<RemoteAddress> address =
      Wrong("not grpc[s]://HOST[:PORT][/INSTANCE], nor unix:PATH");
  absl::string_view rest = text;
  if (text.size() > kAddressBytesMax) {
    return Wrong("remote address: too long");
  }
  if (absl::ConsumePrefix(&rest, "unix:")) {
    address = ParseUnix(rest);
  } else if (absl::ConsumePrefix(&rest, "grpcs://")) {
    address = ParseHost(rest, /*is_tls=*/true);
  } else if (absl::ConsumePrefix(&rest, "grpc://")) {
    address = ParseHost(rest, /*is_tls=*/false);
  }
  if (address.ok()) return address;
  return Annotate(address.status(), "remote address ",
                  absl::Utf8SafeCEscape(text.substr(0, 200)));
}

}  // namespace casement
