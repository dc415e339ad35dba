#include "remote/remote_headers.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

TEST(RemoteHeaders, AreLinesOfANameAndAValue) {
  const auto headers = ParseRemoteHeaders(
      "# Of the build farm.\n\nAuthorization: Bearer a:b=\r\n"
      "  x-team :  \n"
      "x-team:one, two");
  ASSERT_TRUE(headers.ok()) << headers.status();
  EXPECT_THAT(*headers,
              ElementsAre(Pair("authorization", "Bearer a:b="),
                          Pair("x-team", ""), Pair("x-team", "one, two")));
  EXPECT_THAT(*ParseRemoteHeaders(""), IsEmpty());
}

TEST(RemoteHeaders, SayWhichLineIsWrongAndShowNoValue) {
  struct Case {
    std::string text;
    std::string why;
  };
  for (const Case& wrong : {
           Case{"a: secret\nsecret", "line 2: not NAME: VALUE"},
           Case{": secret", "line 1: the name is missing"},
           Case{"a b: secret", "line 1: a name has letters"},
           Case{"grpc-timeout: secret", "grpc-timeout is gRPC's own"},
           Case{"Content-Type: secret", "content-type is gRPC's own"},
           Case{"data-bin: secret", "binary headers are not supported"},
           Case{"a: secret\x01", "not printable ASCII"},
           Case{"a: secret\xc3\xa9", "not printable ASCII"},
           Case{"a: secret" + std::string(7000, 'x'), "more than 6144 bytes"},
       }) {
    const absl::Status status = ParseRemoteHeaders(wrong.text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.why));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret")));
  }
}

}  // namespace
}  // namespace casement
