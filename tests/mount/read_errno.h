// What reading a file says, for tests that want it to fail.
#ifndef CASEMENT_TESTS_MOUNT_READ_ERRNO_H_
#define CASEMENT_TESTS_MOUNT_READ_ERRNO_H_

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace casement {

// The errno of reading all of `path`, or 0.
inline int ReadErrno(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  char buffer[65536];
  ssize_t got = 1;
  while (got > 0) got = read(fd, buffer, sizeof(buffer));
  const int error_number = got < 0 ? errno : 0;
  close(fd);
  return error_number;
}

}  // namespace casement

#endif  // CASEMENT_TESTS_MOUNT_READ_ERRNO_H_
