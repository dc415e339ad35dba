#include "bench/input_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "bench/bench.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr int kFilesInDirectory = 50;

UniqueFd OpenDirectory(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Require(fd.get() >= 0, path);
  return fd;
}

UniqueFd MakeTop(const InputTree& tree, const std::string& to) {
  Require(mkdir(to.c_str(), 0700) == 0, to);
  UniqueFd top = OpenDirectory(to);
  for (const std::string& path : tree.directories) {
    Require(mkdirat(top.get(), path.c_str(), 0700) == 0, path);
  }
  return top;
}

void MakeSymlink(int top, const InputTree::Link& link) {
  Require(symlinkat(link.target.c_str(), top, link.path.c_str()) == 0,
          link.path);
}

// Goes through a tree that may be anything, and leaves what is right.
class Fixer {
 public:
  Fixer(const InputTree& tree, const std::string& top)
      : tree_(tree), top_(OpenDirectory(top)), seen_(tree.links.size()) {}

  void Fix() {
    directories_seen_.reserve(tree_.directories.size());
    LookAt("");
    for (const std::string& path : tree_.directories) {
      if (!directories_seen_.contains(path)) {
        Require(mkdirat(top_.get(), path.c_str(), 0700) == 0, path);
      }
    }
    for (size_t i = 0; i < tree_.links.size(); ++i) {
      if (!seen_[i]) MakeSymlink(top_.get(), tree_.links[i]);
    }
  }

 private:
  void LookAt(const std::string& directory) {
    const int fd =
        openat(top_.get(), directory.empty() ? "." : directory.c_str(),
               O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* const list = fdopendir(fd);
    Require(list != nullptr, directory);
    std::vector<std::string> below;
    while (const dirent* const entry = readdir(list)) {
      const absl::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      std::string path = directory.empty() ? std::string(name)
                                           : absl::StrCat(directory, "/", name);
      if (entry->d_type == DT_DIR) {
        below.push_back(std::move(path));
      } else {
        LookAtLink(fd, entry, path);
      }
    }
    for (const std::string& path : below) {
      const auto wanted = tree_.index.find(path);
      if (wanted == tree_.index.end() || wanted->second >= 0) {
        fs::remove_all(fs::path("/proc/self/fd") / std::to_string(top_.get()) /
                       path);
        continue;
      }
      directories_seen_.emplace(path, 0);
      LookAt(path);
    }
    closedir(list);
  }

  void LookAtLink(int directory, const dirent* entry, const std::string& path) {
    const auto wanted = tree_.index.find(path);
    if (entry->d_type == DT_LNK && wanted != tree_.index.end() &&
        wanted->second >= 0) {
      const auto index = static_cast<size_t>(wanted->second);
      const std::string& target = tree_.links[index].target;
      char is[PATH_MAX];
      const ssize_t length =
          readlinkat(directory, entry->d_name, is, sizeof(is));
      if (length >= 0 &&
          absl::string_view(is, static_cast<size_t>(length)) == target) {
        seen_[index] = true;
        return;
      }
    }
    Require(unlinkat(directory, entry->d_name, 0) == 0, path);
  }

  const InputTree& tree_;
  const UniqueFd top_;
  std::vector<bool> seen_;
  absl::flat_hash_map<std::string, int> directories_seen_;
};

}  // namespace

InputTree ScanTree(const std::string& top) {
  InputTree tree;
  const fs::path start = top;
  for (const fs::directory_entry& entry :
       fs::recursive_directory_iterator(start)) {
    const std::string path = entry.path().lexically_relative(start);
    if (entry.is_symlink()) {
      tree.links.push_back({path, fs::read_symlink(entry.path())});
    } else if (entry.is_directory()) {
      tree.directories.push_back(path);
    } else {
      const bool is_executable = (entry.status().permissions() &
                                  fs::perms::owner_exec) != fs::perms::none;
      tree.links.push_back(
          {path, entry.path(), /*is_file=*/true, is_executable});
    }
  }
  std::sort(tree.directories.begin(), tree.directories.end());
  std::sort(tree.links.begin(), tree.links.end(),
            [](const InputTree::Link& one, const InputTree::Link& two) {
              return one.path < two.path;
            });
  for (const std::string& path : tree.directories) tree.index[path] = -1;
  for (size_t i = 0; i < tree.links.size(); ++i) {
    tree.index[tree.links[i].path] = static_cast<int>(i);
  }
  return tree;
}

std::string TreeFileName(int number) {
  return absl::StrFormat("d%04d/f%02d.h", number / kFilesInDirectory,
                         number % kFilesInDirectory);
}

void MakeTree(const std::string& top, int files,
              const std::vector<int>& sizes) {
  for (int i = 0; i < files; ++i) {
    const fs::path path = fs::path(top) / TreeFileName(i);
    if (i % kFilesInDirectory == 0) fs::create_directories(path.parent_path());
    const int bytes = sizes[static_cast<size_t>(i) % sizes.size()];
    WriteFile(path, absl::StrFormat("%-*d", bytes, i));
  }
}

void MakeHardLinkTree(const InputTree& tree, const std::string& to) {
  const UniqueFd top = MakeTop(tree, to);
  for (const InputTree::Link& link : tree.links) {
    if (!link.is_file) {
      MakeSymlink(top.get(), link);
      continue;
    }
    if (link.is_executable) {
      fs::copy_file(link.target, to + "/" + link.path);
      continue;
    }
    Require(linkat(AT_FDCWD, link.target.c_str(), top.get(), link.path.c_str(),
                   0) == 0,
            link.path);
  }
}

void MakeSymlinkTree(const InputTree& tree, const std::string& to) {
  const UniqueFd top = MakeTop(tree, to);
  for (const InputTree::Link& link : tree.links) MakeSymlink(top.get(), link);
}

void MakeCopy(const InputTree& tree, const std::string& to) {
  const UniqueFd top = MakeTop(tree, to);
  for (const InputTree::Link& link : tree.links) {
    if (link.is_file) {
      fs::copy_file(link.target, to + "/" + link.path);
    } else {
      MakeSymlink(top.get(), link);
    }
  }
}

void FixSymlinkTree(const InputTree& tree, const std::string& old) {
  Fixer(tree, old).Fix();
}

}  // namespace casement
