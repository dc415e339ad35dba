// BlobStore::Verify(): what it finds, repairs, moves aside, and proves.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>  // NOLINT
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class BlobStoreVerifyTest : public StoreFixture {
 protected:
  BlobStoreVerifyTest() { Open(); }

  // A blob with a wrong byte.
  Digest MustPutDamaged(int seed, size_t size = 100) {
    const Digest digest = MustPut(BytesOf(seed, size));
    Damage(digest);
    return digest;
  }
  void Damage(const Digest& digest) {
    chmod(PathOf(digest).c_str(), 0644);
    UniqueFd fd(open(PathOf(digest).c_str(), O_WRONLY));
    ASSERT_EQ(pwrite(fd.get(), "X", 1, 50), 1);
  }
  std::string MakeQuarantine() {
    fs::create_directory(outside_ / "quarantine");
    return outside_ / "quarantine";
  }
  BlobStore::VerifyReport MustVerify(BlobStore::VerifyOptions options) {
    absl::StatusOr<BlobStore::VerifyReport> report = store_->Verify(options);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *std::move(report) : BlobStore::VerifyReport();
  }

  TempDirectory outside_;
};

TEST_F(BlobStoreVerifyTest, QuarantineMovesDamagedBlobsOutOfTheStore) {
  const Digest good = MustPut(BytesOf(1));
  const Digest bad = MustPutDamaged(2);
  const std::string quarantine = MakeQuarantine();
  const auto report = MustVerify({.quarantine = quarantine});
  EXPECT_THAT(report.damaged, ElementsAre(bad));
  EXPECT_EQ(report.dropped, 1);
  EXPECT_EQ(report.moved, 1);
  EXPECT_EQ(report.unaccounted_bytes, 0);
  std::string expected = BytesOf(2);
  expected[50] = 'X';
  const std::string moved = quarantine + "/" + bad.ToString();
  EXPECT_EQ(ReadAll(moved), expected);
  struct stat attributes;
  ASSERT_EQ(stat(moved.c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0400u);
  EXPECT_THAT(FilesOnDisk(), ElementsAre(good.ToString()));
  EXPECT_FALSE(store_->Contains(bad));
  EXPECT_EQ(store_->GetStats().damaged, 1);
  EXPECT_THAT(Log(), Contains(HasSubstr(bad.ToString())));
  ExpectSound();
}

TEST_F(BlobStoreVerifyTest, QuarantineOnAnotherFileSystemGetsACopy) {
  if (getuid() != 0) GTEST_SKIP() << "mounting needs root";
  const Digest bad = MustPutDamaged(1, 600000);
  const std::string quarantine = MakeQuarantine();
  ASSERT_EQ(mount("tmpfs", quarantine.c_str(), "tmpfs", 0, "size=4m"), 0);
  const auto report = MustVerify({.quarantine = quarantine});
  std::string expected = BytesOf(1, 600000);
  expected[50] = 'X';
  EXPECT_TRUE(ReadAll(quarantine + "/" + bad.ToString()) == expected);
  EXPECT_EQ(umount2(quarantine.c_str(), MNT_DETACH), 0);
  EXPECT_EQ(report.moved, 1);
  EXPECT_THAT(FilesOnDisk(), IsEmpty());
  ExpectSound();
}

// Nothing is dropped that was to be kept.
TEST_F(BlobStoreVerifyTest, WhatDoesNotFitIntoTheQuarantineStays) {
  if (getuid() != 0) GTEST_SKIP() << "mounting needs root";
  const Digest bad = MustPutDamaged(1, 600000);
  const std::string quarantine = MakeQuarantine();
  ASSERT_EQ(mount("tmpfs", quarantine.c_str(), "tmpfs", 0, "size=128k"), 0);
  const auto report = MustVerify({.quarantine = quarantine});
  EXPECT_TRUE(fs::is_empty(quarantine));
  EXPECT_EQ(umount2(quarantine.c_str(), MNT_DETACH), 0);
  EXPECT_THAT(report.damaged, ElementsAre(bad));
  EXPECT_EQ(report.dropped, 0);
  EXPECT_EQ(ErrnoOf(report.stays), ENOSPC);
  EXPECT_TRUE(store_->Contains(bad));
  ExpectSound();
}

TEST_F(BlobStoreVerifyTest, QuarantineNeverOverwrites) {
  const std::string quarantine = MakeQuarantine();
  const std::string name = quarantine + "/" + Digest::Of(BytesOf(1)).ToString();
  std::ofstream(name) << "somebody's";
  fs::create_symlink("/etc/nowhere", name + ".1");
  MustPutDamaged(1);
  EXPECT_EQ(MustVerify({.quarantine = quarantine}).moved, 1);
  EXPECT_EQ(ReadAll(name), "somebody's");
  EXPECT_TRUE(fs::is_symlink(name + ".1"));
  EXPECT_EQ(fs::file_size(name + ".2"), 100u);
}

TEST_F(BlobStoreVerifyTest, QuarantineThatCannotBeIsInvalid) {
  const Digest bad = MustPutDamaged(1);
  const std::string store = fs::canonical(directory_.path());
  const std::string mount = fs::canonical(outside_.path());
  fs::create_directory(directory_ / "inside");
  fs::create_directory(outside_ / "sandbox");
  TempDirectory elsewhere;
  fs::create_symlink(store, elsewhere / "link");
  for (const std::string& path :
       {std::string("relative"), std::string("./"), store, store + "/inside",
        store + "/cas", std::string(elsewhere / "link"),
        elsewhere / "link/inside", mount, mount + "/sandbox",
        store + "/../" + fs::path(store).filename().string() + "/inside",
        std::string("/no/such"), std::string("/proc/self/exe"),
        std::string("/tmp/\0x", 7), std::string(5000, '/') + "x"}) {
    const auto report = store_->Verify({.quarantine = path, .mount = mount});
    EXPECT_TRUE(absl::IsInvalidArgument(report.status()))
        << path << ": " << report.status();
  }
  EXPECT_TRUE(store_->Contains(bad));
  EXPECT_EQ(MustVerify({.quarantine = elsewhere.path(), .mount = mount}).moved,
            1);
}

TEST_F(BlobStoreVerifyTest, DiskShareIsFromOneToAHundred) {
  for (const int percent : {-1, 0, 101}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        store_->Verify({.disk_share_percent = percent}).status()));
  }
}

TEST_F(BlobStoreVerifyTest, ASmallShareReadsEverythingAsWell) {
  std::set<Digest> digests;
  for (int i = 0; i < 5; ++i) digests.insert(MustPut(BytesOf(i, 100000)));
  const auto report = MustVerify({.disk_share_percent = 10});
  EXPECT_EQ(report.blobs, 5);
  EXPECT_EQ(report.bytes, 500000);
}

TEST_F(BlobStoreVerifyTest, CancellingEndsItBetweenTwoPieces) {
  MustPut(BytesOf(1, 2000000));
  std::atomic<int> asked{0};
  const auto report =
      store_->Verify({.is_cancelled = [&] { return ++asked > 3; }});
  EXPECT_TRUE(absl::IsCancelled(report.status())) << report.status();
  EXPECT_LE(asked, 6);
  store_->CheckInvariants();
}

// G22: whatever lies where a blob should be.
TEST_F(BlobStoreVerifyTest, WhatIsNoFileInABlobsPlaceIsDamage) {
  for (const std::string kind : {"symlink", "fifo", "directory", "nothing"}) {
    const Digest digest = MustPut(BytesOf(1));
    fs::remove(PathOf(digest));
    if (kind == "symlink") fs::create_symlink("/etc/passwd", PathOf(digest));
    if (kind == "fifo") {
      ASSERT_EQ(mkfifo(PathOf(digest).c_str(), 0644), 0);
    }
    if (kind == "directory") fs::create_directory(PathOf(digest));
    const auto report = MustVerify({.quarantine = MakeQuarantine()});
    EXPECT_THAT(report.damaged, ElementsAre(digest)) << kind;
    EXPECT_FALSE(store_->Contains(digest)) << kind;
    store_->CheckInvariants();
    if (kind == "directory") fs::remove(PathOf(digest));
  }
}

// G22: opening a FIFO would wait for somebody to write to it.
TEST_F(BlobStoreVerifyTest, AFifoInABlobsPlaceKeepsNoReaderWaiting) {
  const Digest digest = MustPut(BytesOf(1));
  fs::remove(PathOf(digest));
  ASSERT_EQ(mkfifo(PathOf(digest).c_str(), 0644), 0);
  EXPECT_EQ(ErrnoOf(store_->OpenDigest(digest).status()), EIO);
  EXPECT_FALSE(store_->Contains(digest));
  store_->CheckInvariants();
}

TEST_F(BlobStoreVerifyTest, AWholeBlobPutAfterADamagedOneIsNotDropped) {
  const std::string bytes = BytesOf(1, 1000000);
  const Digest digest = MustPut(bytes);
  Damage(digest);
  // Once the damaged file is being read, it is evicted and put again.
  bool is_done = false;
  const auto report =
      MustVerify({.repair = true, .progress = [&](int64_t, int64_t) {
                    if (std::exchange(is_done, true)) return;
                    EXPECT_EQ(store_->Evict(digest), absl::OkStatus());
                    EXPECT_EQ(store_->Put(digest, bytes), absl::OkStatus());
                  }});
  EXPECT_THAT(report.damaged, IsEmpty());
  EXPECT_EQ(*store_->Read(digest, 1000000), bytes);
  store_->CheckInvariants();
}

// G3: uploads, scratch files and zombies too, which have no name.
TEST_F(BlobStoreVerifyTest, FindsEveryOwnersBytesOnDisk) {
  MustPut(BytesOf(1, 10000));
  const Digest zombie = MustPut(BytesOf(2, 20000));
  const auto held = store_->OpenDigest(zombie);
  ASSERT_EQ(store_->Evict(zombie), absl::OkStatus());
  const std::string bytes = BytesOf(3, 30000);
  auto upload = store_->StartUpload(Digest::Of(bytes));
  ASSERT_TRUE((*upload)->Write(bytes).ok());
  ASSERT_TRUE(store_->ReserveScratch(40960).ok());
  {
    const auto scratch = store_->NewScratchFile();
    ASSERT_EQ(pwrite(scratch->get(), std::string(40960, 's').data(), 40960, 0),
              40960);
    const auto report = MustVerify({});
    EXPECT_GE(report.allocated_bytes, Allocated() + 20000 + 30000 + 40960);
    EXPECT_GE(report.accounted_bytes, report.allocated_bytes);
    EXPECT_EQ(report.unaccounted_bytes, 0);
  }
  store_->ledger().Remove(Owner::kScratch, 40960);
}

TEST_F(BlobStoreVerifyTest, BytesWithoutAnOwnerAreFound) {
  MustPut(BytesOf(1));
  std::ofstream(directory_ / "cas/stray") << std::string(100000, 's');
  const auto report = MustVerify({});
  EXPECT_GE(report.unaccounted_bytes, 100000);
  EXPECT_THAT(report.damaged, IsEmpty());
  EXPECT_EQ(ReadAll(directory_ / "cas/stray").size(), 100000u);
}

// G3, as seen from within: while everything changes, the walk never finds what
// was not accounted at some time of it.
TEST_F(BlobStoreVerifyTest, EndsThoughBlobsComeAsFastAsItReads) {
  MustPut(BytesOf(0));
  MustPut(BytesOf(1));
  int put = 0;
  const auto report = MustVerify({.progress = [&](int64_t, int64_t) {
    if (++put < 5000) MustPut(BytesOf(1 + put));
  }});
  EXPECT_EQ(report.blobs, 2);
  EXPECT_EQ(put, 2);
}

TEST_F(BlobStoreVerifyTest, LedgerHoldsWhileOthersPutAndEvict) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        const std::string bytes =
            BytesOf(t * 1000 + i % 50, 5000 + i % 50 * 140);
        const Digest digest = Digest::Of(bytes);
        EXPECT_TRUE(store_->Put(digest, bytes).ok());
        if (i % 3 == 0) store_->Evict(digest).IgnoreError();
      }
    });
  }
  for (int i = 0; i < 30; ++i) {
    const auto report = MustVerify({.repair = true});
    EXPECT_EQ(report.unaccounted_bytes, 0);
    EXPECT_THAT(report.damaged, IsEmpty());
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  ExpectSound();
}

}  // namespace
}  // namespace casement
