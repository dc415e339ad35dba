#include "base/quote.h"

#include <string>

#include "gtest/gtest.h"

namespace casement {
namespace {

TEST(QuoteName, LeavesWhatCanStandForItself) {
  for (const char* name : {"", "a", "a b", "a'b", "\xc3\xa9\xff", "~$*"}) {
    EXPECT_EQ(QuoteName(name), name);
  }
}

TEST(QuoteName, EscapesAsGitDoes) {
  EXPECT_EQ(QuoteName("a\nb"), "\"a\\nb\"");
  EXPECT_EQ(QuoteName("a\"b"), "\"a\\\"b\"");
  EXPECT_EQ(QuoteName("a\\b"), "\"a\\\\b\"");
  EXPECT_EQ(QuoteName("\x01\x7f\t"), "\"\\001\\177\\t\"");
  EXPECT_EQ(QuoteName(std::string("\0", 1)), "\"\\000\"");
}

TEST(OneLine, EscapesControlCharactersOnly) {
  EXPECT_EQ(OneLine("a \"b\" \\ c"), "a \"b\" \\ c");
  EXPECT_EQ(OneLine("a\nb\033[K"), "a\\nb\\033[K");
}

}  // namespace
}  // namespace casement
