#include "worker/action_spec.h"

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/digest_message.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Digest kName = Digest::Of("action");

rev2::Action AnAction() {
  rev2::Action action;
  SetMessage(Digest::Of("command"), action.mutable_command_digest());
  SetMessage(Digest::Of("root"), action.mutable_input_root_digest());
  return action;
}

rev2::Command ACommand() {
  rev2::Command command;
  command.add_arguments("true");
  return command;
}

absl::StatusOr<ActionSpec> Parse(const rev2::Action& action,
                                 const rev2::Command& command,
                                 const rev2::RequestMetadata& who = {},
                                 const ActionLimits& limits = {}) {
  return ParseAction(kName, action.SerializeAsString(),
                     command.SerializeAsString(), who, limits);
}

TEST(ActionSpec, IsWhatTheMessagesSay) {
  rev2::Action action = AnAction();
  action.set_do_not_cache(true);
  action.mutable_timeout()->set_seconds(2);
  action.mutable_timeout()->set_nanos(500'000'000);
  rev2::Command command = ACommand();
  command.add_arguments("");
  command.set_working_directory("a/b");
  command.add_output_paths("out/x");
  command.add_output_files("ignored");
  auto& variable = *command.add_environment_variables();
  variable.set_name("A");
  const auto spec = Parse(action, command);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->action, kName);
  EXPECT_EQ(spec->input_root, Digest::Of("root"));
  EXPECT_THAT(spec->arguments, ElementsAre("true", ""));
  EXPECT_THAT(spec->environment, ElementsAre("A="));
  EXPECT_EQ(spec->timeout, absl::Milliseconds(2500));
  EXPECT_TRUE(spec->do_not_cache);
  ASSERT_EQ(spec->outputs.size(), 1u);
  EXPECT_EQ(spec->FromRoot(spec->outputs[0].path), "a/b/out/x");
  EXPECT_EQ(spec->FromRoot(""), "a/b");
  EXPECT_EQ(*CommandOf(action.SerializeAsString()), Digest::Of("command"));
}

TEST(ActionSpec, PathsOfTheRootItselfAreADot) {
  EXPECT_EQ(ActionSpec().FromRoot(""), ".");
  EXPECT_EQ(ActionSpec().FromRoot("a"), "a");
}

TEST(ActionSpec, TimeoutsAreBounded) {
  const ActionLimits limits = {.timeout_max = absl::Seconds(10)};
  rev2::Action action = AnAction();
  EXPECT_EQ(Parse(action, ACommand(), {}, limits)->timeout, absl::Seconds(10));
  action.mutable_timeout();
  EXPECT_EQ(Parse(action, ACommand(), {}, limits)->timeout, absl::Seconds(10));
  action.mutable_timeout()->set_seconds(10);
  EXPECT_TRUE(Parse(action, ACommand(), {}, limits).ok());
  for (const int64_t seconds : {int64_t{-1}, int64_t{11}, INT64_MAX}) {
    action.mutable_timeout()->set_seconds(seconds);
    EXPECT_TRUE(
        absl::IsInvalidArgument(Parse(action, ACommand(), {}, limits).status()))
        << seconds;
  }
}

TEST(ActionSpec, LabelIsTheTargetElseTheMnemonicElseAnOutput) {
  rev2::Command command = ACommand();
  EXPECT_EQ(Parse(AnAction(), command)->label, "");
  command.add_output_paths("bin/a.o");
  EXPECT_EQ(Parse(AnAction(), command)->label, "bin/a.o");
  rev2::RequestMetadata who;
  who.set_action_mnemonic("CppCompile");
  EXPECT_EQ(Parse(AnAction(), command, who)->label, "CppCompile");
  who.set_target_id("//a:b");
  EXPECT_EQ(Parse(AnAction(), command, who)->label, "//a:b");
  who.set_target_id(std::string(10'000, 'x'));
  EXPECT_EQ(Parse(AnAction(), command, who)->label.size(), 4096u);
}

TEST(ActionSpec, TheActionsPlatformCountsBeforeTheCommands) {
  rev2::Command command = ACommand();
  auto& property = *command.mutable_platform()->add_properties();
  property.set_name("unknown");
  EXPECT_THAT(Parse(AnAction(), command).status().message(),
              HasSubstr("platform property unknown"));
  rev2::Action action = AnAction();
  action.mutable_platform();
  EXPECT_TRUE(Parse(action, command).ok());
  EXPECT_TRUE(Parse(AnAction(), command, {}, {.ignore_platform = true}).ok());
}

TEST(ActionSpec, WordsThatCannotBeRunAreInvalid) {
  for (const std::string& program :
       {std::string(), std::string("a=b"), std::string("a\0b", 3)}) {
    rev2::Command command;
    command.add_arguments(program);
    EXPECT_TRUE(absl::IsInvalidArgument(Parse(AnAction(), command).status()));
  }
  for (const std::string& name :
       {std::string(), std::string("a=b"), std::string("a\0b", 3)}) {
    rev2::Command command = ACommand();
    command.add_environment_variables()->set_name(name);
    EXPECT_TRUE(absl::IsInvalidArgument(Parse(AnAction(), command).status()));
  }
  rev2::Command command = ACommand();
  command.add_output_files("");
  EXPECT_TRUE(absl::IsInvalidArgument(Parse(AnAction(), command).status()));
}

TEST(ActionSpec, BytesThatAreNoMessageAreInvalid) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      ParseAction(kName, "\xff", ACommand().SerializeAsString(), {}, {})
          .status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      ParseAction(kName, AnAction().SerializeAsString(), "\xff", {}, {})
          .status()));
  EXPECT_TRUE(absl::IsInvalidArgument(CommandOf("").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Parse({}, ACommand()).status()));
}

}  // namespace
}  // namespace casement
