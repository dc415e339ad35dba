// The bytes of a sandbox's files: reading inputs from their blobs, and copy on
// write.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "store/missing.h"
#include "vfs/sandbox.h"
#include "vfs/shown.h"

namespace casement {
namespace {

// What is remembered for the next action of the same label.
constexpr size_t kInputsReadMax = 1 << 16;

constexpr int64_t kAllBytes = std::numeric_limits<int64_t>::max();

bool OpensForWriting(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}

// Bytes that are only written cost a copy less, and no second place in memory,
// if the kernel keeps no pages of them. O_DIRECT is already so.
bool OnlyWrites(int flags) {
  return (flags & (O_ACCMODE | O_DIRECT)) == O_WRONLY;
}

absl::StatusOr<FileNode*> AsFile(Node& node) {
  if (!static_cast<SandboxNode&>(node).is_file()) {
    return ErrnoStatus(EINVAL, "not a file");
  }
  return static_cast<FileNode*>(&node);
}

}  // namespace

Sandbox::Source Sandbox::SourceLocked(FileNode& file) {
  if (file.opened_in != life_ && file.input != nullptr) {
    file.opened_in = life_;
    ++inputs_opened_;
    if (context_.fetcher != nullptr && inputs_read_.size() < kInputsReadMax) {
      inputs_read_.push_back(file.input->digest);
    }
  }
  if (file.writing().scratch != nullptr) {
    return {.scratch = file.writing().scratch};
  }
  return {.blob = file.digest()};
}

std::vector<Digest> Sandbox::TakeInputsRead() {
  MutexLock lock(mu_);
  return std::exchange(inputs_read_, {});
}

absl::StatusOr<Sandbox::Source> Sandbox::SourceOf(FileNode& file) {
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked(file));
  return SourceLocked(file);
}

absl::StatusOr<std::shared_ptr<const OpenBlob>> Sandbox::OpenInput(
    const Digest& digest) {
  absl::StatusOr<std::shared_ptr<const OpenBlob>> blob =
      context_.store.OpenDigest(digest);
  // One that was damaged is dropped by now.
  const bool is_absent =
      absl::IsNotFound(blob.status()) || absl::IsDataLoss(blob.status());
  if (is_absent && context_.fetcher != nullptr) return AbsentBlobStatus(digest);
  return blob;
}

absl::StatusOr<std::shared_ptr<ScratchFile>> Sandbox::CopyOnWrite(
    const Digest& digest, int64_t keep_bytes) {
  ASSIGN_OR_RETURN(std::shared_ptr<ScratchFile> scratch,
                   context_.scratch_files.Create(Budget()));
  if (keep_bytes == 0) return scratch;
  ASSIGN_OR_RETURN(const std::shared_ptr<const OpenBlob> blob,
                   OpenInput(digest));
  RETURN_IF_ERROR(
      scratch->CopyFrom(*blob, std::min(keep_bytes, digest.size_bytes())));
  return scratch;
}

absl::StatusOr<std::shared_ptr<ScratchFile>> Sandbox::WritableData(
    FileNode& file, int64_t keep_bytes) {
  Digest digest;
  {
    MutexLock lock(mu_);
    while (file.copying) copied_.Wait(mu_);
    RETURN_IF_ERROR(CheckAliveLocked(file));
    if (file.writing().scratch != nullptr) return file.writing().scratch;
    // Whoever is not root was stopped by the mode already.
    RETURN_IF_ERROR(CheckInputWritableLocked(file, /*caller_uid=*/0));
    file.copying = true;
    digest = file.digest();
  }
  absl::StatusOr<std::shared_ptr<ScratchFile>> scratch =
      CopyOnWrite(digest, keep_bytes);
  std::unique_ptr<FileNode::Published> published;  // Dies unlocked.
  MutexLock lock(mu_);
  file.copying = false;
  copied_.NotifyAll();
  RETURN_IF_ERROR(CheckAliveLocked(file));
  RETURN_IF_ERROR(scratch.status());
  file.mutable_writing().scratch = *scratch;
  published = std::move(file.mutable_writing().published);
  return scratch;
}

template <typename Result, typename Function>
Result Sandbox::WithWritable(FileNode& file, int64_t keep_bytes,
                             Function write) {
  while (true) {
    absl::StatusOr<std::shared_ptr<ScratchFile>> scratch =
        WritableData(file, keep_bytes);
    if (!scratch.ok()) return scratch.status();
    Result result = write(**scratch);
    // It was collected in between and is a blob now: copy it again.
    bool collected = false;
    if constexpr (std::is_same_v<Result, absl::Status>) {
      collected = absl::IsFailedPrecondition(result);
    } else {
      collected = absl::IsFailedPrecondition(result.status());
    }
    if (!collected) return result;
    // PublishFile() is about to take the scratch file away.
    MutexLock lock(mu_);
    while (file.writing().scratch == *scratch && !dead_) copied_.Wait(mu_);
  }
}

void Sandbox::WroteLocked(FileNode& file) {
  file.mtime = file.ctime = Now();
  file.wrote = true;
  file.direct_write_failed = false;
  MarkChangedLocked(file);
}

absl::StatusOr<size_t> Sandbox::Read(Node& node, int64_t offset,
                                     absl::Span<char> buffer) {
  ASSIGN_OR_RETURN(FileNode* const file, AsFile(node));
  ASSIGN_OR_RETURN(const Source source, SourceOf(*file));
  if (source.scratch != nullptr) return source.scratch->Read(offset, buffer);
  const absl::StatusOr<std::shared_ptr<const OpenBlob>> blob =
      OpenInput(*source.blob);
  if (blob.ok()) return ReadBlob(**blob, offset, buffer);
  if (!IsComing(blob.status(), *source.blob)) return blob.status();
  return ReadComing(*file, *source.blob, offset, buffer);
}

bool Sandbox::IsComing(const absl::Status& status, const Digest& digest) const {
  return AbsentBlobOf(status).has_value() &&
         context_.fetcher->ComesInPieces(digest);
}

absl::StatusOr<size_t> Sandbox::ReadComing(const FileNode& file,
                                           const Digest& digest, int64_t offset,
                                           absl::Span<char> buffer) {
  // The kernel keeps the pages, which may be wrong.
  const auto retract = [notifier = &context_.notifier, id = file.id] {
    notifier->InvalidateNode(id);
  };
  const std::optional<size_t> got =
      context_.fetcher->ReadArrived(digest, offset, buffer, file.id, retract);
  if (got.has_value()) return *got;
  return AbsentBlobStatus(digest,
                          std::min(offset + static_cast<int64_t>(buffer.size()),
                                   digest.size_bytes()));
}

absl::StatusOr<size_t> Sandbox::Write(Node& node, int64_t offset,
                                      absl::string_view bytes,
                                      const WriteRequest& request) {
  ASSIGN_OR_RETURN(FileNode* const file, AsFile(node));
  bool is_dropped = false;
  const absl::StatusOr<size_t> wrote = WithWritable<absl::StatusOr<size_t>>(
      *file, kAllBytes, [&](ScratchFile& scratch) {
        return request.from_page_cache
                   ? scratch.WriteBack(offset, bytes, is_dropped)
                   : scratch.Write(offset, bytes);
      });
  if (!wrote.ok()) {
    MutexLock lock(mu_);
    file->direct_write_failed = request.is_direct;
    return wrote.status();
  }
  // The truncation that was first has set the times.
  if (is_dropped) return wrote;
  {
    MutexLock lock(mu_);
    WroteLocked(*file);
    if (request.from_page_cache) SettleLocked(*file);
  }
  if (request.clear_suid) ClearSuid(*file, request.caller);
  return wrote;
}

absl::Status Sandbox::Truncate(FileNode& file, int64_t size) {
  RETURN_IF_ERROR(WithWritable<absl::Status>(
      file, size,
      [size](ScratchFile& scratch) { return scratch.Truncate(size); }));
  MutexLock lock(mu_);
  WroteLocked(file);
  // The request may have come through the number that has no pages.
  if (file.writing().reborn_id != 0) {
    context_.notifier.InvalidateNode(file.writing().reborn_id);
  }
  return absl::OkStatus();
}

absl::Status Sandbox::Allocate(Node& node, int mode, int64_t offset,
                               int64_t length, const Caller& caller) {
  ASSIGN_OR_RETURN(FileNode* const file, AsFile(node));
  RETURN_IF_ERROR(WithWritable<absl::Status>(
      *file, kAllBytes, [mode, offset, length](ScratchFile& scratch) {
        return scratch.Allocate(mode, offset, length);
      }));
  {
    MutexLock lock(mu_);
    WroteLocked(*file);
    SettleLocked(*file);
  }
  if (caller.uid != 0) ClearSuid(*file, caller);
  return absl::OkStatus();
}

absl::StatusOr<size_t> Sandbox::CopyRange(Node& from, int64_t from_offset,
                                          Node& to, int64_t to_offset,
                                          size_t length, const Caller& caller) {
  ASSIGN_OR_RETURN(FileNode* const source_file, AsFile(from));
  ASSIGN_OR_RETURN(FileNode* const target, AsFile(to));
  ASSIGN_OR_RETURN(const Source source, SourceOf(*source_file));
  std::shared_ptr<const OpenBlob> blob;
  if (source.blob.has_value()) {
    ASSIGN_OR_RETURN(blob, OpenInput(*source.blob));
  }
  ScratchFile::OpenFile open;  // Of what was written.
  if (source.scratch != nullptr) {
    ASSIGN_OR_RETURN(open, source.scratch->Open());
  }
  const int fd = blob != nullptr ? blob->fd() : open->get();
  const auto copied = WithWritable<absl::StatusOr<size_t>>(
      *target, kAllBytes,
      [fd, from_offset, to_offset, length](ScratchFile& scratch) {
        return scratch.CopyRange(fd, from_offset, to_offset, length);
      });
  RETURN_IF_ERROR(copied.status());
  {
    MutexLock lock(mu_);
    WroteLocked(*target);
  }
  if (caller.uid != 0) ClearSuid(*target, caller);
  return copied;
}

absl::StatusOr<int64_t> Sandbox::Seek(Node& node, int64_t offset, int whence) {
  ASSIGN_OR_RETURN(FileNode* const file, AsFile(node));
  ASSIGN_OR_RETURN(const Source source, SourceOf(*file));
  if (source.scratch != nullptr) return source.scratch->Seek(offset, whence);
  ASSIGN_OR_RETURN(const std::shared_ptr<const OpenBlob> blob,
                   OpenInput(*source.blob));
  return SeekIn(blob->fd(), offset, whence);
}

absl::Status Sandbox::Sync(Node& node) {
  if (!static_cast<SandboxNode&>(node).is_file()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Source source, SourceOf(static_cast<FileNode&>(node)));
  return source.scratch == nullptr ? absl::OkStatus() : source.scratch->Sync();
}

bool Sandbox::IsOutdatedLocked(const FileNode& file, InodeId id) const {
  if (id != file.id) return false;
  return file.passthrough_opens > 0 || file.writing().reborn_id != 0;
}

// By its names a file that was reborn is looked up under its new number. Where
// the kernel knows that of all of them, who still opens the old one has it from
// /proc/PID/fd or a bind mount, and would only come again.
bool Sandbox::IsOpenedWithoutItsNameLocked(const FileNode& file) const {
  return file.writing().reborn_lookups > 0 &&
         file.writing().reborn_names.size() >= file.links;
}

bool Sandbox::CanServeOutdatedLocked(const FileNode& file) const {
  return file.passthrough_opens == 0 && IsOpenedWithoutItsNameLocked(file);
}

bool Sandbox::ReadsAsOthersLocked(const FileNode& file, InodeId id) const {
  return id == file.id && file.passthrough_opens > 0 &&
         IsOpenedWithoutItsNameLocked(file);
}

absl::StatusOr<Sandbox::Source> Sandbox::SourceToOpen(FileNode& file,
                                                      InodeId id) {
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked(file));
  if (ReadsAsOthersLocked(file, id)) return Source{.blob = file.input->digest};
  return SourceLocked(file);
}

absl::Status Sandbox::RebornLocked(FileNode& file) {
  if (file.writing().reborn_id == 0) {
    file.mutable_writing().reborn_id = context_.nodes.NewId();
    // What the kernel remembers of the first number is out of date.
    context_.notifier.InvalidateNode(file.id);
  }
  // open(2) looks the name up again on ESTALE, and gets the new number.
  return ErrnoStatus(ESTALE, "written while open in passthrough mode");
}

// Nothing is copied before the first write.
absl::StatusOr<Opened> Sandbox::OpenForWriting(FileNode& file, InodeId id,
                                               const OpenRequest& request) {
  if ((request.flags & O_TRUNC) != 0) {
    RETURN_IF_ERROR(Truncate(file, 0));
    if (request.clear_suid) ClearSuid(file, request.caller);
  }
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked(file));
  // Whoever is not root was stopped by the mode already.
  RETURN_IF_ERROR(CheckInputWritableLocked(file, /*caller_uid=*/0));
  file.opened_for_writing = true;
  const bool outdated = IsOutdatedLocked(file, id);
  if (outdated && !CanServeOutdatedLocked(file)) return RebornLocked(file);
  if ((request.flags & O_ACCMODE) == O_RDONLY)
    return Opened{.direct = outdated};
  ++file.mutable_writing().writers;
  ++open_files_;
  return Opened{.writer = true,
                .direct = outdated || OnlyWrites(request.flags)};
}

absl::StatusOr<Opened> Sandbox::Open(Node& node, InodeId id,
                                     const OpenRequest& request) {
  ASSIGN_OR_RETURN(FileNode* const file, AsFile(node));
  // In cached mode the kernel asks once, and then only of new files.
  if (context_.data_path == DataPath::kCached) {
    return Opened{.direct = OnlyWrites(request.flags)};
  }
  if (OpensForWriting(request.flags)) {
    return OpenForWriting(*file, id, request);
  }
  while (true) {
    ASSIGN_OR_RETURN(const Source source, SourceToOpen(*file, id));
    std::shared_ptr<const OpenBlob> blob;
    absl::Status coming;
    if (source.blob.has_value()) {
      absl::StatusOr<std::shared_ptr<const OpenBlob>> opened =
          OpenInput(*source.blob);
      if (opened.ok()) {
        blob = *std::move(opened);
      } else if (IsComing(opened.status(), *source.blob)) {
        coming = opened.status();
        context_.fetcher->Want(*source.blob, [](const absl::Status&) {});
      } else {
        return opened.status();
      }
    }
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked(*file));
    if (file->served() || file->copying) {
      if (file->copying) {
        while (file->copying) copied_.Wait(mu_);
        continue;
      }
      if (!IsOutdatedLocked(*file, id)) return Opened{};
      if (!ReadsAsOthersLocked(*file, id)) {
        if (!CanServeOutdatedLocked(*file)) return RebornLocked(*file);
        return Opened{.direct = true};
      }
    }
    // The kernel would not have it both ways.
    if (!coming.ok() && file->passthrough_opens > 0) return coming;
    if (!coming.ok() || file->arriving_opens > 0) {
      if (file->arriving_opens == UINT16_MAX) {
        return ErrnoStatus(ENFILE, "opens of a file that is on its way");
      }
      ++file->arriving_opens;
      ++open_files_;
      return Opened{.arriving = true};
    }
    if (blob == nullptr) continue;
    ++file->passthrough_opens;
    ++open_files_;
    return Opened{.passthrough = std::move(blob)};
  }
}

void Sandbox::Closed(Node& node, InodeId id, OpenedAs as) {
  MutexLock lock(mu_);
  auto& file = static_cast<FileNode&>(node);
  CASEMENT_CHECK(open_files_ > 0);
  if (--open_files_ == 0) closed_.NotifyAll();
  switch (as) {
    case OpenedAs::kPassthrough:
      CASEMENT_CHECK(id == file.id && file.passthrough_opens > 0);
      --file.passthrough_opens;
      return;
    case OpenedAs::kArriving:
      CASEMENT_CHECK(file.arriving_opens > 0);
      --file.arriving_opens;
      return;
    case OpenedAs::kWriter:
      CASEMENT_CHECK(file.writing().writers > 0);
      --file.mutable_writing().writers;
      return;
  }
}

}  // namespace casement
