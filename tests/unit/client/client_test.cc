// client.h against the real control server and store, over a real socket.
#include "casement/client.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>  // NOLINT
#include <fstream>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/directory.h"
#include "proto/grpc_status.h"
#include "support/control_harness.h"
#include "support/fake_blob_source.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kMiB = 1 << 20;

std::string Pattern(size_t bytes) {
  std::string pattern(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) {
    pattern[i] = static_cast<char>((i * 2654435761u) >> 13);
  }
  return pattern;
}

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// A client in another process; gRPC does not survive a fork. What it prints.
FILE* StartClient(const std::string& arguments) {
  return ::popen(absl::StrCat("exec ", CLIENT_PROCESS, " ", arguments).c_str(),
                 "r");
}

std::string LineOf(FILE* client) {
  char line[256] = "";
  return std::fgets(line, sizeof(line), client) == nullptr ? "" : line;
}

std::string AllOf(FILE* client) {
  std::string all;
  for (std::string line; !(line = LineOf(client)).empty();) all += line;
  ::pclose(client);
  return all;
}

// Connecting.

TEST(ClientConnect, SocketThatIsNotThereIsUnavailableAtOnce) {
  TempDirectory folder;
  const absl::Time start = absl::Now();
  const absl::Status status = Client::Connect(folder / "absent").status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_EQ(status.message(),
            absl::StrCat("no casementd answers at ", folder / "absent",
                         ": No such file or directory"));
  EXPECT_LT(absl::Now() - start, absl::Seconds(1));
}

TEST(ClientConnect, SocketThatNobodyListensOnIsUnavailableAtOnce) {
  TempDirectory folder;
  const std::string path = folder / "stale";
  {
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address),
                     sizeof(address)),
              0);
  }
  const absl::Status status = Client::Connect(path).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(status.message(), HasSubstr("Connection refused"));
}

TEST(ClientConnect, OverlongPathIsUnavailable) {
  EXPECT_TRUE(
      absl::IsUnavailable(Client::Connect(std::string(200, 'x')).status()));
}

TEST(ClientConnect, EnvironmentNamesTheSocket) {
  ::setenv("CASEMENT_SOCKET", "/from/environment", 1);
  EXPECT_THAT(Client::Connect().status().message(),
              HasSubstr("/from/environment"));
  EXPECT_THAT(Client::Connect("/given").status().message(),
              HasSubstr("/given"));
  ::unsetenv("CASEMENT_SOCKET");
}

TEST(ClientConnect, RefusedUserIsTold) {  // G24
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  ControlHarness harness;
  EXPECT_EQ(AllOf(StartClient(
                absl::StrCat("as 65534 65534 ", harness.socket(), " x"))),
            absl::StrCat("connect: PERMISSION_DENIED\ncasementd at ",
                         harness.socket(), " refuses user 65534\n"));
  ASSERT_EQ(::chmod(harness.socket().c_str(), 0777), 0);
  EXPECT_EQ(AllOf(StartClient(
                absl::StrCat("as 65534 65534 ", harness.socket(), " x"))),
            absl::StrCat("connect: PERMISSION_DENIED\ncasementd at ",
                         harness.socket(), " refuses user 65534\n"));
}

TEST(ClientConnect, MemberOfTheGroupReachesItsOwnSandboxesOnly) {  // G24
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  ControlHarness harness({.allow_group = 4242});
  ASSERT_TRUE(harness.table().Create({.name = "roots"}, true).ok());
  EXPECT_EQ(AllOf(StartClient(
                absl::StrCat("as 4343 4242 ", harness.socket(), " roots"))),
            "connect: OK\n"
            "create: OK\n"
            "owner: 4343\n"
            "create for root: PERMISSION_DENIED\n"
            "diff: PERMISSION_DENIED\n"
            "collect: PERMISSION_DENIED\n"
            "release: PERMISSION_DENIED\n"
            "listed: 1\n"
            "release own: OK\n");
  EXPECT_TRUE(harness.table().Info("roots").ok());
}

class ClientTest : public ::testing::Test {
 protected:
  ControlHarness harness_;
  std::unique_ptr<Client> client_ = harness_.Connect();
  TempDirectory files_;
};

TEST_F(ClientTest, DaemonThatGoesAwayIsUnavailable) {
  harness_.server().Shutdown();
  const absl::Time start = absl::Now();
  const absl::Status status = client_->Stats().status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(
      status.message(),
      HasSubstr(absl::StrCat("no casementd answers at ", harness_.socket())));
  EXPECT_LT(absl::Now() - start, absl::Seconds(2));
}

TEST_F(ClientTest, DaemonThatComesBackIsFoundAgain) {
  harness_.server().Shutdown();
  EXPECT_FALSE(client_->Stats().ok());
  ASSERT_TRUE(harness_.server().Start().ok());
  absl::Status status;
  for (int i = 0; i < 100; ++i) {
    status = client_->Stats().status();
    if (status.ok()) break;
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_TRUE(status.ok()) << status;
}

// Blobs.

TEST_F(ClientTest, BlobsOfEverySizeComeBack) {
  for (const int size : {0, 1, 4 * kMiB - 1, 4 * kMiB, 4 * kMiB + 1}) {
    const std::string bytes = Pattern(size);
    const auto digest = client_->Put(bytes);
    ASSERT_TRUE(digest.ok()) << digest.status();
    EXPECT_EQ(*digest, Digest::Of(bytes));
    EXPECT_TRUE(*client_->GetBytes(*digest, size) == bytes) << size;
    Write(files_ / "f", bytes);
    EXPECT_EQ(*client_->PutFile(files_ / "f"), *digest);
  }
}

TEST_F(ClientTest, FileGoesAndComesThroughDescriptors) {
  const std::string bytes = Pattern(64 * kMiB);
  Write(files_ / "in", bytes);
  const auto digest = client_->PutFile(files_ / "in");
  ASSERT_TRUE(digest.ok()) << digest.status();
  const UniqueFd out(::open((files_ / "out").c_str(), O_RDWR | O_CREAT, 0600));
  int64_t last = 0;
  ASSERT_TRUE(client_
                  ->Get(*digest, out.get(),
                        [&last](int64_t done, int64_t total) {
                          EXPECT_EQ(total, 64 * kMiB);
                          last = done;
                        })
                  .ok());
  EXPECT_EQ(last, 64 * kMiB);
  std::string got(bytes.size() + 1, '\0');
  EXPECT_EQ(::pread(out.get(), got.data(), got.size(), 0), 64 * kMiB);
  got.pop_back();
  EXPECT_TRUE(got == bytes);
}

TEST_F(ClientTest, WrongFilesAreRefusedByName) {
  EXPECT_THAT(client_->PutFile(files_ / "absent").status().message(),
              HasSubstr("absent: No such file"));
  EXPECT_TRUE(
      absl::IsInvalidArgument(client_->PutFile(files_.path()).status()));
  ASSERT_EQ(::mkfifo((files_ / "fifo").c_str(), 0600), 0);
  EXPECT_TRUE(
      absl::IsInvalidArgument(client_->PutFile(files_ / "fifo").status()));
}

TEST_F(ClientTest, BlobThatIsNotThereIsNotFoundByName) {
  const Digest absent = Digest::Of("absent");
  const absl::Status status = client_->GetBytes(absent, 100).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_EQ(status.message(),
            absl::StrCat("blob ", absent.ToString(), " is not in the store"));
  EXPECT_TRUE(absl::IsResourceExhausted(client_->GetBytes(absent, 5).status()));
}

TEST_F(ClientTest, DescriptorThatCannotBeWrittenFailsTheGet) {
  const auto digest = client_->Put(Pattern(3 * kMiB));
  const UniqueFd full(::open("/dev/full", O_WRONLY));
  const absl::Status status = client_->Get(*digest, full.get());
  EXPECT_THAT(status.message(), HasSubstr("No space left"));
}

TEST_F(ClientTest, DamagedBlobIsDataLossAndDropped) {
  const auto digest = client_->Put(Pattern(3 * kMiB));
  for (const auto& entry :
       fs::recursive_directory_iterator(harness_.folder() / "store/cas")) {
    if (!entry.is_regular_file()) continue;
    fs::permissions(entry.path(), fs::perms(0600));
    fs::resize_file(entry.path(), kMiB);
  }
  EXPECT_TRUE(absl::IsDataLoss(client_->GetBytes(*digest, 3 * kMiB).status()));
  EXPECT_TRUE(absl::IsNotFound(client_->GetBytes(*digest, 3 * kMiB).status()));
}

// Trees.

TEST_F(ClientTest, TreeIsSentOnceAndThenOnlyWhatIsNew) {
  fs::create_directories(files_ / "a/b");
  for (int i = 0; i < 300; ++i) {
    Write(files_ / absl::StrCat("a/f", i), absl::StrCat("file ", i));
  }
  Write(files_ / "a/copy", "file 1");
  Write(files_ / "a/b/large", Pattern(5 * kMiB));
  const auto first = client_->PutTree(files_.path(), {});
  ASSERT_TRUE(first.ok()) << first.status();
  // Files without the copy, and three Directories.
  EXPECT_EQ(first->total.blobs_sent, 301 + 3);
  EXPECT_EQ(first->total.files, 302);
  EXPECT_EQ(first->directories, 3);
  EXPECT_TRUE(harness_.directories().LeaseClosure(first->root).ok());

  const auto again = client_->PutTree(files_.path(), {});
  EXPECT_EQ(again->root, first->root);
  EXPECT_EQ(again->total.blobs_sent, 0);

  Write(files_ / "a/b/new", "new");
  const auto changed = client_->PutTree(files_.path(), {});
  EXPECT_EQ(changed->total.blobs_sent, 1 + 3);
}

TEST_F(ClientTest, MoreSmallFilesThanFitInABatchArrive) {
  for (int i = 0; i < 40; ++i) {
    Write(files_ / absl::StrCat("f", i), Pattern(500'000) + absl::StrCat(i));
  }
  const auto put = client_->PutTree(files_.path(), {});
  ASSERT_TRUE(put.ok()) << put.status();
  EXPECT_TRUE(harness_.directories().LeaseClosure(put->root).ok());
}

TEST_F(ClientTest, FullStoreIsResourceExhausted) {
  ControlHarness small({}, 2 * kMiB);
  const std::unique_ptr<Client> client = small.Connect();
  EXPECT_TRUE(
      absl::IsResourceExhausted(client->Put(Pattern(8 * kMiB)).status()));
}

// Sandboxes.

TEST_F(ClientTest, SandboxGoesThroughItsWholeLife) {
  Write(files_ / "input", "input");
  const auto root = client_->PutTree(files_.path(), {});
  const auto created =
      client_->Create({.root = root->root, .name = "action", .label = "//a"});
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->info.name, "action");
  EXPECT_EQ(created->info.spec.owner_uid, ::geteuid());
  EXPECT_EQ(created->info.input_files, 1u);
  EXPECT_GT(created->create_time, absl::ZeroDuration());
  EXPECT_LT(absl::AbsDuration(absl::Now() - created->info.created),
            absl::Seconds(10));

  Write(created->info.path + "/out", "out");
  fs::permissions(created->info.path + "/out", fs::perms(0755));
  fs::create_symlink("out", created->info.path + "/link");
  fs::create_directory(created->info.path + "/dir");
  EXPECT_EQ(client_->Diff("action")->size(), 3u);
  const auto collected =
      client_->Collect("action", {std::string("out"), std::string("link"),
                                  std::string("dir"), std::string("absent")});
  ASSERT_TRUE(collected.ok()) << collected.status();
  EXPECT_THAT(collected->missing, ElementsAre("absent"));
  ASSERT_EQ(collected->outputs.size(), 3u);
  EXPECT_EQ(collected->outputs[0].kind, CollectedOutput::Kind::kExecutable);
  EXPECT_EQ(collected->outputs[0].digest, Digest::Of("out"));
  EXPECT_EQ(collected->outputs[1].kind, CollectedOutput::Kind::kSymlink);
  EXPECT_EQ(collected->outputs[1].target, "out");
  EXPECT_EQ(collected->outputs[2].kind, CollectedOutput::Kind::kDirectory);
  EXPECT_EQ(*client_->GetBytes(Digest::Of("out"), 10), "out");

  EXPECT_EQ(client_->List()->size(), 1u);
  EXPECT_EQ(client_->Stats()->sandboxes, 1);
  EXPECT_TRUE(client_->Release("action", /*stash=*/true).ok());
  EXPECT_TRUE(harness_.table().was_stashed());
  EXPECT_FALSE(fs::exists(created->info.path));
  EXPECT_TRUE(absl::IsNotFound(client_->Release("action")));
  EXPECT_TRUE(absl::IsNotFound(client_->Diff("action").status()));
}

TEST_F(ClientTest, WithoutARemoteCacheNothingIsSent) {
  ASSERT_TRUE(client_->Create({.name = "s"}).ok());
  Write(client_->List()->front().path + "/out", "out");
  for (const absl::Status& status :
       {client_->Send({Digest::Of("x")}), client_->Send({}),
        client_->Collect("s", {"out"}, {.send = true}).status()}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("no remote cache"));
  }
  EXPECT_FALSE(harness_.store().Contains(Digest::Of("out")));
}

class SendingClientTest : public ::testing::Test {
 protected:
  FakeBlobSource remote_;
  ControlHarness harness_{{}, int64_t{1} << 30, &remote_};
  std::unique_ptr<Client> client_ = harness_.Connect();
};

TEST_F(SendingClientTest, BlobsAndOutputsAreThereWhenItReturns) {
  const Digest put = *client_->Put("put");
  EXPECT_EQ(client_->Send({put, put}), absl::OkStatus());
  EXPECT_THAT(remote_.sent(), ElementsAre(put));
  const auto created = client_->Create({.name = "s"});
  Write(created->info.path + "/out", "out");
  EXPECT_TRUE(client_->Collect("s", {"out"}).ok());
  EXPECT_THAT(remote_.sent(), ElementsAre(put));
  EXPECT_TRUE(client_->Collect("s", {"out", "absent"}, {.send = true}).ok());
  EXPECT_THAT(remote_.sent(), ElementsAre(put, Digest::Of("out")));
}

TEST_F(SendingClientTest, ErrorsSayWhatIsMissingOrThatTheRemoteCacheIs) {
  const absl::Status missing = client_->Send({Digest::Of("absent")});
  EXPECT_TRUE(absl::IsFailedPrecondition(missing)) << missing;
  EXPECT_TRUE(missing
                  .GetPayload("type.googleapis.com/"
                              "google.rpc.PreconditionFailure")
                  .has_value());
  const auto created = client_->Create({.name = "s"});
  Write(created->info.path + "/out", "out");
  remote_.SetError(OfRemoteCache(absl::UnavailableError("remote: gone")));
  for (const absl::Status& gone :
       {client_->Send({Digest::Of("absent")}),
        client_->Collect("s", {"out"}, {.send = true}).status()}) {
    EXPECT_TRUE(absl::IsUnavailable(gone)) << gone;
    EXPECT_THAT(std::string(gone.message()), EndsWith(": remote: gone"));
    EXPECT_THAT(std::string(gone.message()), Not(HasSubstr("hung up")));
  }
  EXPECT_TRUE(harness_.store().Contains(Digest::Of("out")));
}

TEST_F(ClientTest, ChangesOfEveryKindAndAnyNumberArrive) {
  ASSERT_TRUE(client_->Create({.name = "s"}).ok());
  std::vector<Change> changes = {
      {.kind = Change::Kind::kModified, .path = "m\n\xff"},
      {.kind = Change::Kind::kDeleted, .path = "d"},
      {.kind = Change::Kind::kTypeOrMode, .path = "t"}};
  // More than a message takes.
  for (int i = 0; i < 50'000; ++i) {
    changes.push_back({.kind = Change::Kind::kAdded,
                       .path = absl::StrCat(std::string(200, 'p'), i)});
  }
  harness_.table().SetChanges("s", changes);
  const auto got = client_->Diff("s");
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_EQ(got->size(), changes.size());
  EXPECT_EQ((*got)[0].kind, SandboxChange::Kind::kModified);
  EXPECT_EQ((*got)[0].path, "m\n\xff");
  EXPECT_EQ((*got)[1].kind, SandboxChange::Kind::kDeleted);
  EXPECT_EQ((*got)[2].kind, SandboxChange::Kind::kTypeOrMode);
  EXPECT_EQ(got->back().kind, SandboxChange::Kind::kAdded);
  EXPECT_EQ(got->back().path, changes.back().path);
}

TEST_F(ClientTest, RootMayChooseAnotherOwner) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const auto created = client_->Create({.owner_uid = 123, .owner_gid = 456},
                                       nullptr, {.owner_is_peer = false});
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->info.spec.owner_uid, 123u);
  EXPECT_EQ(created->info.spec.owner_gid, 456u);
}

TEST_F(ClientTest, MissingInputsArePayload) {
  DirectoryBuilder builder;
  builder.AddFile("f", Digest::Of("absent"), false);
  const auto root = client_->Put(builder.Build());
  const absl::Status status = client_->Create({.root = *root}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_TRUE(
      status.GetPayload("type.googleapis.com/google.rpc.PreconditionFailure")
          .has_value());
}

TEST_F(ClientTest, SessionEndsItsSandboxesWithItself) {
  auto session = client_->StartSession();
  ASSERT_TRUE(session.ok()) << session.status();
  ASSERT_TRUE(client_->Create({.name = "s"}, session->get()).ok());
  session->reset();
  EXPECT_TRUE(client_->List()->empty());
}

TEST_F(ClientTest, SandboxesOfAKilledClientAreGoneWithinASecond) {  // G12
  FILE* const orphan_maker =
      StartClient(absl::StrCat("hold ", harness_.socket(), " orphan"));
  ASSERT_EQ(LineOf(orphan_maker), "create: OK\n");
  EXPECT_TRUE(harness_.table().Info("orphan").ok());
  pid_t process = 0;
  ASSERT_TRUE(absl::SimpleAtoi(LineOf(orphan_maker), &process));
  ASSERT_EQ(::kill(process, SIGKILL), 0);
  const absl::Time killed = absl::Now();
  while (harness_.table().Info("orphan").ok() &&
         absl::Now() - killed < absl::Seconds(5)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_LT(absl::Now() - killed, absl::Seconds(1));
  ::pclose(orphan_maker);
}

// The store.

TEST_F(ClientTest, StatsAddUp) {
  ASSERT_TRUE(client_->Put(Pattern(10'000)).ok());
  const auto stats = client_->Stats();
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->blobs, 1);
  EXPECT_EQ(stats->published, 1);
  EXPECT_EQ(stats->accounted_by_owner.size(), 5u);
  EXPECT_EQ(stats->accounted_bytes, harness_.store().ledger().Total());
  ASSERT_EQ(stats->metrics.size(), 1u);
  EXPECT_EQ(stats->metrics[0].labels[0].second, "a \"b\"\n");
}

TEST_F(ClientTest, EvictUnleasedLeavesWhatSandboxesUse) {
  Write(files_ / "used", "used");
  const auto tree = client_->PutTree(files_.path(), {});
  ASSERT_TRUE(client_->Create({.root = tree->root}).ok());
  ASSERT_TRUE(client_->Put("free").ok());
  const auto evicted = client_->EvictUnleased();
  ASSERT_TRUE(evicted.ok()) << evicted.status();
  EXPECT_EQ(evicted->blobs, 1);
  EXPECT_TRUE(client_->Missing({tree->root})->empty());
  EXPECT_THAT(*client_->Missing({Digest::Of("free")}),
              ElementsAre(Digest::Of("free")));
}

TEST_F(ClientTest, VerifyFindsDamageAndRepairs) {
  const auto digest = client_->Put(Pattern(100'000));
  for (const auto& entry :
       fs::recursive_directory_iterator(harness_.folder() / "store/cas")) {
    if (!entry.is_regular_file()) continue;
    fs::permissions(entry.path(), fs::perms(0600));
    std::fstream(entry.path(), std::ios::in | std::ios::out) << "damage";
  }
  const auto found = client_->Verify({});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->damaged, ElementsAre(*digest));
  EXPECT_THAT(client_->Verify({.repair = true})->damaged, ElementsAre(*digest));
  EXPECT_TRUE(client_->Verify({})->damaged.empty());
  EXPECT_EQ(client_->Missing({*digest})->size(), 1u);
}

TEST_F(ClientTest, ManyThreadsShareOneClient) {
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const std::string bytes = absl::StrCat(t, " ", i);
        const auto digest = client_->Put(bytes);
        if (!digest.ok() || *client_->GetBytes(*digest, 100) != bytes) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

}  // namespace
}  // namespace casement
