// sandbox create, list, diff, collect, release.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/quote.h"
#include "base/status.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/sandbox_lines.h"
#include "cli/sandbox_request.h"
#include "cli/terminal.h"

namespace casement {

absl::StatusOr<int> SandboxCreate(Client& client,
                                  const Invocation& invocation) {
  ASSIGN_OR_RETURN(const SandboxSpec spec, SandboxSpecOf(invocation.arguments));
  CreateOptions options = CreateOptionsOf(invocation.arguments);
  options.cgroup = invocation.arguments.Get("cgroup");
  ASSIGN_OR_RETURN(const CreatedSandbox created,
                   client.Create(spec, /*session=*/nullptr, options));
  if (!invocation.is_json) {
    // For programs, which want the path as it is.
    Print(absl::StrCat(created.info.path, "\n"));
    return 0;
  }
  Json json = ToJson(created.info);
  json["create_microseconds"] = absl::ToDoubleMicroseconds(created.create_time);
  json["reused"] = ToJson(created.reused);
  Print(ToText(json));
  return 0;
}

absl::StatusOr<int> SandboxList(Client& client, const Invocation& invocation) {
  ASSIGN_OR_RETURN(const std::vector<RunningSandbox> sandboxes, client.List());
  Json list = Json::array();
  for (const RunningSandbox& sandbox : sandboxes) {
    if (invocation.is_json) {
      list.push_back(ToJson(sandbox));
      continue;
    }
    if (sandbox.is_stash) {
      Print(absl::StrCat("(stash) ", QuoteName(sandbox.name), "  ",
                         sandbox.spec.root.ToString(), "  ", sandbox.nodes,
                         " nodes known", sandbox.spec.label.empty() ? "" : "  ",
                         QuoteName(sandbox.spec.label), "\n"));
      continue;
    }
    Print(absl::StrCat(QuoteName(sandbox.name), "  ",
                       sandbox.spec.root.ToString(), "  ",
                       sandbox.inputs_opened, " of ", sandbox.input_files,
                       " inputs opened, ", sandbox.scratch_bytes,
                       " bytes written", sandbox.spec.label.empty() ? "" : "  ",
                       QuoteName(sandbox.spec.label), "\n"));
  }
  if (invocation.is_json) Print(ToText(list));
  return 0;
}

absl::StatusOr<int> SandboxDiff(Client& client, const Invocation& invocation) {
  ASSIGN_OR_RETURN(const std::vector<SandboxChange> changes,
                   client.Diff(invocation.arguments.operands().front()));
  Print(invocation.is_json ? ToText(ToJson(changes)) : LinesOf(changes));
  return 0;
}

absl::StatusOr<int> SandboxCollect(Client& client,
                                   const Invocation& invocation) {
  const std::vector<std::string>& operands = invocation.arguments.operands();
  ASSIGN_OR_RETURN(
      const CollectedOutputs collected,
      client.Collect(operands.front(), absl::MakeConstSpan(operands).subspan(1),
                     {.force = invocation.arguments.Has("force"),
                      .send = invocation.arguments.Has("send")}));
  if (invocation.is_json) {
    Print(ToText(ToJson(collected)));
    return 0;
  }
  Print(LinesOf(collected.outputs));
  PrintMissing(collected.missing);
  return 0;
}

absl::StatusOr<int> SandboxRelease(Client& client,
                                   const Invocation& invocation) {
  const std::string& name = invocation.arguments.operands().front();
  const bool stash = invocation.arguments.Has("stash");
  RETURN_IF_ERROR(client.Release(name, stash));
  if (invocation.is_json) {
    Json json;
    SetBytes(json, "name", name);
    json["stash"] = stash;
    Print(ToText(json));
  }
  return 0;
}

}  // namespace casement
