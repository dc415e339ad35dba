#include "fuse/reply.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "base/status.h"

namespace casement {
namespace {

// Every errno that the areas of the mount return.
TEST(ErrnoForReply, IsTheOneThatTheStatusWasMadeFrom) {
  for (const int error :
       {EACCES,    EAGAIN, EBADF,  EEXIST,       EFBIG,   EINTR,     EINVAL,
        EIO,       EISDIR, EMFILE, ENAMETOOLONG, ENOENT,  ENOSPC,    ENOTDIR,
        ENOTEMPTY, EPERM,  ERANGE, EROFS,        ESTALE,  ETIMEDOUT, EXDEV,
        ENODATA,   ENOTTY, ENOSYS, EOPNOTSUPP,   ENOTCONN}) {
    const absl::Status status = ErrnoStatus(error, "what");
    EXPECT_EQ(ErrnoForReply(status), error);
    EXPECT_EQ(ErrnoForReply(Annotate(status, "more")), error);
  }
}

TEST(ErrnoForReply, OfAStatusWithoutErrnoIsTheNearestToItsCode) {
  EXPECT_EQ(ErrnoForReply(absl::NotFoundError("")), ENOENT);
  EXPECT_EQ(ErrnoForReply(absl::AlreadyExistsError("")), EEXIST);
  EXPECT_EQ(ErrnoForReply(absl::ResourceExhaustedError("")), ENOSPC);
  EXPECT_EQ(ErrnoForReply(absl::InvalidArgumentError("")), EINVAL);
  EXPECT_EQ(ErrnoForReply(absl::PermissionDeniedError("")), EACCES);
  EXPECT_EQ(ErrnoForReply(absl::DeadlineExceededError("")), ETIMEDOUT);
  EXPECT_EQ(ErrnoForReply(absl::CancelledError("")), EINTR);
  EXPECT_EQ(ErrnoForReply(absl::DataLossError("")), EIO);
  EXPECT_EQ(ErrnoForReply(absl::InternalError("")), EIO);
}

TEST(EntryParamOf, AMissThatMayBeRememberedHasNoNodeAndATimeout) {
  EXPECT_EQ(EntryParamOf(Entry{}).ino, 0u);
  EXPECT_GT(EntryParamOf(Entry{}).entry_timeout, 0);
  EXPECT_EQ(EntryParamOf(Entry{.cacheable = false}).entry_timeout, 0);
}

}  // namespace
}  // namespace casement
