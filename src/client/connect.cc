#include "client/connect.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>  // NOLINT: errno in words.

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "proto/http2_preface.h"

namespace casement {
namespace {

absl::Status NobodyAnswers(const std::string& path, absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("no casementd answers at ", path, ": ", why));
}

absl::Status NobodyAnswers(const std::string& path, int error_number) {
  return NobodyAnswers(path, std::generic_category().message(error_number));
}

absl::Status Refused(const std::string& path) {
  return absl::PermissionDeniedError(
      absl::StrCat("casementd at ", path, " refuses user ", ::geteuid()));
}

}  // namespace

absl::Status ProbeSocket(const std::string& path, absl::Duration timeout) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return NobodyAnswers(path, ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return NobodyAnswers(path, errno);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof(address)) != 0) {
    return errno == EACCES || errno == EPERM ? Refused(path)
                                             : NobodyAnswers(path, errno);
  }
  // The daemon answers whoever begins as a client does; on a unix socket so few
  // bytes always go at once. Whether they went is told by the answer.
  [[maybe_unused]] const ssize_t said = ::send(
      fd.get(), kHttp2Preface.data(), kHttp2Preface.size(), MSG_NOSIGNAL);
  pollfd waiting = {.fd = fd.get(), .events = POLLIN, .revents = 0};
  const int ready =
      ::poll(&waiting, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  if (ready == 0) return NobodyAnswers(path, "it takes too long");
  char byte;
  // A daemon closes the connections of peers that it does not serve.
  if (ready < 0 || ::recv(fd.get(), &byte, 1, 0) <= 0) return Refused(path);
  return absl::OkStatus();
}

}  // namespace casement
