// What BlobStore finds when it starts: after a stop, a kill, a power loss, and
// with things in the directory that are not its own.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>  // NOLINT
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/blob_path.h"
#include "store/blob_store.h"
#include "store/disk.h"
#include "support/store_fixture.h"
#include "support/temp_directory.h"

namespace casement {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class BlobStoreStartTest : public StoreFixture {
 protected:
  // How often each of the disk's functions is called while `act` runs.
  int Count(absl::string_view function, const std::function<void()>& act) {
    std::atomic<int> count{0};  // A start has several threads.
    disk_.BeforeEach(
        [&](absl::string_view name) { count += name == function; });
    act();
    disk_.BeforeEach(nullptr);
    return count.load();
  }

  // As after a power loss: another boot, and nothing was written at the end.
  void LosePower() {
    Kill();
    options_.boot_id = absl::StrCat("boot after ", options_.boot_id);
  }

  void Overwrite(const Digest& digest, const std::string& bytes) {
    chmod(PathOf(digest).c_str(), 0644);
    std::ofstream(PathOf(digest), std::ios::trunc) << bytes;
    chmod(PathOf(digest).c_str(), 0444);
  }
};

TEST_F(BlobStoreStartTest, AMissingDirectoryIsNamed) {
  options_.directory = directory_ / "absent";
  const absl::Status opened = TryOpen();
  EXPECT_EQ(ErrnoOf(opened), ENOENT);
  EXPECT_THAT(std::string(opened.message()), HasSubstr(options_.directory));
}

TEST_F(BlobStoreStartTest, AStoreInUseIsRefusedAndSaysByWhom) {
  Open();
  const auto second = BlobStore::Open(disk_, clock_, options_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat("in use by another casementd (pid ",
                                     getpid(), ")")));
  store_.reset();
  Open();
}

// G23
TEST_F(BlobStoreStartTest, KeepsEveryBlobAndTheirOrderAfterAStopAndAKill) {
  for (const bool is_killed : {false, true}) {
    Open();
    std::vector<Digest> digests;
    for (int i = 0; i < 50; ++i) digests.push_back(MustPut(BytesOf(i, 5000)));
    store_->Touch(digests[0]);
    if (is_killed) {
      ASSERT_EQ(store_->Sync(), absl::OkStatus());
      digests.push_back(MustPut(BytesOf(100, 5000)));
      Kill();
    }
    Open();
    EXPECT_THAT(store_->Missing(digests), IsEmpty());
    ExpectSound();
    // Missing() marks as used: now they are in the order of `digests`.
    Open();
    LimitTo(0);
    MustPut(BytesOf(200, 4096));
    EXPECT_FALSE(store_->Contains(digests[0]));
    EXPECT_TRUE(store_->Contains(digests[5]));
    options_.capacity_bytes = int64_t{1} << 30;
    Open();
    EXPECT_GT(store_->EvictUnleased().blobs, 0);
  }
}

TEST_F(BlobStoreStartTest, ACleanStopSparesLookingAtTheFiles) {
  Open();
  std::set<int> shards;
  for (int i = 0; i < 100; ++i) shards.insert(MustPut(BytesOf(i)).hash()[0]);
  store_.reset();
  // The directory, cas, scratch; and shards that do not exist.
  EXPECT_EQ(Count("ReadDirectory", [this] { Open(); }),
            3 + 256 - static_cast<int>(shards.size()));
  EXPECT_EQ(store_->GetStats().blobs, 100);
  EXPECT_EQ(store_->ledger().Total(), Allocated());
}

TEST_F(BlobStoreStartTest, OnlyChangedShardsAreScanned) {
  Open();
  const Digest gone = MustPut(BytesOf(1));
  const Digest stays = MustPut(BytesOf(2));
  ASSERT_NE(gone.hash()[0], stays.hash()[0]);
  store_.reset();
  std::filesystem::remove(PathOf(gone));
  Open();
  EXPECT_FALSE(store_->Contains(gone));
  EXPECT_TRUE(store_->Contains(stays));
  EXPECT_EQ(store_->ledger().Total(), Allocated());
  ExpectSound();
}

TEST_F(BlobStoreStartTest, EveryWayToDamageTheIndexLeadsToAFullScan) {
  Open();
  std::vector<Digest> digests;
  for (int i = 0; i < 20; ++i) digests.push_back(MustPut(BytesOf(i)));
  store_.reset();
  std::string index;
  {
    std::ifstream file(directory_ / "index");
    index.assign(std::istreambuf_iterator<char>(file), {});
  }
  std::vector<std::string> damaged = {"",
                                      "x",
                                      index.substr(0, 100),
                                      index.substr(0, index.size() - 1),
                                      index + "x",
                                      std::string(10'000, 'x')};
  for (size_t at = 0; at < index.size(); at += 97) {
    std::string flipped = index;
    flipped[at] ^= 1;
    damaged.push_back(flipped);
  }
  for (const std::string& bytes : damaged) {
    std::ofstream(directory_ / "index", std::ios::trunc) << bytes;
    Open();
    EXPECT_THAT(store_->Missing(digests), IsEmpty());
    EXPECT_EQ(store_->GetStats().blobs, 20);
    ExpectSound();
    Kill();
  }
  EXPECT_THAT(Log(), Contains(HasSubstr("the index is of no use")));
  std::filesystem::remove(directory_ / "index");
  Open();
  EXPECT_EQ(store_->GetStats().blobs, 20);
}

TEST_F(BlobStoreStartTest, AnIndexOfSeveralBlocksIsOfUseWholeOrNotAtAll) {
  Open();
  std::vector<Digest> digests;
  for (int i = 0; i < 10'000; ++i) digests.push_back(MustPut(BytesOf(i)));
  store_.reset();
  EXPECT_EQ(Count("ReadDirectory", [this] { Open(); }), 3);
  EXPECT_EQ(store_->GetStats().blobs, 10'000);
  ExpectSound();
  store_.reset();
  {
    std::fstream file(directory_ / "index");
    file.seekp(-100, std::ios::end);
    file << "other bytes";
  }
  EXPECT_EQ(Count("ReadDirectory", [this] { Open(); }), 3 + 256);
  EXPECT_THAT(Log(), Contains(HasSubstr("the index is of no use")));
  EXPECT_THAT(store_->Missing(digests), IsEmpty());
  EXPECT_EQ(store_->GetStats().blobs, 10'000);
  ExpectSound();
}

// G9
TEST_F(BlobStoreStartTest, AfterAPowerLossTornBlobsAreDropped) {
  Open();
  const Digest synced = MustPut(BytesOf(1));
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  const Digest whole = MustPut(BytesOf(2));
  const Digest zeroed = MustPut(BytesOf(3));
  const Digest shortened = MustPut(BytesOf(4));
  LosePower();
  Overwrite(zeroed, std::string(100, '\0'));
  Overwrite(shortened, "");
  Open();
  EXPECT_TRUE(store_->Contains(synced));
  EXPECT_TRUE(store_->Contains(whole));
  EXPECT_FALSE(store_->Contains(zeroed));
  EXPECT_FALSE(store_->Contains(shortened));
  EXPECT_THAT(FilesOnDisk(), SizeIs(2));
  EXPECT_EQ(store_->GetStats().damaged, 2);
  EXPECT_THAT(Log(), Contains(HasSubstr("torn")));
  ExpectSound();
  // The next try works (G8).
  MustPut(BytesOf(3));
}

// G9: no full rescan.
TEST_F(BlobStoreStartTest, AfterAPowerLossOnlyNewBlobsAreHashed) {
  Open();
  for (int i = 0; i < 50; ++i) MustPut(BytesOf(i));
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  MustPut(BytesOf(100));
  MustPut(BytesOf(101));
  LosePower();
  // The index's header, its one block, and each blob with its end of file.
  EXPECT_EQ(Count("Read", [this] { Open(); }), 2 + 2 * 2);
  EXPECT_EQ(store_->GetStats().blobs, 52);
}

// G9: a kill loses nothing that was written.
TEST_F(BlobStoreStartTest, AfterAKillNothingIsHashed) {
  Open();
  MustPut(BytesOf(1));
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  MustPut(BytesOf(2));
  Kill();
  EXPECT_EQ(Count("Read", [this] { Open(); }), 2);
  EXPECT_EQ(store_->GetStats().blobs, 2);
}

// G9: the same name is not the same publication.
TEST_F(BlobStoreStartTest, ABlobPublishedAgainAfterTheSyncIsHashed) {
  Open();
  const Digest digest = MustPut(BytesOf(1));
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
  MustPut(BytesOf(1));
  LosePower();
  Overwrite(digest, std::string(100, '\0'));
  Open();
  EXPECT_FALSE(store_->Contains(digest));
}

// G9: the first sync of a boot tells the next one what it need not hash.
TEST_F(BlobStoreStartTest, TwoPowerLossesHashTheSameBlobsOnce) {
  Open();
  for (int i = 0; i < 10; ++i) MustPut(BytesOf(i));
  LosePower();
  EXPECT_EQ(Count("Read", [this] { Open(); }), 1 + 10 * 2);
  LosePower();
  EXPECT_EQ(Count("Read", [this] { Open(); }), 2);
}

// G9: a stamp that fits says that the names are the same, not their bytes.
TEST_F(BlobStoreStartTest, AShardWithABlobThatIsNotDurableIsScannedThen) {
  Open();
  const Digest digest = MustPut(BytesOf(1));
  bool has_failed = false;
  disk_.FailIf([&](absl::string_view name) {
    // The closing sync cannot learn what became of the blob.
    if (name != "StatPath" || has_failed) return 0;
    has_failed = true;
    return EIO;
  });
  store_.reset();
  disk_.Heal();
  ASSERT_TRUE(has_failed);
  options_.boot_id = "another boot";
  Overwrite(digest, std::string(100, '\0'));
  Open();
  EXPECT_FALSE(store_->Contains(digest));
}

TEST_F(BlobStoreStartTest, WhatIsNoBlobIsLeftAloneLoggedAndNotServed) {
  Open();
  const Digest blob = MustPut(BytesOf(1));
  const Digest linked = Digest::Of("linked");
  const Digest folder = Digest::Of("folder");
  const Digest wrong_size = Digest::Of("wrong size");
  const Digest wrong_shard = Digest::Of("wrong shard");
  store_.reset();
  for (const Digest& digest : {linked, folder, wrong_size, blob}) {
    std::filesystem::create_directories(
        std::filesystem::path(PathOf(digest)).parent_path());
  }
  // As long as the blob: only its type gives it away.
  std::filesystem::create_symlink("abcdef", PathOf(linked));
  std::filesystem::create_directory(PathOf(folder));
  std::ofstream(PathOf(wrong_size)) << "wrong";
  const std::string other = PathOf(blob) + ".tmp";
  std::ofstream(other) << std::string(5000, 'x');
  const std::string misplaced =
      std::filesystem::path(PathOf(blob)).parent_path() /
      wrong_shard.ToString();
  std::ofstream(misplaced) << "wrong shard";
  std::ofstream(directory_ / "cas/readme") << "hello";
  Open();
  EXPECT_EQ(store_->GetStats().blobs, 1);
  EXPECT_THAT(store_->Missing({linked, folder, wrong_size, wrong_shard}),
              SizeIs(4));
  EXPECT_THAT(Log(), SizeIs(6));
  EXPECT_TRUE(std::filesystem::is_symlink(PathOf(linked)));
  EXPECT_TRUE(std::filesystem::exists(other));
  // Accounted as well, again without a scan.
  ExpectSound();
  Open();
  ExpectSound();
}

TEST_F(BlobStoreStartTest, ASymlinkInPlaceOfAShardIsNotFollowed) {
  Open();
  const Digest digest = MustPut("hello");
  store_.reset();
  const std::string shard = std::filesystem::path(PathOf(digest)).parent_path();
  std::filesystem::rename(shard, directory_ / "elsewhere");
  std::filesystem::create_symlink(directory_ / "elsewhere", shard);
  Open();
  EXPECT_FALSE(store_->Contains(digest));
  EXPECT_THAT(Log(), Contains(HasSubstr("it is no directory")));
}

// Where ext4 puts the inodes of a directory's files.
bool AreDirectoriesSpread(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  int flags = 0;
  return ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) == 0 &&
         (flags & FS_TOPDIR_FL) != 0;
}

TEST_F(BlobStoreStartTest, ShardsAreSpreadOverTheDiskIfItCan) {
  const TempDirectory other;
  const UniqueFd fd(
      open(other.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const bool can = RealDisk().SpreadDirectories(fd.get()).ok();
  Open();
  EXPECT_EQ(AreDirectoriesSpread(options_.directory + "/cas"), can);
  disk_.FailIf([](absl::string_view name) {
    return name == "SpreadDirectories" ? EOPNOTSUPP : 0;
  });
  Open();
}

TEST_F(BlobStoreStartTest, AnUploadIsMadeInItsShard) {
  Open();
  const Digest first = MustPut(BytesOf(0));
  int seed = 1;
  while (ShardOf(Digest::Of(BytesOf(seed))) != ShardOf(first)) ++seed;
  const auto upload = store_->StartUpload(Digest::Of(BytesOf(seed)));
  ASSERT_TRUE(upload.ok()) << upload.status();
  const std::string place = absl::StrCat(options_.directory, "/cas/",
                                         ShardName(ShardOf(first)), "/#");
  int found = 0;
  for (const auto& link :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // The iterator's own.
    const std::string to =
        std::filesystem::read_symlink(link.path(), gone).string();
    if (to.compare(0, place.size(), place) == 0) ++found;
  }
  EXPECT_EQ(found, 1);
}

TEST_F(BlobStoreStartTest, ScratchIsEmptied) {
  Open();
  store_.reset();
  std::ofstream(directory_ / "scratch/left") << "behind";
  std::ofstream(directory_ / "index.new") << "half";
  Open();
  EXPECT_FALSE(std::filesystem::exists(directory_ / "scratch/left"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "index.new"));
}

TEST_F(BlobStoreStartTest, ASmallerCapacityEvictsAtOnce) {
  Open();
  std::vector<Digest> digests;
  for (int i = 0; i < 20; ++i) digests.push_back(MustPut(BytesOf(i, 4096)));
  LimitTo(-5 * 4096);
  EXPECT_LE(store_->ledger().Total(), options_.capacity_bytes);
  EXPECT_FALSE(store_->Contains(digests[0]));
  EXPECT_TRUE(store_->Contains(digests[19]));
}

// Mounts need root; everything below is skipped without.
class MountedStoreTest : public BlobStoreStartTest {
 protected:
  void SetUp() override {
    if (getuid() != 0) GTEST_SKIP() << "mounting needs root";
  }
  void TearDown() override {
    store_.reset();
    for (const std::string& path : mounts_) umount2(path.c_str(), MNT_DETACH);
  }
  void Mount(const std::string& path, const std::string& options) {
    std::filesystem::create_directories(path);
    ASSERT_EQ(mount("casement-test", path.c_str(), "tmpfs", 0, options.c_str()),
              0)
        << errno;
    mounts_.push_back(path);
  }
  void MountReadOnly(const std::string& path) {
    ASSERT_EQ(mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr), 0);
    mounts_.push_back(path);
    ASSERT_EQ(mount(nullptr, path.c_str(), nullptr,
                    MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr),
              0);
  }

  std::vector<std::string> mounts_;
};

// G13
TEST_F(MountedStoreTest, AStoreOnReadOnlyMediaServesAndRefusesToChange) {
  Open();
  const Digest digest = MustPut("hello");
  for (const bool has_index : {true, false}) {
    store_.reset();
    if (!has_index) std::filesystem::remove(directory_ / "index");
    ASSERT_NO_FATAL_FAILURE(MountReadOnly(directory_.path()));
    Open();
    EXPECT_TRUE(store_->is_read_only());
    EXPECT_EQ(*store_->Read(digest, 5), "hello");
    EXPECT_EQ(*store_->Read(Digest(), 0), "");
    EXPECT_TRUE(store_->LeaseBlob(digest).ok());
    EXPECT_EQ(ErrnoOf(store_->Put(Digest::Of("x"), "x")), EROFS);
    EXPECT_EQ(ErrnoOf(store_->NewScratchFile().status()), EROFS);
    EXPECT_EQ(ErrnoOf(store_->Evict(digest)), EROFS);
    EXPECT_EQ(store_->EvictUnleased().blobs, 0);
    EXPECT_TRUE(store_->Contains(digest));
    EXPECT_EQ(*store_->Read(digest, 5), "hello");
    EXPECT_EQ(store_->Maintain(), absl::OkStatus());
    EXPECT_TRUE(store_->Verify({.repair = true}).ok());
    store_->CheckInvariants();
    store_.reset();
    ASSERT_EQ(umount(directory_.path().c_str()), 0);
    mounts_.clear();
  }
}

// G13: two daemons may serve what nobody can change.
TEST_F(MountedStoreTest, AnEmptyReadOnlyDirectoryIsAnEmptyStore) {
  ASSERT_NO_FATAL_FAILURE(MountReadOnly(directory_.path()));
  Open();
  EXPECT_FALSE(store_->Contains(Digest::Of("x")));
  EXPECT_TRUE(store_->Contains(Digest()));
  EXPECT_EQ(ErrnoOf(store_->Put(Digest::Of("x"), "x")), EROFS);
}

// G16: the disk is smaller than the capacity, and somebody else fills it.
TEST_F(MountedStoreTest, OnAFullDiskOldBlobsMakeRoomAndLeasedOnesDoNot) {
  options_.directory = directory_ / "small";
  ASSERT_NO_FATAL_FAILURE(Mount(options_.directory, "size=4m"));
  Open();
  std::vector<Digest> digests;
  for (int i = 0; i < 10; ++i) {
    digests.push_back(MustPut(BytesOf(i, 1'000'000)));
    store_->CheckInvariants();
  }
  EXPECT_TRUE(store_->Contains(digests[9]));
  EXPECT_FALSE(store_->Contains(digests[0]));
  std::vector<Lease> leases;
  for (const Digest& digest : digests) {
    absl::StatusOr<Lease> lease = store_->LeaseBlob(digest);
    if (lease.ok()) leases.push_back(*std::move(lease));
  }
  const std::string more = BytesOf(20, 2'000'000);
  EXPECT_EQ(ErrnoOf(store_->Put(Digest::Of(more), more)), ENOSPC);
  EXPECT_EQ(*store_->Read(digests[9], 1'000'000), BytesOf(9, 1'000'000));
  EXPECT_EQ(store_->ledger().Get(Owner::kUploads), 0);
  leases.clear();
  MustPut(more);
  EXPECT_EQ(*store_->Read(Digest::Of(more), 2'000'000), more);
  store_->CheckInvariants();
}

// G16: a start does not need a free byte.
TEST_F(MountedStoreTest, AStoreOnAFullDiskStartsAndServes) {
  options_.directory = directory_ / "small";
  ASSERT_NO_FATAL_FAILURE(Mount(options_.directory, "size=1m"));
  Open();
  const Digest digest = MustPut("hello");
  Kill();
  std::filesystem::remove(options_.directory + "/index");
  std::ofstream(options_.directory + "/filler") << std::string(2 << 20, 'x');
  Open();
  EXPECT_EQ(*store_->Read(digest, 5), "hello");
}

}  // namespace
}  // namespace casement
