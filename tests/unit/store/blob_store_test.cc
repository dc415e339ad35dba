// What BlobStore promises while it runs. Its start is in blob_store_start_test,
// failing disks are in tests/contract.
#include "store/blob_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>  // NOLINT
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class BlobStoreTest : public StoreFixture {
 protected:
  BlobStoreTest() { Open(); }

  std::string ReadAll(const OpenBlob& blob) {
    std::string bytes(blob.digest().size_bytes(), '\0');
    EXPECT_EQ(pread(blob.fd(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    return bytes;
  }
};

TEST_F(BlobStoreTest, ReadsWhatWasPut) {
  const Digest digest = MustPut("hello");
  EXPECT_TRUE(store_->Contains(digest));
  EXPECT_EQ(*store_->Read(digest, 5), "hello");
  ExpectSound();
}

// G6: the mode belongs to the view; the file is 0444 whatever the umask.
TEST_F(BlobStoreTest, FilesAreReadOnlyWhateverTheUmask) {
  const mode_t before = umask(0077);
  const Digest digest = MustPut("hello");
  umask(before);
  struct stat attributes;
  ASSERT_EQ(stat(PathOf(digest).c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0444u);
  EXPECT_EQ(attributes.st_nlink, 1u);
}

// G9
TEST_F(BlobStoreTest, BytesThatDoNotHashToTheDigestAreRefused) {
  const Digest digest = Digest::Of("hello");
  EXPECT_EQ(store_->Put(digest, "jello").code(),
            absl::StatusCode::kInvalidArgument);
  auto upload = store_->StartUpload(digest);
  EXPECT_EQ((*upload)->Write("jello"), absl::OkStatus());
  EXPECT_EQ((*upload)->Commit().code(), absl::StatusCode::kInvalidArgument);
  upload->reset();
  EXPECT_FALSE(store_->Contains(digest));
  EXPECT_THAT(FilesOnDisk(), IsEmpty());
  EXPECT_EQ(store_->ledger().Get(Owner::kUploads), 0);
}

TEST_F(BlobStoreTest, ALargeUploadIsVerifiedWhoeverHashesIt) {
  const std::string bytes = BytesOf(1, 5'000'000);
  const Digest digest = Digest::Of(bytes);
  for (const bool is_right : {false, true}) {
    const auto upload = store_->StartUpload(digest);
    ASSERT_TRUE(upload.ok()) << upload.status();
    const auto owner = std::make_shared<const std::string>(
        is_right ? bytes : BytesOf(2, 5'000'000));
    const absl::string_view all = *owner;
    const std::vector<absl::string_view> first = {all.substr(0, 1'000),
                                                  all.substr(1'000, 4'000'000)};
    const std::vector<absl::string_view> last = {all.substr(4'001'500)};
    ASSERT_TRUE((*upload)->Write(first, owner).ok());
    // While those are being hashed.
    ASSERT_TRUE((*upload)->Write(all.substr(4'001'000, 500)).ok());
    ASSERT_TRUE((*upload)->Write(last, owner).ok());
    EXPECT_EQ((*upload)->written_bytes(), 5'000'000);
    EXPECT_EQ((*upload)->Commit().ok(), is_right);
    EXPECT_EQ(store_->Contains(digest), is_right);
    EXPECT_EQ(owner.use_count(), 1);
  }
  EXPECT_EQ(ReadAll(**store_->OpenDigest(digest)), bytes);
}

TEST_F(BlobStoreTest, BytesAreKeptByTheirOwnerUntilTheyAreHashed) {
  const std::string bytes = BytesOf(1, 5'000'000);
  const auto upload = store_->StartUpload(Digest::Of(bytes));
  ASSERT_TRUE(upload.ok()) << upload.status();
  for (size_t at = 0; at < bytes.size(); at += 1'000'000) {
    auto owner = std::make_shared<const std::string>(bytes, at, 1'000'000);
    const absl::string_view piece = *owner;
    ASSERT_TRUE((*upload)->Write({&piece, 1}, std::move(owner)).ok());
  }
  EXPECT_EQ((*upload)->Commit(), absl::OkStatus());
}

TEST_F(BlobStoreTest, PiecesAreStoredInOrderHoweverFewBytesTheDiskTakes) {
  const std::vector<absl::string_view> pieces = {"one", "", "and two", "!", ""};
  const Digest digest = Digest::Of("oneand two!");
  for (int nth = 1;; ++nth) {
    disk_.ShortenNthCall(nth);
    const auto upload = store_->StartUpload(digest);
    ASSERT_TRUE(upload.ok()) << upload.status();
    ASSERT_TRUE((*upload)->Write(pieces).ok());
    ASSERT_TRUE((*upload)->Commit().ok()) << "call " << nth;
    const bool is_through = disk_.calls() < nth;
    disk_.Heal();
    const auto blob = store_->OpenDigest(digest);
    ASSERT_TRUE(blob.ok()) << blob.status();
    EXPECT_EQ(ReadAll(**blob), "oneand two!");
    if (is_through) return;
    ASSERT_TRUE(store_->Evict(digest).ok());
  }
}

TEST_F(BlobStoreTest, AnUploadOfTheWrongSizeIsRefused) {
  const Digest digest = Digest::Of("hello");
  auto upload = store_->StartUpload(digest);
  EXPECT_EQ((*upload)->Write("hello, world").code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE((*upload)->Commit().ok());
  upload = store_->StartUpload(digest);
  EXPECT_EQ((*upload)->Write("hell"), absl::OkStatus());
  EXPECT_EQ((*upload)->written_bytes(), 4);
  EXPECT_EQ((*upload)->Commit().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(FilesOnDisk(), IsEmpty());
}

// G8
TEST_F(BlobStoreTest, AnUploadGivenUpLeavesNothing) {
  const std::string bytes = BytesOf(1, 100'000);
  {
    auto upload = store_->StartUpload(Digest::Of(bytes));
    ASSERT_EQ((*upload)->Write(bytes.substr(0, 50'000)), absl::OkStatus());
    EXPECT_GE(store_->ledger().Get(Owner::kUploads), 50'000);
  }
  EXPECT_EQ(store_->ledger().Get(Owner::kUploads), 0);
  EXPECT_THAT(FilesOnDisk(), IsEmpty());
}

TEST_F(BlobStoreTest, TheEmptyBlobIsAlwaysThere) {
  EXPECT_TRUE(store_->Contains(Digest()));
  EXPECT_EQ(*store_->Read(Digest(), 0), "");
  const Digest empty;
  EXPECT_THAT(store_->Missing({&empty, 1}), IsEmpty());
  EXPECT_TRUE(store_->LeaseBlob(empty).ok());
  EXPECT_EQ(store_->Put(empty, ""), absl::OkStatus());
  EXPECT_EQ(store_->EvictUnleased().blobs, 1);
  EXPECT_TRUE(store_->Contains(empty));
  const auto open = store_->OpenDigest(empty);
  ASSERT_TRUE(open.ok());
  char byte;
  EXPECT_EQ(pread((*open)->fd(), &byte, 1, 0), 0);
}

TEST_F(BlobStoreTest, WhatIsNotThereIsNotFoundWithoutAMessage) {
  const Digest digest = Digest::Of("hello");
  EXPECT_FALSE(store_->Contains(digest));
  EXPECT_EQ(store_->Ref(digest).status(), absl::NotFoundError(""));
  EXPECT_EQ(store_->LeaseBlob(digest).status(), absl::NotFoundError(""));
  EXPECT_EQ(store_->OpenDigest(digest).status(), absl::NotFoundError(""));
  EXPECT_TRUE(absl::IsNotFound(store_->Evict(digest)));
}

TEST_F(BlobStoreTest, MissingNamesEachOnceInOrder) {
  const Digest here = MustPut("here");
  const Digest a = Digest::Of("a");
  const Digest b = Digest::Of("b");
  EXPECT_THAT(store_->Missing({b, here, a, b, Digest()}), ElementsAre(b, a));
}

TEST_F(BlobStoreTest, ReadRefusesMoreThanItsLimit) {
  EXPECT_EQ(store_->Read(MustPut("hello"), 4).status().code(),
            absl::StatusCode::kResourceExhausted);
}

// G2, G4
TEST_F(BlobStoreTest, ARefReadsAnEvictedBlobUntilItGoes) {
  const std::string bytes = BytesOf(1, 10'000);
  const Digest digest = MustPut(bytes);
  {
    absl::StatusOr<BlobRef> ref = store_->Ref(digest);
    ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
    EXPECT_FALSE(store_->Contains(digest));
    EXPECT_THAT(FilesOnDisk(), IsEmpty());
    EXPECT_EQ(ReadAll(**ref->Open()), bytes);
    EXPECT_EQ(store_->ledger().Get(Owner::kBlobs), 0);
    EXPECT_GE(store_->ledger().Get(Owner::kZombies), 10'000);
    EXPECT_EQ(store_->GetStats().zombies, 1);
    store_->CheckInvariants();
  }
  EXPECT_EQ(store_->ledger().Get(Owner::kZombies), 0);
  EXPECT_EQ(store_->GetStats().zombies, 0);
  ExpectSound();
}

// G2, G4
TEST_F(BlobStoreTest, AnOpenBlobReadsAnEvictedBlobUntilItGoes) {
  const std::string bytes = BytesOf(1, 10'000);
  const Digest digest = MustPut(bytes);
  std::shared_ptr<const OpenBlob> open = *store_->OpenDigest(digest);
  ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
  EXPECT_EQ(ReadAll(*open), bytes);
  EXPECT_GT(store_->ledger().Get(Owner::kZombies), 0);
  open.reset();
  EXPECT_EQ(store_->ledger().Get(Owner::kZombies), 0);
  store_->CheckInvariants();
}

// G4
TEST_F(BlobStoreTest, AMappingReadsAnEvictedBlob) {
  const std::string bytes = BytesOf(1, 10'000);
  const Digest digest = MustPut(bytes);
  std::shared_ptr<const OpenBlob> open = *store_->OpenDigest(digest);
  void* const map =
      mmap(nullptr, bytes.size(), PROT_READ, MAP_SHARED, open->fd(), 0);
  ASSERT_NE(map, MAP_FAILED);
  ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
  EXPECT_EQ(std::string(static_cast<char*>(map), bytes.size()), bytes);
  munmap(map, bytes.size());
}

// G2
TEST_F(BlobStoreTest, KeepingABlobOpenForLaterKeepsNoBytesOnDisk) {
  const Digest digest = MustPut(BytesOf(1));
  store_->OpenDigest(digest)->reset();  // Stays open, for the next use.
  ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
  EXPECT_EQ(store_->ledger().Get(Owner::kZombies), 0);
  EXPECT_EQ(store_->GetStats().zombies, 0);
}

// G2, G11
TEST_F(BlobStoreTest, ADigestPublishedAgainHasANewIdAndTheOldOneStillReads) {
  const std::string bytes = BytesOf(1, 5'000);
  const Digest digest = MustPut(bytes);
  absl::StatusOr<BlobRef> old_ref = store_->Ref(digest);
  ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
  MustPut(bytes);
  absl::StatusOr<BlobRef> new_ref = store_->Ref(digest);
  EXPECT_NE(old_ref->id(), new_ref->id());
  std::shared_ptr<const OpenBlob> old_blob = *old_ref->Open();
  std::shared_ptr<const OpenBlob> new_blob = *new_ref->Open();
  EXPECT_NE(old_blob, new_blob);
  EXPECT_EQ(ReadAll(*old_blob), bytes);
  EXPECT_EQ(ReadAll(*new_blob), bytes);
  EXPECT_GT(store_->ledger().Get(Owner::kZombies), 0);
  EXPECT_GT(store_->ledger().Get(Owner::kBlobs), 0);
  *old_ref = BlobRef();
  old_blob.reset();
  EXPECT_EQ(store_->ledger().Get(Owner::kZombies), 0);
  EXPECT_TRUE(store_->Contains(digest));
  ExpectSound();
}

TEST_F(BlobStoreTest, HoldersOfOnePublicationShareOneOpenBlob) {
  const Digest digest = MustPut("hello");
  const auto first = *store_->OpenDigest(digest);
  const auto second = *store_->OpenDigest(digest);
  EXPECT_EQ(first, second);
}

// G11
TEST_F(BlobStoreTest, StoringAResidentDigestAgainChangesNothing) {
  const std::string bytes = BytesOf(1);
  const Digest digest = MustPut(bytes);
  struct stat before;
  ASSERT_EQ(stat(PathOf(digest).c_str(), &before), 0);
  const absl::StatusOr<BlobRef> ref = store_->Ref(digest);
  const absl::StatusOr<Lease> lease = store_->LeaseBlob(digest);
  const int64_t accounted = store_->ledger().Total();
  // Also past Put()'s early answer.
  auto upload = store_->StartUpload(digest);
  ASSERT_EQ((*upload)->Write(bytes), absl::OkStatus());
  ASSERT_EQ((*upload)->Commit(), absl::OkStatus());
  MustPut(bytes);
  struct stat after;
  ASSERT_EQ(stat(PathOf(digest).c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
  EXPECT_EQ(store_->Ref(digest)->id(), ref->id());
  EXPECT_EQ(store_->ledger().Total(), accounted);
  EXPECT_EQ(store_->GetStats().published, 1);
}

// G12
TEST_F(BlobStoreTest, ALeasedBlobStaysUntilItsLastLeaseGoes) {
  const Digest digest = MustPut("hello");
  {
    absl::StatusOr<Lease> first = store_->LeaseBlob(digest);
    {
      absl::StatusOr<Lease> second = store_->LeaseBlob(digest);
      Lease moved = *std::move(second);
      EXPECT_EQ(store_->GetStats().leased_blobs, 1);
    }
    EXPECT_EQ(store_->EvictUnleased().blobs, 0);
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Evict(digest)));
    store_->CheckInvariants();
  }
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
  EXPECT_EQ(store_->Evict(digest), absl::OkStatus());
}

TEST_F(BlobStoreTest, TheLeastRecentlyUsedGoesFirst) {
  std::vector<Digest> digests;
  for (int i = 0; i < 4; ++i) digests.push_back(MustPut(BytesOf(i, 4096)));
  LimitTo(0);
  store_->Touch(digests[0]);
  store_->OpenDigest(digests[1]).status().IgnoreError();
  EXPECT_THAT(store_->Missing({digests[2]}), IsEmpty());
  // Oldest first: 3, 0, 1, 2.
  const Digest added = Digest::Of(BytesOf(10, 4096));
  MustPut(BytesOf(10, 4096));
  EXPECT_THAT(store_->Missing({digests[0], digests[1], digests[2], added}),
              IsEmpty());
  EXPECT_FALSE(store_->Contains(digests[3]));
  ExpectSound();
}

// G3: the bytes of blobs, uploads, scratch and directories.
TEST_F(BlobStoreTest, AccountsNoLessThanIsAllocatedAtEachStepAndExactlyAtLast) {
  disk_.BeforeEach([this](absl::string_view name) {
    if (store_ != nullptr) {
      EXPECT_GE(store_->ledger().Total(), Allocated()) << "before " << name;
    }
  });
  for (const size_t size : {1, 4095, 4096, 4097, 100'000, 3'000'000}) {
    MustPut(BytesOf(static_cast<int>(size), size));
    EXPECT_GE(store_->ledger().Total(), Allocated());
  }
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  disk_.BeforeEach(nullptr);
  EXPECT_EQ(store_->ledger().Total(), Allocated());
  EXPECT_EQ(store_->EvictUnleased().blobs, 6);
  EXPECT_EQ(store_->ledger().Get(Owner::kBlobs), 0);
  EXPECT_EQ(store_->ledger().Total(), Allocated());
}

// G3
TEST_F(BlobStoreTest, AnUploadIsAccountedBeforeItIsWritten) {
  const std::string bytes = BytesOf(1, 5'000'000);
  auto upload = store_->StartUpload(Digest::Of(bytes));
  int64_t accounted_at_write = 0;
  disk_.BeforeEach([&](absl::string_view name) {
    if (name == "Write") {
      accounted_at_write = store_->ledger().Get(Owner::kUploads);
    }
  });
  for (size_t done = 0; done < bytes.size(); done += 100'000) {
    ASSERT_EQ((*upload)->Write(bytes.substr(done, 100'000)), absl::OkStatus());
    EXPECT_GE(accounted_at_write, static_cast<int64_t>(done) + 100'000);
  }
  disk_.BeforeEach(nullptr);
  ASSERT_EQ((*upload)->Commit(), absl::OkStatus());
  EXPECT_EQ(store_->ledger().Get(Owner::kUploads), 0);
}

// G3, G16
TEST_F(BlobStoreTest, NeverAccountsMoreThanItsCapacityWhenFull) {
  MustPut(BytesOf(0, 4096));
  LimitTo(1 << 20);
  for (int i = 0; i < 600; ++i) {
    MustPut(BytesOf(i, 8192));
    ASSERT_LE(store_->ledger().Total(), options_.capacity_bytes + 3 * 4096);
  }
  EXPECT_GT(store_->GetStats().evictions, 300);
  ExpectSound();
}

TEST_F(BlobStoreTest, EvictsNoMoreThanNeeded) {
  for (int i = 0; i < 20; ++i) MustPut(BytesOf(i, 4096));
  const Digest replaced = MustPut(BytesOf(20, 4096));
  ASSERT_EQ(store_->Evict(replaced), absl::OkStatus());
  LimitTo(0);
  MustPut(BytesOf(20, 4096));  // Its directory is there already.
  EXPECT_EQ(store_->GetStats().evictions, 1);
}

// G16
TEST_F(BlobStoreTest, AStoreFullOfLeasedBlobsRefusesWritersOnly) {
  const std::string bytes = BytesOf(1, 100'000);
  const Digest digest = MustPut(bytes);
  const Digest unleased = MustPut(BytesOf(2, 4096));
  LimitTo(4096);
  const absl::StatusOr<Lease> lease = store_->LeaseBlob(digest);
  const std::string more = BytesOf(3, 100'000);
  const absl::Status put = store_->Put(Digest::Of(more), more);
  EXPECT_EQ(put.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoOf(put), ENOSPC);
  EXPECT_THAT(std::string(put.message()), HasSubstr("the store is full"));
  EXPECT_EQ(ErrnoOf(store_->ReserveScratch(100'000)), ENOSPC);
  EXPECT_EQ(*store_->Read(digest, 1 << 20), bytes);
  // Nobody lost a blob for what was refused.
  EXPECT_TRUE(store_->Contains(unleased));
  ExpectSound();
}

TEST_F(BlobStoreTest, ABlobLargerThanTheStoreIsRefusedBeforeItsBytes) {
  const Digest digest = MustPut("hello");
  LimitTo(1 << 20);
  const absl::Status refused =
      store_->StartUpload(Digest::FromHash(digest.hash(), 1 << 30)).status();
  EXPECT_EQ(ErrnoOf(refused), ENOSPC);
  EXPECT_EQ(
      ErrnoOf(store_->StartUpload(Digest::FromHash(digest.hash(), INT64_MAX))
                  .status()),
      ENOSPC);
  EXPECT_TRUE(store_->Contains(digest));
}

// G3: what is still open takes room.
TEST_F(BlobStoreTest, ZombiesCountAgainstTheCapacity) {
  const Digest digest = MustPut(BytesOf(1, 400'000));
  LimitTo(200'000);
  absl::StatusOr<BlobRef> ref = store_->Ref(digest);
  ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
  const std::string more = BytesOf(2, 400'000);
  EXPECT_EQ(ErrnoOf(store_->Put(Digest::Of(more), more)), ENOSPC);
  *ref = BlobRef();
  MustPut(more);
}

TEST_F(BlobStoreTest, IdleLeasesAreGivenUpWhenTheyAreOlderThanTheOldestBlob) {
  const Digest leased = MustPut(BytesOf(1, 4096));
  Lease idle = *store_->LeaseBlob(leased);
  const uint64_t idle_since = store_->NextTick();
  const Digest younger = MustPut(BytesOf(2, 4096));
  std::vector<uint64_t> asked;
  bool has_idle = true;
  store_->SetListener({.give_up_idle_leases = [&](uint64_t used_before) {
    asked.push_back(used_before);
    if (!has_idle || idle_since >= used_before) return false;
    has_idle = false;
    std::vector<Lease> leases;
    leases.push_back(std::move(idle));
    store_->GiveBack(std::move(leases), idle_since);
    return true;
  }});
  // All but a little of what is free: the next blob needs another one's room.
  const int64_t spare = 50'000;
  const int64_t taken =
      options_.capacity_bytes - store_->ledger().Total() - spare;
  ASSERT_EQ(store_->ReserveScratch(taken), absl::OkStatus());
  MustPut(BytesOf(3, 49'000));
  EXPECT_FALSE(has_idle);
  EXPECT_FALSE(store_->Contains(leased));
  EXPECT_TRUE(store_->Contains(younger));
  store_->ledger().Remove(Owner::kScratch, taken);
  store_->SetListener({});
}

TEST_F(BlobStoreTest, TellsWhatWasPublishedAndEvictedOnceEach) {
  std::vector<std::string> told;
  store_->SetListener({.published =
                           [&](const Digest& digest) {
                             told.push_back("published");
                             EXPECT_TRUE(
                                 store_->Contains(digest));  // Without a lock.
                           },
                       .evicted =
                           [&](const Digest& digest) {
                             told.push_back("evicted");
                             EXPECT_FALSE(store_->Contains(digest));
                           }});
  const Digest digest = MustPut("hello");
  MustPut("hello");
  ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
  EXPECT_THAT(told, ElementsAre("published", "evicted"));
}

TEST_F(BlobStoreTest, ListsResidentBlobsInPieces) {
  std::vector<Digest> digests;
  for (int i = 0; i < 10; ++i) digests.push_back(MustPut(BytesOf(i)));
  ASSERT_EQ(store_->Evict(digests[3]), absl::OkStatus());
  std::vector<Digest> listed;
  uint64_t position = 0;
  for (;;) {
    const auto piece = store_->List(position, 4);
    for (const auto& blob : piece) listed.push_back(blob.digest);
    if (piece.empty()) break;
    EXPECT_LE(piece.size(), 4u);
    position = piece.back().position + 1;
  }
  digests.erase(digests.begin() + 3);
  EXPECT_EQ(listed, digests);
  EXPECT_THAT(store_->List(1'000'000, 10), IsEmpty());
}

TEST_F(BlobStoreTest, PublishesAScratchFileByLinkAndLeasesIt) {
  const std::string bytes = BytesOf(1, 50'000);
  ASSERT_EQ(store_->ReserveScratch(53'248), absl::OkStatus());
  absl::StatusOr<UniqueFd> fd = store_->NewScratchFile();
  ASSERT_TRUE(fd.ok());
  ASSERT_EQ(pwrite(fd->get(), bytes.data(), bytes.size(), 0), 50'000);
  struct stat scratch;
  ASSERT_EQ(fstat(fd->get(), &scratch), 0);
  {
    const absl::StatusOr<BlobStore::PublishedScratch> published =
        store_->PublishScratch(fd->get(), 53'248);
    ASSERT_TRUE(published.ok()) << published.status();
    EXPECT_EQ(published->digest, Digest::Of(bytes));
    EXPECT_TRUE(published->is_linked);
    EXPECT_EQ(store_->GetStats().leased_blobs, 1);
  }
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
  struct stat blob;
  ASSERT_EQ(stat(PathOf(Digest::Of(bytes)).c_str(), &blob), 0);
  EXPECT_EQ(blob.st_ino, scratch.st_ino);
  EXPECT_EQ(blob.st_mode & 07777, 0444u);
  EXPECT_EQ(store_->ledger().Get(Owner::kScratch), 0);
  ExpectSound();
}

// G3: its bytes are there until it is closed.
TEST_F(BlobStoreTest, AScratchFileOfAResidentBlobStaysScratch) {
  const Digest digest = MustPut("hello");
  ASSERT_EQ(store_->ReserveScratch(4096), absl::OkStatus());
  absl::StatusOr<UniqueFd> fd = store_->NewScratchFile();
  ASSERT_EQ(pwrite(fd->get(), "hello", 5, 0), 5);
  const absl::StatusOr<BlobStore::PublishedScratch> published =
      store_->PublishScratch(fd->get(), 4096);
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->digest, digest);
  EXPECT_FALSE(published->is_linked);
  EXPECT_EQ(store_->GetStats().leased_blobs, 1);
  EXPECT_EQ(store_->ledger().Get(Owner::kScratch), 4096);
  store_->ledger().Remove(Owner::kScratch, 4096);
  store_->CheckInvariants();
}

TEST_F(BlobStoreTest, VerifyFindsAFlippedBitAndRepairDropsIt) {
  const Digest good = MustPut(BytesOf(1));
  const Digest bad = MustPut(BytesOf(2));
  chmod(PathOf(bad).c_str(), 0644);
  {
    UniqueFd fd(open(PathOf(bad).c_str(), O_WRONLY));
    ASSERT_EQ(pwrite(fd.get(), "X", 1, 50), 1);
  }
  int64_t progress = 0;
  absl::StatusOr<BlobStore::VerifyReport> report =
      store_->Verify({.progress = [&](int64_t done, int64_t all) {
        progress = done;
        EXPECT_EQ(all, 200);
      }});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->damaged, ElementsAre(bad));
  EXPECT_EQ(report->blobs, 2);
  EXPECT_EQ(report->bytes, 200);
  EXPECT_EQ(progress, 200);
  EXPECT_EQ(report->allocated_bytes, Allocated());
  EXPECT_EQ(report->accounted_bytes, Allocated());
  EXPECT_TRUE(store_->Contains(bad));
  report = store_->Verify({.repair = true});
  EXPECT_THAT(report->damaged, ElementsAre(bad));
  EXPECT_FALSE(store_->Contains(bad));
  EXPECT_TRUE(store_->Contains(good));
  EXPECT_EQ(store_->GetStats().damaged, 1);
  ExpectSound();
}

// I2's exception.
TEST_F(BlobStoreTest, ALeaseDoesNotKeepADamagedBlob) {
  const Digest digest = MustPut("hello");
  {
    const absl::StatusOr<Lease> lease = store_->LeaseBlob(digest);
    const absl::StatusOr<BlobRef> ref = store_->Ref(digest);
    store_->DropDamaged(digest);
    EXPECT_FALSE(store_->Contains(digest));
    EXPECT_EQ(ErrnoOf(ref->Open().status()), EIO);
    store_->CheckInvariants();
    MustPut("hello");
    EXPECT_EQ(*store_->Read(digest, 5), "hello");
    store_->CheckInvariants();
  }
  EXPECT_EQ(store_->GetStats().zombies, 0);
  store_->CheckInvariants();
}

TEST_F(BlobStoreTest, AFileThatSomebodyRemovedIsEioOnceThenNotFound) {
  const Digest digest = MustPut("hello");
  std::filesystem::remove(PathOf(digest));
  const absl::Status first = store_->OpenDigest(digest).status();
  EXPECT_EQ(first.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ErrnoOf(first), EIO);
  EXPECT_TRUE(absl::IsNotFound(store_->OpenDigest(digest).status()));
  store_->CheckInvariants();
  MustPut("hello");
  EXPECT_EQ(*store_->Read(digest, 5), "hello");
}

TEST_F(BlobStoreTest, AFileCutShortOrReplacedByASymlinkIsNeverServed) {
  for (const bool is_symlink : {false, true}) {
    const Digest digest = MustPut("hello");
    std::filesystem::remove(PathOf(digest));
    if (is_symlink) {
      std::filesystem::create_symlink("/etc/passwd", PathOf(digest));
    } else {
      UniqueFd fd(open(PathOf(digest).c_str(), O_CREAT | O_WRONLY, 0644));
      ASSERT_EQ(write(fd.get(), "hell", 4), 4);
    }
    EXPECT_EQ(ErrnoOf(store_->OpenDigest(digest).status()), EIO);
    EXPECT_FALSE(store_->Contains(digest));
    store_->CheckInvariants();
  }
}

TEST_F(BlobStoreTest, WhatIsInTheWayOfAVerifiedBlobIsReplaced) {
  const Digest digest = Digest::Of("hello");
  std::filesystem::create_directories(
      std::filesystem::path(PathOf(digest)).parent_path());
  std::filesystem::create_symlink("/etc/passwd", PathOf(digest));
  MustPut("hello");
  EXPECT_EQ(*store_->Read(digest, 5), "hello");
  EXPECT_TRUE(std::filesystem::is_regular_file(
      std::filesystem::symlink_status(PathOf(digest))));
}

TEST_F(BlobStoreTest, KeepsNoMoreBlobsOpenThanItMay) {
  options_.open_blobs_max = 3;
  Open();
  std::vector<Digest> digests;
  for (int i = 0; i < 10; ++i) digests.push_back(MustPut(BytesOf(i)));
  const size_t before = Descriptors();
  for (int round = 0; round < 3; ++round) {
    for (const Digest& digest : digests) {
      ASSERT_TRUE(store_->OpenDigest(digest).ok());
      EXPECT_LE(Descriptors(), before + 3);
    }
  }
  EXPECT_EQ(Descriptors(), before + 3);
  store_->CheckInvariants();
}

TEST_F(BlobStoreTest, ABlobReadOftenIsOpenedOnce) {
  const Digest digest = MustPut("hello");
  store_->Read(digest, 5).status().IgnoreError();
  int opened = 0;
  disk_.BeforeEach([&](absl::string_view name) { opened += name == "Open"; });
  for (int i = 0; i < 10; ++i) EXPECT_EQ(*store_->Read(digest, 5), "hello");
  EXPECT_EQ(opened, 0);
}

TEST_F(BlobStoreTest, MaintainEvictsFromTheHighToTheLowWatermark) {
  options_.capacity_bytes = 100 << 20;
  options_.high_watermark_percent = 50;
  options_.low_watermark_percent = 30;
  Open();
  std::vector<Digest> digests;
  while (store_->ledger().Total() <= 50 << 20) {
    EXPECT_EQ(store_->Maintain(), absl::OkStatus());
    EXPECT_EQ(store_->GetStats().evictions, 0);
    digests.push_back(
        MustPut(BytesOf(static_cast<int>(digests.size()), 1 << 20)));
  }
  EXPECT_EQ(store_->Maintain(), absl::OkStatus());
  EXPECT_LE(store_->ledger().Total(), 30 << 20);
  EXPECT_GE(store_->ledger().Total(), 28 << 20);
  EXPECT_FALSE(store_->Contains(digests.front()));
  EXPECT_TRUE(store_->Contains(digests.back()));
  ExpectSound();
}

// Else a store whose blobs the kernel knows would lose them all: they are freed
// a moment after they are evicted, or much later.
TEST_F(BlobStoreTest, MaintainEvictsNoMoreForBlobsThatAreStillOpen) {
  options_.capacity_bytes = 100 << 20;
  options_.high_watermark_percent = 50;
  options_.low_watermark_percent = 30;
  Open();
  std::vector<BlobRef> refs;
  while (store_->ledger().Total() <= 50 << 20) {
    const Digest digest =
        MustPut(BytesOf(static_cast<int>(refs.size()), 1 << 20));
    refs.push_back(*store_->Ref(digest));
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(store_->Maintain(), absl::OkStatus());
  EXPECT_LE(store_->ledger().Get(Owner::kBlobs), 30 << 20);
  EXPECT_GE(store_->ledger().Get(Owner::kBlobs), 28 << 20);
  ExpectSound();
  refs.clear();
  EXPECT_EQ(store_->GetStats().zombies, 0);
}

TEST_F(BlobStoreTest, MaintainSyncsOncePerIntervalAndOnlyIfSomethingChanged) {
  int syncs = 0;
  disk_.BeforeEach(
      [&](absl::string_view name) { syncs += name == "SyncFileSystem"; });
  MustPut("hello");
  EXPECT_EQ(store_->Maintain(), absl::OkStatus());
  EXPECT_EQ(syncs, 0);
  clock_.Advance(options_.sync_interval);
  EXPECT_EQ(store_->Maintain(), absl::OkStatus());
  EXPECT_EQ(syncs, 1);
  clock_.Advance(options_.sync_interval);
  EXPECT_EQ(store_->Maintain(), absl::OkStatus());
  EXPECT_EQ(syncs, 1);
}

}  // namespace
}  // namespace casement
