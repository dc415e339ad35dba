// The store's index: whatever the file holds, it is read to its end or found
// damaged.
#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/check.h"
#include "store/index.h"

namespace casement {
namespace {

// A folder with an index in it, made once a process.
class Folder {
 public:
  Folder() {
    CASEMENT_CHECK(mkdtemp(path_) != nullptr);
    fd_ = open(path_, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CASEMENT_CHECK(fd_ >= 0);
  }
  ~Folder() {
    unlinkat(fd_, kIndexName, 0);
    close(fd_);
    rmdir(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  void Write(const uint8_t* data, size_t size) const {
    const UniqueFd file(openat(fd_, kIndexName,
                               O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
    CASEMENT_CHECK(write(file.get(), data, size) == static_cast<ssize_t>(size));
  }
  int fd() const { return fd_; }

 private:
  char path_[32] = "/tmp/casement-fuzz-XXXXXX";
  int fd_ = -1;
};

void Read(int folder) {
  RealDisk disk;
  absl::StatusOr<IndexReader> reader = IndexReader::Open(disk, folder);
  if (!reader.ok()) return;
  while (true) {
    const auto entries = reader->Next();
    if (!entries.ok() || entries->empty()) return;
  }
}

}  // namespace
}  // namespace casement

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const casement::Folder folder;
  folder.Write(data, size);
  casement::Read(folder.fd());
  return 0;
}
