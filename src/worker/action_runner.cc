#include "worker/action_runner.h"

#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "model/digest_message.h"
#include "proto/grpc_status.h"
#include "worker/action_process.h"
#include "worker/log.h"
#include "worker/output_parents.h"

namespace casement {
namespace {

using Named = ActionSpec::Named;

void SetTime(absl::Time time, google::protobuf::Timestamp* message) {
  const int64_t nanoseconds = absl::ToUnixNanos(time);
  message->set_seconds(nanoseconds / 1'000'000'000);
  message->set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
}

std::string HostName() {
  char name[256] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "";
}

// REv2 has two places for a symlink, the older by how the client named it.
void AddSymlink(const CollectedOutput& output, const ActionSpec::Output& asked,
                rev2::ActionResult& result) {
  rev2::OutputSymlink symlink;
  symlink.set_path(asked.path);
  symlink.set_target(output.target);
  switch (asked.named) {
    case Named::kPath:
      *result.add_output_symlinks() = symlink;
      return;
    case Named::kFile:
      *result.add_output_file_symlinks() = symlink;
      return;
    case Named::kDirectory:
      *result.add_output_directory_symlinks() = symlink;
      return;
  }
}

void AddOutput(const CollectedOutput& output, const ActionSpec::Output& asked,
               rev2::ActionResult& result) {
  switch (output.kind) {
    case CollectedOutput::Kind::kFile:
    case CollectedOutput::Kind::kExecutable: {
      rev2::OutputFile& file = *result.add_output_files();
      file.set_path(asked.path);
      SetMessage(output.digest, file.mutable_digest());
      file.set_is_executable(output.kind == CollectedOutput::Kind::kExecutable);
      return;
    }
    case CollectedOutput::Kind::kDirectory: {
      rev2::OutputDirectory& directory = *result.add_output_directories();
      directory.set_path(asked.path);
      SetMessage(output.digest, directory.mutable_tree_digest());
      SetMessage(output.root_directory,
                 directory.mutable_root_directory_digest());
      return;
    }
    case CollectedOutput::Kind::kSymlink:
      AddSymlink(output, asked, result);
      return;
  }
}

absl::Status StatusOf(const ActionSpec& spec, const ProcessResult& process) {
  switch (process.end) {
    case ProcessResult::End::kByItself:
      return absl::OkStatus();
    case ProcessResult::End::kTimeout:
      return absl::DeadlineExceededError(
          absl::StrCat("action ", spec.action.ToString(), ": killed after ",
                       absl::FormatDuration(spec.timeout)));
    case ProcessResult::End::kTooMuchOutput:
      return absl::ResourceExhaustedError(
          absl::StrCat("action ", spec.action.ToString(),
                       ": killed for its long standard output or error"));
    case ProcessResult::End::kCancelled:
      return absl::UnavailableError(
          absl::StrCat("action ", spec.action.ToString(),
                       ": killed because the worker ends"));
  }
  return absl::InternalError("no such end");
}

}  // namespace

absl::Status ActionRunner::AddOutputs(const CreatedSandbox& sandbox,
                                      const ActionSpec& spec,
                                      rev2::ActionResult& result) {
  std::map<std::string, const ActionSpec::Output*> asked;
  std::vector<std::string> paths;
  for (const ActionSpec::Output& output : spec.outputs) {
    const std::string path = spec.FromRoot(output.path);
    if (asked.emplace(path, &output).second) paths.push_back(path);
  }
  if (paths.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const CollectedOutputs collected,
                   client_.Collect(sandbox.info.name, paths,
                                   {.send = options_.send_outputs}));
  for (const CollectedOutput& output : collected.outputs) {
    const auto found = asked.find(output.path);
    if (found == asked.end()) continue;
    AddOutput(output, *found->second, result);
  }
  return absl::OkStatus();
}

absl::Status ActionRunner::RunIn(const CreatedSandbox& sandbox,
                                 const ActionSpec& spec,
                                 rev2::ExecutedActionMetadata& metadata,
                                 rev2::ActionResult& result) {
  RETURN_IF_ERROR(MakeOutputParents(sandbox.info.path, spec));
  SetTime(absl::Now(), metadata.mutable_execution_start_timestamp());
  ASSIGN_OR_RETURN(const ProcessResult process,
                   RunAction({.sandbox = sandbox.info.path,
                              .working_directory = spec.working_directory,
                              .command = spec.arguments,
                              .environment = spec.environment,
                              .timeout = spec.timeout,
                              .cancel_fd = options_.cancel_fd}));
  SetTime(absl::Now(), metadata.mutable_execution_completed_timestamp());
  result.set_exit_code(process.exit_status);
  ASSIGN_OR_RETURN(const Digest out, client_.Put(process.out));
  SetMessage(out, result.mutable_stdout_digest());
  ASSIGN_OR_RETURN(const Digest err, client_.Put(process.err));
  SetMessage(err, result.mutable_stderr_digest());
  RETURN_IF_ERROR(AddOutputs(sandbox, spec, result));
  if (options_.send_outputs) RETURN_IF_ERROR(client_.Send({out, err}));
  return StatusOf(spec, process);
}

absl::Status ActionRunner::RunInSandbox(const ActionSpec& spec,
                                        rev2::ExecutedActionMetadata& metadata,
                                        rev2::ActionResult& result) {
  // Whatever happens from here on: the sandbox goes when the session goes, and
  // that goes with this process.
  ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                   client_.StartSession());
  ASSIGN_OR_RETURN(
      const CreatedSandbox sandbox,
      client_.Create({.root = spec.input_root, .label = spec.label},
                     session.get()));
  const absl::Status ran = RunIn(sandbox, spec, metadata, result);
  // Kept for the next action that is like it; nobody is left inside.
  const absl::Status released =
      client_.Release(sandbox.info.name, /*stash=*/true);
  if (!released.ok()) Log(released.message());
  return ran;
}

rev2::ExecuteResponse ActionRunner::Run(const ActionSpec& spec,
                                        absl::Time queued) {
  rev2::ExecuteResponse response;
  rev2::ExecutedActionMetadata metadata;
  metadata.set_worker(HostName());
  SetTime(queued, metadata.mutable_queued_timestamp());
  SetTime(absl::Now(), metadata.mutable_worker_start_timestamp());
  rev2::ActionResult& result = *response.mutable_result();
  const absl::Status ran = RunInSandbox(spec, metadata, result);
  SetTime(absl::Now(), metadata.mutable_worker_completed_timestamp());
  result.set_execution_metadata(metadata.SerializeAsString());
  *response.mutable_status() = ToProto(ran);
  if (!ran.ok() && !result.has_stdout_digest()) response.clear_result();
  if (!ran.ok() || result.exit_code() != 0 || spec.do_not_cache) {
    return response;
  }
  // Without it the next who asks runs the action again, and that is all.
  const absl::Status cached = results_.Put(spec.action, result);
  if (!cached.ok()) Log(cached.message());
  return response;
}

}  // namespace casement
