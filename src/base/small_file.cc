#include "base/small_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "base/quote.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace casement {
namespace {

constexpr size_t kFileBytesMax = size_t{1} << 20;

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, QuoteName(path));
  std::string bytes(kFileBytesMax + 1, '\0');
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t got =
        ::read(fd.get(), bytes.data() + size, bytes.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, QuoteName(path));
    if (got == 0) break;
    size += got;
  }
  if (size > kFileBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(QuoteName(path), ": more than ", kFileBytesMax, " bytes"));
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace casement
