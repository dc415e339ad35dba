// An executor in thirty lines: runs a shell command over an input tree, in a
// sandbox, and puts one output into the store.
//
//   run_action INPUT_DIRECTORY OUTPUT_PATH COMMAND
#include <cstdlib>
#include <iostream>
#include <string>

#include "casement/client.h"

int Fail(const absl::Status& status) {
  std::cerr << "run_action: " << status.message() << "\n";
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 4) return Fail(absl::InvalidArgumentError("three words wanted"));
  auto client = casement::Client::Connect();
  if (!client.ok()) return Fail(client.status());
  auto inputs = (*client)->PutTree(argv[1], {});
  if (!inputs.ok()) return Fail(inputs.status());
  // The sandbox goes with the session, and that with this process.
  auto session = (*client)->StartSession();
  if (!session.ok()) return Fail(session.status());
  auto sandbox = (*client)->Create({.root = inputs->root}, session->get());
  if (!sandbox.ok()) return Fail(sandbox.status());
  // A real executor would use a mount namespace, as `casement run` does.
  const std::string enter = "cd '" + sandbox->info.path + "' && ";
  if (std::system((enter + argv[3]).c_str()) != 0) {
    return Fail(absl::AbortedError("the command failed"));
  }
  auto collected =
      (*client)->Collect(sandbox->info.name, {std::string(argv[2])});
  if (!collected.ok()) return Fail(collected.status());
  for (const auto& output : collected->outputs) {
    std::cout << output.digest.ToString() << "  " << output.path << "\n";
  }
  return collected->missing.empty() ? 0 : 1;
}
