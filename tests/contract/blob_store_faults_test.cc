// Each operation of the store with each of its system calls failing in each
// way: nothing is left behind, nothing is lost, and the next try works.
#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/blob_store.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

struct Fault {
  const char* name;
  int error_number;  // 0: a short write or read.
};

class BlobStoreFaults : public StoreFixture,
                        public ::testing::WithParamInterface<Fault> {
 protected:
  // Runs `act` with its first call failing, then its second... until it gets
  // through without meeting the fault, with `check` after each.
  void Sweep(const std::function<void()>& act,
             const std::function<void(int nth)>& check) {
    for (int nth = 1;; ++nth) {
      ASSERT_LT(nth, 5000);
      if (GetParam().error_number == 0) {
        disk_.ShortenNthCall(nth);
      } else {
        disk_.FailNthCall(nth, GetParam().error_number);
      }
      act();
      const bool is_through = disk_.calls() < nth;
      disk_.Heal();
      SCOPED_TRACE(absl::StrCat("call ", nth, ": ", GetParam().name));
      check(nth);
      if (HasFatalFailure() || is_through) return;
    }
  }
};

// G8
TEST_P(BlobStoreFaults, APutThatFailsLeavesNothingAndTheNextWorks) {
  Open();
  const std::string bytes = BytesOf(1, 10'000);
  const Digest digest = Digest::Of(bytes);
  absl::Status put;
  Sweep([&] { put = store_->Put(digest, bytes); },
        [&](int) {
          ExpectSound();
          EXPECT_EQ(store_->ledger().Get(Owner::kUploads), 0);
          EXPECT_EQ(store_->Contains(digest), put.ok()) << put;
          EXPECT_THAT(FilesOnDisk(), SizeIs(put.ok() ? 1 : 0));
          if (!put.ok()) {
            EXPECT_TRUE(ErrnoOf(put).has_value()) << put;
            ASSERT_EQ(store_->Put(digest, bytes), absl::OkStatus());
          }
          EXPECT_EQ(*store_->Read(digest, 1 << 20), bytes);
          ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
          EXPECT_THAT(FilesOnDisk(), IsEmpty());
        });
}

// G2, G4
TEST_P(BlobStoreFaults, AnEvictionThatFailsKeepsTheBlobWhole) {
  Open();
  const std::string bytes = BytesOf(1, 10'000);
  const Digest digest = MustPut(bytes);
  absl::Status evicted;
  absl::StatusOr<BlobRef> ref;
  Sweep(
      [&] {
        ref = store_->Ref(digest);
        evicted = store_->Evict(digest);
      },
      [&](int) {
        EXPECT_EQ(store_->Contains(digest), !evicted.ok()) << evicted;
        EXPECT_THAT(FilesOnDisk(), SizeIs(evicted.ok() ? 0 : 1));
        ExpectSound();
        const auto open = ref->Open();
        ASSERT_TRUE(open.ok()) << open.status();
        char buffer[10'000];
        EXPECT_EQ(pread((*open)->fd(), buffer, sizeof(buffer), 0), 10'000);
        EXPECT_EQ(std::string(buffer, sizeof(buffer)), bytes);
        *ref = BlobRef();
        MustPut(bytes);
      });
}

// G16: a reader gets the error that the disk gave, and the next read works.
TEST_P(BlobStoreFaults, AReadThatFailsHarmsNothing) {
  Open();
  const std::string bytes = BytesOf(1, 10'000);
  const Digest digest = MustPut(bytes);
  absl::StatusOr<std::string> read;
  Sweep([&] { read = store_->Read(digest, 1 << 20); },
        [&](int) {
          if (read.ok()) {
            EXPECT_EQ(*read, bytes);
          } else {
            EXPECT_EQ(ErrnoOf(read.status()), GetParam().error_number);
          }
          EXPECT_TRUE(store_->Contains(digest));
          EXPECT_EQ(*store_->Read(digest, 1 << 20), bytes);
          store_->CheckInvariants();
          // The next round opens the file again.
          ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
          MustPut(bytes);
        });
}

TEST_P(BlobStoreFaults, AScratchFileThatCannotBePublishedStaysScratch) {
  Open();
  const std::string bytes = BytesOf(1, 10'000);
  const Digest digest = Digest::Of(bytes);
  constexpr int64_t kAccounted = 12'288;
  absl::Status published;
  UniqueFd fd;
  Sweep(
      [&] {
        published = absl::UnknownError("not tried");
        ASSERT_EQ(store_->ReserveScratch(kAccounted), absl::OkStatus());
        absl::StatusOr<UniqueFd> file = store_->NewScratchFile();
        if (!file.ok()) return;
        fd = *std::move(file);
        ASSERT_EQ(pwrite(fd.get(), bytes.data(), bytes.size(), 0), 10'000);
        published = store_->PublishScratch(fd.get(), kAccounted).status();
      },
      [&](int) {
        EXPECT_EQ(store_->Contains(digest), published.ok());
        EXPECT_EQ(store_->ledger().Get(Owner::kScratch),
                  published.ok() ? 0 : kAccounted);
        ExpectSound();
        fd.Reset();
        store_->ledger().Remove(Owner::kScratch,
                                published.ok() ? 0 : kAccounted);
        EXPECT_EQ(store_->EvictUnleased().blobs, published.ok() ? 1 : 0);
      });
}

// G23
TEST_P(BlobStoreFaults, AStartThatFailsLosesNothing) {
  Open();
  std::vector<Digest> digests;
  for (int i = 0; i < 3; ++i) digests.push_back(MustPut(BytesOf(i)));
  Kill();
  // Few system calls: the others are the same for each shard.
  absl::Status opened;
  std::set<int> tried;
  for (const int nth :
       {1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,
        13,  14,  15,  16,  17,  18,  19,  20,  21,  22,  100, 200,
        290, 300, 400, 500, 550, 560, 570, 600, 700, 800, 850}) {
    if (GetParam().error_number == 0) {
      disk_.ShortenNthCall(nth);
    } else {
      disk_.FailNthCall(nth, GetParam().error_number);
    }
    opened = TryOpen();
    if (opened.ok()) {
      store_->CheckInvariants();
      Kill();
    }
    disk_.Heal();
    Open();
    EXPECT_THAT(store_->Missing(digests), IsEmpty()) << nth;
    EXPECT_THAT(FilesOnDisk(), SizeIs(3)) << nth;
    ExpectSound();
    Kill();
  }
}

TEST_P(BlobStoreFaults, ASyncThatFailsLeavesTheIndexBeforeIt) {
  Open();
  const Digest before = MustPut(BytesOf(1));
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  const Digest after = MustPut(BytesOf(2));
  Sweep([&] { store_->Sync().IgnoreError(); },
        [&](int nth) {
          if (nth > 300 && nth % 100 != 0) return;
          ExpectSound();
          EXPECT_THAT(store_->Missing({before, after}), IsEmpty());
        });
  Kill();
  Open();
  EXPECT_THAT(store_->Missing({before, after}), IsEmpty());
  EXPECT_EQ(store_->ledger().Total(), Allocated());
}

TEST_P(BlobStoreFaults, VerifyReportsNoBlobForAFaultOfTheDescriptorTable) {
  Open();
  MustPut(BytesOf(1));
  absl::StatusOr<BlobStore::VerifyReport> report;
  Sweep([&] { report = store_->Verify({.repair = true}); },
        [&](int) {
          store_->CheckInvariants();
          MustPut(BytesOf(1));  // Repaired away, at worst.
        });
}

INSTANTIATE_TEST_SUITE_P(AllKinds, BlobStoreFaults,
                         ::testing::Values(Fault{"no_space", ENOSPC},
                                           Fault{"io_error", EIO},
                                           Fault{"no_descriptors", EMFILE},
                                           Fault{"short", 0}),
                         [](const ::testing::TestParamInfo<Fault>& info) {
                           return std::string(info.param.name);
                         });

class BlobStoreKills : public StoreFixture {};

// G8, G9, G23: what was acknowledged is there, what was not is either whole or
// not there, and nothing else is.
TEST_F(BlobStoreKills, AKillAtAnyCallKeepsWhatWasAcknowledged) {
  for (int nth = 1;; ++nth) {
    std::error_code ignored;
    store_.reset();
    std::filesystem::remove_all(directory_ / "cas", ignored);
    Open();
    disk_.DieAtNthCall(nth);
    std::set<Digest> acknowledged;
    std::set<Digest> evicted;
    for (int i = 0; i < 3; ++i) {
      const Digest digest = Digest::Of(BytesOf(i, 6000));
      if (store_->Put(digest, BytesOf(i, 6000)).ok()) {
        acknowledged.insert(digest);
      }
      const Digest first = Digest::Of(BytesOf(0, 6000));
      if (i == 1 && store_->Evict(first).ok()) evicted.insert(first);
    }
    const bool is_through = disk_.calls() < nth;
    Kill();
    Open();
    for (const Digest& digest : acknowledged) {
      EXPECT_EQ(store_->Contains(digest), !evicted.contains(digest)) << nth;
    }
    for (const std::string& name : FilesOnDisk()) {
      EXPECT_TRUE(store_->Contains(*Digest::Parse(name))) << nth;
    }
    ExpectSound();
    const auto report = store_->Verify({});
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_THAT(report->damaged, IsEmpty()) << nth;
    if (is_through) break;
  }
}

// G8
TEST_F(BlobStoreKills, ALinkThatFailsTwiceLeavesNothing) {
  Open();
  disk_.FailIf([](absl::string_view name) { return name == "Link" ? EIO : 0; });
  const std::string bytes = BytesOf(1);
  EXPECT_FALSE(store_->Put(Digest::Of(bytes), bytes).ok());
  EXPECT_FALSE(store_->Put(Digest::Of(bytes), bytes).ok());
  EXPECT_THAT(FilesOnDisk(), IsEmpty());
  ExpectSound();
}

// G3
TEST_F(BlobStoreKills, AnIndexThatCanNeitherBecomeOneNorGoIsAccounted) {
  Open();
  MustPut(BytesOf(1));
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  disk_.FailIf([](absl::string_view name) {
    return name == "Rename" || name == "Unlink" ? EIO : 0;
  });
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(store_->Sync().ok());
    ExpectSound();
  }
  disk_.Heal();
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  EXPECT_EQ(store_->ledger().Total(), Allocated());
}

// A disk that refuses to unlink cannot keep a writer for ever.
TEST_F(BlobStoreKills, AFullStoreThatCannotEvictSaysSo) {
  Open();
  for (int i = 0; i < 20; ++i) MustPut(BytesOf(i, 4096));
  LimitTo(0);
  disk_.FailIf(
      [](absl::string_view name) { return name == "Unlink" ? EIO : 0; });
  const std::string bytes = BytesOf(100, 4096);
  const absl::Status put = store_->Put(Digest::Of(bytes), bytes);
  EXPECT_EQ(ErrnoOf(put), ENOSPC) << put;
  EXPECT_EQ(store_->GetStats().blobs, 20);
  ExpectSound();
}

}  // namespace
}  // namespace casement
