#include "store/directory_table.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "model/directory.h"
#include "store/blob_answers.h"
#include "store/blob_fetcher.h"
#include "store/blob_store.h"
#include "store/missing.h"
#include "support/fake_blob_source.h"
#include "support/store_fixture.h"
#include "support/temp_directory.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class DirectoryTableTest : public StoreFixture {
 protected:
  DirectoryTableTest() {
    Open();
    MakeTable();
  }
  ~DirectoryTableTest() override { Close(); }

  void Close() {
    if (store_ != nullptr) store_->SetListener({});
    table_.reset();
    store_.reset();
  }

  void MakeTable() {
    table_ = std::make_unique<DirectoryTable>(*store_, table_options_);
    store_->SetListener({.give_up_idle_leases = [this](uint64_t used_before) {
      return table_->GiveUpIdleLeases(used_before);
    }});
  }
  Digest PutDirectory(const DirectoryBuilder& builder) {
    return MustPut(builder.Build());
  }
  // dir/{a, b, sub/{a}}, with three distinct blobs beside the Directories.
  Digest PutTree(int seed) {
    DirectoryBuilder sub;
    sub.AddFile("a", MustPut(BytesOf(seed)), false);
    DirectoryBuilder root;
    root.AddFile("a", MustPut(BytesOf(seed)), false);
    root.AddFile("b", MustPut(BytesOf(seed + 1)), true);
    root.AddDirectory("sub", PutDirectory(sub));
    root.AddSymlink("z", "/nowhere");
    return PutDirectory(root);
  }
  ClosureLease MustLease(const Digest& root) {
    absl::StatusOr<ClosureLease> lease = table_->LeaseClosure(root);
    EXPECT_TRUE(lease.ok()) << lease.status();
    table_->CheckInvariants();
    store_->CheckInvariants();
    return *std::move(lease);
  }

  DirectoryTable::Options table_options_;
  std::unique_ptr<DirectoryTable> table_;
};

std::vector<std::string> Violations(const absl::Status& status) {
  const auto payload = status.GetPayload(kPreconditionFailureType);
  if (!payload.has_value()) return {"no payload"};
  google::rpc::PreconditionFailure failure;
  EXPECT_TRUE(failure.ParseFromString(std::string(*payload)));
  std::vector<std::string> violations;
  for (const auto& violation : failure.violations()) {
    violations.push_back(violation.type() + " " + violation.subject());
  }
  return violations;
}

std::string ViolationFor(const Digest& digest) {
  return absl::StrCat("MISSING blobs/", digest.HexHash(), "/",
                      digest.size_bytes());
}

// G4, G12
TEST_F(DirectoryTableTest, ALeasedClosureStaysAndAGivenUpOneGoes) {
  const Digest root = PutTree(1);
  {
    const ClosureLease lease = MustLease(root);
    EXPECT_EQ(store_->GetStats().leased_blobs, 4);
    EXPECT_EQ(store_->EvictUnleased().blobs, 0);
  }
  // Idle: still leased.
  EXPECT_EQ(store_->EvictUnleased().blobs, 0);
  table_->GiveUpAllIdleLeases();
  table_->CheckInvariants();
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
  EXPECT_EQ(store_->EvictUnleased().blobs, 4);
}

TEST_F(DirectoryTableTest, KnowsItsPathsAndNumbersThemInPreorder) {
  const Digest root = PutTree(1);
  const ClosureLease lease = MustLease(root);
  const InternedDirectory& directory = *lease.root();
  EXPECT_EQ(directory.digest(), root);
  ASSERT_EQ(directory.directory().entries().size(), 4u);
  EXPECT_EQ(directory.number(0), 1u);  // a
  EXPECT_EQ(directory.number(1), 2u);  // b
  EXPECT_EQ(directory.number(2), 3u);  // sub, whose a is 4
  EXPECT_EQ(directory.number(3), 5u);  // z
  EXPECT_EQ(directory.paths(), 6u);
  EXPECT_EQ(directory.files(), 3u);
  EXPECT_EQ(directory.file_bytes(), 300u);
  EXPECT_EQ(directory.child(2)->number(0), 1u);
  EXPECT_EQ(directory.child(2)->paths(), 2u);
}

TEST_F(DirectoryTableTest, TheEmptyTreeNeedsNothingStored) {
  const ClosureLease lease = MustLease(Digest());
  EXPECT_EQ(lease.root()->paths(), 1u);
  EXPECT_THAT(FilesOnDisk(), IsEmpty());
  EXPECT_TRUE((*table_->Load(Digest()))->entries().empty());
}

// G15
TEST_F(DirectoryTableTest, AKnownTreeIsLeasedWithoutTouchingTheDiskOrItsBlobs) {
  const Digest root = PutTree(1);
  MustLease(root);
  disk_.BeforeEach([](absl::string_view name) { ADD_FAILURE() << name; });
  const uint64_t before = store_->NextTick();
  const ClosureLease again = *table_->LeaseClosure(root);
  const ClosureLease twice = *table_->LeaseClosure(root);
  EXPECT_EQ(again.root(), twice.root());
  // One tick at most is used for it, not one for each blob.
  EXPECT_LE(store_->NextTick(), before + 2);
  disk_.BeforeEach(nullptr);
}

TEST_F(DirectoryTableTest, TreesShareTheDirectoriesTheyHaveInCommon) {
  DirectoryBuilder common;
  common.AddFile("file", MustPut("common"), false);
  const Digest common_digest = PutDirectory(common);
  std::vector<ClosureLease> leases;
  for (int i = 0; i < 2; ++i) {
    DirectoryBuilder root;
    root.AddDirectory("common", common_digest);
    root.AddDirectory("twice", common_digest);
    root.AddFile("own", MustPut(BytesOf(i)), false);
    leases.push_back(MustLease(PutDirectory(root)));
  }
  EXPECT_EQ(leases[0].root()->child(0), leases[1].root()->child(0));
  // A Directory below can be a root as well.
  leases.push_back(MustLease(common_digest));
  EXPECT_EQ(leases[0].root()->child(0), leases[2].root());
  leases.erase(leases.begin());
  table_->GiveUpAllIdleLeases();
  table_->CheckInvariants();
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Evict(Digest::Of("common"))));
  leases.clear();
  table_->CheckInvariants();
  EXPECT_EQ(store_->Evict(Digest::Of("common")), absl::OkStatus());
}

TEST_F(DirectoryTableTest, NamesEveryMissingBlobOnce) {
  const Digest file = Digest::Of("absent file");
  const Digest other = Digest::Of("other absent file");
  DirectoryBuilder absent;
  absent.AddFile("x", Digest::Of("unknowable"), false);
  const Digest absent_digest = Digest::Of(absent.Build());
  DirectoryBuilder sub;
  sub.AddFile("a", file, false);
  sub.AddFile("b", other, false);
  DirectoryBuilder root;
  root.AddFile("a", file, false);
  root.AddDirectory("here", PutDirectory(sub));
  root.AddDirectory("there", absent_digest);
  root.AddDirectory("there_too", absent_digest);
  const absl::Status status = table_->LeaseClosure(PutDirectory(root)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("3 missing blobs"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(other.ToString()));
  EXPECT_THAT(Violations(status),
              ElementsAre(ViolationFor(file), ViolationFor(other),
                          ViolationFor(absent_digest)));
  // Nothing stays leased.
  table_->CheckInvariants();
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
}

TEST_F(DirectoryTableTest, AMissingRootIsNamedToo) {
  const Digest root = Digest::Of("absent root");
  EXPECT_THAT(Violations(table_->LeaseClosure(root).status()),
              ElementsAre(ViolationFor(root)));
}

TEST(MissingBlobs, AMillionAreNamedInPart) {
  std::vector<Digest> missing(1'000'000, Digest::Of("x"));
  const absl::Status status = MissingBlobsStatus(missing);
  EXPECT_LT(status.message().size(), 2000u);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1000000 missing"));
  EXPECT_EQ(Violations(status).size(), 10'000u);
}

// G22
TEST_F(DirectoryTableTest, WhatIsNoDirectoryIsRefused) {
  DirectoryBuilder root;
  root.AddDirectory("sub", MustPut("no Directory at all"));
  const absl::Status status = table_->LeaseClosure(PutDirectory(root)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(Digest::Of("no Directory at all").ToString()));
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
}

// G22: 10,000 deep, on every path that walks it.
TEST_F(DirectoryTableTest, ADeepTreeIsWalkedWithoutRecursion) {
  constexpr int kDepth = 10'000;
  // Ten thousand files, which a busy disk takes its time for.
  const TempDirectory memory("/dev/shm");
  Close();
  options_.directory = memory.path();
  Open();
  MakeTable();
  Digest digest;
  for (int i = 0; i < kDepth; ++i) {
    DirectoryBuilder builder;
    builder.AddDirectory("d", digest);
    digest = PutDirectory(builder);
  }
  // A stack that recursion over the tree would not fit.
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 << 10);
  struct Work {
    DirectoryTable& table;
    Digest digest;
  } work = {*table_, digest};
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, &attributes,
                [](void* data) -> void* {
                  Work& work = *static_cast<Work*>(data);
                  auto lease = work.table.LeaseClosure(work.digest);
                  EXPECT_TRUE(lease.ok()) << lease.status();
                  EXPECT_EQ(lease->root()->paths(), kDepth + 1u);
                  *lease = ClosureLease();
                  work.table.GiveUpAllIdleLeases();
                  return nullptr;
                },
                &work),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
  Close();
}

// G22: 2^40 and 2^70 paths out of few Directories.
TEST_F(DirectoryTableTest, ATreeOfTooManyPathsIsRefusedInBoundedMemory) {
  Digest digest;
  for (int i = 1; i <= 70; ++i) {
    DirectoryBuilder builder;
    builder.AddDirectory("a", digest);
    builder.AddDirectory("b", digest);
    digest = PutDirectory(builder);
    if (i == 40) {
      EXPECT_EQ(MustLease(digest).root()->paths(), (uint64_t{1} << 41) - 1);
    }
  }
  const absl::Status status = table_->LeaseClosure(digest).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("paths"));
}

TEST_F(DirectoryTableTest, ATreeOfTooManyDirectoriesIsRefused) {
  table_options_.closure_directories_max = 2;
  MakeTable();
  MustLease(PutTree(1));
  table_->GiveUpAllIdleLeases();
  DirectoryBuilder root;
  root.AddDirectory("a", PutTree(1));
  EXPECT_EQ(table_->LeaseClosure(PutDirectory(root)).status().code(),
            absl::StatusCode::kResourceExhausted);
}

// G4: said before the client uploads it.
TEST_F(DirectoryTableTest, AClosureThatCannotFitIsRefusedUpFront) {
  const std::string bytes = BytesOf(1, 300'000);
  DirectoryBuilder small;
  small.AddFile("x", MustPut(bytes), false);
  const Digest small_digest = PutDirectory(small);
  DirectoryBuilder large;
  large.AddFile("x", Digest::FromHash(Digest::Of("absent").hash(), 500'000),
                false);
  const Digest large_digest = PutDirectory(large);
  Close();
  options_.capacity_bytes = 700'000;
  Open();
  MakeTable();
  {
    const ClosureLease lease = MustLease(small_digest);
    const absl::Status status = table_->LeaseClosure(large_digest).status();
    EXPECT_EQ(ErrnoOf(status), ENOSPC);
    EXPECT_THAT(std::string(status.message()), HasSubstr("cannot fit"));
  }
  // An idle closure is not in the way.
  EXPECT_EQ(table_->LeaseClosure(large_digest).status().code(),
            absl::StatusCode::kFailedPrecondition);
  table_->CheckInvariants();
}

TEST_F(DirectoryTableTest, IdleClosuresAreGivenUpOldestFirst) {
  const Digest first = PutTree(10);
  const Digest second = PutTree(20);
  MustLease(first);
  const uint64_t between = store_->NextTick();
  MustLease(second);
  EXPECT_FALSE(table_->GiveUpIdleLeases(1));
  EXPECT_TRUE(table_->GiveUpIdleLeases(between));
  EXPECT_FALSE(table_->GiveUpIdleLeases(between));
  EXPECT_EQ(store_->GetStats().leased_blobs, 4);
  EXPECT_EQ(store_->Evict(first), absl::OkStatus());
  EXPECT_TRUE(table_->GiveUpIdleLeases(UINT64_MAX));
  table_->CheckInvariants();
}

// `evict DIGEST` is not refused for the sake of what nobody uses.
TEST_F(DirectoryTableTest, AnIdleClosureDoesNotStopARequestedEviction) {
  const Digest root = PutTree(1);
  MustLease(root);
  EXPECT_EQ(store_->Evict(root), absl::OkStatus());
  table_->CheckInvariants();
}

// G4, G16: a full store takes idle closures, never one that is in use.
TEST_F(DirectoryTableTest, SpaceIsTakenFromIdleClosuresOnly) {
  std::vector<Digest> roots;
  for (int i = 0; i < 4; ++i) {
    DirectoryBuilder root;
    root.AddFile("x", MustPut(BytesOf(i, 100'000)), false);
    roots.push_back(PutDirectory(root));
  }
  const ClosureLease used = MustLease(roots[0]);
  for (const Digest& root : roots) MustLease(root);
  const int64_t taken =
      options_.capacity_bytes - store_->ledger().Total() - 10'000;
  ASSERT_EQ(store_->ReserveScratch(taken), absl::OkStatus());
  for (int i = 10; i < 14; ++i) MustPut(BytesOf(i, 90'000));
  EXPECT_TRUE(store_->Contains(roots[0]));
  EXPECT_TRUE(store_->Contains(Digest::Of(BytesOf(0, 100'000))));
  EXPECT_FALSE(store_->Contains(Digest::Of(BytesOf(1, 100'000))));
  store_->ledger().Remove(Owner::kScratch, taken);
  table_->CheckInvariants();
  store_->CheckInvariants();
}

TEST_F(DirectoryTableTest, IdleDirectoriesTakeNoMoreMemoryThanTheyMay) {
  table_options_.interned_bytes_max = 1000;
  MakeTable();
  for (int i = 0; i < 20; ++i) MustLease(PutTree(10 * i));
  EXPECT_LT(store_->GetStats().leased_blobs, 4 * 5);
  EXPECT_GT(store_->GetStats().leased_blobs, 0);
}

TEST_F(DirectoryTableTest, LoadsOneDirectoryWithoutItsChildrenOrALease) {
  DirectoryBuilder root;
  root.AddFile("x", Digest::Of("absent"), false);
  const Digest digest = PutDirectory(root);
  const auto directory = table_->Load(digest);
  ASSERT_TRUE(directory.ok()) << directory.status();
  EXPECT_EQ((*directory)->entries().size(), 1u);
  EXPECT_EQ(*table_->Load(digest), *directory);  // Shared.
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
  ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
  EXPECT_EQ(table_->Load(digest).status(), absl::NotFoundError(""));
}

// G9
TEST_F(DirectoryTableTest, ADirectoryWhoseBytesChangedOnDiskIsDropped) {
  const Digest root = PutTree(1);
  chmod(PathOf(root).c_str(), 0644);
  {
    UniqueFd fd(open(PathOf(root).c_str(), O_WRONLY));
    ASSERT_EQ(pwrite(fd.get(), "c", 1, 3), 1);
  }
  const absl::Status status = table_->LeaseClosure(root).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ErrnoOf(status), EIO);
  EXPECT_FALSE(store_->Contains(root));
  table_->CheckInvariants();
  store_->CheckInvariants();
}

// G12, under ThreadSanitizer as well.
TEST_F(DirectoryTableTest, ThreadsLeaseAndReturnTheSameTrees) {
  std::vector<Digest> roots;
  for (int i = 0; i < 3; ++i) {
    DirectoryBuilder root;
    root.AddDirectory("common", PutTree(1));
    root.AddDirectory("own", PutTree(10 * i));
    roots.push_back(PutDirectory(root));
  }
  // Keeps the blobs while the threads evict what is not leased.
  std::vector<ClosureLease> kept;
  for (const Digest& root : roots) kept.push_back(MustLease(root));
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 200; ++i) {
        absl::StatusOr<ClosureLease> lease =
            table_->LeaseClosure(roots[(thread + i) % roots.size()]);
        ASSERT_TRUE(lease.ok()) << lease.status();
        EXPECT_EQ(store_->EvictUnleased().bytes, 0);
        if (i % 3 == 0) *lease = ClosureLease();
        if (i % 7 == 0) table_->GiveUpIdleLeases(UINT64_MAX);
        if (i % 50 == 0) table_->CheckInvariants();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  kept.clear();
  table_->CheckInvariants();
  table_->GiveUpAllIdleLeases();
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
  store_->CheckInvariants();
}

// With a remote cache that has a tree: dir/{a, b, sub/{a}}.
class RemoteTreeTest : public DirectoryTableTest {
 protected:
  RemoteTreeTest() {
    fetcher_ =
        std::make_unique<BlobFetcher>(*store_, source_, BlobFetcher::Options{});
    table_.reset();
    table_ = std::make_unique<DirectoryTable>(*store_, table_options_,
                                              fetcher_.get());
    DirectoryBuilder sub;
    sub.AddFile("a", a_, false);
    sub_ = source_.Add(sub.Build());
    DirectoryBuilder root;
    root.AddFile("a", a_, false);
    root.AddFile("b", b_, true);
    root.AddDirectory("sub", sub_);
    root_ = source_.Add(root.Build());
  }
  ~RemoteTreeTest() override {
    fetcher_.reset();  // It may be storing what came.
    Close();
  }

  // Until the fetcher has nothing to do with them any more; FetchAll() is
  // content with blobs that are in the store.
  void WaitUntilStored(const std::vector<Digest>& digests) {
    BlobAnswers answers;
    fetcher_->WantAll(
        digests, [&](const Digest& digest) { return answers.For(digest); });
    EXPECT_EQ(answers.Wait(), absl::OkStatus());
  }
  absl::StatusOr<ClosureLease> LeaseRemote() {
    absl::StatusOr<ClosureLease> lease =
        table_->LeaseClosure(root_, InputsFrom::kRemote);
    table_->CheckInvariants();
    store_->CheckInvariants();
    return lease;
  }

  FakeBlobSource source_;
  std::unique_ptr<BlobFetcher> fetcher_;
  const Digest a_ = source_.Add(BytesOf(1));
  const Digest b_ = source_.Add(BytesOf(2));
  Digest sub_;
  Digest root_;
};

TEST_F(RemoteTreeTest, DirectoriesAreFetchedAndFilesAwaited) {
  const absl::StatusOr<ClosureLease> lease = LeaseRemote();
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_EQ((*lease).root()->paths(), 5);
  EXPECT_THAT(source_.fetched(), ElementsAre(root_, sub_));
  EXPECT_FALSE(store_->Contains(a_));
  ASSERT_TRUE(fetcher_->FetchAll({root_, sub_}).ok());
  EXPECT_THAT(source_.fetched(), ElementsAre(root_, sub_));
  EXPECT_EQ(store_->GetStats().awaited, 2);
}

TEST_F(RemoteTreeTest, ADirectoryNeedNotBeStoredToBeOfUse) {
  const BlobFetcher::Haste haste(*fetcher_);
  const absl::StatusOr<ClosureLease> lease = LeaseRemote();
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_EQ((*lease).root()->paths(), 5);
  EXPECT_FALSE(store_->Contains(root_));
  // Nor to be known to another one.
  DirectoryBuilder other;
  other.AddDirectory("sub", sub_);
  const Digest root = source_.Add(other.Build());
  EXPECT_TRUE(table_->LeaseClosure(root, InputsFrom::kRemote).ok());
  EXPECT_THAT(source_.fetched(), ElementsAre(root_, sub_, root));
  // This is to have it in the store.
  ASSERT_TRUE(table_->FetchDirectories(root).ok());
}

TEST_F(RemoteTreeTest, DirectoriesCanBeFetchedWithoutALookAtTheFiles) {
  source_.Remove(a_);
  ASSERT_TRUE(table_->FetchDirectories(root_).ok());
  table_->CheckInvariants();
  store_->CheckInvariants();
  EXPECT_THAT(source_.fetched(), ElementsAre(root_, sub_));
  EXPECT_EQ(source_.calls(), 2) << "it asked for more";
  EXPECT_EQ(store_->GetStats().awaited, 0);
  ASSERT_TRUE(table_->FetchDirectories(root_).ok());
  EXPECT_EQ(source_.calls(), 2);
  WaitUntilStored({root_, sub_});
  source_.Remove(sub_);
  EXPECT_EQ(store_->EvictUnleased().blobs, 2);
  EXPECT_THAT(Violations(table_->FetchDirectories(root_)),
              ElementsAre(ViolationFor(sub_)));
}

TEST_F(RemoteTreeTest, WhatIsAwaitedIsLeasedWhenItComes) {
  {
    const absl::StatusOr<ClosureLease> lease = LeaseRemote();
    ASSERT_TRUE(lease.ok()) << lease.status();
    WaitUntilStored({a_, b_, root_, sub_});
    store_->CheckInvariants();
    EXPECT_EQ(store_->GetStats().awaited, 0);
    EXPECT_EQ(store_->EvictUnleased().blobs, 0);
  }
  table_->GiveUpAllIdleLeases();
  store_->CheckInvariants();
  EXPECT_EQ(store_->EvictUnleased().blobs, 4);
}

TEST_F(RemoteTreeTest, WhatIsAwaitedNoMoreLeavesNothing) {
  { ASSERT_TRUE(LeaseRemote().ok()); }
  table_->GiveUpAllIdleLeases();
  store_->CheckInvariants();
  EXPECT_EQ(store_->GetStats().awaited, 0);
  EXPECT_EQ(store_->LeasedBytes(), 0);
}

TEST_F(RemoteTreeTest, WhatTheCacheLacksIsNamed) {
  source_.Remove(b_);
  const absl::StatusOr<ClosureLease> lease = LeaseRemote();
  EXPECT_TRUE(absl::IsFailedPrecondition(lease.status())) << lease.status();
  EXPECT_THAT(Violations(lease.status()), ElementsAre(ViolationFor(b_)));
  EXPECT_EQ(store_->GetStats().awaited, 0);
  WaitUntilStored({root_, sub_});
  source_.Remove(sub_);
  store_->EvictUnleased();
  EXPECT_THAT(Violations(LeaseRemote().status()),
              ElementsAre(ViolationFor(sub_)));
}

TEST_F(RemoteTreeTest, AllDirectoriesThatTheCacheLacksAreNamed) {
  const Digest deep = Digest::Of("a Directory that nobody has");
  DirectoryBuilder middle;
  middle.AddDirectory("deep", deep);
  DirectoryBuilder top;
  top.AddDirectory("middle", source_.Add(middle.Build()));
  top.AddDirectory("sub", sub_);
  source_.Remove(sub_);
  const absl::Status lacking =
      table_->LeaseClosure(source_.Add(top.Build()), InputsFrom::kRemote)
          .status();
  EXPECT_THAT(Violations(lacking),
              UnorderedElementsAre(ViolationFor(sub_), ViolationFor(deep)));
}

TEST_F(RemoteTreeTest, FilesAreLookedForWhileDirectoriesCome) {
  DirectoryBuilder builder;
  for (int i = 0; i < 9000; ++i) {
    const Digest file = *Digest::FromParts(absl::StrFormat("%064x", i), 1);
    source_.AddWrong(file, "");
    builder.AddFile(absl::StrCat(i), file, false);
  }
  builder.AddDirectory("sub", sub_);
  const Digest root = MustPut(builder.Build());
  source_.Pause();
  std::thread lease([&] {
    EXPECT_TRUE(table_->LeaseClosure(root, InputsFrom::kRemote).ok());
  });
  source_.WaitForCalls(2);  // For sub, and for the first files.
  source_.Resume();
  lease.join();
}

TEST_F(RemoteTreeTest, AnErrorOfTheCacheIsSaid) {
  source_.SetError(absl::UnavailableError("the cache is gone"));
  const absl::StatusOr<ClosureLease> lease = LeaseRemote();
  EXPECT_TRUE(absl::IsUnavailable(lease.status())) << lease.status();
  EXPECT_THAT(std::string(lease.status().message()),
              HasSubstr("the cache is gone"));
}

TEST_F(RemoteTreeTest, WithoutARemoteOneItIsMissing) {
  EXPECT_TRUE(absl::IsFailedPrecondition(
      table_->LeaseClosure(root_, InputsFrom::kStore).status()));
  EXPECT_THAT(source_.fetched(), IsEmpty());
  // Known by now, but not all here.
  const absl::StatusOr<ClosureLease> lease = LeaseRemote();
  ASSERT_TRUE(lease.ok()) << lease.status();
  const absl::Status missing =
      table_->LeaseClosure(root_, InputsFrom::kStore).status();
  EXPECT_THAT(Violations(missing),
              UnorderedElementsAre(ViolationFor(a_), ViolationFor(b_)));
  ASSERT_TRUE(fetcher_->FetchAll({a_, b_}).ok());
  EXPECT_TRUE(table_->LeaseClosure(root_, InputsFrom::kStore).ok());
}

TEST_F(DirectoryTableTest, ThereMayBeNoRemoteCache) {
  const absl::Status status =
      table_->LeaseClosure(Digest::Of("x"), InputsFrom::kRemote).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--remote"));
}

TEST_F(RemoteTreeTest, WhatIsAwaitedMustFitBesideWhatIsLeased) {
  const int64_t capacity = store_->GetStats().capacity_bytes;
  // Not made: nobody would ever have so many bytes.
  const Digest huge =
      *Digest::FromParts(std::string(64, '7'), capacity / 100 * 90);
  source_.AddWrong(huge, "");
  DirectoryBuilder builder;
  builder.AddFile("huge", huge, false);
  const Digest one = source_.Add(builder.Build());
  const absl::StatusOr<ClosureLease> first =
      table_->LeaseClosure(one, InputsFrom::kRemote);
  ASSERT_TRUE(first.ok()) << first.status();
  const Digest other =
      *Digest::FromParts(std::string(64, '8'), capacity / 100 * 20);
  source_.AddWrong(other, "");
  builder.AddFile("other", other, false);
  const Digest two = source_.Add(builder.Build());
  EXPECT_TRUE(absl::IsResourceExhausted(
      table_->LeaseClosure(two, InputsFrom::kRemote).status()));
  store_->CheckInvariants();
  table_->CheckInvariants();
}

}  // namespace
}  // namespace casement
