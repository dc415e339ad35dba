// The control socket's parts that know nothing of gRPC.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>  // NOLINT
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "control/connection_numbers.h"
#include "control/peer.h"
#include "control/sessions.h"
#include "control/unix_listener.h"
#include "control/waiting_connections.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/temp_directory.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

TEST(UnixListener, ReplacesASocketThatNobodyListensOn) {
  TempDirectory folder;
  int stale = -1;
  {
    auto first = UnixListener::Open({.path = folder / "s"});
    ASSERT_TRUE(first.ok()) << first.status();
    stale = ::dup(first->fd());
    fs::rename(folder / "s", folder / "t");
  }
  fs::rename(folder / "t", folder / "s");
  // Bound, but closed by its process.
  ::close(stale);
  EXPECT_TRUE(UnixListener::Open({.path = folder / "s"}).ok());
}

TEST(UnixListener, LeavesALiveSocketAlone) {
  TempDirectory folder;
  const auto first = UnixListener::Open({.path = folder / "s"});
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second =
      UnixListener::Open({.path = folder / "s"}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(second));
  EXPECT_EQ(second.message(), absl::StrCat("socket ", folder / "s",
                                           ": another daemon answers there"));
  EXPECT_TRUE(fs::exists(folder / "s"));
}

TEST(UnixListener, LeavesOtherFilesAlone) {
  TempDirectory folder;
  std::ofstream(folder / "s") << "precious";
  const absl::Status status =
      UnixListener::Open({.path = folder / "s"}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(fs::file_size(folder / "s"), 8u);
}

TEST(UnixListener, RemovesOnlyItsOwnSocket) {
  TempDirectory folder;
  {
    auto listener = UnixListener::Open({.path = folder / "s"});
    fs::remove(folder / "s");
    std::ofstream(folder / "s") << "somebody else's";
  }
  EXPECT_TRUE(fs::exists(folder / "s"));
}

TEST(UnixListener, MakesTheFolderOnlyIfAsked) {
  TempDirectory folder;
  EXPECT_THAT(UnixListener::Open({.path = folder / "d/s"}).status().message(),
              HasSubstr("No such file"));
  EXPECT_TRUE(
      UnixListener::Open({.path = folder / "d/s", .make_parent = true}).ok());
}

TEST(UnixListener, PathsTheKernelDoesNotTakeAreInvalid) {
  EXPECT_TRUE(
      UnixListener::Open({.path = std::string(107, 'x')}).status().code() !=
      absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::IsInvalidArgument(
      UnixListener::Open({.path = std::string(108, 'x')}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(UnixListener::Open({}).status()));
  fs::remove(std::string(107, 'x'));
}

TEST(Peer, IsTheProcessAtTheOtherEnd) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const auto peer = PeerOfConnection(absl::StrCat("fd:", ends[0]));
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ(peer->uid, ::geteuid());
  EXPECT_EQ(peer->gid, ::getegid());
  EXPECT_TRUE(peer->IsInGroup(::getegid()));
  EXPECT_TRUE(peer->IsPrivileged());
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_TRUE(absl::IsPermissionDenied(
      PeerOfConnection(absl::StrCat("fd:", ends[0])).status()));
}

TEST(Peer, OnAnythingButAConnectionIsRefused) {
  const int file = ::open("/dev/null", O_RDONLY);
  for (const std::string& name :
       {std::string(), std::string("fd:"), std::string("fd:x"),
        std::string("fd:-1"), std::string("ipv4:127.0.0.1:80"),
        std::string("unix:"), absl::StrCat("fd:", file)}) {
    EXPECT_TRUE(absl::IsPermissionDenied(PeerOfConnection(name).status()))
        << name;
  }
  ::close(file);
}

TEST(Peer, OfAnotherUserHasNoPrivileges) {
  EXPECT_TRUE((Peer{.uid = 0}).IsPrivileged());
  EXPECT_FALSE((Peer{.uid = ::geteuid() + 1}).IsPrivileged());
  EXPECT_TRUE((Peer{.gid = 1, .groups = {2, 3}}).IsInGroup(3));
  EXPECT_FALSE((Peer{.gid = 1, .groups = {2, 3}}).IsInGroup(4));
}

// A small limit, so that the numbers run out soon.
class ConnectionNumbersTest : public ::testing::Test {
 protected:
  static constexpr int kLimit = 64;

  ConnectionNumbersTest() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    struct rlimit few = before_;
    few.rlim_cur = kLimit;
    ::setrlimit(RLIMIT_NOFILE, &few);
  }
  ~ConnectionNumbersTest() override { ::setrlimit(RLIMIT_NOFILE, &before_); }

  UniqueFd Open() { return UniqueFd(::open("/dev/null", O_RDONLY)); }
  struct rlimit before_;
};

TEST_F(ConnectionNumbersTest, ComeAgainOnlyWhenAllOthersHaveBeenUsed) {
  ConnectionNumbers numbers(kLimit);
  std::set<int> seen;
  uid_t user = 0;
  for (int i = 0; i < kLimit / 2; ++i) {
    const auto moved = numbers.Move(Open(), user++ % 4);
    ASSERT_TRUE(moved.ok()) << moved.status();
    EXPECT_GE(moved->get(), kLimit / 2);
    EXPECT_TRUE(seen.insert(moved->get()).second) << moved->get();
  }
  EXPECT_TRUE(seen.contains(numbers.Move(Open(), user++ % 4)->get()));
}

TEST_F(ConnectionNumbersTest, RunOutWithAnError) {
  ConnectionNumbers numbers(kLimit);
  std::vector<UniqueFd> open;
  uid_t user = 0;
  for (int i = 0; i < kLimit / 2; ++i) {
    auto moved = numbers.Move(Open(), user++ % 4);
    ASSERT_TRUE(moved.ok()) << i << moved.status();
    open.push_back(*std::move(moved));
  }
  EXPECT_TRUE(
      absl::IsResourceExhausted(numbers.Move(Open(), user++ % 4).status()));
  open.erase(open.begin() + 7);
  EXPECT_TRUE(numbers.Move(Open(), user++ % 4).ok());
}

TEST_F(ConnectionNumbersTest, OfOneUserRunOutBeforeThoseOfOthers) {
  ConnectionNumbers numbers(3);
  std::vector<UniqueFd> open;
  for (int i = 0; i < 3; ++i) {
    auto moved = numbers.Move(Open(), 1000);
    ASSERT_TRUE(moved.ok()) << i << moved.status();
    open.push_back(*std::move(moved));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(numbers.Move(Open(), 1000).status()));
  EXPECT_TRUE(numbers.Move(Open(), 1001).ok());
  open.pop_back();
  EXPECT_TRUE(numbers.Move(Open(), 1000).ok());
}

class WaitingConnectionsTest : public ::testing::Test {
 protected:
  static constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

  // The peer's end.
  UniqueFd Connect() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    waiting_.Add(UniqueFd(ends[0]), now_);
    return UniqueFd(ends[1]);
  }
  static void Say(const UniqueFd& fd, const std::string& words) {
    EXPECT_EQ(::send(fd.get(), words.data(), words.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(words.size()));
  }
  static bool IsClosed(const UniqueFd& fd) {
    char byte;
    const ssize_t got = ::recv(fd.get(), &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
  }

  absl::Time now_ = absl::UnixEpoch();
  WaitingConnections waiting_ = *WaitingConnections::Make(
      {.connections_max = 3, .patience = absl::Seconds(10)});
};

TEST_F(WaitingConnectionsTest, ThoseThatSpeakHttp2AreGivenOnWithAllTheySaid) {
  const UniqueFd peer = Connect();
  EXPECT_TRUE(waiting_.TakeReady(now_).empty());
  Say(peer, std::string(kPreface).substr(0, 10));
  EXPECT_TRUE(waiting_.TakeReady(now_).empty());
  Say(peer, std::string(kPreface).substr(10) + "and more");
  const std::vector<UniqueFd> ready = waiting_.TakeReady(now_);
  ASSERT_EQ(ready.size(), 1u);
  EXPECT_EQ(waiting_.size(), 0u);
  char buffer[100];
  EXPECT_EQ(::recv(ready[0].get(), buffer, sizeof(buffer), 0), 32);
  Say(peer, "again");
  EXPECT_TRUE(waiting_.TakeReady(now_).empty());
}

TEST_F(WaitingConnectionsTest, ThoseThatSaySomethingElseAreClosedAtOnce) {
  for (const std::string words : {"GET / HTTP/1.1\r\n", "P\n", "\x01"}) {
    const UniqueFd peer = Connect();
    Say(peer, words);
    EXPECT_TRUE(waiting_.TakeReady(now_).empty());
    EXPECT_TRUE(IsClosed(peer)) << words;
  }
}

TEST_F(WaitingConnectionsTest, ThoseThatHangUpAreClosed) {
  const UniqueFd peer = Connect();
  Say(peer, "PRI");
  ::shutdown(peer.get(), SHUT_WR);
  EXPECT_TRUE(waiting_.TakeReady(now_).empty());
  EXPECT_EQ(waiting_.size(), 0u);
}

TEST_F(WaitingConnectionsTest, PatienceEnds) {
  EXPECT_EQ(waiting_.deadline(), absl::InfiniteFuture());
  const UniqueFd silent = Connect();
  now_ += absl::Seconds(4);
  const UniqueFd half = Connect();
  Say(half, "PRI *");
  EXPECT_EQ(waiting_.deadline(), absl::UnixEpoch() + absl::Seconds(10));
  EXPECT_TRUE(waiting_.TakeReady(absl::UnixEpoch() + absl::Seconds(9)).empty());
  EXPECT_FALSE(IsClosed(silent));
  EXPECT_TRUE(
      waiting_.TakeReady(absl::UnixEpoch() + absl::Seconds(10)).empty());
  EXPECT_TRUE(IsClosed(silent));
  EXPECT_FALSE(IsClosed(half));
  EXPECT_TRUE(
      waiting_.TakeReady(absl::UnixEpoch() + absl::Seconds(14)).empty());
  EXPECT_TRUE(IsClosed(half));
}

TEST_F(WaitingConnectionsTest, PastTheirNumberTheOldestIsClosed) {
  std::vector<UniqueFd> peers;
  for (int i = 0; i < 5; ++i) peers.push_back(Connect());
  EXPECT_EQ(waiting_.size(), 3u);
  EXPECT_TRUE(IsClosed(peers[0]));
  EXPECT_TRUE(IsClosed(peers[1]));
  EXPECT_FALSE(IsClosed(peers[2]));
}

TEST(Sessions, EndWithWhatIsAttached) {
  Sessions sessions(2);
  const std::string a = *sessions.Start();
  const std::string b = *sessions.Start();
  EXPECT_NE(a, b);
  EXPECT_TRUE(absl::IsResourceExhausted(sessions.Start().status()));
  EXPECT_TRUE(sessions.Attach(a, "1").ok());
  EXPECT_TRUE(sessions.Attach(a, "2").ok());
  EXPECT_TRUE(sessions.Attach(b, "3").ok());
  EXPECT_EQ(sessions.Detach("2"), a);
  EXPECT_EQ(sessions.Detach("2"), "");
  EXPECT_TRUE(sessions.Attach(a, "4").ok());
  EXPECT_THAT(sessions.End(a), UnorderedElementsAre("1", "4"));
  EXPECT_TRUE(sessions.End(a).empty());
  EXPECT_TRUE(absl::IsNotFound(sessions.Attach(a, "5")));
  EXPECT_TRUE(absl::IsNotFound(sessions.CheckLive(a)));
  EXPECT_TRUE(sessions.CheckLive(b).ok());
  EXPECT_EQ(sessions.Detach("1"), "");
  EXPECT_EQ(sessions.size(), 1u);
  EXPECT_TRUE(sessions.Start().ok());
}

}  // namespace
}  // namespace casement
