// Where to listen on TCP: an IP address and a port. Names are not asked for, as
// what they stand for can change.
//
// Immutable.
#ifndef CASEMENT_BASE_TCP_ADDRESS_H_
#define CASEMENT_BASE_TCP_ADDRESS_H_

#include <sys/socket.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace casement {

class TcpAddress {
 public:
  // "127.0.0.1:8980", "[::1]:8980"; "localhost" stands for 127.0.0.1. Port 0 is
  // any that is free. InvalidArgument for anything else.
  static absl::StatusOr<TcpAddress> Parse(absl::string_view text);
  // Of a socket that is bound.
  static absl::StatusOr<TcpAddress> OfSocket(int fd);

  // Whether only processes of this machine get there.
  bool IsLoopback() const;
  // As Parse() takes it.
  std::string ToString() const;

  // For bind(2).
  int family() const { return address_.ss_family; }
  const sockaddr* get() const {
    return reinterpret_cast<const sockaddr*>(&address_);
  }
  socklen_t size() const { return size_; }

 private:
  TcpAddress() = default;

  sockaddr_storage address_ = {};
  socklen_t size_ = 0;
};

}  // namespace casement

#endif  // CASEMENT_BASE_TCP_ADDRESS_H_
