#include "client/local_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/parallel.h"
#include "base/status.h"
#include "model/hasher.h"

namespace casement {
namespace {

// Reads of this size keep SHA-256 busy and stay in a core's cache.
constexpr size_t kReadBytes = size_t{256} << 10;
// A system call takes paths of up to 4095 bytes.
constexpr size_t kPathPieceBytes = 4000;

absl::Status Changed(absl::string_view path) {
  return absl::AbortedError(absl::StrCat(path, ": changed while it was read"));
}

// ENOENT and its like: it was there a moment ago.
absl::Status CannotRead(int error_number, absl::string_view path) {
  if (error_number == ENOENT || error_number == ENOTDIR ||
      error_number == ELOOP) {
    return Changed(path);
  }
  return ErrnoStatus(error_number, path);
}

const char* NameOfType(mode_t mode) {
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISBLK(mode) || S_ISCHR(mode)) return "a device";
  return "of an unknown type";
}

bool IsSameContent(const struct stat& a, const struct stat& b) {
  return a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
         a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

absl::StatusOr<std::string> ReadLink(int folder_fd, const std::string& name) {
  // One byte more than any target has, to see that it is all.
  std::string target(kSymlinkTargetBytesMax + 1, '\0');
  const ssize_t bytes =
      ::readlinkat(folder_fd, name.c_str(), target.data(), target.size());
  if (bytes < 0) return ErrnoStatus(errno, name);
  target.resize(bytes);
  return target;
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

}  // namespace

absl::StatusOr<Digest> HashFile(int fd, absl::string_view path) {
  struct stat before;
  if (::fstat(fd, &before) != 0) return ErrnoStatus(errno, path);
  if (!S_ISREG(before.st_mode)) return Changed(path);
  const size_t wanted = std::clamp<int64_t>(before.st_size + 1, 1, kReadBytes);
  const std::unique_ptr<char[]> buffer(new char[wanted]);
  Hasher hasher;
  for (;;) {
    const ssize_t got = ::read(fd, buffer.get(), wanted);
    if (got < 0) return ErrnoStatus(errno, path);
    if (got == 0) break;
    hasher.Update({buffer.get(), static_cast<size_t>(got)});
    // Else a file that grows as fast as it is read would never end.
    if (hasher.size_bytes() > before.st_size) return Changed(path);
  }
  struct stat after;
  if (::fstat(fd, &after) != 0) return ErrnoStatus(errno, path);
  if (hasher.size_bytes() != before.st_size || !IsSameContent(before, after)) {
    return Changed(path);
  }
  return hasher.Finish();
}

absl::StatusOr<LocalTree> LocalTree::Scan(const std::string& directory,
                                          const Options& options,
                                          ProgressGatherer& progress) {
  LocalTree tree;
  tree.options_ = options;
  tree.path_ = directory;
  tree.root_fd_.Reset(
      ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat attributes;
  if (!tree.root_fd_.valid() ||
      ::fstat(tree.root_fd_.get(), &attributes) != 0) {
    return ErrnoStatus(errno, directory);
  }
  tree.folders_.push_back(
      {.name = "", .properties = tree.PropertiesOf(attributes)});
  Opened parent;
  Opened previous;
  for (size_t i = 0; i < tree.folders_.size(); ++i) {
    ASSIGN_OR_RETURN(UniqueFd fd, tree.OpenFolder(i, parent, previous));
    RETURN_IF_ERROR(tree.List(i, fd.get(), progress));
    previous = {.index = i, .fd = std::move(fd)};
  }
  RETURN_IF_ERROR(tree.HashFiles(progress));
  tree.BuildMessages();
  return tree;
}

NodeProperties LocalTree::PropertiesOf(const struct stat& attributes) const {
  if (!options_.node_properties) return {};
  return {.mtime = absl::TimeFromTimespec(attributes.st_mtim),
          .unix_mode = attributes.st_mode & 07777};
}

std::string LocalTree::RelativePath(size_t folder,
                                    absl::string_view name) const {
  std::vector<absl::string_view> names;
  if (!name.empty()) names.push_back(name);
  for (; folder != 0; folder = folders_[folder].parent) {
    names.emplace_back(folders_[folder].name);
  }
  std::string path;
  for (auto part = names.rbegin(); part != names.rend(); ++part) {
    absl::StrAppend(&path, path.empty() ? "" : "/", *part);
  }
  return path;
}

std::string LocalTree::FullPath(size_t folder, absl::string_view name) const {
  const std::string relative = RelativePath(folder, name);
  return relative.empty() ? path_ : absl::StrCat(path_, "/", relative);
}

absl::StatusOr<UniqueFd> LocalTree::OpenBelow(size_t folder,
                                              absl::string_view name,
                                              int flags) const {
  std::string path = RelativePath(folder, name);
  if (path.empty()) path.push_back('.');
  UniqueFd at;
  int at_fd = root_fd_.get();
  // In pieces that a system call takes. A name is at most 255 bytes, so there
  // is always a '/' to cut at.
  while (path.size() > kPathPieceBytes) {
    const size_t cut = path.rfind('/', kPathPieceBytes);
    UniqueFd next(::openat(at_fd, path.substr(0, cut).c_str(),
                           O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!next.valid()) return CannotRead(errno, FullPath(folder, name));
    at = std::move(next);
    at_fd = at.get();
    path.erase(0, cut + 1);
  }
  // O_NONBLOCK: what has become a FIFO must not hold us up.
  UniqueFd fd(::openat(at_fd, path.c_str(),
                       flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) return CannotRead(errno, FullPath(folder, name));
  return fd;
}

absl::StatusOr<UniqueFd> LocalTree::OpenFolder(size_t index, Opened& parent,
                                               Opened& previous) const {
  constexpr int kFlags = O_RDONLY | O_DIRECTORY;
  if (index == 0) return OpenBelow(0, "", kFlags);
  const size_t wanted = folders_[index].parent;
  if (!parent.fd.valid() || parent.index != wanted) {
    if (previous.index == wanted) {
      parent = std::move(previous);
    } else {
      ASSIGN_OR_RETURN(parent.fd, OpenBelow(wanted, "", kFlags));
      parent.index = wanted;
    }
  }
  UniqueFd fd(::openat(parent.fd.get(), folders_[index].name.c_str(),
                       kFlags | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return CannotRead(errno, FullPath(index, ""));
  return fd;
}

absl::Status LocalTree::List(size_t index, int fd, ProgressGatherer& progress) {
  // closedir(3) closes its own.
  const std::unique_ptr<DIR, CloseDirectory> directory(
      ::fdopendir(::fcntl(fd, F_DUPFD_CLOEXEC, 0)));
  if (directory == nullptr) return ErrnoStatus(errno, FullPath(index, ""));
  folders_[index].first_folder = folders_.size();
  folders_[index].first_file = files_.size();
  folders_[index].first_symlink = symlinks_.size();
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(directory.get());
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    RETURN_IF_ERROR(AddEntry(index, fd, name, progress));
  }
  if (errno != 0) return ErrnoStatus(errno, FullPath(index, ""));
  folders_[index].end_folder = folders_.size();
  folders_[index].end_file = files_.size();
  folders_[index].end_symlink = symlinks_.size();
  return absl::OkStatus();
}

absl::Status LocalTree::AddEntry(size_t index, int folder_fd,
                                 const std::string& name,
                                 ProgressGatherer& progress) {
  struct stat attributes;
  if (::fstatat(folder_fd, name.c_str(), &attributes, AT_SYMLINK_NOFOLLOW) !=
      0) {
    return CannotRead(errno, FullPath(index, name));
  }
  const mode_t mode = attributes.st_mode;
  const NodeProperties properties = PropertiesOf(attributes);
  if (S_ISDIR(mode)) {
    folders_.push_back(
        {.parent = index, .name = name, .properties = properties});
  } else if (S_ISREG(mode)) {
    files_.push_back({.folder = index,
                      .name = name,
                      .is_executable = (mode & S_IXUSR) != 0,
                      .properties = properties,
                      .digest = {}});
    progress.Update([&attributes](TreeProgress& all) {
      ++all.files;
      all.bytes += attributes.st_size;
    });
  } else if (S_ISLNK(mode)) {
    absl::StatusOr<std::string> target = ReadLink(folder_fd, name);
    if (!target.ok()) return Changed(FullPath(index, name));
    // A symlink has no permission bits of its own.
    symlinks_.push_back(
        {.name = name,
         .target = *std::move(target),
         .properties = {.mtime = properties.mtime, .unix_mode = {}}});
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(FullPath(index, name), ": is ", NameOfType(mode),
                     "; only files, directories and symlinks can be put"));
  }
  return absl::OkStatus();
}

absl::Status LocalTree::HashFiles(ProgressGatherer& progress) {
  return ParallelFor(files_.size(), CoreCount(), [&](size_t i) -> absl::Status {
    File& file = files_[i];
    ASSIGN_OR_RETURN(const UniqueFd fd,
                     OpenBelow(file.folder, file.name, O_RDONLY));
    ASSIGN_OR_RETURN(file.digest,
                     HashFile(fd.get(), FullPath(file.folder, file.name)));
    progress.Update([&file](TreeProgress& all) {
      ++all.files_hashed;
      all.bytes_hashed += file.digest.size_bytes();
    });
    return absl::OkStatus();
  });
}

void LocalTree::BuildMessages() {
  // Children come after their parents, so from the end all digests are known.
  for (size_t i = folders_.size(); i-- > 0;) {
    Folder& folder = folders_[i];
    DirectoryBuilder builder;
    for (size_t j = folder.first_file; j < folder.end_file; ++j) {
      const File& file = files_[j];
      builder.AddFile(file.name, file.digest, file.is_executable,
                      file.properties);
    }
    for (size_t j = folder.first_folder; j < folder.end_folder; ++j) {
      builder.AddDirectory(folders_[j].name, folders_[j].digest);
    }
    for (size_t j = folder.first_symlink; j < folder.end_symlink; ++j) {
      const Symlink& symlink = symlinks_[j];
      builder.AddSymlink(symlink.name, symlink.target, symlink.properties);
    }
    if (options_.node_properties) builder.SetProperties(folder.properties);
    folder.message = builder.Build();
    folder.digest = Digest::Of(folder.message);
  }
}

std::vector<LocalTree::Blob> LocalTree::Blobs() const {
  std::vector<Blob> blobs;
  absl::flat_hash_set<Digest> seen;
  for (size_t i = 0; i < folders_.size(); ++i) {
    if (!seen.insert(folders_[i].digest).second) continue;
    blobs.push_back(
        {.digest = folders_[i].digest, .is_directory = true, .index = i});
  }
  for (size_t i = 0; i < files_.size(); ++i) {
    if (!seen.insert(files_[i].digest).second) continue;
    blobs.push_back(
        {.digest = files_[i].digest, .is_directory = false, .index = i});
  }
  return blobs;
}

const std::string& LocalTree::Message(const Blob& blob) const {
  return folders_[blob.index].message;
}

absl::StatusOr<UniqueFd> LocalTree::Open(const Blob& blob) const {
  const File& file = files_[blob.index];
  return OpenBelow(file.folder, file.name, O_RDONLY);
}

std::string LocalTree::PathOf(const Blob& blob) const {
  if (blob.is_directory) return FullPath(blob.index, "");
  return FullPath(files_[blob.index].folder, files_[blob.index].name);
}

}  // namespace casement
