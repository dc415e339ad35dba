// put, get, evict, stats, verify.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/quote.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/prometheus.h"
#include "cli/terminal.h"

namespace casement {
namespace {

absl::StatusOr<std::vector<Digest>> ParseDigests(
    const std::vector<std::string>& words) {
  std::vector<Digest> digests;
  for (const std::string& word : words) {
    ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(word));
    digests.push_back(digest);
  }
  return digests;
}

std::string Describe(const TreeProgress& progress) {
  if (progress.blobs_missing > 0) {
    return absl::StrCat("sent ", progress.blobs_sent, " of ",
                        progress.blobs_missing, " blobs, ",
                        HumanBytes(progress.bytes_sent), " of ",
                        HumanBytes(progress.bytes_missing));
  }
  return absl::StrCat("hashed ", progress.files_hashed, " of ", progress.files,
                      " files, ", HumanBytes(progress.bytes_hashed), " of ",
                      HumanBytes(progress.bytes));
}

absl::StatusOr<int> PutTree(Client& client, const Invocation& invocation) {
  const std::string directory = invocation.arguments.Get("tree");
  ProgressLine line;
  PutTreeOptions options;
  options.node_properties = invocation.arguments.Has("node-properties");
  if (line.is_shown()) {
    options.progress = [&line](const TreeProgress& progress) {
      line.Show(Describe(progress));
    };
  }
  ASSIGN_OR_RETURN(const PutTreeResult put, client.PutTree(directory, options));
  if (!invocation.is_json) {
    Print(absl::StrCat(put.root.ToString(), "\n"));
    return 0;
  }
  Json json = {{"digest", put.root.ToString()}};
  SetBytes(json, "path", directory);
  json["files"] = put.total.files;
  json["directories"] = put.directories;
  json["symlinks"] = put.symlinks;
  json["bytes"] = put.total.bytes;
  json["blobs_sent"] = put.total.blobs_sent;
  json["bytes_sent"] = put.total.bytes_sent;
  Print(ToText(json));
  return 0;
}

// A file that appears under its name only when it is complete, or, where that
// name is no regular file's (a terminal, /dev/null, a FIFO), that itself.
class OutputFile {
 public:
  static absl::StatusOr<OutputFile> Open(const std::string& path) {
    struct stat there;
    const bool is_there = ::stat(path.c_str(), &there) == 0;
    OutputFile file;
    file.path_ = path;
    if (is_there && !S_ISREG(there.st_mode)) {
      file.fd_.Reset(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
      if (!file.fd_.valid()) return ErrnoStatus(errno, path);
      return file;
    }
    file.temporary_ = absl::StrCat(path, ".XXXXXX");
    file.fd_.Reset(::mkostemp(file.temporary_.data(), O_CLOEXEC));
    if (!file.fd_.valid()) {
      file.temporary_.clear();
      return ErrnoStatus(errno, path);
    }
    // As open(2) with 0666 would: mkstemp(3) leaves out everybody else.
    const mode_t mask = ::umask(0);
    ::umask(mask);
    ::fchmod(file.fd_.get(), is_there ? there.st_mode & 0777 : 0666 & ~mask);
    return file;
  }
  OutputFile(OutputFile&&) = default;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile() {
    if (fd_.valid() && !temporary_.empty()) ::unlink(temporary_.c_str());
  }

  int fd() const { return fd_.get(); }
  absl::Status Finish() {
    if (!temporary_.empty() &&
        ::rename(temporary_.c_str(), path_.c_str()) != 0) {
      return ErrnoStatus(errno, path_);
    }
    fd_.Reset();
    return absl::OkStatus();
  }

 private:
  OutputFile() = default;
  std::string path_;
  std::string temporary_;
  UniqueFd fd_;
};

// OK if the store is sound.
absl::Status Judge(const VerifyResult& verified, const VerifyOptions& options) {
  std::string wrong;
  if (!verified.damaged.empty()) {
    absl::StrAppend(&wrong, verified.damaged.size(), " of ", verified.blobs,
                    " blobs are damaged");
  }
  const int64_t stay =
      static_cast<int64_t>(verified.damaged.size()) - verified.dropped;
  if (verified.moved > 0) {
    absl::StrAppend(&wrong, ", and ", verified.moved, " have been moved to ",
                    options.quarantine);
  }
  if (verified.dropped > verified.moved) {
    const bool is_all = verified.moved == 0 && stay == 0;
    absl::StrAppend(
        &wrong, ", and ",
        is_all ? "" : absl::StrCat(verified.dropped - verified.moved, " "),
        "have been dropped");
  }
  if (!verified.stays.empty()) {
    absl::StrAppend(&wrong, ", and ", stay, " stay: ", verified.stays);
  }
  if (verified.unaccounted_bytes > 0) {
    absl::StrAppend(&wrong, wrong.empty() ? "" : "; ",
                    verified.unaccounted_bytes,
                    " bytes of the store's files are not accounted for");
  }
  if (wrong.empty()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("verify: ", wrong));
}

}  // namespace

absl::StatusOr<int> Put(Client& client, const Invocation& invocation) {
  if (invocation.arguments.Has("tree")) return PutTree(client, invocation);
  Json list = Json::array();
  for (const std::string& path : invocation.arguments.operands()) {
    ASSIGN_OR_RETURN(const Digest digest, client.PutFile(path));
    if (invocation.is_json) {
      Json json = {{"digest", digest.ToString()}};
      SetBytes(json, "path", path);
      list.push_back(std::move(json));
    } else {
      Print(absl::StrCat(digest.ToString(), "  ", QuoteName(path), "\n"));
    }
  }
  if (invocation.is_json) Print(ToText(list));
  return 0;
}

absl::StatusOr<int> Get(Client& client, const Invocation& invocation) {
  ASSIGN_OR_RETURN(const Digest digest,
                   Digest::Parse(invocation.arguments.operands().front()));
  const std::string path = invocation.arguments.Get("output");
  ProgressLine line;
  ByteProgress progress;
  if (line.is_shown() && (!path.empty() || ::isatty(STDOUT_FILENO) == 0)) {
    progress = [&line](int64_t done, int64_t total) {
      line.ShowBytes("got", done, total);
    };
  }
  if (path.empty()) {
    RETURN_IF_ERROR(client.Get(digest, STDOUT_FILENO, progress));
    return 0;
  }
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(path));
  RETURN_IF_ERROR(client.Get(digest, file.fd(), progress));
  RETURN_IF_ERROR(file.Finish());
  if (invocation.is_json) {
    Json json = {{"digest", digest.ToString()}};
    SetBytes(json, "path", path);
    json["bytes"] = digest.size_bytes();
    Print(ToText(json));
  }
  return 0;
}

absl::StatusOr<int> Evict(Client& client, const Invocation& invocation) {
  EvictResult evicted;
  if (invocation.arguments.Has("unleased")) {
    ASSIGN_OR_RETURN(evicted, client.EvictUnleased());
  } else {
    ASSIGN_OR_RETURN(const std::vector<Digest> digests,
                     ParseDigests(invocation.arguments.operands()));
    ASSIGN_OR_RETURN(evicted, client.Evict(digests));
  }
  Print(invocation.is_json ? ToText(ToJson(evicted))
                           : absl::StrCat("evicted ", evicted.blobs, " blobs, ",
                                          evicted.bytes, " bytes\n"));
  if (evicted.failures.empty()) return 0;
  const absl::Status& first = evicted.failures.front().second;
  const size_t others = evicted.failures.size() - 1;
  if (others == 0) return first;
  return absl::Status(first.code(), absl::StrCat(first.message(), " (and ",
                                                 others, " more stay)"));
}

absl::StatusOr<int> Stats(Client& client, const Invocation& invocation) {
  ASSIGN_OR_RETURN(const StoreStats stats, client.Stats());
  if (invocation.is_json) {
    Print(ToText(ToJson(stats)));
    return 0;
  }
  if (invocation.arguments.Has("prometheus")) {
    Print(ToPrometheus(stats));
    return 0;
  }
  Print(absl::StrCat("capacity   ", stats.capacity_bytes, " bytes\n",
                     "accounted  ", stats.accounted_bytes, " bytes\n"));
  for (const auto& [owner, bytes] : stats.accounted_by_owner) {
    Print(absl::StrCat("  ", owner, std::string(9 - owner.size() % 9, ' '),
                       bytes, "\n"));
  }
  Print(absl::StrCat("blobs      ", stats.blobs, " (", stats.leased_blobs,
                     " leased), ", stats.size_bytes, " bytes\n", "zombies    ",
                     stats.zombies, "\n", "sandboxes  ", stats.sandboxes, "\n",
                     "sessions   ", stats.sessions, "\n"));
  Print(absl::StrCat("published  ", stats.published, "\n", "evictions  ",
                     stats.evictions, "\n", "damaged    ", stats.damaged,
                     "\n"));
  return 0;
}

absl::StatusOr<int> Verify(Client& client, const Invocation& invocation) {
  VerifyOptions options;
  options.repair = invocation.arguments.Has("repair");
  options.quarantine = invocation.arguments.Get("quarantine");
  ASSIGN_OR_RETURN(options.disk_share_percent,
                   invocation.arguments.GetInteger("disk-share", 1, 100));
  ProgressLine line;
  ASSIGN_OR_RETURN(const VerifyResult verified,
                   client.Verify(options, [&line](int64_t done, int64_t total) {
                     line.ShowBytes("verified", done, total);
                   }));
  if (invocation.is_json) {
    Print(ToText(ToJson(verified)));
  } else {
    for (const Digest& digest : verified.damaged) {
      Print(absl::StrCat("damaged ", digest.ToString(), "\n"));
    }
    Print(absl::StrCat("verified ", verified.blobs, " blobs, ", verified.bytes,
                       " bytes; accounted ", verified.accounted_bytes,
                       " bytes, allocated ", verified.allocated_bytes,
                       " bytes, unaccounted ", verified.unaccounted_bytes,
                       " bytes\n"));
  }
  RETURN_IF_ERROR(Judge(verified, options));
  return 0;
}

}  // namespace casement
