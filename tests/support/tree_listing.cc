#include "support/tree_listing.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

// The name that came first, by number.
using FirstNames = std::map<ino_t, std::string>;

std::string XattrsOf(const fs::path& path) {
  char names[4096];
  const ssize_t length = llistxattr(path.c_str(), names, sizeof(names));
  if (length <= 0) return "";
  const std::vector<std::string> listed =
      absl::StrSplit(absl::string_view(names, static_cast<size_t>(length)),
                     '\0', absl::SkipEmpty());
  std::map<std::string, std::string> values;
  for (const std::string& name : listed) {
    if (name.rfind("user.", 0) != 0) continue;
    char value[4096];
    const ssize_t size =
        lgetxattr(path.c_str(), name.c_str(), value, sizeof(value));
    values[name] = size < 0 ? "?" : std::string(value, size);
  }
  std::string text;
  for (const auto& [name, value] : values) {
    absl::StrAppend(&text, " ", name, "=", value);
  }
  return text;
}

// Bytes in short: which they are is for a person to look up.
std::string ContentOf(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file) return " unreadable";
  return absl::StrFormat(" bytes=%016x", std::hash<std::string>()(bytes.str()));
}

std::string Line(const fs::path& path, const std::string& name,
                 const ListingOptions& options, FirstNames& first_names) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) {
    throw std::runtime_error(path.string() + ": lstat");
  }
  std::string line =
      absl::StrFormat("%s %06o %d:%d links=%d", name, status.st_mode,
                      status.st_uid, status.st_gid, status.st_nlink);
  if (options.times) {
    absl::StrAppendFormat(&line, " mtime=%d.%09d", status.st_mtim.tv_sec,
                          status.st_mtim.tv_nsec);
  }
  if (!S_ISDIR(status.st_mode)) {
    absl::StrAppend(&line, " size=", status.st_size);
    const auto [first, added] = first_names.try_emplace(status.st_ino, name);
    if (!added) absl::StrAppend(&line, " is ", first->second);
  }
  if (S_ISLNK(status.st_mode)) {
    absl::StrAppend(&line, " -> ", fs::read_symlink(path).string());
  }
  if (S_ISREG(status.st_mode)) absl::StrAppend(&line, ContentOf(path));
  if (!S_ISLNK(status.st_mode)) absl::StrAppend(&line, XattrsOf(path));
  return line + "\n";
}

}  // namespace

std::string ListTree(const std::string& root, const ListingOptions& options) {
  std::set<std::string> names = {"."};
  for (const fs::directory_entry& entry :
       fs::recursive_directory_iterator(root)) {
    names.insert(entry.path().lexically_relative(root));
  }
  FirstNames first_names;
  std::string listing;
  for (const std::string& name : names) {
    listing += Line(fs::path(root) / name, name, options, first_names);
  }
  return listing;
}

}  // namespace casement
