// casement-worker: a real one, beside a real casementd, spoken to as any client
// of remote execution would.
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>      // NOLINT
#include <filesystem>  // NOLINT
#include <memory>
#include <optional>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "casement/v1/sandboxes.grpc.pb.h"
#include "casement/v1/store.grpc.pb.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "support/blob_messages.h"
#include "support/running_daemon.h"
#include "support/running_worker.h"
#include "support/socket_proxy.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
namespace rev2 = ::build::bazel::remote::execution::v2;
using google::longrunning::Operation;
using grpc::ClientContext;
using grpc::StatusCode;

template <typename Condition>
bool Eventually(const Condition& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    usleep(10000);
  }
  return false;
}

std::unique_ptr<ClientContext> WithDeadline(int seconds = 60) {
  auto context = std::make_unique<ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::seconds(seconds));
  return context;
}

// How an Execute or WaitExecution went.
struct Outcome {
  grpc::Status call;
  std::vector<rev2::ExecutionStage::Value> stages;
  std::string name;
  rev2::ExecuteResponse response;

  int code() const { return response.status().code(); }
  const rev2::ActionResult& result() const { return response.result(); }
};

class WorkerTest : public testing::Test {
 protected:
  explicit WorkerTest(std::vector<std::string> arguments = {},
                      std::vector<std::string> daemon_arguments = {})
      : daemon_(std::move(daemon_arguments)),
        worker_(std::in_place, daemon_, std::move(arguments)) {
    Connect();
    fs::create_directory(inputs_);
    WriteFile(inputs_ + "/in.txt", "input\n");
  }

  void Connect() {
    channel_ = worker_->Channel();
    execution_ = rev2::Execution::NewStub(channel_);
  }

  Digest Put(const std::string& bytes) {
    const auto digest = daemon_.client().Put(bytes);
    EXPECT_TRUE(digest.ok()) << digest.status();
    return *digest;
  }
  std::string Get(const rev2::Digest& message) {
    const auto digest = Digest::FromParts(message.hash(), message.size_bytes());
    const auto bytes = daemon_.client().GetBytes(*digest, 1 << 28);
    return bytes.ok() ? *bytes : bytes.status().ToString();
  }

  // A shell's script, with what the action is else.
  static rev2::Command Script(const std::string& script,
                              const std::vector<std::string>& outputs = {}) {
    rev2::Command command;
    for (const char* word : {"/bin/sh", "-c", script.c_str()}) {
      command.add_arguments(word);
    }
    for (const std::string& output : outputs) command.add_output_paths(output);
    return command;
  }
  Digest PutAction(const rev2::Command& command, rev2::Action action = {}) {
    const auto inputs = daemon_.client().PutTree(inputs_, {});
    EXPECT_TRUE(inputs.ok()) << inputs.status();
    *action.mutable_command_digest() =
        MessageOf(Put(command.SerializeAsString()));
    if (!action.has_input_root_digest()) {
      *action.mutable_input_root_digest() = MessageOf(inputs->root);
    }
    return Put(action.SerializeAsString());
  }

  static Outcome Follow(grpc::ClientReader<Operation>& reader) {
    Outcome outcome;
    Operation operation;
    while (reader.Read(&operation)) {
      rev2::ExecuteOperationMetadata metadata;
      operation.metadata().UnpackTo(&metadata);
      outcome.stages.push_back(metadata.stage());
      outcome.name = operation.name();
      if (operation.done()) {
        EXPECT_TRUE(operation.response().UnpackTo(&outcome.response));
      }
    }
    outcome.call = reader.Finish();
    return outcome;
  }
  static rev2::ExecuteRequest RequestFor(const Digest& action,
                                         bool skip_cache_lookup = false) {
    rev2::ExecuteRequest request;
    *request.mutable_action_digest() = MessageOf(action);
    request.set_skip_cache_lookup(skip_cache_lookup);
    return request;
  }
  Outcome Execute(const Digest& action, bool skip_cache_lookup = false) {
    const auto context = WithDeadline();
    return Follow(*execution_->Execute(context.get(),
                                       RequestFor(action, skip_cache_lookup)));
  }
  Outcome Run(const std::string& script,
              const std::vector<std::string>& outputs = {}) {
    return Execute(PutAction(Script(script, outputs)));
  }
  Outcome Wait(const std::string& name) {
    rev2::WaitExecutionRequest request;
    request.set_name(name);
    const auto context = WithDeadline();
    return Follow(*execution_->WaitExecution(context.get(), request));
  }

  // A line is added to this file, which is outside of all sandboxes, by each
  // run of a script that Counts().
  std::string Counting(const std::string& script) const {
    return absl::StrCat("echo x >> ", counter_, "; ", script);
  }
  int Runs() const {
    const std::string text = ReadFile(counter_);
    return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
  }
  bool IsAnybodyInside() const {
    return RunProgram({"pgrep", "-f", daemon_.At("sandbox/")}).exit_status == 0;
  }
  int LiveSandboxes() {
    const auto sandboxes = daemon_.client().List();
    EXPECT_TRUE(sandboxes.ok()) << sandboxes.status();
    int live = 0;
    for (const RunningSandbox& sandbox : *sandboxes) {
      live += sandbox.is_stash ? 0 : 1;
    }
    return live;
  }

  RunningDaemon daemon_;
  std::optional<RunningWorker> worker_;
  const std::string inputs_ = daemon_.folder() + "/inputs";
  const std::string counter_ = daemon_.folder() + "/counter";
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<rev2::Execution::Stub> execution_;
};

// What an action gives.

TEST_F(WorkerTest, ReportsWhatTheActionGave) {
  const Outcome outcome =
      Run("cat in.txt; echo complaint >&2; mkdir dir dir/below; cp in.txt "
          "dir/below;"
          "cp in.txt plain; cp in.txt tool; chmod +x tool; ln -s plain link",
          {"plain", "tool", "link", "dir", "absent", "in.txt"});
  ASSERT_TRUE(outcome.call.ok()) << outcome.call.error_message();
  ASSERT_EQ(outcome.code(), 0) << outcome.response.status().message();
  EXPECT_FALSE(outcome.response.cached_result());
  const rev2::ActionResult& result = outcome.result();
  EXPECT_EQ(result.exit_code(), 0);
  EXPECT_EQ(Get(result.stdout_digest()), "input\n");
  EXPECT_EQ(Get(result.stderr_digest()), "complaint\n");
  ASSERT_EQ(result.output_files_size(), 3);  // In the order asked for.
  EXPECT_EQ(result.output_files(0).path(), "plain");
  EXPECT_FALSE(result.output_files(0).is_executable());
  EXPECT_EQ(Get(result.output_files(0).digest()), "input\n");
  EXPECT_EQ(result.output_files(1).path(), "tool");
  EXPECT_TRUE(result.output_files(1).is_executable());
  EXPECT_EQ(result.output_files(2).path(), "in.txt");
  ASSERT_EQ(result.output_symlinks_size(), 1);
  EXPECT_EQ(result.output_symlinks(0).path(), "link");
  EXPECT_EQ(result.output_symlinks(0).target(), "plain");
  ASSERT_EQ(result.output_directories_size(), 1);
  EXPECT_EQ(result.output_directories(0).path(), "dir");
  rev2::Tree tree;
  ASSERT_TRUE(
      tree.ParseFromString(Get(result.output_directories(0).tree_digest())));
  EXPECT_EQ(tree.root().directories(0).name(), "below");
  rev2::ExecutedActionMetadata metadata;
  ASSERT_TRUE(metadata.ParseFromString(result.execution_metadata()));
  EXPECT_GT(metadata.execution_completed_timestamp().seconds(), 0);
  EXPECT_EQ(outcome.stages.back(), rev2::ExecutionStage::COMPLETED);
}

TEST_F(WorkerTest, OlderClientsNameFilesAndDirectoriesApart) {
  rev2::Command command =
      Script("echo f > file; mkdir dir; ln -s a flink; ln -s b dlink");
  command.add_output_files("file");
  command.add_output_files("flink");
  command.add_output_directories("dir");
  command.add_output_directories("dlink");
  const Outcome outcome = Execute(PutAction(command));
  ASSERT_EQ(outcome.code(), 0) << outcome.response.status().message();
  EXPECT_EQ(outcome.result().output_files(0).path(), "file");
  EXPECT_EQ(outcome.result().output_directories(0).path(), "dir");
  EXPECT_EQ(outcome.result().output_file_symlinks(0).path(), "flink");
  EXPECT_EQ(outcome.result().output_directory_symlinks(0).path(), "dlink");
}

TEST_F(WorkerTest, PathsAreBelowTheWorkingDirectory) {
  fs::create_directories(inputs_ + "/below/here");
  rev2::Command command =
      Script("pwd; echo o > a/b/out; echo p > side", {"a/b/out", "side", ""});
  command.set_working_directory("below/here");
  const Outcome outcome = Execute(PutAction(command));
  ASSERT_EQ(outcome.code(), 0) << outcome.response.status().message();
  EXPECT_TRUE(
      absl::EndsWith(Get(outcome.result().stdout_digest()), "/below/here\n"));
  ASSERT_EQ(outcome.result().output_files_size(), 2);
  EXPECT_EQ(outcome.result().output_files(0).path(), "a/b/out");
  EXPECT_EQ(Get(outcome.result().output_files(0).digest()), "o\n");
  ASSERT_EQ(outcome.result().output_directories_size(), 1);
  EXPECT_EQ(outcome.result().output_directories(0).path(), "");
}

TEST_F(WorkerTest, EnvironmentIsTheActionsAndNothingElse) {
  rev2::Command command;
  command.add_arguments("/usr/bin/env");
  Outcome outcome = Execute(PutAction(command));
  EXPECT_EQ(Get(outcome.result().stdout_digest()), "");
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{
           {"A", "b=c d"}, {"PWD", "/proc/self/cwd"}}) {
    auto& variable = *command.add_environment_variables();
    variable.set_name(name);
    variable.set_value(value);
  }
  outcome = Execute(PutAction(command));
  EXPECT_EQ(Get(outcome.result().stdout_digest()),
            "A=b=c d\nPWD=/proc/self/cwd\n");
}

TEST_F(WorkerTest, ProgramsAreLookedForOnTheActionsPath) {
  WriteFile(inputs_ + "/program", "#!/bin/sh\necho found\n");
  fs::permissions(inputs_ + "/program", fs::perms(0755));
  rev2::Command command;
  command.add_arguments("program");
  Outcome outcome = Execute(PutAction(command));
  EXPECT_EQ(outcome.code(), 0);
  EXPECT_EQ(outcome.result().exit_code(), 127);
  auto& variable = *command.add_environment_variables();
  variable.set_name("PATH");
  variable.set_value(".");
  outcome = Execute(PutAction(command));
  EXPECT_EQ(outcome.result().exit_code(), 0);
  EXPECT_EQ(Get(outcome.result().stdout_digest()), "found\n");
}

TEST_F(WorkerTest, ExitCodesAndSignalsAreReported) {
  EXPECT_EQ(Run("exit 3").result().exit_code(), 3);
  EXPECT_EQ(Run("kill -9 $$").result().exit_code(), 137);
}

TEST_F(WorkerTest, NothingThatAnActionStartedIsLeft) {
  const Outcome outcome = Run("sleep 1000 & sleep 1001 & echo done");
  EXPECT_EQ(Get(outcome.result().stdout_digest()), "done\n");
  EXPECT_FALSE(IsAnybodyInside());
  EXPECT_EQ(LiveSandboxes(), 0);
}

TEST_F(WorkerTest, ReleasedSandboxesServeTheNextActions) {
  for (int i = 0; i < 50; ++i) {
    WriteFile(absl::StrCat(inputs_, "/", i), absl::StrCat(i));
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Run(absl::StrCat("cat * > out; echo ", i), {"out"}).code(), 0);
  }
  // Not each: on a busy machine a file is closed too late now and then.
  EXPECT_GE(daemon_.Metric("reuse_total", "exact"), 5)
      << daemon_.Casement({"stats", "--prometheus"}).out;
}

TEST_F(WorkerTest, SandboxesAreLabelledWithTheTargetThatIsBuilt) {
  rev2::RequestMetadata who;
  who.set_target_id("//package:target");
  who.set_action_mnemonic("CppCompile");
  const auto context = WithDeadline();
  context->AddMetadata("build.bazel.remote.execution.v2.requestmetadata-bin",
                       who.SerializeAsString());
  const Digest action = PutAction(Script(Counting("sleep 1000")));
  const auto reader = execution_->Execute(context.get(), RequestFor(action));
  EXPECT_TRUE(Eventually([&] { return Runs() == 1; }));
  const auto sandboxes = daemon_.client().List();
  ASSERT_EQ(sandboxes->size(), 1u);
  EXPECT_EQ(sandboxes->front().spec.label, "//package:target");
  context->TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
}

// The cache.

TEST_F(WorkerTest, AnActionThatSucceededIsNotRunAgain) {
  const Digest action = PutAction(Script(Counting("echo once")));
  EXPECT_FALSE(Execute(action).response.cached_result());
  const Outcome again = Execute(action);
  EXPECT_TRUE(again.response.cached_result());
  EXPECT_EQ(Get(again.result().stdout_digest()), "once\n");
  EXPECT_EQ(Runs(), 1);
  EXPECT_FALSE(
      Execute(action, /*skip_cache_lookup=*/true).response.cached_result());
  EXPECT_EQ(Runs(), 2);
}

TEST_F(WorkerTest, AnActionThatFailedIsRunAgain) {
  const Digest action = PutAction(Script(Counting("exit 1")));
  EXPECT_EQ(Execute(action).result().exit_code(), 1);
  EXPECT_EQ(Execute(action).result().exit_code(), 1);
  EXPECT_EQ(Runs(), 2);
}

TEST_F(WorkerTest, DoNotCacheIsHonoured) {
  rev2::Action action;
  action.set_do_not_cache(true);
  const Digest digest = PutAction(Script(Counting("true")), action);
  Execute(digest);
  Execute(digest);
  EXPECT_EQ(Runs(), 2);
}

// Refusals.

TEST_F(WorkerTest, MissingActionsAndCommandsAreNamed) {
  const auto expect_named = [](const Outcome& outcome, const Digest& missing) {
    EXPECT_EQ(outcome.call.error_code(), StatusCode::FAILED_PRECONDITION)
        << outcome.call.error_message();
    google::rpc::Status status;
    ASSERT_TRUE(status.ParseFromString(outcome.call.error_details()));
    google::rpc::PreconditionFailure failure;
    ASSERT_EQ(status.details_size(), 1);
    ASSERT_TRUE(status.details(0).UnpackTo(&failure));
    ASSERT_EQ(failure.violations_size(), 1);
    EXPECT_EQ(failure.violations(0).type(), "MISSING");
    EXPECT_EQ(failure.violations(0).subject(), BlobName(missing));
  };
  const Digest absent = Digest::Of("absent");
  expect_named(Execute(absent), absent);
  rev2::Action action;
  *action.mutable_command_digest() = MessageOf(absent);
  *action.mutable_input_root_digest() = MessageOf(Digest::Of(""));
  expect_named(Execute(Put(action.SerializeAsString())), absent);
}

TEST_F(WorkerTest, MissingInputsAreNamed) {
  const Digest absent = Digest::Of("absent");
  rev2::Directory root;
  auto& file = *root.add_files();
  file.set_name("file");
  *file.mutable_digest() = MessageOf(absent);
  rev2::Action action;
  *action.mutable_input_root_digest() =
      MessageOf(Put(root.SerializeAsString()));
  const Outcome outcome = Execute(PutAction(Script("true"), action));
  EXPECT_TRUE(outcome.call.ok());
  const google::rpc::Status& status = outcome.response.status();
  EXPECT_EQ(status.code(), StatusCode::FAILED_PRECONDITION);
  google::rpc::PreconditionFailure failure;
  ASSERT_EQ(status.details_size(), 1) << status.message();
  ASSERT_TRUE(status.details(0).UnpackTo(&failure));
  EXPECT_EQ(failure.violations(0).subject(), BlobName(absent));
}

TEST_F(WorkerTest, InputsThatDoNotFitAreExhausted) {
  rev2::Directory root;
  auto& file = *root.add_files();
  file.set_name("file");
  file.mutable_digest()->set_hash(std::string(64, '7'));
  file.mutable_digest()->set_size_bytes(int64_t{1} << 50);
  rev2::Action action;
  *action.mutable_input_root_digest() =
      MessageOf(Put(root.SerializeAsString()));
  const Outcome outcome = Execute(PutAction(Script("true"), action));
  EXPECT_TRUE(outcome.call.ok());
  EXPECT_EQ(outcome.code(), StatusCode::RESOURCE_EXHAUSTED)
      << outcome.response.status().message();
}

TEST_F(WorkerTest, MalformedActionsAreInvalid) {
  std::vector<rev2::Command> commands = {rev2::Command()};
  for (const std::string path : {"/etc/x", "a/../b", "a//b", "./a", "a/"}) {
    commands.push_back(Script("true", {path}));
    commands.push_back(Script("true"));
    commands.back().set_working_directory(path);
  }
  commands.push_back(Script("true"));
  commands.back().add_environment_variables()->set_name("a=b");
  for (const rev2::Command& command : commands) {
    EXPECT_EQ(Execute(PutAction(command)).call.error_code(),
              StatusCode::INVALID_ARGUMENT)
        << command.ShortDebugString();
  }
  EXPECT_EQ(Execute(Put("no message")).call.error_code(),
            StatusCode::INVALID_ARGUMENT);
  rev2::ExecuteRequest request = RequestFor(Digest::Of("x"));
  request.mutable_action_digest()->set_hash("XY");
  EXPECT_EQ(Follow(*execution_->Execute(WithDeadline().get(), request))
                .call.error_code(),
            StatusCode::INVALID_ARGUMENT);
  rev2::Action action;
  action.mutable_timeout()->set_seconds(3601);
  EXPECT_EQ(Execute(PutAction(Script("true"), action)).call.error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(WorkerTest, WorkingDirectoriesMustBeInputs) {
  rev2::Command command = Script("true");
  command.set_working_directory("nowhere");
  EXPECT_EQ(Execute(PutAction(command)).code(),
            StatusCode::FAILED_PRECONDITION);
}

TEST_F(WorkerTest, NoDirectoryIsMadeOutsideOfTheSandbox) {
  const std::string outside = daemon_.folder() + "/outside";
  fs::create_directory(outside);
  fs::create_directory_symlink(outside, inputs_ + "/link");
  EXPECT_EQ(Run("true", {"link/made/out"}).code(),
            StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(fs::is_empty(outside));
}

rev2::Command OnPlatform(rev2::Command command, const std::string& name,
                         const std::string& value) {
  auto& property = *command.mutable_platform()->add_properties();
  property.set_name(name);
  property.set_value(value);
  return command;
}

TEST_F(WorkerTest, PlatformsThatItIsNotAreRefused) {
  EXPECT_TRUE(
      Execute(PutAction(OnPlatform(Script("true"), "OSFamily", "Linux")))
          .call.ok());
  EXPECT_EQ(
      Execute(PutAction(OnPlatform(Script("true"), "OSFamily", "windows")))
          .call.error_code(),
      StatusCode::FAILED_PRECONDITION);
  const Outcome unknown = Execute(
      PutAction(OnPlatform(Script("true"), "container-image", "docker://x")));
  EXPECT_EQ(unknown.call.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(absl::StrContains(unknown.call.error_message(),
                                "platform property container-image"))
      << unknown.call.error_message();
}

class LenientWorkerTest : public WorkerTest {
 protected:
  LenientWorkerTest() : WorkerTest({"--ignore-platform"}) {}
};

TEST_F(LenientWorkerTest, PlatformsCanBeIgnored) {
  EXPECT_EQ(
      Execute(PutAction(OnPlatform(Script("true"), "gpu", "many"))).code(), 0);
}

// With a remote cache, which is another casementd.

struct Farm {
  RunningDaemon farm_;
  SocketProxy proxy_{farm_.folder() + "/proxy", farm_.socket()};
};

class SendingWorkerTest : protected Farm, public WorkerTest {
 protected:
  SendingWorkerTest()
      : WorkerTest({"--send-outputs"},
                   {"--remote", absl::StrCat("unix:", farm_.folder(), "/proxy"),
                    "--remote-timeout", "2"}) {}

  bool IsThere(const rev2::Digest& message) {
    const auto digest = Digest::FromParts(message.hash(), message.size_bytes());
    return farm_.client().Missing({*digest})->empty();
  }
};

TEST_F(SendingWorkerTest, WhatAnActionGaveIsThereWhenItsResultIsTold) {
  const Outcome outcome =
      Run("echo out; echo err >&2; echo f > file; mkdir dir; echo d > dir/d",
          {"file", "dir"});
  ASSERT_EQ(outcome.code(), 0) << outcome.response.status().message();
  const rev2::ActionResult& result = outcome.result();
  EXPECT_TRUE(IsThere(result.stdout_digest()));
  EXPECT_TRUE(IsThere(result.stderr_digest()));
  EXPECT_TRUE(IsThere(result.output_files(0).digest()));
  EXPECT_TRUE(IsThere(result.output_directories(0).tree_digest()));
  EXPECT_TRUE(IsThere(result.output_directories(0).root_directory_digest()));
  EXPECT_TRUE(IsThere(MessageOf(Digest::Of("d\n"))));
}

TEST_F(SendingWorkerTest, WhatCannotBeSentIsNoResultToKeep) {
  const Digest action =
      PutAction(Script(Counting("echo out; echo f > file"), {"file"}));
  proxy_.Cut();
  const Outcome failed = Execute(action);
  EXPECT_TRUE(failed.code() == StatusCode::UNAVAILABLE ||
              failed.code() == StatusCode::DEADLINE_EXCEEDED)
      << failed.response.status().message();
  EXPECT_TRUE(
      absl::StrContains(failed.response.status().message(), "remote unix:"));
  EXPECT_EQ(LiveSandboxes(), 0);
  proxy_.Mend();
  EXPECT_EQ(Execute(action).code(), 0);
  EXPECT_EQ(Runs(), 2);
}

TEST_F(WorkerTest, ToSendOutputsItNeedsARemoteCache) {
  const ProgramResult result =
      RunProgram({CASEMENT_WORKER, "--listen", "127.0.0.1:0", "--send-outputs",
                  "--socket", daemon_.socket()});
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_TRUE(absl::StrContains(result.err, "no remote cache")) << result.err;
}

// Ends.

TEST_F(WorkerTest, AtItsTimeoutAnActionIsKilledAndWhatItGaveIsTold) {
  rev2::Action action;
  action.mutable_timeout()->set_seconds(1);
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = Execute(PutAction(
      Script("echo begun; echo part > out; sleep 1000 & sleep 1000", {"out"}),
      action));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  EXPECT_EQ(outcome.code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(Get(outcome.result().stdout_digest()), "begun\n");
  ASSERT_EQ(outcome.result().output_files_size(), 1);
  EXPECT_EQ(Get(outcome.result().output_files(0).digest()), "part\n");
  EXPECT_FALSE(IsAnybodyInside());
  EXPECT_EQ(LiveSandboxes(), 0);
}

TEST_F(WorkerTest, OutputWithoutEndIsExhausted) {
  const Outcome outcome = Run("yes");
  EXPECT_EQ(outcome.code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_FALSE(IsAnybodyInside());
}

TEST_F(WorkerTest, AnActionWhoseClientDiesIsRunToItsEnd) {
  const Digest action = PutAction(
      Script(Counting(absl::StrCat("while [ ! -e ", daemon_.folder(),
                                   "/go ]; do sleep 0.05; done; echo end"))));
  std::string name;
  {
    const auto context = WithDeadline();
    const auto reader = execution_->Execute(context.get(), RequestFor(action));
    Operation operation;
    while (reader->Read(&operation)) {
      name = operation.name();
      rev2::ExecuteOperationMetadata metadata;
      operation.metadata().UnpackTo(&metadata);
      if (metadata.stage() == rev2::ExecutionStage::EXECUTING) break;
    }
    context->TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([&] { return Runs() == 1; }));
  WriteFile(daemon_.folder() + "/go", "");
  const Outcome outcome = Wait(name);
  ASSERT_TRUE(outcome.call.ok()) << outcome.call.error_message();
  EXPECT_EQ(Get(outcome.result().stdout_digest()), "end\n");
  EXPECT_TRUE(Execute(action).response.cached_result());
  // It is remembered for a while.
  EXPECT_EQ(Wait(name).stages.size(), 1u);
  EXPECT_EQ(Runs(), 1);
}

TEST_F(WorkerTest, OperationsThatThereAreNotAreNotFound) {
  EXPECT_EQ(Wait("nonsense").call.error_code(), StatusCode::NOT_FOUND);
}

TEST_F(WorkerTest, SigtermKillsWhatRunsAndSaysSo) {
  const Digest action = PutAction(Script(Counting("sleep 1000")));
  Outcome outcome;
  std::thread client([&] { outcome = Execute(action); });
  EXPECT_TRUE(Eventually([&] { return Runs() == 1; }));
  EXPECT_EQ(worker_->End(SIGTERM), 0);
  client.join();
  EXPECT_EQ(outcome.code(), StatusCode::UNAVAILABLE)
      << outcome.call.error_message();
  EXPECT_FALSE(IsAnybodyInside());
  EXPECT_EQ(LiveSandboxes(), 0);
  EXPECT_FALSE(fs::exists(worker_->socket()));
}

TEST_F(WorkerTest, AfterSigkillNothingOfItIsLeft) {
  const Digest action = PutAction(Script(Counting("sleep 1000")));
  std::thread client([&] { Execute(action); });
  EXPECT_TRUE(Eventually([&] { return Runs() == 1; }));
  worker_->End(SIGKILL);
  client.join();
  EXPECT_TRUE(Eventually([&] { return !IsAnybodyInside(); }));
  EXPECT_TRUE(Eventually([&] { return LiveSandboxes() == 0; }));
  worker_.emplace(daemon_, std::vector<std::string>());
  Connect();
  EXPECT_EQ(Run("true").code(), 0);
}

TEST_F(WorkerTest, ARestartedDaemonIsUsed) {
  EXPECT_EQ(Run("echo before").code(), 0);
  EXPECT_EQ(daemon_.Stop(), 0);
  EXPECT_EQ(Execute(Digest::Of("any")).call.error_code(),
            StatusCode::UNAVAILABLE);
  daemon_.Start();
  EXPECT_TRUE(Eventually([&] {
    const Outcome outcome = Run("echo after");
    return outcome.call.ok() && outcome.code() == 0;
  }));
}

// Many at once.

TEST_F(WorkerTest, ClientsOfOneActionShareOneRun) {
  const Digest action = PutAction(Script(Counting("sleep 1; echo shared")));
  rev2::Action own;
  own.set_do_not_cache(true);
  const Digest apart = PutAction(Script(Counting("sleep 0.1")), own);
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      const Outcome outcome = Execute(action, /*skip_cache_lookup=*/true);
      EXPECT_EQ(Get(outcome.result().stdout_digest()), "shared\n");
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(Runs(), 1);
  clients.clear();
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] { EXPECT_EQ(Execute(apart).code(), 0); });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(Runs(), 5);
}

TEST_F(WorkerTest, SixtyFourClientsAreServed) {
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([this, i] {
      const auto execution = rev2::Execution::NewStub(worker_->Channel());
      const Digest action = PutAction(
          Script(absl::StrCat("cat in.txt > out; echo ", i), {"out"}));
      const auto context = WithDeadline(120);
      const Outcome outcome =
          Follow(*execution->Execute(context.get(), RequestFor(action)));
      EXPECT_TRUE(outcome.call.ok()) << outcome.call.error_message();
      EXPECT_EQ(outcome.code(), 0) << outcome.response.status().message();
      EXPECT_EQ(Get(outcome.result().stdout_digest()), absl::StrCat(i, "\n"));
      EXPECT_EQ(outcome.result().output_files_size(), 1);
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(LiveSandboxes(), 0);
}

class NarrowWorkerTest : public WorkerTest {
 protected:
  NarrowWorkerTest() : WorkerTest({"--jobs", "1", "--queue-max", "1"}) {}
};

TEST_F(NarrowWorkerTest, PastItsQueueActionsAreRefused) {
  const std::string until = absl::StrCat("while [ ! -e ", daemon_.folder(),
                                         "/go ]; do sleep 0.05; done");
  const Digest running = PutAction(Script(Counting(until)));
  const Digest waiting = PutAction(Script("echo waiting"));
  std::thread first([&] { EXPECT_EQ(Execute(running).code(), 0); });
  EXPECT_TRUE(Eventually([&] { return Runs() == 1; }));
  const auto context = WithDeadline();
  const auto second = execution_->Execute(context.get(), RequestFor(waiting));
  Operation queued;
  ASSERT_TRUE(second->Read(&queued));
  EXPECT_EQ(Run("echo third").call.error_code(),
            StatusCode::RESOURCE_EXHAUSTED);
  WriteFile(daemon_.folder() + "/go", "");
  first.join();
  EXPECT_EQ(Follow(*second).code(), 0);
  EXPECT_EQ(Run("echo fourth").code(), 0);
}

// Casementd's services, by way of the worker.

TEST_F(WorkerTest, CapabilitiesAreTheDaemonsAndExecution) {
  rev2::ServerCapabilities response;
  ASSERT_TRUE(rev2::Capabilities::NewStub(channel_)
                  ->GetCapabilities(WithDeadline().get(), {}, &response)
                  .ok());
  EXPECT_TRUE(response.execution_capabilities().exec_enabled());
  EXPECT_EQ(response.execution_capabilities().digest_function(),
            rev2::DigestFunction::SHA256);
  EXPECT_GT(response.cache_capabilities().max_batch_total_size_bytes(), 0);
}

TEST_F(WorkerTest, BlobsGoToTheDaemonAndBack) {
  const std::string small = "by way of the worker";
  const std::string large(9 << 20, 'l');
  auto cas = rev2::ContentAddressableStorage::NewStub(channel_);
  rev2::BatchUpdateBlobsRequest update;
  *update.add_requests()->mutable_digest() = MessageOf(Digest::Of(small));
  update.mutable_requests(0)->set_data(small);
  rev2::BatchUpdateBlobsResponse updated;
  ASSERT_TRUE(
      cas->BatchUpdateBlobs(WithDeadline().get(), update, &updated).ok());
  EXPECT_EQ(ReadFile(daemon_.At("cas/" + Digest::Of(small).ToString())), small);

  auto bytes = google::bytestream::ByteStream::NewStub(channel_);
  const std::string name =
      absl::StrCat("uploads/1-2-3/", BlobName(Digest::Of(large)));
  google::bytestream::WriteResponse written;
  const auto context = WithDeadline();
  const auto writer = bytes->Write(context.get(), &written);
  for (size_t at = 0; at < large.size(); at += 1 << 20) {
    google::bytestream::WriteRequest piece;
    piece.set_resource_name(name);
    piece.set_write_offset(static_cast<int64_t>(at));
    piece.set_data(large.substr(at, 1 << 20));
    piece.set_finish_write(at + (1 << 20) == large.size());
    ASSERT_TRUE(writer->Write(piece));
  }
  writer->WritesDone();
  ASSERT_TRUE(writer->Finish().ok());
  EXPECT_EQ(written.committed_size(), static_cast<int64_t>(large.size()));

  google::bytestream::ReadRequest request;
  request.set_resource_name(BlobName(Digest::Of(large)));
  const auto reading = WithDeadline();
  const auto reader = bytes->Read(reading.get(), request);
  std::string got;
  google::bytestream::ReadResponse response;
  while (reader->Read(&response)) got += response.data();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(got == large);
}

TEST_F(WorkerTest, AnUploadThatBreaksOffStoresNothingAndCanGoOn) {
  const std::string blob(4 << 20, 'b');
  auto bytes = google::bytestream::ByteStream::NewStub(channel_);
  const std::string name =
      absl::StrCat("uploads/1-2-3/", BlobName(Digest::Of(blob)));
  {
    google::bytestream::WriteResponse written;
    const auto context = WithDeadline();
    const auto writer = bytes->Write(context.get(), &written);
    google::bytestream::WriteRequest piece;
    piece.set_resource_name(name);
    piece.set_data(blob.substr(0, 1 << 20));
    ASSERT_TRUE(writer->Write(piece));
    // So that it has got there before the end does.
    usleep(200'000);
    context->TryCancel();
    writer->Finish();
  }
  google::bytestream::QueryWriteStatusRequest query;
  query.set_resource_name(name);
  google::bytestream::QueryWriteStatusResponse status;
  EXPECT_TRUE(Eventually([&] {
    return bytes->QueryWriteStatus(WithDeadline().get(), query, &status).ok() &&
           status.committed_size() == 1 << 20;
  })) << status.committed_size();
  EXPECT_FALSE(daemon_.client().Missing({Digest::Of(blob)})->empty());
}

TEST_F(WorkerTest, ErrorsOfTheDaemonsKeepTheirDetails) {
  google::bytestream::ReadRequest request;
  request.set_resource_name(BlobName(Digest::Of("absent")));
  const auto context = WithDeadline();
  const auto reader = google::bytestream::ByteStream::NewStub(channel_)->Read(
      context.get(), request);
  google::bytestream::ReadResponse response;
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::NOT_FOUND);
  EXPECT_TRUE(absl::StrContains(status.error_details(),
                                BlobName(Digest::Of("absent"))));
}

// G24
TEST_F(WorkerTest, WhatIsNotRev2IsNotPassedOn) {
  v1::Sandbox sandbox;
  EXPECT_EQ(v1::Sandboxes::NewStub(channel_)
                ->Create(WithDeadline().get(), {}, &sandbox)
                .error_code(),
            StatusCode::UNIMPLEMENTED);
  v1::StatsResponse stats;
  EXPECT_EQ(v1::Store::NewStub(channel_)
                ->Stats(WithDeadline().get(), {}, &stats)
                .error_code(),
            StatusCode::UNIMPLEMENTED);
}

// Starting.

TEST_F(WorkerTest, SocketIsForItsOwnerOnly) {
  struct stat attributes;
  ASSERT_EQ(stat(worker_->socket().c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0600u);
}

TEST_F(WorkerTest, WrongUsageIsExitStatus2) {
  for (const std::vector<std::string>& options :
       std::vector<std::vector<std::string>>{
           {},
           {"--listen", "8981"},
           {"--listen", "unix:"},
           {"--listen", "0.0.0.0:0"},
           {"--listen", "unix:x", "--jobs", "0"},
           {"--listen", "unix:x", "--timeout-max", "-1"}}) {
    std::vector<std::string> words = {CASEMENT_WORKER, "--socket",
                                      daemon_.socket()};
    words.insert(words.end(), options.begin(), options.end());
    const ProgramResult result = RunProgram(words);
    EXPECT_EQ(result.exit_status, 2) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1)
        << result.err;
  }
}

TEST_F(WorkerTest, WithoutADaemonItDoesNotStart) {
  const ProgramResult result =
      RunProgram({CASEMENT_WORKER, "--listen", "127.0.0.1:0", "--socket",
                  daemon_.folder() + "/nobody"});
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_TRUE(absl::StrContains(result.err, "no casementd answers"))
      << result.err;
}

}  // namespace
}  // namespace casement
