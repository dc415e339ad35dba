// A client in a process of its own, for tests of what the daemon makes of other
// users and of clients that die. Prints a line for what each call returned.
//
//   client_process hold SOCKET NAME           a session with a sandbox, for
//   ever client_process as UID GID SOCKET FOREIGN  as this user, with FOREIGN
//   the name
//                                             of somebody else's sandbox
#include <grp.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "casement/client.h"

namespace casement {
namespace {

void Say(const char* what, const absl::Status& status) {
  std::printf("%s: %s\n", what,
              absl::StatusCodeToString(status.code()).c_str());
  std::fflush(stdout);
}

int Hold(const std::string& socket, const std::string& name) {
  auto client = Client::Connect(socket);
  if (!client.ok()) return 1;
  auto session = (*client)->StartSession();
  if (!session.ok()) return 1;
  Say("create", (*client)->Create({.name = name}, session->get()).status());
  std::printf("%d\n", ::getpid());
  std::fflush(stdout);
  ::pause();
  return 0;
}

int As(uint32_t uid, uint32_t gid, const std::string& socket,
       const std::string& foreign) {
  if (::setgroups(0, nullptr) != 0 || ::setgid(gid) != 0 ||
      ::setuid(uid) != 0) {
    return 1;
  }
  auto client = Client::Connect(socket);
  Say("connect", client.status());
  if (!client.ok()) {
    std::printf("%s\n", std::string(client.status().message()).c_str());
    return 0;
  }
  auto own = (*client)->Create({.name = "own"});
  Say("create", own.status());
  if (own.ok()) std::printf("owner: %u\n", own->info.spec.owner_uid);
  Say("create for root",
      (*client)->Create({}, nullptr, {.owner_is_peer = false}).status());
  Say("diff", (*client)->Diff(foreign).status());
  Say("collect", (*client)->Collect(foreign, {std::string(".")}).status());
  Say("release", (*client)->Release(foreign));
  std::printf("listed: %zu\n", (*client)->List()->size());
  Say("release own", (*client)->Release("own"));
  return 0;
}

int Main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "hold" && argc == 4) return Hold(argv[2], argv[3]);
  uint32_t uid, gid;
  if (mode == "as" && argc == 6 && absl::SimpleAtoi(argv[2], &uid) &&
      absl::SimpleAtoi(argv[3], &gid)) {
    return As(uid, gid, argv[4], argv[5]);
  }
  return 2;
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) { return casement::Main(argc, argv); }
