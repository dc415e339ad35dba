#include "remote/remote_address.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

using ::testing::HasSubstr;

RemoteAddress MustParse(const std::string& text) {
  const absl::StatusOr<RemoteAddress> parsed = RemoteAddress::Parse(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return *parsed;
}

TEST(RemoteAddress, HasTheCustomaryPortsByDefault) {
  EXPECT_EQ(MustParse("grpc://cache").target(), "dns:///cache:80");
  EXPECT_EQ(MustParse("grpcs://cache").target(), "dns:///cache:443");
  EXPECT_EQ(MustParse("grpcs://10.0.0.7:8980").target(),
            "dns:///10.0.0.7:8980");
}

TEST(RemoteAddress, SaysWhetherItIsOverTlsOrOnThisHost) {
  EXPECT_TRUE(MustParse("grpcs://cache").is_tls());
  EXPECT_FALSE(MustParse("grpc://cache").is_tls());
  EXPECT_FALSE(MustParse("unix:/run/s").is_tls());
  EXPECT_TRUE(MustParse("unix:/run/s").is_unix());
  EXPECT_FALSE(MustParse("grpc://cache").is_unix());
}

TEST(RemoteAddress, MayBeIpv6InBrackets) {
  EXPECT_EQ(MustParse("grpc://[::1]:9092/main").target(),
            "dns:///%5b::1%5d:9092");
  EXPECT_EQ(MustParse("grpcs://[fe80::2]").ToString(), "grpcs://[fe80::2]:443");
}

TEST(RemoteAddress, MayHaveAnInstanceOfAnyDepth) {
  EXPECT_EQ(MustParse("grpc://cache").instance(), "");
  EXPECT_EQ(MustParse("grpc://cache/").instance(), "");
  EXPECT_EQ(MustParse("grpc://cache:1/main").instance(), "main");
  EXPECT_EQ(MustParse("grpc://cache/a/b:c/d/").instance(), "a/b:c/d");
}

TEST(RemoteAddress, OfASocketIsAPathOfAnyBytes) {
  const RemoteAddress address = MustParse("unix:///run/my cache%?#s");
  EXPECT_EQ(address.target(), "unix:/run/my%20cache%25%3f%23s");
  EXPECT_EQ(address.ToString(), "unix:/run/my cache%?#s");
  EXPECT_EQ(address.instance(), "");
}

TEST(RemoteAddress, SaysWhatIsWrongWithOthers) {
  struct Case {
    std::string text;
    std::string why;
  };
  for (const Case& wrong : {
           Case{"", "not grpc[s]://"},
           Case{"cache:80", "not grpc[s]://"},
           Case{"http://cache", "not grpc[s]://"},
           Case{"grpc://", "host is missing"},
           Case{"grpc:///main", "host is missing"},
           Case{"grpc://:80", "host is missing"},
           Case{"grpc://user@cache", "a host has letters"},
           Case{"grpc://::1", "belongs in brackets"},
           Case{"grpc://[::1", "']' is missing"},
           Case{"grpc://[10.0.0.7]", "no IPv6 address"},
           Case{std::string("grpc://[::1\0]", 13), "no IPv6 address"},
           Case{"grpc://[::1]80", "after ']'"},
           Case{"grpc://cache:", "a port is"},
           Case{"grpc://cache:0", "a port is"},
           Case{"grpc://cache:65536", "a port is"},
           Case{"grpc://cache:+80", "a port is"},
           Case{"grpc://cache:80a", "a port is"},
           Case{"grpc://cache/a//b", "an empty part"},
           Case{"grpc://cache//", "an empty part"},
           Case{"grpc://cache/a/blobs", "cannot hold \"blobs\""},
           Case{"grpc://cache/a\n", "cannot be printed"},
           Case{"grpc://" + std::string(254, 'a'), "host is too long"},
           Case{"grpc://cache/" + std::string(5000, 'a'), "too long"},
           Case{"unix:", "not absolute"},
           Case{"unix:run/s", "not absolute"},
           Case{std::string("unix:/a\0b", 9), "a NUL"},
           Case{"unix:/" + std::string(107, 'a'), "at most 107 bytes"},
       }) {
    const absl::Status status = RemoteAddress::Parse(wrong.text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("remote address"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.why))
        << wrong.text;
  }
}

}  // namespace
}  // namespace casement
