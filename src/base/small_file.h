// Files that a person wrote: certificates, lists.
#ifndef CASEMENT_BASE_SMALL_FILE_H_
#define CASEMENT_BASE_SMALL_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace casement {

// All of it. InvalidArgument if it has more than 1 MiB. Errors name the path.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path);

}  // namespace casement

#endif  // CASEMENT_BASE_SMALL_FILE_H_
