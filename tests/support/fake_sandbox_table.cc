#include "support/fake_sandbox_table.h"

#include <algorithm>
#include <filesystem>  // NOLINT
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "model/directory.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

absl::Status NoSandbox(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat("sandbox ", name, ": not found"));
}

absl::Status CheckPath(const std::string& path) {
  const std::vector<std::string> parts = absl::StrSplit(path, '/');
  if (path.empty() ||
      (path[0] != '/' && std::count(parts.begin(), parts.end(), "..") == 0)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("path ", path, ": not below the sandbox"));
}

}  // namespace

absl::Status FakeSandboxTable::CopyInputs(const InternedDirectory& directory,
                                          const std::string& prefix,
                                          Live& live) {
  const std::vector<Directory::Entry>& entries =
      directory.directory().entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string path = absl::StrCat(prefix, entries[i].name);
    const fs::path full = fs::path(live.info.path) / path;
    live.inputs.insert(path);
    if (entries[i].type == EntryType::kDirectory) {
      fs::create_directory(full);
      RETURN_IF_ERROR(
          CopyInputs(*directory.child(i), absl::StrCat(path, "/"), live));
    } else if (entries[i].type == EntryType::kSymlink) {
      fs::create_symlink(std::string(entries[i].target), full);
    } else {
      ASSIGN_OR_RETURN(const std::string bytes,
                       store_.Read(entries[i].digest, int64_t{1} << 30));
      std::ofstream(full, std::ios::binary) << bytes;
      fs::permissions(full, fs::perms(entries[i].is_executable ? 0755 : 0644));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SandboxInfo> FakeSandboxTable::Create(const SandboxSpec& spec,
                                                     bool may_reuse) {
  if (!spec.name.empty()) {
    RETURN_IF_ERROR(Annotate(CheckName(spec.name), "sandbox name"));
  }
  ASSIGN_OR_RETURN(ClosureLease lease,
                   directories_.LeaseClosure(spec.root, spec.inputs_from));
  MutexLock lock(mu_);
  SandboxInfo info;
  info.name = spec.name.empty() ? absl::StrCat("s", ++created_) : spec.name;
  if (live_.contains(info.name)) {
    return absl::AlreadyExistsError(
        absl::StrCat("sandbox ", info.name, ": exists already"));
  }
  info.path = absl::StrCat(folder_, "/", info.name);
  info.spec = spec;
  info.created = absl::Now();
  info.input_files = lease.root()->files();
  fs::create_directory(info.path);
  Live& live = live_[info.name];
  live.info = info;
  live.lease = std::move(lease);
  RETURN_IF_ERROR(CopyInputs(*live.lease.root(), "", live));
  return info;
}

absl::StatusOr<std::vector<Change>> FakeSandboxTable::Diff(
    absl::string_view name) {
  MutexLock lock(mu_);
  const auto live = live_.find(name);
  if (live == live_.end()) return NoSandbox(name);
  std::vector<Change> changes = live->second.changes;
  const fs::path root = live->second.info.path;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string path = entry.path().lexically_relative(root);
    if (live->second.inputs.contains(path)) continue;
    changes.push_back({.kind = Change::Kind::kAdded, .path = path});
  }
  return changes;
}

absl::StatusOr<Output> FakeSandboxTable::CollectOne(const std::string& sandbox,
                                                    const std::string& path) {
  const fs::path full = fs::path(sandbox) / path;
  Output output;
  output.path = path;
  if (fs::is_symlink(full)) {
    output.kind = Output::Kind::kSymlink;
    output.target = fs::read_symlink(full);
    return output;
  }
  if (!fs::exists(full)) return absl::NotFoundError("");
  if (fs::is_directory(full)) {  // As if it were empty.
    output.kind = Output::Kind::kDirectory;
    return output;
  }
  std::ifstream in(full, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  output.digest = Digest::Of(bytes);
  output.kind = (fs::status(full).permissions() & fs::perms::owner_exec) !=
                        fs::perms::none
                    ? Output::Kind::kExecutable
                    : Output::Kind::kFile;
  RETURN_IF_ERROR(store_.Put(output.digest, bytes));
  return output;
}

absl::StatusOr<Collected> FakeSandboxTable::Collect(
    absl::string_view name, absl::Span<const std::string> paths, bool,
    const Stored& stored) {
  MutexLock lock(mu_);
  const auto live = live_.find(name);
  if (live == live_.end()) return NoSandbox(name);
  Collected collected;
  for (const std::string& path : paths) {
    RETURN_IF_ERROR(CheckPath(path));
    absl::StatusOr<Output> output = CollectOne(live->second.info.path, path);
    if (output.ok()) {
      if (stored && output->kind != Output::Kind::kSymlink) {
        stored(output->digest);
      }
      collected.outputs.push_back(*std::move(output));
    } else if (absl::IsNotFound(output.status())) {
      collected.missing.push_back(path);
    } else {
      return output.status();
    }
  }
  return collected;
}

absl::Status FakeSandboxTable::Release(absl::string_view name, bool stash) {
  MutexLock lock(mu_);
  const auto live = live_.find(name);
  if (live == live_.end()) return NoSandbox(name);
  fs::remove_all(live->second.info.path);
  live_.erase(live);
  was_stashed_ = stash;
  return absl::OkStatus();
}

absl::StatusOr<SandboxInfo> FakeSandboxTable::Info(absl::string_view name) {
  MutexLock lock(mu_);
  const auto live = live_.find(name);
  if (live == live_.end()) return NoSandbox(name);
  return live->second.info;
}

std::vector<SandboxInfo> FakeSandboxTable::List() {
  MutexLock lock(mu_);
  std::vector<SandboxInfo> list;
  for (const auto& [name, live] : live_) list.push_back(live.info);
  return list;
}

void FakeSandboxTable::SetChanges(const std::string& name,
                                  std::vector<Change> changes) {
  MutexLock lock(mu_);
  live_[name].changes = std::move(changes);
}

bool FakeSandboxTable::was_stashed() const {
  MutexLock lock(mu_);
  return was_stashed_;
}

}  // namespace casement
