#include "proto/socket_path.h"

#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace casement {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

absl::StatusOr<std::string> ResolveSocketPath(absl::string_view explicit_path) {
  if (!explicit_path.empty()) return std::string(explicit_path);
  const std::string from_environment = Variable("CASEMENT_SOCKET");
  if (!from_environment.empty()) return from_environment;
  return DefaultSocketPath();
}

absl::StatusOr<std::string> DefaultSocketPath() {
  if (::geteuid() == 0) return "/run/casement/casement.sock";
  const std::string runtime = Variable("XDG_RUNTIME_DIR");
  if (runtime.empty()) {
    return absl::NotFoundError(
        "no socket: give --socket, or set CASEMENT_SOCKET or XDG_RUNTIME_DIR");
  }
  return absl::StrCat(runtime, "/casement.sock");
}

}  // namespace casement
