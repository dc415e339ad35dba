#include "base/tcp_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/quote.h"
#include "base/status.h"

namespace casement {
namespace {

// Also of IPv4 addresses in IPv6's dress.
bool IsLoopback6(const in6_addr& address) {
  return IN6_IS_ADDR_LOOPBACK(&address) ||
         (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == 127);
}

}  // namespace

absl::StatusOr<TcpAddress> TcpAddress::Parse(absl::string_view text) {
  const absl::Status malformed = absl::InvalidArgumentError(absl::StrCat(
      "address ", QuoteName(text),
      ": must be an IP address and a port, such as 127.0.0.1:8980 or "
      "[::1]:8980"));
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return malformed;
  uint32_t port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port > 65535) {
    return malformed;
  }
  absl::string_view host = text.substr(0, colon);
  TcpAddress result;
  if (absl::ConsumePrefix(&host, "[")) {
    auto& address = reinterpret_cast<sockaddr_in6&>(result.address_);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(static_cast<uint16_t>(port));
    result.size_ = sizeof(address);
    if (!absl::ConsumeSuffix(&host, "]") ||
        ::inet_pton(AF_INET6, std::string(host).c_str(), &address.sin6_addr) !=
            1) {
      return malformed;
    }
    return result;
  }
  auto& address = reinterpret_cast<sockaddr_in&>(result.address_);
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  result.size_ = sizeof(address);
  const std::string numbers(host == "localhost" ? "127.0.0.1" : host);
  if (::inet_pton(AF_INET, numbers.c_str(), &address.sin_addr) != 1) {
    return malformed;
  }
  return result;
}

absl::StatusOr<TcpAddress> TcpAddress::OfSocket(int fd) {
  TcpAddress result;
  result.size_ = sizeof(result.address_);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&result.address_),
                    &result.size_) != 0) {
    return ErrnoStatus(errno, "getsockname");
  }
  return result;
}

bool TcpAddress::IsLoopback() const {
  if (family() == AF_INET6) {
    return IsLoopback6(
        reinterpret_cast<const sockaddr_in6&>(address_).sin6_addr);
  }
  const auto& address = reinterpret_cast<const sockaddr_in&>(address_);
  return ntohl(address.sin_addr.s_addr) >> 24 == 127;
}

std::string TcpAddress::ToString() const {
  std::array<char, INET6_ADDRSTRLEN> text = {};
  if (family() == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(address_);
    ::inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
    return absl::StrCat("[", text.data(), "]:", ntohs(address.sin6_port));
  }
  const auto& address = reinterpret_cast<const sockaddr_in&>(address_);
  ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
  return absl::StrCat(text.data(), ":", ntohs(address.sin_port));
}

}  // namespace casement
