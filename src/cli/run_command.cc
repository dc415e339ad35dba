// run: a sandbox, a command in it, its outputs, and nothing left.
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "cli/bubblewrap.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/sandbox_lines.h"
#include "cli/sandbox_request.h"
#include "cli/terminal.h"

namespace casement {
namespace {

struct Finished {
  BubblewrapResult result;
  absl::Duration run_time;
  CollectedOutputs collected;
  std::vector<SandboxChange> changes;  // With --json only.
  uint64_t inputs_opened = 0;          // With --json only.
};

absl::StatusOr<uint64_t> InputsOpened(Client& client, const std::string& name) {
  ASSIGN_OR_RETURN(const std::vector<RunningSandbox> sandboxes, client.List());
  for (const RunningSandbox& sandbox : sandboxes) {
    if (sandbox.name == name && !sandbox.is_stash) return sandbox.inputs_opened;
  }
  return absl::NotFoundError("run: the sandbox was released by somebody else");
}

absl::StatusOr<Finished> RunIn(Client& client, const Invocation& invocation,
                               const CreatedSandbox& sandbox) {
  const Arguments& arguments = invocation.arguments;
  Finished finished;
  const absl::Time start = absl::Now();
  ASSIGN_OR_RETURN(finished.result,
                   RunBubblewrap({.sandbox = sandbox.info.path,
                                  .is_root = arguments.Has("chroot"),
                                  .stdout_to_stderr = invocation.is_json,
                                  .command = arguments.operands()}));
  finished.run_time = absl::Now() - start;
  if (finished.result.was_interrupted) return finished;
  const std::string& name = sandbox.info.name;
  if (invocation.is_json) {
    ASSIGN_OR_RETURN(finished.changes, client.Diff(name));
    ASSIGN_OR_RETURN(finished.inputs_opened, InputsOpened(client, name));
  }
  if (arguments.Has("output")) {
    ASSIGN_OR_RETURN(finished.collected,
                     client.Collect(name, arguments.All("output"),
                                    {.send = arguments.Has("send")}));
  }
  return finished;
}

Json ToJson(const CreatedSandbox& sandbox, const Finished& finished) {
  Json json = {
      {"exit_status", finished.result.exit_status},
      {"create_microseconds", absl::ToDoubleMicroseconds(sandbox.create_time)},
      {"run_microseconds", absl::ToDoubleMicroseconds(finished.run_time)},
      {"input_files", sandbox.info.input_files},
      {"inputs_opened", finished.inputs_opened}};
  SetBytes(json, "sandbox", sandbox.info.name);
  json.update(ToJson(finished.collected));
  json["diff"] = ToJson(finished.changes);
  json["reused"] = ToJson(sandbox.reused);
  return json;
}

}  // namespace

absl::StatusOr<int> Run(Client& client, const Invocation& invocation) {
  ASSIGN_OR_RETURN(const SandboxSpec spec, SandboxSpecOf(invocation.arguments));
  // Whatever happens from here on: the sandbox goes when the session goes, and
  // that goes with this process.
  ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                   client.StartSession());
  ASSIGN_OR_RETURN(const CreatedSandbox sandbox,
                   client.Create(spec, session.get(),
                                 CreateOptionsOf(invocation.arguments)));
  ASSIGN_OR_RETURN(const Finished finished, RunIn(client, invocation, sandbox));
  RETURN_IF_ERROR(client.Release(
      sandbox.info.name,
      invocation.arguments.Has("stash") && !finished.result.was_interrupted));
  if (invocation.is_json) {
    Print(ToText(ToJson(sandbox, finished)));
  } else {
    Print(LinesOf(finished.collected.outputs));
    PrintMissing(finished.collected.missing);
  }
  return finished.result.exit_status;
}

}  // namespace casement
