// Answers to the kernel: values as libfuse's structs, a Status as an errno.
#ifndef CASEMENT_FUSE_REPLY_H_
#define CASEMENT_FUSE_REPLY_H_

#include "absl/status/status.h"
#include "fuse/libfuse.h"
#include "vfs/attributes.h"

namespace casement {

// The errno that `status` means: the one it carries (ErrnoOf), else the nearest
// to its canonical code. Not for OkStatus().
int ErrnoForReply(const absl::Status& status);

struct stat StatOf(const Attributes& attributes);
fuse_entry_param EntryParamOf(const Entry& entry);

void ReplyError(fuse_req_t req, const absl::Status& status);
// OkStatus() is an answer too.
void ReplyStatus(fuse_req_t req, const absl::Status& status);
void ReplyAttributes(fuse_req_t req, const Attributes& attributes);
// False if the kernel has given up: the lookup must be taken back.
[[nodiscard]] bool ReplyEntry(fuse_req_t req, const Entry& entry);

}  // namespace casement

#endif  // CASEMENT_FUSE_REPLY_H_
