// Names and attributes; sandbox_data.cc has the bytes.
#include "vfs/sandbox.h"

#include <linux/fs.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "vfs/shown.h"

namespace casement {
namespace {

constexpr uint32_t kPermissionBits = 07777;
// ext4 keeps shorter targets in the inode, without a block.
constexpr int64_t kInlineTargetBytes = 60;

// Null if it is no file that has a second number.
FileNode::Names* RebornNamesOf(SandboxNode& node) {
  if (!node.is_file()) return nullptr;
  auto& file = static_cast<FileNode&>(node);
  if (file.writing().reborn_id == 0) return nullptr;
  return &file.mutable_writing().reborn_names;
}

// The kernel's way to ask that S_ISUID and S_ISGID go, as before a write by
// another user, and of chown(2) to the owner and group -1. Which of the two it
// is cannot be told.
bool ChangesNothing(const AttributeChange& change) {
  return !change.mode.has_value() && !change.uid.has_value() &&
         !change.gid.has_value() && !change.size.has_value() &&
         !change.atime.has_value() && !change.mtime.has_value();
}

absl::Status Stale() { return ErrnoStatus(ESTALE, "the sandbox is gone"); }

// That the names of children are where they are said to be kept.
void CheckNames(const DirectoryNode& directory) {
  const DirectoryNode::Names& names = directory.names();
  CASEMENT_CHECK(names.positions.size() == names.added.size());
  CASEMENT_CHECK(names.added.size() <= directory.children.size());
  for (const auto& [position, name] : names.added) {
    CASEMENT_CHECK(names.positions.at(name) == position);
  }
  for (const auto& [name, child] : directory.children) {
    const auto added = names.positions.find(name);
    if (added != names.positions.end()) {
      CASEMENT_CHECK(names.added.at(added->second).data() == name.data());
      continue;
    }
    const size_t index = directory.base->directory().Find(name).value();
    const auto& entry = directory.base->directory().entries()[index];
    CASEMENT_CHECK(entry.name.data() == name.data());
    CASEMENT_CHECK(!names.hidden.contains(static_cast<uint32_t>(index)));
  }
}

}  // namespace

Sandbox::Sandbox(const SandboxContext& context, const SandboxSpec& spec,
                 ClosureLease inputs)
    : context_(context),
      first_number_(context.nodes.NewNumbers(inputs.root()->paths())),
      spec_(spec),
      budget_(std::make_shared<ByteBudget>(spec.scratch_bytes_max)),
      xattr_budget_(std::make_shared<ByteBudget>(kSandboxXattrBytesMax)),
      inputs_(std::move(inputs)),
      bases_({inputs_.root()}) {}

void Sandbox::Start() {
  MutexLock lock(mu_);
  root_ = MakeNode<DirectoryNode>(context_.nodes.NewId(), shared_from_this());
  root_->number = root_->base_number = first_number_;
  root_->base = inputs_.root().get();
  ShowInputLocked(*root_);
}

void Sandbox::Kill() {
  // These die after the lock is given back.
  ClosureLease inputs;
  std::vector<NodePtr> dropped;
  MutexLock lock(mu_);
  if (dead_) return;
  dead_ = true;
  copied_.NotifyAll();  // Nobody is to wait for what will not come.
  inputs = std::move(inputs_);
  dropped.emplace_back(std::move(root_));
  // Children hold on to nothing that the kernel could still use: nodes that it
  // knows stay in the node table until it forgets them, without their bytes.
  for (size_t i = 0; i < dropped.size(); ++i) {
    if (dropped[i]->is_file()) {
      auto& file = static_cast<FileNode&>(*dropped[i]);
      file.DropBytes();
    }
    if (!dropped[i]->is_directory()) continue;
    auto& directory = static_cast<DirectoryNode&>(*dropped[i]);
    for (auto& [name, child] : directory.children) {
      dropped.push_back(std::move(child));
    }
    directory.children.clear();
  }
}

absl::Status Sandbox::CheckAliveLocked() const {
  return dead_ || stashed_ ? Stale() : absl::OkStatus();
}

absl::Status Sandbox::CheckAliveLocked(const SandboxNode& node) const {
  return node.gone ? Stale() : CheckAliveLocked();
}

std::shared_ptr<ByteBudget> Sandbox::Budget() {
  MutexLock lock(mu_);
  return budget_;
}

timespec Sandbox::Now() const { return absl::ToTimespec(context_.clock.Now()); }

absl::StatusOr<Sandbox::Spot> Sandbox::SpotLocked(const Place& place) {
  auto& node = static_cast<SandboxNode&>(place.directory);
  RETURN_IF_ERROR(CheckAliveLocked(node));
  if (!node.is_directory()) return ErrnoStatus(ENOTDIR, "name in a file");
  if (place.name.size() > kNameBytesMax) {
    return ErrnoStatus(ENAMETOOLONG, "name of ", place.name.size(), " bytes");
  }
  auto& directory = static_cast<DirectoryNode&>(node);
  return Spot{directory, place.name};
}

void Sandbox::MarkBelowLocked(DirectoryNode* directory) {
  for (; directory != nullptr && !directory->below_changed;
       directory = directory->home) {
    directory->below_changed = true;
  }
}

void Sandbox::MarkChangedLocked(SandboxNode& node) {
  node.changed = true;
  MarkBelowLocked(node.home);
}

void Sandbox::SettleLocked(const SandboxNode& node) const {
  if (node.lookups > 0) context_.notifier.Settle(node.id);
  if (!node.is_file()) return;
  const auto& file = static_cast<const FileNode&>(node);
  if (file.writing().reborn_lookups > 0) {
    context_.notifier.Settle(file.writing().reborn_id);
  }
}

void Sandbox::TouchLocked(DirectoryNode& directory) {
  directory.mtime = directory.ctime = Now();
  SettleLocked(directory);
  MarkBelowLocked(&directory);
}

Sandbox::NodePtr Sandbox::MakeInputLocked(DirectoryNode& directory,
                                          size_t index) {
  const Directory::Entry& entry = directory.base->directory().entries()[index];
  const InodeId id = context_.nodes.NewId();
  const DirectoryNode::EntryNumbers numbers = directory.NumbersOf(index);
  NodePtr node;
  timespec mtime = MtimeOf(entry.properties);
  switch (entry.type) {
    case EntryType::kFile:
      node = MakeNode<FileNode>(id, shared_from_this());
      break;
    case EntryType::kSymlink: {
      auto symlink = MakeNode<SymlinkNode>(id, shared_from_this());
      symlink->target = std::string(entry.target);
      node = std::move(symlink);
      break;
    }
    case EntryType::kDirectory: {
      auto child = MakeNode<DirectoryNode>(id, shared_from_this());
      child->base = directory.base->child(index).get();
      child->base_number = numbers.below;
      child->subdirectories = DirectoriesIn(child->base->directory());
      mtime = MtimeOf(child->base->directory().properties());
      node = std::move(child);
      break;
    }
  }
  node->number = numbers.own;
  node->mode = InputMode(*directory.base, index, spec_.inputs);
  node->uid = spec_.owner_uid;
  node->gid = spec_.owner_gid;
  node->atime = node->mtime = node->ctime = mtime;
  node->home = &directory;
  node->input = &entry;
  directory.children.emplace(entry.name, node);
  return node;
}

Sandbox::NodePtr Sandbox::FindChildLocked(DirectoryNode& directory,
                                          absl::string_view name) {
  const auto known = directory.children.find(name);
  if (known != directory.children.end()) return known->second;
  if (directory.base == nullptr) return nullptr;
  const std::optional<size_t> index = directory.base->directory().Find(name);
  if (!index.has_value() ||
      directory.names().hidden.contains(static_cast<uint32_t>(*index))) {
    return nullptr;
  }
  return MakeInputLocked(directory, *index);
}

Attributes Sandbox::ShowLocked(const SandboxNode& node) const {
  Attributes shown = {.number = node.number,
                      .mode = node.mode,
                      .links = node.links,
                      .uid = node.uid,
                      .gid = node.gid,
                      .atime = node.atime,
                      .mtime = node.mtime,
                      .ctime = node.ctime};
  if (node.is_directory()) {
    const auto& directory = static_cast<const DirectoryNode&>(node);
    shown.size = kDirectorySize;
    shown.blocks = BlocksOf(kDirectorySize);
    shown.links = node.links == 0 ? 0 : 2 + directory.subdirectories;
  } else if (node.is_symlink()) {
    shown.size = static_cast<int64_t>(
        static_cast<const SymlinkNode&>(node).target.size());
    if (shown.size >= kInlineTargetBytes) shown.blocks = BlocksOf(shown.size);
  } else if (node.is_file()) {
    const auto& file = static_cast<const FileNode&>(node);
    // A change through one of two numbers must be seen through the other.
    shown.cacheable = file.writing().reborn_id == 0;
    if (file.writing().scratch != nullptr) {
      shown.size = file.writing().scratch->size();
      shown.blocks = file.writing().scratch->blocks();
    } else {
      shown.size = file.digest().size_bytes();
      shown.blocks = BlocksOf(shown.size);
    }
  } else {
    shown.device = static_cast<const SpecialNode&>(node).device;
  }
  return shown;
}

Entry Sandbox::AnswerLocked(const NodePtr& node) {
  InodeId id = node->id;
  uint64_t* lookups = &node->lookups;
  if (node->is_file()) {
    auto& file = static_cast<FileNode&>(*node);
    id = file.current_id();
    if (id != node->id) lookups = &file.mutable_writing().reborn_lookups;
  }
  if ((*lookups)++ == 0) {
    context_.nodes.InsertAs(id, node);
    ++kernel_nodes_;
  }
  return {.id = id, .attributes = ShowLocked(*node)};
}

Entry Sandbox::AnswerLocked(const NodePtr& node, const Spot& spot) {
  if (FileNode::Names* const names = RebornNamesOf(*node)) {
    names->emplace(spot.directory.id, spot.name);
  }
  return AnswerLocked(node);
}

absl::StatusOr<Entry> Sandbox::LookupRoot() {
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked());
  return AnswerLocked(root_);
}

absl::StatusOr<Entry> Sandbox::Lookup(Node& directory, absl::string_view name) {
  MutexLock lock(mu_);
  ASSIGN_OR_RETURN(const Spot spot, SpotLocked({directory, name}));
  const NodePtr node = FindChildLocked(spot.directory, name);
  if (node != nullptr) return AnswerLocked(node, spot);
  spot.directory.missed = true;
  return Entry{};
}

void Sandbox::Forget(Node& node, InodeId id, uint64_t count) {
  const NodePtr keep(&static_cast<SandboxNode&>(node));
  MutexLock lock(mu_);
  uint64_t* lookups = &node.lookups;
  if (id != node.id) {
    lookups = &static_cast<FileNode&>(node).mutable_writing().reborn_lookups;
  }
  CASEMENT_CHECK(count <= *lookups);
  *lookups -= count;
  if (*lookups > 0) return;
  if (id != node.id) RebornNamesOf(*keep)->clear();
  context_.nodes.Erase(id);
  --kernel_nodes_;
  if (!dead_) DropIfCleanLocked(*keep);
}

void Sandbox::DropIfCleanLocked(SandboxNode& node) {
  NodePtr keep(&node);
  // A directory that loses its last child here may be dropped in turn.
  while (keep->home != nullptr && !keep->changed && keep->lookups == 0) {
    if (keep->is_file() && (static_cast<FileNode&>(*keep).all_lookups() > 0 ||
                            static_cast<FileNode&>(*keep).copying)) {
      return;
    }
    if (keep->is_directory()) {
      const auto& directory = static_cast<DirectoryNode&>(*keep);
      if (directory.below_changed || !directory.children.empty() ||
          directory.numbers != nullptr) {
        return;
      }
    }
    DirectoryNode& home = *keep->home;
    home.children.erase(keep->input->name);
    // A table keeps the room that it once had.
    if (home.children.empty()) home.children = {};
    keep = NodePtr(&home);
  }
}

absl::StatusOr<Attributes> Sandbox::GetAttributes(Node& node) {
  const auto& shown = static_cast<SandboxNode&>(node);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked(shown));
  return ShowLocked(shown);
}

absl::Status Sandbox::CheckInputWritableLocked(const SandboxNode& node,
                                               uint32_t caller_uid) const {
  if (spec_.inputs != InputsPolicy::kReadOnly || node.input == nullptr ||
      !node.is_file()) {
    return absl::OkStatus();
  }
  return ErrnoStatus(caller_uid == 0 ? EROFS : EACCES, "inputs are read-only");
}

bool Sandbox::EndsFailedWriteLocked(SandboxNode& node, int64_t size) {
  auto& file = static_cast<FileNode&>(node);
  const bool failed = file.direct_write_failed;
  file.direct_write_failed = false;
  return failed && ShowLocked(node).size == size;
}

absl::StatusOr<Attributes> Sandbox::SetAttributes(Node& node,
                                                  const AttributeChange& change,
                                                  const Caller& caller) {
  auto& target = static_cast<SandboxNode&>(node);
  {
    MutexLock lock(mu_);
    RETURN_IF_ERROR(CheckAliveLocked(target));
    RETURN_IF_ERROR(CheckInputWritableLocked(target, caller.uid));
    if (change.size.has_value() && !target.is_file()) {
      return ErrnoStatus(target.is_directory() ? EISDIR : EINVAL, "truncating");
    }
    if (change.size.has_value() &&
        EndsFailedWriteLocked(target, *change.size)) {
      return ShowLocked(target);
    }
  }
  if (change.size.has_value()) {
    RETURN_IF_ERROR(Truncate(static_cast<FileNode&>(target), *change.size));
  }
  // Before the group changes: it is the old one that counts.
  if (change.clear_suid || ChangesNothing(change)) ClearSuid(target, caller);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked(target));
  ApplyLocked(target, change);
  return ShowLocked(target);
}

uint32_t Sandbox::SuidBits(SandboxNode& node, const Caller& caller) {
  uint32_t bits = 0;
  uint32_t gid = 0;
  {
    MutexLock lock(mu_);
    if (node.is_directory()) return 0;
    bits = node.mode & (S_ISUID | S_ISGID);
    // Without S_IXGRP it gives nobody a group's rights; Linux leaves it to
    // those who are in the group.
    if ((bits & S_ISGID) == 0 || (node.mode & S_IXGRP) != 0) return bits;
    gid = node.gid;
  }
  const bool keeps = caller.uid == 0 || caller.is_in_group(gid);
  return keeps ? bits & ~S_ISGID : bits;
}

void Sandbox::ClearSuid(SandboxNode& node, const Caller& caller) {
  const uint32_t bits = SuidBits(node, caller);
  MutexLock lock(mu_);
  node.mode &= ~bits;
}

void Sandbox::ApplyLocked(SandboxNode& node, const AttributeChange& change) {
  const timespec now = Now();
  if (change.mode.has_value()) {
    node.mode = (node.mode & S_IFMT) | (*change.mode & kPermissionBits);
  }
  if (change.uid.has_value()) node.uid = *change.uid;
  if (change.gid.has_value()) node.gid = *change.gid;
  if (change.atime.has_value()) {
    node.atime = change.atime->now ? now : change.atime->time;
  }
  if (change.mtime.has_value()) {
    node.mtime = change.mtime->now ? now : change.mtime->time;
  }
  node.ctime = now;
  MarkChangedLocked(node);
}

absl::StatusOr<std::string> Sandbox::ReadLink(Node& node) {
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked(static_cast<SandboxNode&>(node)));
  if (!static_cast<SandboxNode&>(node).is_symlink()) {
    return ErrnoStatus(EINVAL, "readlink");
  }
  return static_cast<SymlinkNode&>(node).target;
}

absl::Status Sandbox::List(Node& node, uint64_t position,
                           const ListSink& sink) {
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked(static_cast<SandboxNode&>(node)));
  if (!static_cast<SandboxNode&>(node).is_directory()) {
    return ErrnoStatus(ENOTDIR, "listing");
  }
  const auto& directory = static_cast<DirectoryNode&>(node);
  const uint64_t parent =
      directory.home == nullptr ? directory.number : directory.home->number;
  if (!ListDots(directory.number, parent, position, sink)) {
    return absl::OkStatus();
  }
  position = std::max(position, DirectoryNode::kFirstPosition);
  for (uint64_t i = position - DirectoryNode::kFirstPosition;
       i < directory.base_size(); ++i) {
    if (directory.names().hidden.contains(static_cast<uint32_t>(i))) continue;
    const Directory::Entry& entry = directory.base->directory().entries()[i];
    if (!sink({.name = entry.name,
               .number = directory.NumbersOf(i).own,
               .mode = TypeBits(entry.type),
               .position = DirectoryNode::PositionOf(i)})) {
      return absl::OkStatus();
    }
  }
  for (auto name = directory.names().added.upper_bound(position);
       name != directory.names().added.end(); ++name) {
    const SandboxNode& child = *directory.children.at(name->second);
    if (!sink({.name = name->second,
               .number = child.number,
               .mode = child.mode & S_IFMT,
               .position = name->first})) {
      return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

void Sandbox::AddNameLocked(const Spot& spot, const NodePtr& node,
                            bool is_reborn) {
  DirectoryNode& directory = spot.directory;
  if (is_reborn) {
    RebornNamesOf(*node)->emplace(directory.id, spot.name);
  }
  directory.children.emplace(directory.mutable_names().Add(spot.name), node);
  if (node->is_directory()) ++directory.subdirectories;
  node->home = &directory;
  MarkChangedLocked(*node);
  TouchLocked(directory);
}

bool Sandbox::RemoveNameLocked(const Spot& spot) {
  DirectoryNode& directory = spot.directory;
  const auto child = directory.children.find(spot.name);
  const NodePtr node = std::move(child->second);
  directory.children.erase(child);
  if (!directory.mutable_names().Remove(spot.name)) {
    directory.mutable_names().hidden.insert(static_cast<uint32_t>(
        directory.base->directory().Find(spot.name).value()));
  }
  if (node->is_directory()) --directory.subdirectories;
  node->changed = true;
  if (node->home == &directory) node->home = nullptr;
  TouchLocked(directory);
  FileNode::Names* const names = RebornNamesOf(*node);
  return names != nullptr &&
         names->erase({directory.id, std::string(spot.name)}) > 0;
}

void Sandbox::UnlinkedLocked(SandboxNode& node) {
  node.ctime = Now();
  SettleLocked(node);
  if (node.is_directory()) {
    node.links = 0;
  } else if (node.links > 0) {
    --node.links;
  }
  if (node.links == 0 && node.input == nullptr) --added_nodes_;
}

absl::Status Sandbox::CheckRoomLocked() const {
  if (spec_.nodes_max == 0 || added_nodes_ < spec_.nodes_max) {
    return absl::OkStatus();
  }
  return ErrnoStatus(ENOSPC, "the sandbox's limit of ", spec_.nodes_max,
                     " new nodes");
}

void Sandbox::OwnLocked(SandboxNode& node, const DirectoryNode& directory,
                        uint32_t mode, const Caller& caller) {
  node.number = context_.nodes.NewNumbers(1);
  node.mode = mode;
  node.uid = caller.uid;
  node.gid = caller.gid;
  if ((directory.mode & S_ISGID) != 0) {
    node.gid = directory.gid;
    if (node.is_directory()) node.mode |= S_ISGID;
  }
  node.atime = node.mtime = node.ctime = Now();
}

absl::StatusOr<Entry> Sandbox::AddNewLocked(const Place& place,
                                            const NodePtr& node, uint32_t mode,
                                            const Caller& caller) {
  ASSIGN_OR_RETURN(const Spot spot, SpotLocked(place));
  DirectoryNode& directory = spot.directory;
  if (directory.links == 0) return ErrnoStatus(ENOENT, "directory is gone");
  if (FindChildLocked(directory, spot.name) != nullptr) {
    return ErrnoStatus(EEXIST, "creating");
  }
  RETURN_IF_ERROR(CheckRoomLocked());
  OwnLocked(*node, directory, mode, caller);
  ++added_nodes_;
  AddNameLocked(spot, node);
  return AnswerLocked(node);
}

absl::StatusOr<Entry> Sandbox::MakeDirectory(Place place, uint32_t mode,
                                             const Caller& caller) {
  auto node =
      MakeNode<DirectoryNode>(context_.nodes.NewId(), shared_from_this());
  MutexLock lock(mu_);
  return AddNewLocked(place, node, S_IFDIR | (mode & kPermissionBits), caller);
}

absl::StatusOr<Entry> Sandbox::MakeFile(Place place, const NewFile& file,
                                        const Caller& caller) {
  if (!S_ISREG(file.mode)) {
    // The kernel has checked that the caller may make device nodes, and opens
    // none: the mount is nodev.
    auto node =
        MakeNode<SpecialNode>(context_.nodes.NewId(), shared_from_this());
    node->device = file.device;
    MutexLock lock(mu_);
    return AddNewLocked(place, node, file.mode, caller);
  }
  auto node = MakeNode<FileNode>(context_.nodes.NewId(), shared_from_this());
  ASSIGN_OR_RETURN(node->mutable_writing().scratch,
                   context_.scratch_files.Create(Budget()));
  MutexLock lock(mu_);
  return AddNewLocked(place, node, file.mode, caller);
}

absl::StatusOr<Entry> Sandbox::MakeTemporary(Node& directory, uint32_t mode,
                                             const Caller& caller) {
  auto node = MakeNode<FileNode>(context_.nodes.NewId(), shared_from_this());
  ASSIGN_OR_RETURN(node->mutable_writing().scratch,
                   context_.scratch_files.Create(Budget()));
  MutexLock lock(mu_);
  ASSIGN_OR_RETURN(const Spot spot, SpotLocked({directory, ""}));
  if (spot.directory.links == 0) return ErrnoStatus(ENOENT, "directory");
  RETURN_IF_ERROR(CheckRoomLocked());
  OwnLocked(*node, spot.directory, S_IFREG | (mode & kPermissionBits), caller);
  node->links = 0;
  node->nameless = true;
  node->changed = true;
  return AnswerLocked(node);
}

absl::StatusOr<Entry> Sandbox::MakeSymlink(Place place,
                                           absl::string_view target,
                                           const Caller& caller) {
  if (target.size() > kSymlinkTargetBytesMax) {
    return ErrnoStatus(ENAMETOOLONG, "target of ", target.size(), " bytes");
  }
  auto node = MakeNode<SymlinkNode>(context_.nodes.NewId(), shared_from_this());
  node->target = std::string(target);
  MutexLock lock(mu_);
  return AddNewLocked(place, node, S_IFLNK | 0777, caller);
}

absl::StatusOr<Entry> Sandbox::Link(Node& node, Place place) {
  const NodePtr target(&static_cast<SandboxNode&>(node));
  MutexLock lock(mu_);
  ASSIGN_OR_RETURN(const Spot spot, SpotLocked(place));
  RETURN_IF_ERROR(CheckAliveLocked(*target));
  if (target->is_directory()) return ErrnoStatus(EPERM, "link to a directory");
  const bool nameless =
      target->is_file() && static_cast<FileNode&>(*target).nameless;
  if (target->links == 0 && !nameless) {
    return ErrnoStatus(ENOENT, "link to a gone file");
  }
  if (spot.directory.links == 0) return ErrnoStatus(ENOENT, "directory");
  if (FindChildLocked(spot.directory, spot.name) != nullptr) {
    return ErrnoStatus(EEXIST, "linking");
  }
  if (nameless) {
    RETURN_IF_ERROR(CheckRoomLocked());
    static_cast<FileNode&>(*target).nameless = false;
    ++added_nodes_;
  }
  MarkChangedLocked(*target);
  DirectoryNode* const home = target->home;
  AddNameLocked(spot, target);
  if (home != nullptr) target->home = home;
  ++target->links;
  target->ctime = Now();
  return AnswerLocked(target, spot);
}

absl::Status Sandbox::Unlink(Place place) {
  MutexLock lock(mu_);
  ASSIGN_OR_RETURN(const Spot spot, SpotLocked(place));
  const NodePtr node = FindChildLocked(spot.directory, spot.name);
  if (node == nullptr) return ErrnoStatus(ENOENT, "unlinking");
  if (node->is_directory()) return ErrnoStatus(EISDIR, "unlinking");
  RemoveNameLocked(spot);
  UnlinkedLocked(*node);
  return absl::OkStatus();
}

absl::Status Sandbox::RemoveDirectory(Place place) {
  MutexLock lock(mu_);
  ASSIGN_OR_RETURN(const Spot spot, SpotLocked(place));
  const NodePtr node = FindChildLocked(spot.directory, spot.name);
  if (node == nullptr) return ErrnoStatus(ENOENT, "removing");
  if (!node->is_directory()) return ErrnoStatus(ENOTDIR, "removing");
  if (static_cast<DirectoryNode&>(*node).visible() > 0) {
    return ErrnoStatus(ENOTEMPTY, "removing");
  }
  RemoveNameLocked(spot);
  UnlinkedLocked(*node);
  return absl::OkStatus();
}

absl::Status Sandbox::CheckRenameLocked(const NodePtr& node,
                                        const NodePtr& target,
                                        unsigned flags) const {
  if (node == nullptr) return ErrnoStatus(ENOENT, "renaming");
  if ((flags & RENAME_EXCHANGE) != 0) {
    if (target == nullptr) return ErrnoStatus(ENOENT, "exchanging");
    return absl::OkStatus();
  }
  if (target == nullptr) return absl::OkStatus();
  if ((flags & RENAME_NOREPLACE) != 0) return ErrnoStatus(EEXIST, "renaming");
  if (node->is_directory() && !target->is_directory()) {
    return ErrnoStatus(ENOTDIR, "renaming a directory onto a file");
  }
  if (!node->is_directory() && target->is_directory()) {
    return ErrnoStatus(EISDIR, "renaming a file onto a directory");
  }
  if (target->is_directory() &&
      static_cast<const DirectoryNode&>(*target).visible() > 0) {
    return ErrnoStatus(ENOTEMPTY, "renaming onto a directory");
  }
  return absl::OkStatus();
}

void Sandbox::ReplaceLocked(const Spot& to, const NodePtr& target) {
  if (target == nullptr) return;
  RemoveNameLocked(to);
  UnlinkedLocked(*target);
}

absl::Status Sandbox::Rename(Place from, Place to, unsigned flags,
                             const Caller& caller) {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0) {
    return ErrnoStatus(EINVAL, "rename with flags ", flags);
  }
  // What overlayfs leaves behind: a character device 0:0.
  boost::intrusive_ptr<SpecialNode> whiteout;
  if ((flags & RENAME_WHITEOUT) != 0) {
    whiteout =
        MakeNode<SpecialNode>(context_.nodes.NewId(), shared_from_this());
  }
  MutexLock lock(mu_);
  ASSIGN_OR_RETURN(const Spot source, SpotLocked(from));
  ASSIGN_OR_RETURN(const Spot goal, SpotLocked(to));
  if (goal.directory.links == 0) return ErrnoStatus(ENOENT, "directory");
  const NodePtr node = FindChildLocked(source.directory, source.name);
  const NodePtr target = FindChildLocked(goal.directory, goal.name);
  RETURN_IF_ERROR(CheckRenameLocked(node, target, flags));
  if (node == target) return absl::OkStatus();  // rename(2): two links to one.
  if (whiteout != nullptr) RETURN_IF_ERROR(CheckRoomLocked());
  const bool is_reborn = RemoveNameLocked(source);
  if ((flags & RENAME_EXCHANGE) != 0) {
    const bool is_target_reborn = RemoveNameLocked(goal);
    AddNameLocked(source, target, is_target_reborn);
    target->ctime = Now();
  } else {
    ReplaceLocked(goal, target);
  }
  AddNameLocked(goal, node, is_reborn);
  node->ctime = Now();
  if (whiteout != nullptr) {
    OwnLocked(*whiteout, source.directory, S_IFCHR, caller);
    ++added_nodes_;
    AddNameLocked(source, whiteout);
  }
  return absl::OkStatus();
}

absl::StatusOr<Limits> Sandbox::GetLimits() {
  Limits limits = StoreLimits(context_.store);
  MutexLock lock(mu_);
  RETURN_IF_ERROR(CheckAliveLocked());
  if (spec_.scratch_bytes_max > 0) {
    const int64_t left =
        std::max(int64_t{0}, spec_.scratch_bytes_max - budget_->used());
    limits.blocks = spec_.scratch_bytes_max / 4096;
    limits.blocks_free = std::min(limits.blocks_free, left / 4096);
  }
  const int64_t inputs = static_cast<int64_t>(inputs_.root()->paths());
  if (spec_.nodes_max > 0) {
    limits.nodes = inputs + spec_.nodes_max;
    limits.nodes_free = std::max(int64_t{0}, spec_.nodes_max - added_nodes_);
  }
  return limits;
}

void Sandbox::Describe(SandboxInfo& info) const {
  MutexLock lock(mu_);
  if (dead_) return;
  info.nodes = kernel_nodes_ + added_nodes_;
  if (stashed_) return;
  info.input_files = inputs_.root()->files();
  info.inputs_opened = inputs_opened_;
  info.scratch_bytes = budget_->used();
}

void Sandbox::CheckInvariants() const {
  MutexLock lock(mu_);
  if (dead_) return;
  std::vector<const DirectoryNode*> walk = {root_.get()};
  while (!walk.empty()) {
    const DirectoryNode& directory = *walk.back();
    walk.pop_back();
    CheckNames(directory);
    for (const auto& [name, child] : directory.children) {
      const SandboxNode& node = *child;
      if (!node.changed) {
        CASEMENT_CHECK(node.home == &directory && node.input->name == name);
        CASEMENT_CHECK(!directory.names().positions.contains(name));
      } else {
        CASEMENT_CHECK(directory.below_changed);
      }
      const bool known = context_.nodes.Find(node.id).get() == &node;
      CASEMENT_CHECK(known == (node.lookups > 0));
      if (!node.is_directory()) continue;
      const auto& below = static_cast<const DirectoryNode&>(node);
      CASEMENT_CHECK(below.home == &directory);
      CASEMENT_CHECK(!below.below_changed || directory.below_changed);
      walk.push_back(&below);
    }
  }
}

}  // namespace casement
