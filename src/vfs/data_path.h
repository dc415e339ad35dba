// How the bytes of an open file get to the kernel.
#ifndef CASEMENT_VFS_DATA_PATH_H_
#define CASEMENT_VFS_DATA_PATH_H_

#include <cstdint>

namespace casement {

enum class DataPath : uint8_t {
  // The kernel asks for pages and keeps them; opens make no request.
  kCached,
  // The kernel uses the blob's own file: one page cache for all views.
  kPassthrough,
};

}  // namespace casement

#endif  // CASEMENT_VFS_DATA_PATH_H_
