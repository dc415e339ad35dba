#include "casement/digest.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

using ::testing::HasSubstr;

constexpr char kEmptyHash[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
// echo -n hello | sha256sum
constexpr char kHelloHash[] =
    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

TEST(Digest, IsTheEmptyBlobsByDefault) {
  EXPECT_EQ(Digest().ToString(), std::string(kEmptyHash) + "-0");
  EXPECT_EQ(Digest(), Digest::Of(""));
}

TEST(Digest, OfBytesIsTheirSha256AndSize) {
  EXPECT_EQ(Digest::Of("hello").ToString(), std::string(kHelloHash) + "-5");
}

TEST(Digest, ParsesWhatItWrites) {
  const Digest digest = Digest::Of("some bytes");
  EXPECT_EQ(*Digest::Parse(digest.ToString()), digest);
  EXPECT_EQ(*Digest::FromParts(digest.HexHash(), digest.size_bytes()), digest);
}

// G22
TEST(Digest, ParseRefusesEveryOtherSpelling) {
  const std::string hash = kHelloHash;
  std::string upper = hash;
  upper[1] = 'C';
  for (const std::string& text : {
           std::string(),
           std::string("-"),
           hash,
           hash + "-",
           hash + "-+5",
           hash + "--5",
           hash + "-05",
           hash + "- 5",
           hash + "-5 ",
           hash + "-5-5",
           hash + "-0x5",
           hash + "-9223372036854775808",
           hash + "-99999999999999999999999",
           hash + "-5.exec",
           hash + "/5",
           hash + "-0",  // Only the empty blob has size 0.
           upper + "-5",
           hash.substr(1) + "-5",
           hash + "0-5",
           absl::StrCat("g", hash.substr(1), "-5"),
           std::string(1 << 20, 'a'),
           hash + "-5" + std::string(1, '\0'),
       }) {
    EXPECT_EQ(Digest::Parse(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text.substr(0, 100);
    EXPECT_LT(Digest::Parse(text).status().message().size(), 600u);
  }
}

TEST(Digest, TheLargestSizeIsTwoToThe63MinusOne) {
  const std::string text = std::string(kHelloHash) + "-9223372036854775807";
  EXPECT_EQ(Digest::Parse(text)->ToString(), text);
}

TEST(Digest, FromPartsRefusesANegativeSize) {
  EXPECT_THAT(std::string(Digest::FromParts(kHelloHash, -1).status().message()),
              HasSubstr("negative"));
}

TEST(Digest, TheEmptyBlobsHashHasSizeZeroOnlyByItsBytes) {
  // 5 bytes with the hash of none: well formed, though nobody can have it.
  EXPECT_TRUE(Digest::FromParts(kEmptyHash, 5).ok());
  EXPECT_TRUE(Digest::FromParts(kEmptyHash, 0).ok());
}

}  // namespace
}  // namespace casement
