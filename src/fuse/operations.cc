#include "fuse/operations.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "fuse/notifier.h"
#include "fuse/reply.h"

namespace casement {
namespace {

Adapter& AdapterOf(fuse_req_t req) {
  return *static_cast<Adapter*>(fuse_req_userdata(req));
}

// The file system, for one request of this kind.
FileSystem& Vfs(fuse_req_t req, Request kind) {
  Notifier::ThisThreadAnswersRequests();
  Adapter& adapter = AdapterOf(req);
  if (!WaitingRequests::IsAgain()) {
    adapter.requests[static_cast<size_t>(kind)].fetch_add(
        1, std::memory_order_relaxed);
  }
  return adapter.vfs;
}

// Replies with an error, unless all that is wrong is a blob that can be
// fetched: then `again` handles the request once more when it has come.
// `missing_errno` is the answer if nobody has it.
template <typename Again>
void ReplyErrorOrWait(fuse_req_t req, const absl::Status& status, Again again,
                      int missing_errno = EIO) {
  WaitingRequests* const waiting = AdapterOf(req).waiting.get();
  if (waiting != nullptr &&
      waiting->Take(req, status, missing_errno, std::move(again))) {
    return;
  }
  ReplyError(req, status);
}

bool IsInGroup(fuse_req_t req, uint32_t gid) {
  if (fuse_req_ctx(req)->gid == gid) return true;
  std::vector<gid_t> groups(64);
  const int count =
      fuse_req_getgroups(req, static_cast<int>(groups.size()), groups.data());
  if (count > static_cast<int>(groups.size())) {
    groups.resize(static_cast<size_t>(count));
    fuse_req_getgroups(req, count, groups.data());
  }
  groups.resize(static_cast<size_t>(std::max(count, 0)));
  return std::find(groups.begin(), groups.end(), gid) != groups.end();
}

Caller CallerOf(fuse_req_t req) {
  const fuse_ctx* const context = fuse_req_ctx(req);
  return {.uid = context->uid,
          .gid = context->gid,
          .is_in_group = [req](uint32_t gid) { return IsInGroup(req, gid); }};
}

void Want(fuse_conn_info* connection, uint64_t capability, bool on) {
  if (on) {
    fuse_set_feature_flag(connection, capability);
  } else {
    fuse_unset_feature_flag(connection, capability);
  }
}

// Requests that need not be made, in any data path: each costs two context
// switches, whatever it does.
constexpr std::array<uint64_t, 8> kWanted = {
    FUSE_CAP_NO_OPENDIR_SUPPORT,  FUSE_CAP_NO_EXPORT_SUPPORT,
    FUSE_CAP_PARALLEL_DIROPS,     FUSE_CAP_CACHE_SYMLINKS,
    FUSE_CAP_EXPLICIT_INVAL_DATA, FUSE_CAP_HANDLE_KILLPRIV_V2,
    FUSE_CAP_READDIRPLUS,         FUSE_CAP_READDIRPLUS_AUTO};
// The daemon must see writes as they are made, and the kernel is told of every
// change. Splicing costs system calls for its pipes.
constexpr std::array<uint64_t, 5> kUnwanted = {
    FUSE_CAP_WRITEBACK_CACHE, FUSE_CAP_AUTO_INVAL_DATA, FUSE_CAP_SPLICE_READ,
    FUSE_CAP_SPLICE_WRITE, FUSE_CAP_SPLICE_MOVE};

// Capabilities that the kernel does not have are ignored.
void OnInit(void* userdata, fuse_conn_info* connection) {
  Adapter& adapter = *static_cast<Adapter*>(userdata);
  for (const uint64_t wanted : kWanted) Want(connection, wanted, true);
  for (const uint64_t unwanted : kUnwanted) Want(connection, unwanted, false);
  const bool passthrough = adapter.data_path == DataPath::kPassthrough;
  Want(connection, FUSE_CAP_PASSTHROUGH, passthrough);
  Want(connection, FUSE_CAP_NO_OPEN_SUPPORT, !passthrough);
  // Without OPEN requests the kernel would lose an O_TRUNC that it leaves to
  // us.
  Want(connection, FUSE_CAP_ATOMIC_O_TRUNC, passthrough);
  const bool ring = adapter.wants_io_uring &&
                    (connection->capable_ext & FUSE_CAP_OVER_IO_URING) != 0;
  Want(connection, FUSE_CAP_OVER_IO_URING, ring);
  adapter.over_io_uring = ring;
  // Linux 6.6, as this is: before, others' pages were not told.
  adapter.writes_may_be_direct =
      (connection->capable_ext & FUSE_CAP_DIRECT_IO_ALLOW_MMAP) != 0;
  // Reads that wait for a remote cache are among them, and must not keep others
  // from being made.
  connection->max_background = adapter.waiting != nullptr ? 65535 : 256;
  connection->max_readahead = 1 << 20;
  // As low as possible, so that overlayfs can still be put on top of the mount.
  connection->max_backing_stack_depth = adapter.store_is_stacked ? 1 : 0;
}

void OnLookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  FileSystem& vfs = Vfs(req, Request::kLookup);
  const absl::StatusOr<Entry> entry = vfs.Lookup(parent, name);
  if (!entry.ok()) {
    const auto again = [parent, text = std::string(name)](fuse_req_t waited) {
      OnLookup(waited, parent, text.c_str());
    };
    return ReplyErrorOrWait(req, entry.status(), again, ENOENT);
  }
  if (!ReplyEntry(req, *entry) && entry->id != 0) vfs.Forget(entry->id, 1);
}

void OnForget(fuse_req_t req, fuse_ino_t ino, uint64_t count) {
  Vfs(req, Request::kForget).Forget(ino, count);
  fuse_reply_none(req);
}

void OnForgetMulti(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  FileSystem& vfs = Vfs(req, Request::kForget);
  for (size_t i = 0; i < count; ++i) {
    vfs.Forget(forgets[i].ino, forgets[i].nlookup);
  }
  fuse_reply_none(req);
}

void OnGetattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* /*file*/) {
  const auto shown = Vfs(req, Request::kGetattr).GetAttributes(ino);
  if (!shown.ok()) return ReplyError(req, shown.status());
  ReplyAttributes(req, *shown);
}

AttributeChange ChangeOf(const struct stat& wanted, int which) {
  AttributeChange change;
  if ((which & FUSE_SET_ATTR_MODE) != 0) change.mode = wanted.st_mode;
  if ((which & FUSE_SET_ATTR_UID) != 0) change.uid = wanted.st_uid;
  if ((which & FUSE_SET_ATTR_GID) != 0) change.gid = wanted.st_gid;
  if ((which & FUSE_SET_ATTR_SIZE) != 0) change.size = wanted.st_size;
  if ((which & FUSE_SET_ATTR_ATIME) != 0) {
    change.atime = {.now = (which & FUSE_SET_ATTR_ATIME_NOW) != 0,
                    .time = wanted.st_atim};
  }
  if ((which & FUSE_SET_ATTR_MTIME) != 0) {
    change.mtime = {.now = (which & FUSE_SET_ATTR_MTIME_NOW) != 0,
                    .time = wanted.st_mtim};
  }
  change.clear_suid = (which & FUSE_SET_ATTR_KILL_SUID) != 0;
  return change;
}

void OnSetattr(fuse_req_t req, fuse_ino_t ino, struct stat* wanted, int which,
               fuse_file_info* /*file*/) {
  const auto shown =
      Vfs(req, Request::kSetattr)
          .SetAttributes(ino, ChangeOf(*wanted, which), CallerOf(req));
  if (!shown.ok()) {
    return ReplyErrorOrWait(
        req, shown.status(),
        [ino, stat = *wanted, which](fuse_req_t waited) mutable {
          OnSetattr(waited, ino, &stat, which, nullptr);
        });
  }
  ReplyAttributes(req, *shown);
}

void OnReadlink(fuse_req_t req, fuse_ino_t ino) {
  const auto target = Vfs(req, Request::kReadlink).ReadLink(ino);
  if (!target.ok()) return ReplyError(req, target.status());
  fuse_reply_readlink(req, target->c_str());
}

// The answer to everything that makes a name.
void ReplyMade(fuse_req_t req, const absl::StatusOr<Entry>& entry) {
  if (!entry.ok()) return ReplyError(req, entry.status());
  FileSystem& vfs = AdapterOf(req).vfs;
  if (!ReplyEntry(req, *entry)) vfs.Forget(entry->id, 1);
}

void OnMknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
             dev_t device) {
  ReplyMade(req, Vfs(req, Request::kMknod)
                     .MakeFile(parent, name, {.mode = mode, .device = device},
                               CallerOf(req)));
}

void OnMkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  ReplyMade(req, Vfs(req, Request::kMkdir)
                     .MakeDirectory(parent, name, mode, CallerOf(req)));
}

void OnSymlink(fuse_req_t req, const char* target, fuse_ino_t parent,
               const char* name) {
  ReplyMade(req, Vfs(req, Request::kSymlink)
                     .MakeSymlink(parent, name, target, CallerOf(req)));
}

void OnLink(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent,
            const char* name) {
  ReplyMade(req, Vfs(req, Request::kLink).Link(ino, parent, name));
}

void OnUnlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  ReplyStatus(req, Vfs(req, Request::kUnlink).Unlink(parent, name));
}

void OnRmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  ReplyStatus(req, Vfs(req, Request::kRmdir).RemoveDirectory(parent, name));
}

void OnRename(fuse_req_t req, fuse_ino_t parent, const char* name,
              fuse_ino_t new_parent, const char* new_name, unsigned flags) {
  ReplyStatus(req, Vfs(req, Request::kRename)
                       .Rename(parent, name, new_parent, new_name, flags,
                               CallerOf(req)));
}

// What an open file's `fh` says: that of a passthrough one is its blob's id;
// 0 is a file whose closing means nothing.
constexpr uint64_t kWriterHandle = UINT64_MAX;
constexpr uint64_t kArrivingHandle = UINT64_MAX - 1;

// Of a file that is not open in passthrough mode.
uint64_t HandleOf(const Opened& opened) {
  if (opened.writer) return kWriterHandle;
  return opened.arriving ? kArrivingHandle : 0;
}

// The file that `handle` was given for is not open, or no more.
void Close(Adapter& adapter, fuse_ino_t ino, uint64_t handle) {
  if (handle == 0) return;
  if (handle == kWriterHandle) {
    return adapter.vfs.Closed(ino, OpenedAs::kWriter);
  }
  if (handle == kArrivingHandle) {
    return adapter.vfs.Closed(ino, OpenedAs::kArriving);
  }
  adapter.backing_ids.Close(handle);
  adapter.vfs.Closed(ino, OpenedAs::kPassthrough);
}

// The kernel is to read the blob's own file.
void ReplyPassthrough(fuse_req_t req, fuse_ino_t ino, const Opened& opened,
                      fuse_file_info* file) {
  Adapter& adapter = AdapterOf(req);
  const absl::StatusOr<int> id = adapter.backing_ids.Open(opened.passthrough);
  if (!id.ok()) {
    adapter.vfs.Closed(ino, OpenedAs::kPassthrough);
    return ReplyError(req, id.status());
  }
  file->backing_id = *id;
  file->fh = opened.passthrough->id();
  // If the caller is gone, no RELEASE will follow.
  if (fuse_reply_open(req, file) != 0) Close(adapter, ino, file->fh);
}

void OnOpen(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  const absl::StatusOr<Opened> opened =
      Vfs(req, Request::kOpen)
          .Open(ino, {.flags = file->flags,
                      .clear_suid = file->kill_suidgid != 0,
                      .caller = CallerOf(req)});
  if (!opened.ok()) {
    return ReplyErrorOrWait(req, opened.status(),
                            [ino, copy = *file](fuse_req_t waited) mutable {
                              OnOpen(waited, ino, &copy);
                            });
  }
  file->noflush = 1;
  if (opened->passthrough != nullptr) {
    return ReplyPassthrough(req, ino, *opened, file);
  }
  // Answered so once, the kernel never asks again: opens cost nothing.
  if (AdapterOf(req).data_path == DataPath::kCached) {
    fuse_reply_err(req, ENOSYS);
    return;
  }
  file->keep_cache = 1;
  file->direct_io = opened->direct ? 1 : 0;  // Passthrough: Linux 6.9.
  file->fh = HandleOf(*opened);
  if (fuse_reply_open(req, file) != 0) Close(AdapterOf(req), ino, file->fh);
}

void OnRelease(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  Vfs(req, Request::kRelease);
  Close(AdapterOf(req), ino, file->fh);
  fuse_reply_err(req, 0);
}

void OnRead(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
            fuse_file_info* /*file*/) {
  FileSystem& vfs = Vfs(req, Request::kRead);
  static thread_local std::vector<char> buffer;
  if (buffer.size() < size) buffer.resize(size);
  const absl::StatusOr<size_t> got =
      vfs.Read(ino, offset, absl::MakeSpan(buffer.data(), size));
  if (!got.ok()) {
    return ReplyErrorOrWait(req, got.status(),
                            [ino, size, offset](fuse_req_t waited) {
                              OnRead(waited, ino, size, offset, nullptr);
                            });
  }
  fuse_reply_buf(req, buffer.data(), *got);
}

void OnWrite(fuse_req_t req, fuse_ino_t ino, const char* bytes, size_t size,
             off_t offset, fuse_file_info* file) {
  const absl::StatusOr<size_t> wrote =
      Vfs(req, Request::kWrite)
          .Write(ino, offset, absl::string_view(bytes, size),
                 {.from_page_cache = file->writepage != 0,
                  .is_direct = (file->flags & O_DIRECT) != 0,
                  .clear_suid = file->kill_suidgid != 0,
                  .caller = CallerOf(req)});
  if (!wrote.ok()) {
    return ReplyErrorOrWait(req, wrote.status(),
                            [ino, text = std::string(bytes, size), offset,
                             copy = *file](fuse_req_t waited) mutable {
                              OnWrite(waited, ino, text.data(), text.size(),
                                      offset, &copy);
                            });
  }
  fuse_reply_write(req, *wrote);
}

void OnFsync(fuse_req_t req, fuse_ino_t ino, int /*datasync*/,
             fuse_file_info* /*file*/) {
  ReplyStatus(req, Vfs(req, Request::kFsync).Sync(ino));
}

// Listings are kept by the kernel until it is told otherwise.
void OnOpendir(fuse_req_t req, fuse_ino_t /*ino*/, fuse_file_info* /*file*/) {
  Vfs(req, Request::kOpendir);
  fuse_reply_err(req, ENOSYS);
}

void OnReaddir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
               fuse_file_info* /*file*/) {
  FileSystem& vfs = Vfs(req, Request::kReaddir);
  std::vector<char> buffer(size);
  size_t used = 0;
  std::string name;  // libfuse wants a NUL at the end.
  const auto sink = [&](const Listed& listed) {
    struct stat shown {};
    shown.st_ino = listed.number;
    shown.st_mode = listed.mode;
    name.assign(listed.name.data(), listed.name.size());
    const size_t need =
        fuse_add_direntry(req, buffer.data() + used, size - used, name.c_str(),
                          &shown, static_cast<off_t>(listed.position));
    if (need > size - used) return false;
    used += need;
    return true;
  };
  const absl::Status listed =
      vfs.List(ino, static_cast<uint64_t>(offset), sink);
  if (!listed.ok()) return ReplyError(req, listed);
  fuse_reply_buf(req, buffer.data(), used);
}

// A name of a listing, to be looked up once the listing's locks are free.
struct PendingName {
  std::string name;
  uint64_t number;
  uint32_t mode;
  uint64_t position;
};

absl::StatusOr<std::vector<PendingName>> ListNames(fuse_req_t req,
                                                   FileSystem& vfs,
                                                   fuse_ino_t ino, size_t size,
                                                   off_t offset) {
  std::vector<PendingName> names;
  size_t used = 0;
  const auto sink = [&](const Listed& listed) {
    PendingName pending = {std::string(listed.name), listed.number, listed.mode,
                           listed.position};
    used += fuse_add_direntry_plus(req, nullptr, 0, pending.name.c_str(),
                                   nullptr, 0);
    if (used > size) return false;
    names.push_back(std::move(pending));
    return true;
  };
  const absl::Status status =
      vfs.List(ino, static_cast<uint64_t>(offset), sink);
  if (!status.ok()) return status;
  return names;
}

// What READDIRPLUS says of a name. "." and ".." count no lookup.
fuse_entry_param LookUpListed(FileSystem& vfs, fuse_ino_t ino,
                              const PendingName& name) {
  fuse_entry_param param{};
  if (name.name != "." && name.name != "..") {
    const absl::StatusOr<Entry> entry = vfs.Lookup(ino, name.name);
    if (entry.ok() && entry->id != 0) return EntryParamOf(*entry);
  }
  // Node 0: just the name, as READDIR would list it.
  param.attr.st_ino = name.number;
  param.attr.st_mode = name.mode;
  return param;
}

void OnReaddirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                   fuse_file_info* /*file*/) {
  FileSystem& vfs = Vfs(req, Request::kReaddirplus);
  const auto names = ListNames(req, vfs, ino, size, offset);
  if (!names.ok()) return ReplyError(req, names.status());
  std::vector<char> buffer(size);
  std::vector<InodeId> looked_up;
  size_t used = 0;
  for (const PendingName& name : *names) {
    const fuse_entry_param param = LookUpListed(vfs, ino, name);
    if (param.ino != 0) looked_up.push_back(param.ino);
    used += fuse_add_direntry_plus(req, buffer.data() + used, size - used,
                                   name.name.c_str(), &param,
                                   static_cast<off_t>(name.position));
  }
  if (fuse_reply_buf(req, buffer.data(), used) == 0) return;
  for (const InodeId id : looked_up) vfs.Forget(id, 1);
}

void OnStatfs(fuse_req_t req, fuse_ino_t ino) {
  const absl::StatusOr<Limits> limits =
      Vfs(req, Request::kStatfs).GetLimits(ino);
  if (!limits.ok()) return ReplyError(req, limits.status());
  struct statvfs shown {};
  shown.f_bsize = shown.f_frsize = 4096;
  shown.f_blocks = static_cast<fsblkcnt_t>(limits->blocks);
  shown.f_bfree = shown.f_bavail = static_cast<fsblkcnt_t>(limits->blocks_free);
  shown.f_files = static_cast<fsfilcnt_t>(limits->nodes);
  shown.f_ffree = shown.f_favail = static_cast<fsfilcnt_t>(limits->nodes_free);
  shown.f_namemax = 255;
  fuse_reply_statfs(req, &shown);
}

// A file that was made is opened as any other, but for what making it did.
void ReplyOpenedNew(fuse_req_t req, const absl::StatusOr<Entry>& entry,
                    fuse_file_info* file) {
  if (!entry.ok()) return ReplyError(req, entry.status());
  Adapter& adapter = AdapterOf(req);
  const absl::StatusOr<Opened> opened = adapter.vfs.Open(
      entry->id,
      {.flags = file->flags & (O_ACCMODE | O_DIRECT), .caller = CallerOf(req)});
  if (!opened.ok()) {
    adapter.vfs.Forget(entry->id, 1);
    return ReplyError(req, opened.status());
  }
  file->keep_cache = 1;
  file->noflush = 1;
  file->direct_io = opened->direct && adapter.writes_may_be_direct ? 1 : 0;
  file->fh = HandleOf(*opened);
  const fuse_entry_param param = EntryParamOf(*entry);
  if (fuse_reply_create(req, &param, file) == 0) return;
  Close(adapter, entry->id, file->fh);
  adapter.vfs.Forget(entry->id, 1);
}

void OnCreate(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
              fuse_file_info* file) {
  FileSystem& vfs = Vfs(req, Request::kCreate);
  ReplyOpenedNew(
      req, vfs.MakeFile(parent, name, {.mode = S_IFREG | mode}, CallerOf(req)),
      file);
}

void OnFallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
                 off_t length, fuse_file_info* /*file*/) {
  const absl::Status allocated =
      Vfs(req, Request::kFallocate)
          .Allocate(ino, mode, offset, length, CallerOf(req));
  if (allocated.ok()) return ReplyStatus(req, allocated);
  ReplyErrorOrWait(req, allocated,
                   [ino, mode, offset, length](fuse_req_t waited) {
                     OnFallocate(waited, ino, mode, offset, length, nullptr);
                   });
}

void OnLseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
             fuse_file_info* /*file*/) {
  const absl::StatusOr<int64_t> found =
      Vfs(req, Request::kLseek).Seek(ino, offset, whence);
  if (!found.ok()) {
    return ReplyErrorOrWait(req, found.status(),
                            [ino, offset, whence](fuse_req_t waited) {
                              OnLseek(waited, ino, offset, whence, nullptr);
                            });
  }
  fuse_reply_lseek(req, *found);
}

void OnTmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode,
               fuse_file_info* file) {
  FileSystem& vfs = Vfs(req, Request::kTmpfile);
  ReplyOpenedNew(req, vfs.MakeTemporary(parent, mode, CallerOf(req)), file);
}

void OnCopyFileRange(fuse_req_t req, fuse_ino_t from, off_t from_offset,
                     fuse_file_info* /*from_file*/, fuse_ino_t to,
                     off_t to_offset, fuse_file_info* /*to_file*/,
                     size_t length, int /*flags*/) {
  const absl::StatusOr<size_t> copied =
      Vfs(req, Request::kCopyFileRange)
          .CopyRange(from, from_offset, to, to_offset, length, CallerOf(req));
  if (!copied.ok()) {
    return ReplyErrorOrWait(
        req, copied.status(),
        [from, from_offset, to, to_offset, length](fuse_req_t waited) {
          OnCopyFileRange(waited, from, from_offset, nullptr, to, to_offset,
                          nullptr, length, 0);
        });
  }
  fuse_reply_write(req, *copied);
}

// `size` 0 asks how much there is.
void ReplyXattr(fuse_req_t req, const absl::StatusOr<std::string>& value,
                size_t size) {
  if (!value.ok()) return ReplyError(req, value.status());
  if (size == 0) {
    fuse_reply_xattr(req, value->size());
  } else if (value->size() > size) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, value->data(), value->size());
  }
}

void OnGetxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  ReplyXattr(req, Vfs(req, Request::kGetxattr).GetXattr(ino, name), size);
}

void OnListxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  ReplyXattr(req, Vfs(req, Request::kListxattr).ListXattrs(ino), size);
}

void OnSetxattr(fuse_req_t req, fuse_ino_t ino, const char* name,
                const char* value, size_t size, int flags) {
  ReplyStatus(req,
              Vfs(req, Request::kSetxattr)
                  .SetXattr(ino, name, absl::string_view(value, size), flags));
}

void OnRemovexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  ReplyStatus(req, Vfs(req, Request::kRemovexattr).RemoveXattr(ino, name));
}

}  // namespace

absl::string_view NameOf(Request request) {
  // In the order of the enumeration.
  static constexpr std::array<absl::string_view, kRequestKinds> kNames = {
      "lookup",          "forget",   "getattr",   "setattr",  "readlink",
      "mknod",           "mkdir",    "unlink",    "rmdir",    "symlink",
      "rename",          "link",     "open",      "read",     "write",
      "release",         "fsync",    "opendir",   "readdir",  "readdirplus",
      "statfs",          "create",   "fallocate", "lseek",    "tmpfile",
      "copy_file_range", "getxattr", "listxattr", "setxattr", "removexattr"};
  return kNames[static_cast<size_t>(request)];
}

// A table: the longest there is, and nothing to follow in it.
// NOLINTNEXTLINE(readability-function-size)
fuse_lowlevel_ops Operations() {
  return {
      .init = OnInit,
      .lookup = OnLookup,
      .forget = OnForget,
      .getattr = OnGetattr,
      .setattr = OnSetattr,
      .readlink = OnReadlink,
      .mknod = OnMknod,
      .mkdir = OnMkdir,
      .unlink = OnUnlink,
      .rmdir = OnRmdir,
      .symlink = OnSymlink,
      .rename = OnRename,
      .link = OnLink,
      .open = OnOpen,
      .read = OnRead,
      .write = OnWrite,
      .release = OnRelease,
      .fsync = OnFsync,
      .opendir = OnOpendir,
      .readdir = OnReaddir,
      .statfs = OnStatfs,
      .setxattr = OnSetxattr,
      .getxattr = OnGetxattr,
      .listxattr = OnListxattr,
      .removexattr = OnRemovexattr,
      .create = OnCreate,
      .forget_multi = OnForgetMulti,
      .fallocate = OnFallocate,
      .readdirplus = OnReaddirplus,
      .copy_file_range = OnCopyFileRange,
      .lseek = OnLseek,
      .tmpfile = OnTmpfile,
  };
}

}  // namespace casement
