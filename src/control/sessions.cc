#include "control/sessions.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace casement {
namespace {

constexpr size_t kIdBytes = 16;

absl::Status NoSession(absl::string_view id) {
  return absl::NotFoundError(
      absl::StrCat("session ", absl::Utf8SafeCEscape(id.substr(0, 64)),
                   ": no such session, or it has ended"));
}

}  // namespace

absl::StatusOr<std::string> Sessions::Start() {
  std::array<char, kIdBytes> random;
  if (::getrandom(random.data(), random.size(), 0) !=
      static_cast<ssize_t>(random.size())) {
    return ErrnoStatus(errno, "getrandom");
  }
  std::string id = absl::BytesToHexString({random.data(), random.size()});
  MutexLock lock(mu_);
  if (live_.size() >= sessions_max_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("too many sessions: ", sessions_max_, " are open"));
  }
  live_.try_emplace(id);
  return id;
}

absl::Status Sessions::CheckLive(absl::string_view id) const {
  MutexLock lock(mu_);
  return live_.contains(id) ? absl::OkStatus() : NoSession(id);
}

absl::Status Sessions::Attach(absl::string_view id, absl::string_view sandbox) {
  MutexLock lock(mu_);
  const auto session = live_.find(id);
  if (session == live_.end()) return NoSession(id);
  session->second.insert(std::string(sandbox));
  session_of_[sandbox] = std::string(id);
  return absl::OkStatus();
}

std::string Sessions::Detach(absl::string_view sandbox) {
  MutexLock lock(mu_);
  const auto found = session_of_.find(sandbox);
  if (found == session_of_.end()) return "";
  std::string id = std::move(found->second);
  session_of_.erase(found);
  const auto session = live_.find(id);
  if (session != live_.end()) session->second.erase(sandbox);
  return id;
}

std::vector<std::string> Sessions::End(absl::string_view id) {
  MutexLock lock(mu_);
  const auto session = live_.find(id);
  if (session == live_.end()) return {};
  std::vector<std::string> sandboxes(session->second.begin(),
                                     session->second.end());
  for (const std::string& sandbox : sandboxes) session_of_.erase(sandbox);
  live_.erase(session);
  return sandboxes;
}

size_t Sessions::size() const {
  MutexLock lock(mu_);
  return live_.size();
}

}  // namespace casement
