// Text of any bytes as part of one line.
#ifndef CASEMENT_BASE_QUOTE_H_
#define CASEMENT_BASE_QUOTE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace casement {

// A name as git prints it: unchanged if it can stand for itself; otherwise, if
// it holds control characters, '"' or '\', in double quotes with C's escapes.
// Bytes of 128 and more stay as they are.
std::string QuoteName(absl::string_view name);

// A message with C's escapes for control characters, and nothing else changed.
std::string OneLine(absl::string_view message);

}  // namespace casement

#endif  // CASEMENT_BASE_QUOTE_H_
