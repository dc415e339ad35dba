#include "base/tcp_address.h"

#include <string>

#include "gtest/gtest.h"

namespace casement {
namespace {

TEST(TcpAddress, ComesBackAsItWasWritten) {
  for (const std::string text :
       {"127.0.0.1:8980", "0.0.0.0:0", "10.1.2.3:65535", "[::1]:8980", "[::]:1",
        "[2001:db8::1]:443"}) {
    const auto address = TcpAddress::Parse(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), text);
  }
}

TEST(TcpAddress, LocalhostIsIpv4sLoopback) {
  EXPECT_EQ(TcpAddress::Parse("localhost:80")->ToString(), "127.0.0.1:80");
}

TEST(TcpAddress, OnlyWhatStaysOnThisMachineIsLoopback) {
  for (const std::string text :
       {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"}) {
    EXPECT_TRUE(TcpAddress::Parse(text)->IsLoopback()) << text;
  }
  for (const std::string text :
       {"0.0.0.0:1", "128.0.0.1:1", "10.0.0.1:1", "[::]:1", "[fe80::1]:1",
        "[::ffff:10.0.0.1]:1"}) {
    EXPECT_FALSE(TcpAddress::Parse(text)->IsLoopback()) << text;
  }
}

TEST(TcpAddress, AnythingElseIsInvalid) {
  for (const std::string text :
       {"", ":", "8980", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",
        "127.0.0.1:-1", "127.0.0.1:65536", "::1:80", "[::1]", "[::1:80",
        "[127.0.0.1]:80", "example.com:80", "127.1:80", ":80"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(TcpAddress::Parse(text).status()))
        << text;
  }
}

}  // namespace
}  // namespace casement
