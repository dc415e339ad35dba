// The words for kinds of things, in lines and in JSON alike.
#ifndef CASEMENT_CLI_WORDS_H_
#define CASEMENT_CLI_WORDS_H_

#include "casement/client.h"

namespace casement {

inline const char* WordFor(SandboxChange::Kind kind) {
  switch (kind) {
    case SandboxChange::Kind::kAdded:
      return "A";
    case SandboxChange::Kind::kModified:
      return "M";
    case SandboxChange::Kind::kDeleted:
      return "D";
    case SandboxChange::Kind::kTypeOrMode:
      return "T";
  }
  return "";
}

inline const char* WordFor(CollectedOutput::Kind kind) {
  switch (kind) {
    case CollectedOutput::Kind::kFile:
      return "file";
    case CollectedOutput::Kind::kExecutable:
      return "exec";
    case CollectedOutput::Kind::kDirectory:
      return "dir";
    case CollectedOutput::Kind::kSymlink:
      return "symlink";
  }
  return "";
}

inline const char* WordFor(InputsPolicy policy) {
  switch (policy) {
    case InputsPolicy::kCopyOnWrite:
      return "copy-on-write";
    case InputsPolicy::kReadOnly:
      return "read-only";
  }
  return "";
}

inline const char* WordFor(InputsFrom place) {
  switch (place) {
    case InputsFrom::kStore:
      return "store";
    case InputsFrom::kRemote:
      return "remote";
  }
  return "";
}

}  // namespace casement

#endif  // CASEMENT_CLI_WORDS_H_
