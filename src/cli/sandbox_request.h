// The options that make a sandbox, shared by `sandbox create` and `run`.
#ifndef CASEMENT_CLI_SANDBOX_REQUEST_H_
#define CASEMENT_CLI_SANDBOX_REQUEST_H_

#include "absl/status/statusor.h"
#include "base/arguments.h"
#include "base/status.h"
#include "casement/client.h"

namespace casement {

inline absl::StatusOr<SandboxSpec> SandboxSpecOf(const Arguments& arguments) {
  SandboxSpec spec;
  if (arguments.Has("root")) {
    ASSIGN_OR_RETURN(spec.root, Digest::Parse(arguments.Get("root")));
  }
  spec.name = arguments.Get("name");
  spec.inputs = arguments.Get("inputs") == "read-only"
                    ? InputsPolicy::kReadOnly
                    : InputsPolicy::kCopyOnWrite;
  spec.inputs_from = arguments.Get("inputs-from") == "remote"
                         ? InputsFrom::kRemote
                         : InputsFrom::kStore;
  spec.label = arguments.Get("label");
  ASSIGN_OR_RETURN(spec.scratch_bytes_max,
                   arguments.GetBytes("scratch-bytes-max"));
  return spec;
}

inline CreateOptions CreateOptionsOf(const Arguments& arguments) {
  return {.never_reuse = arguments.Get("reuse") == "never"};
}

}  // namespace casement

#endif  // CASEMENT_CLI_SANDBOX_REQUEST_H_
