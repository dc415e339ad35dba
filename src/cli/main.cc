// casement: the command line of casementd. casement(1) is its manual.
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "casement/client.h"
#include "cli/commands.h"
#include "cli/invocation.h"
#include "cli/terminal.h"

namespace casement {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;

absl::StatusOr<int> Dispatch(Client& client, const Invocation& invocation) {
  switch (invocation.command) {
    case CommandId::kPut:
      return Put(client, invocation);
    case CommandId::kGet:
      return Get(client, invocation);
    case CommandId::kSandboxCreate:
      return SandboxCreate(client, invocation);
    case CommandId::kSandboxList:
      return SandboxList(client, invocation);
    case CommandId::kSandboxDiff:
      return SandboxDiff(client, invocation);
    case CommandId::kSandboxCollect:
      return SandboxCollect(client, invocation);
    case CommandId::kSandboxRelease:
      return SandboxRelease(client, invocation);
    case CommandId::kRun:
      return Run(client, invocation);
    case CommandId::kEvict:
      return Evict(client, invocation);
    case CommandId::kStats:
      return Stats(client, invocation);
    case CommandId::kVerify:
      return Verify(client, invocation);
  }
  return absl::InternalError("no such command");
}

absl::StatusOr<int> Execute(const Invocation& invocation) {
  if (!invocation.text.empty()) {
    Print(invocation.text);
    return 0;
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                   Client::Connect(invocation.socket));
  return Dispatch(*client, invocation);
}

int Main(const std::vector<std::string>& words) {
  const absl::StatusOr<Invocation> invocation = ParseInvocation(words);
  if (!invocation.ok()) {
    PrintError(invocation.status().message());
    return kWrongUsage;
  }
  const absl::StatusOr<int> exit_status = Execute(*invocation);
  const absl::Status flushed = FlushOutput();
  if (!exit_status.ok()) {
    PrintError(exit_status.status().message());
    return kFailed;
  }
  if (!flushed.ok()) {
    PrintError(flushed.message());
    return kFailed;
  }
  return *exit_status;
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::Main(std::vector<std::string>(argv + 1, argv + argc));
}
