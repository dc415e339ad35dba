#include "cli/invocation.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::vector<std::string>& words) {
  const auto invocation = ParseInvocation(words);
  EXPECT_EQ(invocation.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(invocation.status().message());
}

TEST(Invocation, CommonOptionsStandBeforeOrAfterTheCommand) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{
           {"--socket", "/s", "--json", "sandbox", "list"},
           {"sandbox", "list", "--json", "--socket=/s"},
           {"sandbox", "--json", "list", "--socket", "/s"}}) {
    const auto invocation = ParseInvocation(words);
    ASSERT_TRUE(invocation.ok()) << invocation.status();
    EXPECT_EQ(invocation->command, CommandId::kSandboxList);
    EXPECT_EQ(invocation->socket, "/s");
    EXPECT_TRUE(invocation->is_json);
  }
}

TEST(Invocation, EverythingAfterRunsCommandIsTheCommands) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{
           {"run", "--output", "o", "--output", "p", "--", "gcc", "--help"},
           {"run", "--output=o", "--output=p", "gcc", "--help"}}) {
    const auto invocation = ParseInvocation(words);
    ASSERT_TRUE(invocation.ok()) << invocation.status();
    EXPECT_EQ(invocation->text, "");
    EXPECT_THAT(invocation->arguments.operands(), ElementsAre("gcc", "--help"));
    EXPECT_THAT(invocation->arguments.All("output"), ElementsAre("o", "p"));
  }
}

TEST(Invocation, WrongUsageSaysWhatIsWrongAndWhereHelpIs) {
  EXPECT_EQ(ErrorOf({}), "COMMAND is missing; see 'casement --help'");
  EXPECT_EQ(ErrorOf({"fly"}), "unknown command 'fly'; see 'casement --help'");
  EXPECT_EQ(ErrorOf({"--fly"}),
            "unknown option '--fly'; see 'casement --help'");
  EXPECT_EQ(ErrorOf({"sandbox"}),
            "COMMAND after sandbox is missing; see 'casement sandbox --help'");
  EXPECT_EQ(ErrorOf({"sandbox", "fly"}),
            "unknown command 'sandbox fly'; see 'casement --help'");
  EXPECT_EQ(ErrorOf({"get"}),
            "get: DIGEST is missing; see 'casement get --help'");
  EXPECT_EQ(ErrorOf({"get", "a", "b"}),
            "get: unexpected argument 'b'; see 'casement get --help'");
  EXPECT_EQ(ErrorOf({"get", "--json", "a"}),
            "get: --json needs --output: standard output is the blob's; see "
            "'casement get --help'");
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{
           {"put"},
           {"put", "--tree", "d", "f"},
           {"put", "--node-properties", "f"},
           {"evict"},
           {"evict", "--unleased", "d"},
           {"stats", "x"},
           {"stats", "--json", "--prometheus"},
           {"run"},
           {"run", "--"},
           {"run", "--send", "--", "true"},
           {"run", "--scratch-bytes-max", "lots", "--", "true"},
           {"sandbox", "create", "x"},
           {"sandbox", "create", "--inputs", "all"},
           {"sandbox", "create", "--reuse", "maybe"},
           {"sandbox", "collect", "n"},
           {"sandbox", "release"}}) {
    EXPECT_THAT(ErrorOf(words), HasSubstr("; see 'casement "));
  }
}

TEST(Invocation, EveryCommandHasHelp) {
  const std::vector<std::vector<std::string>> commands = {
      {},
      {"put"},
      {"get"},
      {"sandbox"},
      {"sandbox", "create"},
      {"run"},
      {"evict"},
      {"stats"},
      {"verify"},
      {"sandbox", "list"},
      {"sandbox", "diff"},
      {"sandbox", "collect"},
      {"sandbox", "release"}};
  for (std::vector<std::string> words : commands) {
    words.push_back("--help");
    const auto invocation = ParseInvocation(words);
    ASSERT_TRUE(invocation.ok()) << invocation.status();
    EXPECT_THAT(invocation->text, HasSubstr("Usage: casement"));
    EXPECT_THAT(invocation->text, HasSubstr("--json"));
  }
}

TEST(Invocation, VersionNeedsNoCommand) {
  EXPECT_THAT(ParseInvocation({"--json", "--version"})->text,
              HasSubstr("casement 0."));
}

}  // namespace
}  // namespace casement
