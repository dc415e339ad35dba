// The words of casement's command line, understood. Nothing is done yet.
#ifndef CASEMENT_CLI_INVOCATION_H_
#define CASEMENT_CLI_INVOCATION_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/arguments.h"

namespace casement {

enum class CommandId : uint8_t {
  kPut,
  kGet,
  kSandboxCreate,
  kSandboxList,
  kSandboxDiff,
  kSandboxCollect,
  kSandboxRelease,
  kRun,
  kEvict,
  kStats,
  kVerify,
};

struct Invocation {
  // If not empty: print it and do nothing else (--help, --version).
  std::string text = {};
  CommandId command = CommandId::kStats;
  std::string socket = {};  // Empty: not given.
  bool is_json = false;
  Arguments arguments = {};
};

// InvalidArgument if that is no usage of casement; the message says where help
// is.
absl::StatusOr<Invocation> ParseInvocation(absl::Span<const std::string> words);

}  // namespace casement

#endif  // CASEMENT_CLI_INVOCATION_H_
