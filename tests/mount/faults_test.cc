// The mount over media that fill up, fail, and hold what they should not.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "mount/data_paths.h"
#include "mount/read_errno.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;

std::string Bytes(char fill, int64_t size = kMiB) {
  return std::string(static_cast<size_t>(size), fill);
}

// Once the kernel has been told, which a reader does not wait for.
bool GoesAway(const std::string& path) {
  for (int i = 0; i < 1000; ++i) {
    if (ReadErrno(path) == ENOENT) return true;
    usleep(10000);
  }
  return false;
}

class Faults : public testing::TestWithParam<std::string> {
 protected:
  ~Faults() override {
    if (!has_medium_) return;
    daemon_.Stop();
    EXPECT_EQ(umount2(daemon_.store().c_str(), MNT_DETACH), 0);
  }

  // Puts the store, empty, on a file system of its own.
  void MoveToTmpfs(const std::string& options) {
    ASSERT_EQ(daemon_.Stop(), 0);
    ASSERT_EQ(
        mount("tmpfs", daemon_.store().c_str(), "tmpfs", 0, options.c_str()),
        0);
    has_medium_ = true;
    daemon_.Start();
  }
  void MoveToExt4(const std::string& size) {
    ASSERT_EQ(daemon_.Stop(), 0);
    const std::string image = daemon_.folder() + "/image";
    const ProgramResult made =
        RunShell("truncate -s " + size + " " + image + " && mkfs.ext4 -q " +
                 image + " && mount -o loop " + image + " " + daemon_.store());
    ASSERT_EQ(made.exit_status, 0) << made.err;
    has_medium_ = true;
    daemon_.Start();
  }

  std::string View(const Digest& digest) const {
    return daemon_.At("cas/" + digest.ToString());
  }
  std::string FileOf(const Digest& digest) const {
    const std::string name = digest.ToString();
    return daemon_.store() + "/cas/" + name.substr(0, 2) + "/" + name;
  }
  bool Logged(const std::string& what) const {
    return daemon_.log().find(what) != std::string::npos;
  }

  RunningDaemon daemon_{{"--data-path", GetParam(), "--max-bytes", "1GiB"}};
  bool has_medium_ = false;
};

CASEMENT_IN_BOTH_DATA_PATHS(Faults);

// G16: smaller than --max-bytes says.
TEST_P(Faults, DiskThatFillsUpFailsWritersOnly) {
  MoveToTmpfs("size=16m");
  const std::string source = daemon_.folder() + "/source";
  fs::create_directory(source);
  for (const char fill : {'a', 'b', 'c', 'd'}) {
    WriteFile(source + "/" + fill, Bytes(fill));
  }
  const auto put = daemon_.client().PutTree(source, {});
  ASSERT_TRUE(put.ok()) << put.status();
  const auto sandbox = daemon_.client().Create({.root = put->root});
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  const std::string path = sandbox->info.path;
  const int fd = open((path + "/out").c_str(), O_CREAT | O_WRONLY, 0644);
  ASSERT_GE(fd, 0);
  ssize_t wrote = 0;
  for (int i = 0; i < 20 && wrote >= 0; ++i) {
    wrote = write(fd, Bytes('o').data(), kMiB);
    if (wrote >= 0 && fsync(fd) != 0) wrote = -1;
  }
  EXPECT_EQ(wrote, -1);
  EXPECT_EQ(errno, ENOSPC);
  close(fd);
  const absl::Status refused =
      daemon_.client().Put(Bytes('z', 8 * kMiB)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  for (const char fill : {'a', 'b', 'c', 'd'}) {
    EXPECT_EQ(ReadFile(path + "/" + fill), Bytes(fill));
    EXPECT_EQ(ReadFile(View(Digest::Of(Bytes(fill)))), Bytes(fill));
  }
  // With room again, everything works again.
  ASSERT_EQ(unlink((path + "/out").c_str()), 0);
  EXPECT_TRUE(daemon_.client().Put(Bytes('z', 8 * kMiB)).ok());
  const auto verified = daemon_.client().Verify({});
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_EQ(verified->unaccounted_bytes, 0);
}

TEST_P(Faults, FullDiskLosesNoMoreBlobsThanTheRoomThatIsWanted) {
  MoveToTmpfs("size=24m");
  std::vector<Digest> blobs;
  for (int i = 0; i < 40; ++i) {
    const auto put = daemon_.client().Put(Bytes(static_cast<char>('0' + i)));
    ASSERT_TRUE(put.ok()) << i << ": " << put.status();
    // Looked up and read: now the kernel knows it.
    EXPECT_EQ(ReadErrno(View(*put)), 0) << i;
    blobs.push_back(*put);
  }
  EXPECT_GE(daemon_.client().Stats()->blobs, 12);
  EXPECT_TRUE(fs::exists(View(blobs.back())));
  EXPECT_FALSE(fs::exists(View(blobs.front())));
}

// G13: as ext4 does to itself after an error.
TEST_P(Faults, MediumThatTurnsReadOnlyFailsWritersOnly) {
  MoveToExt4("32m");
  const std::string source = daemon_.folder() + "/source";
  fs::create_directory(source);
  WriteFile(source + "/input", Bytes('i'));
  fs::copy_file("/bin/echo", source + "/echo");
  const auto put = daemon_.client().PutTree(source, {});
  ASSERT_TRUE(put.ok()) << put.status();
  sync();
  ASSERT_EQ(RunShell("mount -o remount,abort " + daemon_.store()).exit_status,
            0);
  const auto sandbox = daemon_.client().Create({.root = put->root});
  ASSERT_TRUE(sandbox.ok()) << sandbox.status();
  const std::string path = sandbox->info.path;
  EXPECT_EQ(ReadFile(path + "/input"), Bytes('i'));
  EXPECT_EQ(ReadFile(View(Digest::Of(Bytes('i')))), Bytes('i'));
  EXPECT_EQ(RunProgram({path + "/echo", "hi"}).out, "hi\n");
  const absl::Status refused = daemon_.client().Put("new").status();
  EXPECT_FALSE(refused.ok());
  EXPECT_EQ(open((path + "/new").c_str(), O_CREAT | O_RDWR, 0644), -1);
  EXPECT_TRUE(errno == EROFS || errno == EIO) << errno;
  EXPECT_TRUE(daemon_.client().Verify({}).ok());
  EXPECT_TRUE(daemon_.client().Release(sandbox->info.name).ok());
}

// G4, G9: EIO once, then it is missing, and can be stored again.
TEST_P(Faults, TornBlobIsEioOnceDroppedLoggedAndCounted) {
  const Digest digest = *daemon_.client().Put(Bytes('t'));
  ASSERT_EQ(truncate(FileOf(digest).c_str(), 5000), 0);
  EXPECT_EQ(ReadErrno(View(digest)), EIO);
  EXPECT_TRUE(GoesAway(View(digest)));
  EXPECT_FALSE(fs::exists(FileOf(digest)));
  EXPECT_TRUE(Logged(digest.ToString())) << daemon_.log();
  EXPECT_EQ(daemon_.client().Stats()->damaged, 1);
  ASSERT_TRUE(daemon_.client().Put(Bytes('t')).ok());
  EXPECT_EQ(ReadErrno(View(digest)), 0);
}

TEST_P(Faults, TornDirectoryIsNamedByWhoeverNeedsIt) {
  const std::string source = daemon_.folder() + "/source";
  fs::create_directory(source);
  WriteFile(source + "/a", "a");
  const Digest root = daemon_.client().PutTree(source, {})->root;
  std::string bytes = ReadFile(FileOf(root));
  bytes[bytes.size() / 2] ^= 1;
  ASSERT_EQ(chmod(FileOf(root).c_str(), 0644), 0);
  WriteFile(FileOf(root), bytes);
  const absl::Status first = daemon_.client().Create({.root = root}).status();
  EXPECT_TRUE(absl::IsDataLoss(first)) << first;
  const absl::Status second = daemon_.client().Create({.root = root}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(second)) << second;
  ASSERT_TRUE(daemon_.client().PutTree(source, {}).ok());
  EXPECT_TRUE(daemon_.client().Create({.root = root}).ok());
}

TEST_P(Faults, TruncatedIndexCostsNothingButAScan) {
  std::vector<Digest> blobs;
  for (int i = 0; i < 50; ++i) {
    blobs.push_back(*daemon_.client().Put("blob " + std::to_string(i)));
  }
  ASSERT_EQ(daemon_.Stop(), 0);
  const std::string index = daemon_.store() + "/index";
  const auto size = static_cast<off_t>(fs::file_size(index));
  for (const off_t length : {size - 1, size / 2, off_t{10}, off_t{0}}) {
    ASSERT_EQ(truncate(index.c_str(), length), 0);
    daemon_.Start();
    EXPECT_TRUE(Logged("the index is of no use"));
    EXPECT_TRUE(daemon_.client().Missing(blobs)->empty()) << length;
    ASSERT_EQ(daemon_.Stop(), 0);
  }
  daemon_.Start();
}

// G22: what is planted is neither served, followed, changed nor removed.
TEST_P(Faults, WhatIsPlantedInTheStoreIsLeftAlone) {
  const Digest kept = *daemon_.client().Put("kept");
  ASSERT_EQ(daemon_.Stop(), 0);
  const std::string outside = daemon_.folder() + "/outside";
  fs::create_directory(outside);
  const Digest elsewhere = Digest::Of("elsewhere");
  WriteFile(outside + "/" + elsewhere.ToString(), "elsewhere");
  const std::string cas = daemon_.store() + "/cas/";
  // A shard that leads outside, where there is a blob of that shard.
  const std::string shard = elsewhere.ToString().substr(0, 2);
  ASSERT_NE(shard, kept.ToString().substr(0, 2));
  fs::remove(cas + shard);
  fs::create_symlink(outside, cas + shard);
  const std::string own = fs::path(FileOf(kept)).parent_path();
  // A blob's name that leads outside, a FIFO and others that no blob has.
  const std::string name = kept.ToString().substr(0, 2) + std::string(62, '0');
  const std::string linked = name + "-6";
  const std::string piped = name + "-7";
  WriteFile(outside + "/secret", "secret");
  fs::create_symlink(outside + "/secret", own + "/" + linked);
  ASSERT_EQ(mkfifo((own + "/" + piped).c_str(), 0644), 0);
  WriteFile(own + "/README", "not yours");
  fs::create_directory(daemon_.store() + "/backup");
  fs::create_symlink(outside, daemon_.store() + "/scratch/link");
  daemon_.Start();
  EXPECT_EQ(ReadErrno(View(kept)), 0);
  for (const std::string& wrong : {elsewhere.ToString(), linked, piped}) {
    EXPECT_EQ(ReadErrno(daemon_.At("cas/" + wrong)), ENOENT) << wrong;
    EXPECT_TRUE(Logged("left alone")) << daemon_.log();
  }
  const auto verified = daemon_.client().Verify({.repair = true});
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_EQ(verified->unaccounted_bytes, 0);
  EXPECT_TRUE(verified->damaged.empty());
  EXPECT_EQ(verified->blobs, 1);
  // Bytes that hash to it would have to go through that symlink.
  EXPECT_FALSE(daemon_.client().Put("elsewhere").ok());
  EXPECT_EQ(ReadFile(outside + "/" + elsewhere.ToString()), "elsewhere");
  EXPECT_EQ(ReadFile(outside + "/secret"), "secret");
  EXPECT_TRUE(fs::is_symlink(cas + shard));
  EXPECT_EQ(ReadFile(own + "/README"), "not yours");
  EXPECT_TRUE(fs::is_fifo(own + "/" + piped));
}

// While it runs: nobody waits for a FIFO, nobody follows a symlink.
TEST_P(Faults, WhatReplacesABlobIsDamage) {
  WriteFile(daemon_.folder() + "/secret", "secret");
  const Digest linked = *daemon_.client().Put("linked");
  const Digest piped = *daemon_.client().Put("piped");
  fs::remove(FileOf(linked));
  fs::remove(FileOf(piped));
  fs::create_symlink(daemon_.folder() + "/secret", FileOf(linked));
  ASSERT_EQ(mkfifo(FileOf(piped).c_str(), 0644), 0);
  EXPECT_EQ(ReadErrno(View(linked)), EIO);
  EXPECT_EQ(ReadErrno(View(piped)), EIO);
  EXPECT_TRUE(GoesAway(View(linked)));
  EXPECT_TRUE(GoesAway(View(piped)));
  EXPECT_EQ(daemon_.client().Stats()->damaged, 2);
  EXPECT_EQ(ReadFile(daemon_.folder() + "/secret"), "secret");
}

}  // namespace
}  // namespace casement
