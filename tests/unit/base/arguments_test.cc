#include "base/arguments.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ArgumentParser CopyParser() {
  ArgumentParser parser("copy [OPTION]... FILE...", "Copies files.");
  parser
      .Add({.name = "output",
            .letter = 'o',
            .placeholder = "DIR",
            .help = "where to",
            .is_required = true})
      .Add({.name = "size",
            .placeholder = "SIZE",
            .help = "how much",
            .default_value = "64KiB"})
      .Add({.name = "mode",
            .placeholder = "fast|safe",
            .help = "how",
            .choices = {"fast", "safe"}})
      .Add({.name = "verbose", .letter = 'v', .help = "say more"})
      .Operands("FILE", 1, 2);
  return parser;
}

std::string ErrorOf(const ArgumentParser& parser,
                    const std::vector<std::string>& words) {
  return std::string(parser.Parse(words).status().message());
}

TEST(ParseBytes, TakesPlainNumbersAndBinaryUnits) {
  EXPECT_EQ(*ParseBytes("0"), 0);
  EXPECT_EQ(*ParseBytes("4096"), 4096);
  EXPECT_EQ(*ParseBytes("64KiB"), 64 << 10);
  EXPECT_EQ(*ParseBytes("3MiB"), 3 << 20);
  EXPECT_EQ(*ParseBytes("50GiB"), int64_t{50} << 30);
  EXPECT_EQ(*ParseBytes("2TiB"), int64_t{2} << 40);
  EXPECT_EQ(*ParseBytes("9223372036854775807"), 9223372036854775807);
}

TEST(ParseBytes, RefusesEverythingElse) {
  for (const char* text : {"", "KiB", "-1", "+1", " 1", "1 ", "1K", "1kib",
                           "1.5GiB", "0x10", "1GiBGiB"}) {
    EXPECT_EQ(ParseBytes(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(ParseBytes, RefusesWhatDoesNotFit63Bits) {
  EXPECT_FALSE(ParseBytes("9223372036854775808").ok());
  EXPECT_TRUE(ParseBytes("8388607TiB").ok());
  EXPECT_FALSE(ParseBytes("8388608TiB").ok());
}

TEST(Arguments, UnderstandsEveryFormOfAnOption) {
  const ArgumentParser parser = CopyParser();
  EXPECT_EQ(parser.Parse({"--output", "d", "f"})->Get("output"), "d");
  EXPECT_EQ(parser.Parse({"--output=d=e", "f"})->Get("output"), "d=e");
  EXPECT_EQ(parser.Parse({"-o", "d", "f"})->Get("output"), "d");
  EXPECT_EQ(parser.Parse({"-od", "f"})->Get("output"), "d");
  EXPECT_TRUE(parser.Parse({"-v", "-od", "f"})->Has("verbose"));
}

TEST(Arguments, OptionsMayFollowOperands) {
  const auto arguments = CopyParser().Parse({"a", "-o", "d", "b"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->operands(), ElementsAre("a", "b"));
}

TEST(Arguments, EverythingAfterTwoHyphensIsAnOperand) {
  const auto arguments = CopyParser().Parse({"-od", "--", "-v", "--"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->operands(), ElementsAre("-v", "--"));
  EXPECT_FALSE(arguments->Has("verbose"));
}

TEST(Arguments, OneHyphenIsAnOperand) {
  EXPECT_THAT(CopyParser().Parse({"-od", "-"})->operands(), ElementsAre("-"));
}

TEST(Arguments, FirstOperandCanEndTheOptions) {
  ArgumentParser parser("tool [OPTION]... COMMAND", "A tool.");
  parser.Add({.name = "json", .help = "as JSON"})
      .Operands("COMMAND", 1)
      .EndAtFirstOperand();
  const auto arguments = parser.Parse({"--json", "put", "--tree", "d"});
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_THAT(arguments->operands(), ElementsAre("put", "--tree", "d"));
}

TEST(Arguments, LastValueCountsAndAllAreKept) {
  const auto arguments = CopyParser().Parse({"-oa", "-o", "b", "f"});
  EXPECT_EQ(arguments->Get("output"), "b");
  EXPECT_THAT(arguments->All("output"), ElementsAre("a", "b"));
}

TEST(Arguments, DefaultIsAValueThatWasNotGiven) {
  const auto arguments = CopyParser().Parse({"-oa", "f"});
  EXPECT_FALSE(arguments->Has("size"));
  EXPECT_EQ(arguments->Get("size"), "64KiB");
  EXPECT_EQ(*arguments->GetBytes("size"), 65536);
  EXPECT_EQ(arguments->Get("mode"), "");
}

TEST(Arguments, WrongValuesAreNamedWithTheirOption) {
  const auto arguments = CopyParser().Parse({"-oa", "--size=x\ny", "f"});
  EXPECT_EQ(arguments->GetBytes("size").status().message(),
            "option --size: 'x\\ny' is no number of bytes such as 4096, 64KiB "
            "or 50GiB");
  EXPECT_EQ(arguments->GetInteger("size", 1, 9).status().message(),
            "option --size: 'x\\ny' is no number from 1 to 9");
}

TEST(Arguments, IntegersStayInTheirRange) {
  const ArgumentParser parser = CopyParser();
  const auto number = [&parser](const std::string& text) {
    return parser.Parse({"-oa", "--size", text, "f"})
        ->GetInteger("size", -3, 10);
  };
  EXPECT_EQ(*number("10"), 10);
  EXPECT_EQ(*number("-3"), -3);
  for (const char* text :
       {"11", "-4", "+1", "", "-", "1.0", "99999999999999999999"}) {
    EXPECT_FALSE(number(text).ok()) << text;
  }
}

TEST(Arguments, ErrorsSayWhatIsWrong) {
  const ArgumentParser parser = CopyParser();
  EXPECT_EQ(ErrorOf(parser, {"--force"}), "unknown option '--force'");
  EXPECT_EQ(ErrorOf(parser, {"--out=x"}), "unknown option '--out'");
  EXPECT_EQ(ErrorOf(parser, {"-x"}), "unknown option '-x'");
  EXPECT_EQ(ErrorOf(parser, {"--\n"}), "unknown option '--\\n'");
  EXPECT_EQ(ErrorOf(parser, {"f", "-o"}), "option --output needs a value: DIR");
  EXPECT_EQ(ErrorOf(parser, {"--verbose=1"}),
            "option --verbose takes no value");
  EXPECT_EQ(ErrorOf(parser, {"--mode", "slow"}),
            "option --mode: 'slow' is none of fast, safe");
  EXPECT_EQ(ErrorOf(parser, {"f"}), "option --output DIR is missing");
  EXPECT_EQ(ErrorOf(parser, {"-od"}), "FILE is missing");
  EXPECT_EQ(ErrorOf(parser, {"-od", "a", "b", "c"}), "unexpected argument 'c'");
}

TEST(Arguments, HelpNeedsNothingElse) {
  for (const char* word : {"--help", "-h"}) {
    const auto arguments = CopyParser().Parse({word, "--nonsense"});
    ASSERT_TRUE(arguments.ok()) << arguments.status();
    EXPECT_TRUE(arguments->Has("help"));
  }
}

TEST(ArgumentHelp, NamesEveryOptionInEightyColumns) {
  ArgumentParser parser = CopyParser();
  parser.Add({.name = "long",
              .placeholder = "A-VERY-LONG-PLACEHOLDER",
              .help = "a help text that is so long that it has to go on in a "
                      "second line, aligned with the first one of them"});
  parser.Epilogue("The end.\n");
  const std::string help = parser.Help();
  EXPECT_THAT(help, HasSubstr("Usage: copy [OPTION]... FILE...\n\nCopies"));
  EXPECT_THAT(help, HasSubstr("\n  -o, --output DIR          where to\n"));
  EXPECT_THAT(help, HasSubstr("how much (default 64KiB)\n"));
  EXPECT_THAT(help, HasSubstr("  -h, --help "));
  EXPECT_THAT(help, HasSubstr("\nThe end.\n"));
  size_t start = 0;
  for (size_t end; (end = help.find('\n', start)) != std::string::npos;
       start = end + 1) {
    EXPECT_LE(end - start, 80u) << help.substr(start, end - start);
  }
}

}  // namespace
}  // namespace casement
