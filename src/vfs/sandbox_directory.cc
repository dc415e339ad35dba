#include "vfs/sandbox_directory.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "vfs/shown.h"
#include "vfs/writers.h"

namespace casement {
namespace {

constexpr size_t kLabelBytesMax = 4096;
// How long a file of a sandbox that is to be kept may take to be closed: the
// kernel reports it after the process has gone on, or is gone.
constexpr absl::Duration kCloseTimeout = absl::Milliseconds(200);

}  // namespace

void SandboxDirectory::Start() {
  context_.nodes.Insert(MakeNode<Node>(kSandboxesId, shared_from_this()));
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

std::optional<SandboxDirectory::Live> SandboxDirectory::Reuse(
    const SandboxSpec& spec, ClosureLease& inputs) {
  const absl::Time start = absl::Now();
  std::optional<Stashes::Choice> choice = stashes_.Take(spec, *inputs.root());
  if (!choice.has_value()) {
    ++reuse_.misses;
    return std::nullopt;
  }
  const std::shared_ptr<Sandbox>& sandbox = choice->stash.sandbox;
  const std::optional<RetargetCost> cost = sandbox->Retarget(spec, inputs);
  if (!cost.has_value()) {
    ++reuse_.condemned[static_cast<size_t>(Sandbox::Refusal::kRefused)];
    End({choice->stash});
    return std::nullopt;
  }
  const absl::Duration time = absl::Now() - start;
  ++(choice->is_exact ? reuse_.exact : reuse_.overlap);
  reuse_.nodes_kept += cost->kept;
  reuse_.visited += cost->visited;
  reuse_.skipped += cost->skipped;
  reuse_.nanoseconds += absl::ToInt64Nanoseconds(time);
  return Live{
      .sandbox = sandbox,
      .spec = spec,
      .created = context_.clock.Now(),
      .reuse = ReuseInfo{
          .stash = choice->stash.spec.name, .cost = *cost, .time = time}};
}

absl::StatusOr<SandboxInfo> SandboxDirectory::Create(const SandboxSpec& asked,
                                                     bool may_reuse) {
  RETURN_IF_ERROR(CheckSpec(asked));
  SandboxSpec spec = asked;
  if (spec.nodes_max == 0) spec.nodes_max = options_.nodes_max;
  ASSIGN_OR_RETURN(ClosureLease inputs, context_.directories.LeaseClosure(
                                            spec.root, spec.inputs_from));
  if (context_.fetcher != nullptr && spec.inputs_from == InputsFrom::kRemote) {
    context_.fetcher->FetchAhead(
        context_.store.Awaited(read_lists_.Get(spec.label)));
  }
  std::optional<Live> live;
  if (may_reuse) live = Reuse(spec, inputs);
  if (!live.has_value()) {
    live = Live{
        .sandbox = std::make_shared<Sandbox>(context_, spec, std::move(inputs)),
        .spec = spec,
        .created = context_.clock.Now()};
    live->sandbox->Start();
  }
  absl::StatusOr<SandboxInfo> info = Admit(*live);
  if (!info.ok()) {
    live->sandbox->Kill();
  } else if (ForgetListing()) {
    context_.notifier.Drain();
  }
  return info;
}

absl::StatusOr<SandboxInfo> SandboxDirectory::Admit(Live live) {
  SandboxSpec& spec = live.spec;
  MutexLock lock(mu_);
  if (static_cast<int64_t>(live_.size()) >= options_.sandboxes_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there are ", live_.size(), " sandboxes already"));
  }
  if (!spec.name.empty() && live_.contains(spec.name)) {
    return absl::AlreadyExistsError(
        absl::StrCat("sandbox \"", spec.name, "\" exists"));
  }
  while (spec.name.empty() || live_.contains(spec.name)) {
    spec.name = absl::StrCat("sandbox-", ++last_name_);
  }
  live.position = ++last_position_;
  live.entered = Occupants::Now();
  SandboxInfo info = Describe(live);
  positions_.emplace(live.position, spec.name);
  live_.emplace(spec.name, live);
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
                      .created = live.created,
                      .reuse = live.reuse};
  live.sandbox->Describe(info);
  return info;
}

absl::StatusOr<std::vector<Change>> SandboxDirectory::Diff(
    absl::string_view name) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Sandbox> sandbox, Find(name));
  return sandbox->Diff();
}

absl::StatusOr<Collected> SandboxDirectory::Collect(
    absl::string_view name, absl::Span<const std::string> paths, bool force,
    const Stored& stored) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Sandbox> sandbox, Find(name));
  ASSIGN_OR_RETURN(const Sandbox::Writables writables,
                   sandbox->FindWritables(paths));
  if (!force) {
    if (const std::optional<Writer> writer =
            FindWriter(MountPoint(), writables.paths)) {
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
  return sandbox->Collect(paths, stored);
}

std::optional<Sandbox::Refusal> SandboxDirectory::Keep(const Live& live) {
  const std::string path = absl::StrCat("sandbox/", live.spec.name);
  if (!live.sandbox->WaitUntilClosed(kCloseTimeout)) {
    return Sandbox::Refusal::kOpen;
  }
  if (occupants_.Find(MountPoint(), path, live.entered).has_value()) {
    return Sandbox::Refusal::kOccupied;
  }
  return live.sandbox->Stash();
}

absl::Status SandboxDirectory::Release(absl::string_view name, bool stash) {
  Live live;
  {
    MutexLock lock(mu_);
    const auto found = live_.find(name);
    if (found == live_.end()) {
      return absl::NotFoundError(absl::StrCat("no sandbox \"", name, "\""));
    }
    live = std::move(found->second);
    positions_.erase(live.position);
    live_.erase(found);
  }
  ForgetListing();
  read_lists_.Set(live.spec.label, live.sandbox->TakeInputsRead());
  bool kept = false;
  if (stash) {
    // Nobody can get in by its name from here on, but what the kernel knows
    // below it stays.
    context_.notifier.Queue(
        KernelNote::Expiry(kSandboxesId, std::string(name)));
    context_.notifier.Drain();
    const std::optional<Sandbox::Refusal> refusal = Keep(live);
    kept = !refusal.has_value();
    if (!kept) ++reuse_.condemned[static_cast<size_t>(*refusal)];
  }
  if (kept) {
    SandboxInfo info;
    live.sandbox->Describe(info);
    End(stashes_.Add({.sandbox = live.sandbox,
                      .spec = live.spec,
                      .created = live.created,
                      .nodes = info.nodes,
                      .heavy = live.sandbox->HeavyDirectories()}));
    return absl::OkStatus();
  }
  live.sandbox->Kill();
  context_.notifier.InvalidateEntry(kSandboxesId, std::string(name));
  context_.notifier.Drain();
  return absl::OkStatus();
}

void SandboxDirectory::End(const std::vector<Stash>& stashes) {
  for (const Stash& stash : stashes) {
    stash.sandbox->Kill();
    ++reuse_.dropped;
    context_.notifier.InvalidateEntry(kSandboxesId, stash.spec.name);
  }
}

void SandboxDirectory::DropStashes() { End(stashes_.TakeAll()); }

bool SandboxDirectory::DropHalfOfStashes() {
  const std::vector<Stash> half = stashes_.TakeHalf();
  End(half);
  return !half.empty();
}

void SandboxDirectory::ReleaseAll() {
  DropStashes();
  std::vector<std::string> names;
  {
    MutexLock lock(mu_);
    for (const auto& [name, live] : live_) names.push_back(name);
  }
  for (const std::string& name : names) {
    // Somebody else may be faster.
    Release(name, /*stash=*/false).IgnoreError();
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
  for (const Stash& stash : stashes_.List()) {
    SandboxInfo info = {.name = stash.spec.name,
                        .spec = stash.spec,
                        .created = stash.created,
                        .is_stash = true};
    stash.sandbox->Describe(info);
    list.push_back(std::move(info));
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
