#include "model/fake_kernel.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "base/check.h"
#include "base/status.h"

namespace casement {
namespace {

// Whether this thread answers the kernel's requests (fuse/notifier.h).
thread_local bool is_answering = false;

class Answering {
 public:
  Answering() { is_answering = true; }
  ~Answering() { is_answering = false; }
};

// Larger than any file of the model.
constexpr size_t kReadBytes = 1 << 16;

}  // namespace

SharedMutex& FakeKernel::LockOf(InodeId directory) {
  auto& lock = directory_locks_[directory];
  if (lock == nullptr) lock = std::make_unique<SharedMutex>();
  return *lock;
}

void FakeKernel::Pin(InodeId id) {
  if (id != kRootId) ++nodes_.at(id).pins;
}

// With the last pin the node is forgotten.
void FakeKernel::Unpin(InodeId id) {
  if (id == kRootId) return;
  const auto node = nodes_.find(id);
  CASEMENT_CHECK(node != nodes_.end() && node->second.pins > 0);
  if (--node->second.pins > 0) return;
  const uint64_t lookups = node->second.lookups;
  nodes_.erase(node);
  vfs_->Forget(id, lookups);
}

// A name, and those below it.
void FakeKernel::Forget(Name name) {
  const auto found = names_.find(name);
  if (found == names_.end()) return;
  const InodeId id = found->second.id;
  names_.erase(found);
  std::vector<Name> below;
  for (auto child = names_.lower_bound({id, ""});
       id != 0 && child != names_.end() && child->first.first == id; ++child) {
    below.push_back(child->first);
  }
  for (const Name& child : below) Forget(child);
  if (id != 0) Unpin(id);
  Unpin(name.first);
}

absl::StatusOr<Entry> FakeKernel::Ask(InodeId parent, const std::string& name) {
  const Answering answering;
  ASSIGN_OR_RETURN(const Entry entry, vfs_->Lookup(parent, name));
  if (entry.id != 0) {
    Inode& node = nodes_[entry.id];
    ++node.lookups;
    ++node.pins;  // The caller's.
  }
  return entry;
}

std::optional<InodeId> FakeKernel::Remembered(const Name& name) {
  const auto found = names_.find(name);
  if (found == names_.end() || found->second.is_expired) return std::nullopt;
  if (found->second.id != 0) Pin(found->second.id);
  return found->second.id;
}

absl::StatusOr<InodeId> FakeKernel::Lookup(InodeId parent,
                                           const std::string& name) {
  if (const auto id = Remembered({parent, name})) return *id;
  ReaderLock directory_lock(LockOf(parent));
  auto& name_lock = name_locks_[{parent, name}];
  if (name_lock == nullptr) name_lock = std::make_unique<Mutex>();
  MutexLock lock(*name_lock);
  if (const auto id = Remembered({parent, name})) return *id;
  ASSIGN_OR_RETURN(const Entry entry, Ask(parent, name));
  // An expired name that is still the same node keeps what is below it.
  const auto found = names_.find({parent, name});
  if (found != names_.end() && found->second.id == entry.id) {
    found->second.is_expired = false;
    return entry.id;
  }
  if (found != names_.end()) Forget({parent, name});
  if (entry.cacheable) {
    names_[{parent, name}] = {entry.id};
    Pin(parent);
    if (entry.id != 0) Pin(entry.id);
  }
  return entry.id;
}

absl::StatusOr<InodeId> FakeKernel::Walk(absl::string_view path,
                                         bool revalidate) {
  InodeId at = kRootId;
  const std::vector<std::string> names = absl::StrSplit(path, '/');
  for (size_t i = 0; i < names.size(); ++i) {
    if (revalidate && i + 1 == names.size()) Forget({at, names[i]});
    const absl::StatusOr<InodeId> next = Lookup(at, names[i]);
    Unpin(at);
    RETURN_IF_ERROR(next.status());
    if (*next == 0) return ErrnoStatus(ENOENT, path);
    at = *next;
  }
  return at;
}

absl::Status FakeKernel::Stat(absl::string_view path) {
  ASSIGN_OR_RETURN(const InodeId id, Walk(path, false));
  Unpin(id);
  return absl::OkStatus();
}

void FakeKernel::InterruptedStat(absl::string_view path) {
  const size_t slash = path.rfind('/');
  const auto parent = Walk(path.substr(0, slash), false);
  if (!parent.ok()) return;
  {
    ReaderLock directory_lock(LockOf(*parent));
    const Answering answering;
    const auto entry = vfs_->Lookup(*parent, path.substr(slash + 1));
    if (entry.ok() && entry->id != 0) vfs_->Forget(entry->id, 1);
    // A miss was not heard of either, but is remembered on the other side.
  }
  Unpin(*parent);
}

absl::StatusOr<FakeKernel::File> FakeKernel::Open(absl::string_view path,
                                                  int flags) {
  for (const bool is_again : {false, true}) {
    ASSIGN_OR_RETURN(const InodeId id, Walk(path, is_again));
    if (data_path_ == DataPath::kCached) return File{.id = id};
    absl::StatusOr<Opened> opened;
    {
      const Answering answering;
      opened = vfs_->Open(id, {.flags = flags});
    }
    if (opened.ok()) {
      return File{.id = id,
                  .passthrough = std::move(opened->passthrough),
                  .writer = opened->writer};
    }
    Unpin(id);
    if (ErrnoOf(opened.status()) != ESTALE) return opened.status();
  }
  return ErrnoStatus(ESTALE, path);
}

absl::StatusOr<std::string> FakeKernel::Read(const File& file) {
  std::string bytes(kReadBytes, '\0');
  size_t count = 0;
  if (file.passthrough != nullptr) {
    const ssize_t got =
        pread(file.passthrough->fd(), bytes.data(), bytes.size(), 0);
    if (got < 0) return ErrnoStatus(errno, "reading");
    count = static_cast<size_t>(got);
  } else {
    const Answering answering;
    ASSIGN_OR_RETURN(
        count, vfs_->Read(file.id, 0, absl::MakeSpan(&bytes[0], bytes.size())));
  }
  bytes.resize(count);
  return bytes;
}

absl::Status FakeKernel::Write(const File& file, absl::string_view bytes) {
  const Answering answering;
  return vfs_->Write(file.id, 0, bytes, {}).status();
}

void FakeKernel::Close(File file) {
  if (file.passthrough != nullptr) {
    file.passthrough = nullptr;
    vfs_->Closed(file.id, OpenedAs::kPassthrough);
  }
  if (file.writer) vfs_->Closed(file.id, OpenedAs::kWriter);
  Unpin(file.id);
}

void FakeKernel::Shrink() {
  bool has_forgotten = true;
  while (has_forgotten) {
    has_forgotten = false;
    for (const auto& [name, known] : names_) {
      if (known.id != 0 && nodes_.at(known.id).pins > 1) continue;
      Forget(name);
      has_forgotten = true;
      break;  // Others may have changed names_ meanwhile.
    }
  }
}

uint64_t FakeKernel::Add(std::vector<KernelNote> notes) {
  MutexLock lock(mu_);
  for (KernelNote& note : notes) queue_.push_back(std::move(note));
  queued_ += notes.size();
  changed_.NotifyAll();
  return queued_;
}

void FakeKernel::WaitUntilTold(uint64_t count) {
  MutexLock lock(mu_);
  while (told_ < count) changed_.Wait(mu_);
}

void FakeKernel::Queue(KernelNote note) { Add({std::move(note)}); }

void FakeKernel::Drain() {
  if (!is_answering && Scheduler::IsTask()) WaitUntilTold(Add({}));
}

bool FakeKernel::Tell(std::vector<KernelNote> notes) {
  CASEMENT_CHECK(!is_answering);
  const uint64_t queued = Add(std::move(notes));
  if (Scheduler::IsTask()) WaitUntilTold(queued);
  return true;
}

void FakeKernel::Handle(const KernelNote& note) {
  switch (note.kind) {
    case KernelNote::Kind::kEntry: {
      WriterLock lock(LockOf(note.id));
      return Forget({note.id, note.name});
    }
    case KernelNote::Kind::kExpiry: {
      WriterLock lock(LockOf(note.id));
      const auto found = names_.find({note.id, note.name});
      if (found != names_.end()) found->second.is_expired = true;
      return;
    }
    case KernelNote::Kind::kNode:
    case KernelNote::Kind::kAttributes:
      return;  // Neither attributes nor pages are remembered here.
  }
}

void FakeKernel::Serve() {
  for (;;) {
    KernelNote note;
    {
      MutexLock lock(mu_);
      while (queue_.empty() && !is_stopping_) changed_.Wait(mu_);
      if (queue_.empty()) return;
      note = std::move(queue_.front());
      queue_.pop_front();
    }
    Handle(note);
    MutexLock lock(mu_);
    ++told_;
    changed_.NotifyAll();
  }
}

void FakeKernel::Stop() {
  MutexLock lock(mu_);
  is_stopping_ = true;
  changed_.NotifyAll();
}

}  // namespace casement
