#include "vfs/sandbox_directory.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "vfs/shown.h"
#include "vfs/writers.h"

namespace casement {
namespace {

constexpr size_t kLabelBytesMax = 4096;

}  // namespace

void SandboxDirectory::Start() {
  context_.nodes.Insert(
      std::make_shared<Node>(kSandboxesId, shared_from_this()));
}

absl::Status SandboxDirectory::CheckSpec(const SandboxSpec& spec) {
  if (!spec.name.empty()) {
    RETURN_IF_ERROR(Annotate(CheckName(spec.name), "sandbox name"));
  }
  if (spec.label.size() > kLabelBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "label of ", spec.label.size(), " bytes; at most ", kLabelBytesMax));
  }
  if (spec.scratch_bytes_max < 0 || spec.nodes_max < 0) {
    return absl::InvalidArgumentError("a sandbox's limits cannot be negative");
  }
  return absl::OkStatus();
}

absl::StatusOr<SandboxInfo> SandboxDirectory::Create(const SandboxSpec& spec) {
  RETURN_IF_ERROR(CheckSpec(spec));
  ASSIGN_OR_RETURN(ClosureLease inputs,
                   context_.directories.LeaseClosure(spec.root));
  Live live = {.spec = spec, .created = context_.clock.Now()};
  if (live.spec.nodes_max == 0) live.spec.nodes_max = options_.nodes_max;
  live.sandbox =
      std::make_shared<Sandbox>(context_, live.spec, std::move(inputs));
  live.sandbox->Start();
  absl::StatusOr<SandboxInfo> info;
  {
    MutexLock lock(mu_);
    if (static_cast<int64_t>(live_.size()) >= options_.sandboxes_max) {
      info = absl::ResourceExhaustedError(
          absl::StrCat("there are ", live_.size(), " sandboxes already"));
    } else if (!spec.name.empty() && live_.contains(spec.name)) {
      info = absl::AlreadyExistsError(
          absl::StrCat("sandbox \"", spec.name, "\" exists"));
    } else {
      while (live.spec.name.empty() || live_.contains(live.spec.name)) {
        live.spec.name = absl::StrCat("sandbox-", ++last_name_);
      }
      live.position = ++last_position_;
      info = Describe(live);
      positions_.emplace(live.position, live.spec.name);
      live_.emplace(live.spec.name, live);
    }
  }
  if (info.ok()) {
    if (ForgetListing()) context_.notifier.Drain();
  } else {
    live.sandbox->Kill();
  }
  return info;
}

absl::StatusOr<std::shared_ptr<Sandbox>> SandboxDirectory::Find(
    absl::string_view name) {
  MutexLock lock(mu_);
  const auto found = live_.find(name);
  if (found == live_.end()) {
    return absl::NotFoundError(absl::StrCat("no sandbox \"", name, "\""));
  }
  return found->second.sandbox;
}

SandboxInfo SandboxDirectory::Describe(const Live& live) const {
  SandboxInfo info = {.name = live.spec.name,
                      .path = absl::StrCat(options_.path, "/", live.spec.name),
                      .spec = live.spec,
                      .created = live.created};
  live.sandbox->Describe(info);
  return info;
}

absl::StatusOr<std::vector<Change>> SandboxDirectory::Diff(
    absl::string_view name) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Sandbox> sandbox, Find(name));
  return sandbox->Diff();
}

absl::StatusOr<Collected> SandboxDirectory::Collect(
    absl::string_view name, absl::Span<const std::string> paths, bool force) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Sandbox> sandbox, Find(name));
  ASSIGN_OR_RETURN(const Sandbox::Writables writables,
                   sandbox->FindWritables(paths));
  if (!force) {
    const std::string mount = options_.path.substr(0, options_.path.rfind('/'));
    if (const std::optional<Writer> writer =
            FindWriter(mount, writables.paths)) {
      return absl::FailedPreconditionError(
          absl::StrCat("output \"", writer->path,
                       "\" is open for writing by process ", writer->pid, " (",
                       writer->command, "); --force collects it as it is"));
    }
  }
  // A mapping that is still there may have pages that were never written back:
  // the kernel writes them before it forgets them.
  for (const InodeId id : writables.ids) context_.notifier.InvalidateNode(id);
  context_.notifier.Drain();
  return sandbox->Collect(paths, force);
}

absl::Status SandboxDirectory::Release(absl::string_view name, bool stash) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Sandbox> sandbox, Find(name));
  {
    MutexLock lock(mu_);
    const auto found = live_.find(name);
    if (found == live_.end() || found->second.sandbox != sandbox) {
      return absl::NotFoundError(absl::StrCat("no sandbox \"", name, "\""));
    }
    positions_.erase(found->second.position);
    live_.erase(found);
  }
  sandbox->Kill();
  context_.notifier.InvalidateEntry(kSandboxesId, std::string(name));
  ForgetListing();
  context_.notifier.Drain();
  return absl::OkStatus();
}

void SandboxDirectory::ReleaseAll() {
  for (const SandboxInfo& info : List()) {
    // Somebody else may be faster.
    Release(info.name, /*stash=*/false).IgnoreError();
  }
}

absl::StatusOr<SandboxInfo> SandboxDirectory::Info(absl::string_view name) {
  MutexLock lock(mu_);
  const auto found = live_.find(name);
  if (found == live_.end()) {
    return absl::NotFoundError(absl::StrCat("no sandbox \"", name, "\""));
  }
  return Describe(found->second);
}

std::vector<SandboxInfo> SandboxDirectory::List() {
  std::vector<SandboxInfo> list;
  {
    MutexLock lock(mu_);
    list.reserve(live_.size());
    for (const auto& [name, live] : live_) list.push_back(Describe(live));
  }
  std::sort(list.begin(), list.end(),
            [](const SandboxInfo& a, const SandboxInfo& b) {
              return a.name < b.name;
            });
  return list;
}

bool SandboxDirectory::ForgetListing() {
  if (!listed_.exchange(false)) return false;
  context_.notifier.InvalidateNode(kSandboxesId);
  return true;
}

absl::StatusOr<Entry> SandboxDirectory::Lookup(Node& directory,
                                               absl::string_view name) {
  const absl::StatusOr<std::shared_ptr<Sandbox>> sandbox = Find(name);
  // Not for the kernel to remember: a sandbox of that name can come any time.
  if (!sandbox.ok()) return Entry{.cacheable = false};
  absl::StatusOr<Entry> entry = (*sandbox)->LookupRoot();
  if (!entry.ok()) return Entry{.cacheable = false};  // Released just now.
  return entry;
}

absl::StatusOr<Attributes> SandboxDirectory::GetAttributes(Node& node) {
  return options_.attributes;
}

absl::Status SandboxDirectory::List(Node& directory, uint64_t position,
                                    const ListSink& sink) {
  listed_ = true;
  if (!ListDots(kSandboxesId, kRootId, position, sink)) {
    return absl::OkStatus();
  }
  MutexLock lock(mu_);
  for (auto name = positions_.upper_bound(position); name != positions_.end();
       ++name) {
    if (!sink({.name = name->second,
               .number = live_.at(name->second).sandbox->root_number(),
               .mode = S_IFDIR,
               .position = name->first})) {
      break;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Limits> SandboxDirectory::GetLimits() {
  return StoreLimits(context_.store);
}

}  // namespace casement
