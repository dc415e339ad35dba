// sandbox/ on a real mount: what an action can do, and what is known of it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mount/data_paths.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

// "A new", "M old"... as `casement diff` prints it, sorted.
std::vector<std::string> Lines(const std::vector<SandboxChange>& changes) {
  std::vector<std::string> lines;
  for (const SandboxChange& change : changes) {
    lines.push_back(std::string(1, "AMDT"[static_cast<int>(change.kind)]) +
                    " " + change.path);
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

struct stat StatOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(lstat(path.c_str(), &status), 0) << path << ": " << errno;
  return status;
}

class Sandboxes : public testing::TestWithParam<std::string> {
 protected:
  // A small input root: text, tool (executable), dir/inner, dir/sub/deep,
  // empty/, link -> text, big (1 MiB).
  void SetUp() override {
    const std::string source = daemon_.folder() + "/source";
    fs::create_directories(source + "/dir/sub");
    fs::create_directories(source + "/empty");
    WriteFile(source + "/text", "text\n");
    WriteFile(source + "/twin", "text\n");
    WriteFile(source + "/tool", "#!/bin/sh\necho tool\n");
    chmod((source + "/tool").c_str(), 0755);
    WriteFile(source + "/dir/inner", "inner\n");
    WriteFile(source + "/dir/sub/deep", "deep\n");
    WriteFile(source + "/big", std::string(1 << 20, 'b'));
    fs::create_symlink("text", source + "/link");
    const auto put = daemon_.client().PutTree(source, {});
    ASSERT_TRUE(put.ok()) << put.status();
    root_ = put->root;
  }

  std::string Make(SandboxSpec spec = {}) {
    spec.root = root_;
    const auto made = daemon_.client().Create(spec);
    EXPECT_TRUE(made.ok()) << made.status();
    if (!made.ok()) return "";
    last_name_ = made->info.name;
    return made->info.path;
  }
  std::vector<std::string> Diff(const std::string& name = "") {
    const auto changes =
        daemon_.client().Diff(name.empty() ? last_name_ : name);
    EXPECT_TRUE(changes.ok()) << changes.status();
    return changes.ok() ? Lines(*changes) : std::vector<std::string>{};
  }
  CollectedOutput CollectOne(const std::string& path) {
    const auto collected = daemon_.client().Collect(last_name_, {path});
    EXPECT_TRUE(collected.ok()) << collected.status();
    if (!collected.ok() || collected->outputs.size() != 1) return {};
    return collected->outputs[0];
  }

  RunningDaemon daemon_{{"--data-path", GetParam()}};
  Digest root_;
  std::string last_name_;
};

CASEMENT_IN_BOTH_DATA_PATHS(Sandboxes);

using Changes = std::vector<std::string>;

TEST_P(Sandboxes, ShowInputsAsWritableFilesOfTheirOwner) {
  const std::string path = Make();
  EXPECT_EQ(StatOf(path).st_mode, S_IFDIR | 0700u);
  EXPECT_EQ(StatOf(path + "/text").st_mode, S_IFREG | 0644u);
  EXPECT_EQ(StatOf(path + "/tool").st_mode, S_IFREG | 0755u);
  EXPECT_EQ(StatOf(path + "/dir").st_mode, S_IFDIR | 0755u);
  EXPECT_EQ(StatOf(path + "/dir").st_nlink, 3u);
  EXPECT_EQ(StatOf(path + "/text").st_mtime, 946684800);
  EXPECT_EQ(ReadFile(path + "/text"), "text\n");
  EXPECT_EQ(ReadFile(path + "/link"), "text\n");
  EXPECT_EQ(RunProgram({path + "/tool"}).out, "tool\n");
  EXPECT_EQ(Diff(), Changes{});
}

// G5, G18
TEST_P(Sandboxes, ChangesInOneAreInvisibleInAnotherAndInTree) {
  const std::string one = Make({.name = "one"});
  const std::string other = Make({.name = "other"});
  const std::string tree = daemon_.At("tree/" + root_.ToString());
  WriteFile(one + "/text", "changed\n");
  ASSERT_EQ(chmod((one + "/tool").c_str(), 0700), 0);
  ASSERT_EQ(unlink((one + "/dir/inner").c_str()), 0);
  EXPECT_EQ(ReadFile(one + "/text"), "changed\n");
  for (const std::string& untouched : {other, tree}) {
    EXPECT_EQ(ReadFile(untouched + "/text"), "text\n");
    EXPECT_EQ(StatOf(untouched + "/tool").st_mode & 0111, 0111u);
    EXPECT_EQ(ReadFile(untouched + "/dir/inner"), "inner\n");
  }
  EXPECT_EQ(Diff("one"), (Changes{"D dir/inner", "M text", "T tool"}));
  EXPECT_EQ(Diff("other"), Changes{});
}

TEST_P(Sandboxes, DiffListsWhatWasAddedDeletedAndReplaced) {
  const std::string path = Make();
  WriteFile(path + "/new", "new");
  fs::create_directories(path + "/made/below");
  fs::remove_all(path + "/dir");
  fs::remove(path + "/link");
  fs::create_directory(path + "/link");
  fs::remove(path + "/twin");
  fs::create_symlink("text", path + "/twin");
  EXPECT_EQ(Diff(),
            (Changes{"A made", "A made/below", "A new", "D dir", "D dir/inner",
                     "D dir/sub", "D dir/sub/deep", "T link", "T twin"}));
}

TEST_P(Sandboxes, FileWrittenBackToItsOldBytesIsModifiedButCollectsUnchanged) {
  const std::string path = Make();
  WriteFile(path + "/text", "other\n");
  WriteFile(path + "/text", "text\n");
  EXPECT_EQ(Diff(), Changes{"M text"});
  EXPECT_EQ(CollectOne("text").digest, Digest::Of("text\n"));
}

TEST_P(Sandboxes, OpeningForWritingWithoutWritingChangesNothing) {
  const std::string path = Make();
  const int fd = open((path + "/text").c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  close(fd);
  EXPECT_EQ(Diff(), Changes{});
}

TEST_P(Sandboxes, RenamedInputDirectoryIsDeletedHereAndAddedThere) {
  const std::string path = Make();
  ASSERT_EQ(rename((path + "/dir").c_str(), (path + "/moved").c_str()), 0);
  EXPECT_EQ(ReadFile(path + "/moved/sub/deep"), "deep\n");
  EXPECT_EQ(Diff(), (Changes{"A moved", "A moved/inner", "A moved/sub",
                             "A moved/sub/deep", "D dir", "D dir/inner",
                             "D dir/sub", "D dir/sub/deep"}));
  ASSERT_EQ(rename((path + "/moved").c_str(), (path + "/dir").c_str()), 0);
  EXPECT_EQ(Diff(), Changes{});
}

TEST_P(Sandboxes, AppendTruncateAndSparseWritesReadBackAsWritten) {
  const std::string path = Make();
  ASSERT_EQ(RunShell("cd " + path + " && echo more >> text && " +
                     "truncate -s 3 twin && " +
                     "printf x | dd of=sparse bs=1 seek=100000 2>/dev/null")
                .exit_status,
            0);
  EXPECT_EQ(ReadFile(path + "/text"), "text\nmore\n");
  EXPECT_EQ(ReadFile(path + "/twin"), "tex");
  const std::string sparse = ReadFile(path + "/sparse");
  EXPECT_EQ(sparse.size(), 100001u);
  EXPECT_EQ(sparse.back(), 'x');
  EXPECT_EQ(StatOf(path + "/twin").st_size, 3);
}

TEST_P(Sandboxes, OTruncEmptiesAnInput) {
  const std::string path = Make();
  const int fd = open((path + "/big").c_str(), O_WRONLY | O_TRUNC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(StatOf(path + "/big").st_size, 0);
  ASSERT_EQ(write(fd, "z", 1), 1);
  close(fd);
  EXPECT_EQ(ReadFile(path + "/big"), "z");
}

TEST_P(Sandboxes, InputWrittenWhileAnotherProcessReadsItIsWritten) {
  const std::string path = Make();
  const int reader = open((path + "/big").c_str(), O_RDONLY);
  char byte = 0;
  ASSERT_EQ(pread(reader, &byte, 1, 0), 1);
  const int writer = open((path + "/big").c_str(), O_RDWR);
  ASSERT_GE(writer, 0) << errno;
  ASSERT_EQ(pwrite(writer, "W", 1, 0), 1);
  ASSERT_EQ(pread(writer, &byte, 1, 0), 1);
  EXPECT_EQ(byte, 'W');
  const int again = open((path + "/big").c_str(), O_RDONLY);
  ASSERT_GE(again, 0) << errno;
  ASSERT_EQ(pread(again, &byte, 1, 0), 1);
  EXPECT_EQ(byte, 'W');
  close(reader);
  close(writer);
  close(again);
  EXPECT_EQ(ReadFile(path + "/big").substr(0, 2), "Wb");
  EXPECT_EQ(Diff(), Changes{"M big"});
}

TEST_P(Sandboxes, SharedMappingWritesThroughAndPrivateMappingDoesNot) {
  const std::string path = Make();
  const int fd = open((path + "/text").c_str(), O_RDWR);
  auto* const shared = static_cast<char*>(
      mmap(nullptr, 5, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ASSERT_NE(shared, MAP_FAILED);
  auto* const copy = static_cast<char*>(
      mmap(nullptr, 5, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  ASSERT_NE(copy, MAP_FAILED);
  shared[0] = 'S';
  copy[1] = 'P';
  ASSERT_EQ(msync(shared, 5, MS_SYNC), 0);
  munmap(shared, 5);
  munmap(copy, 5);
  close(fd);
  EXPECT_EQ(ReadFile(path + "/text"), "Sext\n");
  EXPECT_EQ(Diff(), Changes{"M text"});
  EXPECT_EQ(CollectOne("text").digest, Digest::Of("Sext\n"));
}

TEST_P(Sandboxes, MetadataCanBeSetWithoutCopyingTheFile) {
  const std::string path = Make();
  const auto before = daemon_.client().Stats();
  ASSERT_EQ(chmod((path + "/big").c_str(), 0600), 0);
  const timespec times[2] = {{1000, 5}, {2000, 7}};
  ASSERT_EQ(utimensat(AT_FDCWD, (path + "/big").c_str(), times, 0), 0);
  ASSERT_EQ(chown((path + "/big").c_str(), 12, 34), 0);
  const struct stat status = StatOf(path + "/big");
  EXPECT_EQ(status.st_mode, S_IFREG | 0600u);
  EXPECT_EQ(status.st_mtim.tv_sec, 2000);
  EXPECT_EQ(status.st_mtim.tv_nsec, 7);
  EXPECT_EQ(status.st_atim.tv_sec, 1000);
  EXPECT_EQ(status.st_uid, 12u);
  EXPECT_EQ(status.st_gid, 34u);
  EXPECT_EQ(daemon_.client().Stats()->accounted_by_owner,
            before->accounted_by_owner);
}

// G14
TEST_P(Sandboxes, EqualBlobsAtTwoPathsAreTwoFiles) {
  const std::string path = Make();
  EXPECT_NE(StatOf(path + "/text").st_ino, StatOf(path + "/twin").st_ino);
  const int one = open((path + "/text").c_str(), O_RDONLY);
  const int two = open((path + "/twin").c_str(), O_RDONLY);
  EXPECT_EQ(flock(one, LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(flock(two, LOCK_EX | LOCK_NB), 0);
  close(one);
  close(two);
}

TEST_P(Sandboxes, InodeNumberStaysWhenTheKernelForgetsAndInListings) {
  const std::string path = Make();
  const ino_t before = StatOf(path + "/dir/sub/deep").st_ino;
  WriteFile("/proc/sys/vm/drop_caches", "2");
  EXPECT_EQ(StatOf(path + "/dir/sub/deep").st_ino, before);
  const std::string listed = RunShell("ls -i " + path + "/dir/sub").out;
  EXPECT_EQ(listed, std::to_string(before) + " deep\n");
}

TEST_P(Sandboxes, HardLinksShareBytesAndCount) {
  const std::string path = Make();
  ASSERT_EQ(link((path + "/text").c_str(), (path + "/linked").c_str()), 0);
  EXPECT_EQ(StatOf(path + "/text").st_nlink, 2u);
  EXPECT_EQ(StatOf(path + "/text").st_ino, StatOf(path + "/linked").st_ino);
  WriteFile(path + "/linked", "through the link\n");
  EXPECT_EQ(ReadFile(path + "/text"), "through the link\n");
  ASSERT_EQ(unlink((path + "/text").c_str()), 0);
  EXPECT_EQ(StatOf(path + "/linked").st_nlink, 1u);
}

TEST_P(Sandboxes, UnlinkedOpenFileIsReadToTheEnd) {
  const std::string path = Make();
  WriteFile(path + "/new", "unlinked");
  const int fd = open((path + "/new").c_str(), O_RDWR);
  ASSERT_EQ(unlink((path + "/new").c_str()), 0);
  char got[8];
  EXPECT_EQ(pread(fd, got, 8, 0), 8);
  EXPECT_EQ(pwrite(fd, "U", 1, 0), 1);
  struct stat status {};
  EXPECT_EQ(fstat(fd, &status), 0);
  EXPECT_EQ(status.st_nlink, 0u);
  close(fd);
  EXPECT_EQ(Diff(), Changes{});
}

TEST_P(Sandboxes, InputsHaveTheirHashAsAnExtendedAttributeUntilTheyAreWritten) {
  const std::string path = Make();
  const Digest digest = Digest::Of("text\n");
  const std::string expected(digest.hash().begin(), digest.hash().end());
  const auto hash_of = [&](const std::string& name) {
    char value[64];
    const ssize_t size =
        getxattr((path + name).c_str(), "user.checksum.sha256", value, 64);
    if (size < 0) {
      EXPECT_EQ(errno, ENODATA) << name;
      return std::string();
    }
    return std::string(value, size);
  };
  EXPECT_EQ(hash_of("/text"), expected);
  EXPECT_EQ(hash_of("/dir"), "");
  char names[64];
  EXPECT_EQ(listxattr((path + "/text").c_str(), names, sizeof(names)), 0);
  const std::string text = path + "/text";
  EXPECT_EQ(setxattr(text.c_str(), "user.checksum.sha256", "x", 1, 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(removexattr(text.c_str(), "user.checksum.sha256"), -1);
  EXPECT_EQ(errno, EPERM);
  // Neither changes its bytes.
  EXPECT_EQ(chmod(text.c_str(), 0600), 0);
  EXPECT_EQ(rename(text.c_str(), (path + "/moved").c_str()), 0);
  EXPECT_EQ(hash_of("/moved"), expected);
  WriteFile(path + "/moved", "other\n");
  EXPECT_EQ(hash_of("/moved"), "");
  // It is a name like any other then.
  EXPECT_EQ(
      setxattr((path + "/moved").c_str(), "user.checksum.sha256", "x", 1, 0),
      0);
  EXPECT_EQ(hash_of("/moved"), "x");
  WriteFile(path + "/new", "text\n");
  EXPECT_EQ(hash_of("/new"), "");
  EXPECT_EQ(hash_of("/twin"), expected);
}

TEST_P(Sandboxes, ReadOnlyInputsRefuseWritesAlsoOfRoot) {
  const std::string path = Make({.inputs = InputsPolicy::kReadOnly});
  EXPECT_EQ(StatOf(path + "/text").st_mode, S_IFREG | 0444u);
  EXPECT_EQ(StatOf(path + "/tool").st_mode, S_IFREG | 0555u);
  EXPECT_EQ(truncate((path + "/text").c_str(), 0), -1);
  EXPECT_EQ(errno, EROFS);
  const std::string text = path + "/text";
  const timespec times[2] = {};
  EXPECT_EQ(chmod(text.c_str(), 0644), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(chown(text.c_str(), 1, 1), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(utimensat(AT_FDCWD, text.c_str(), times, 0), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(setxattr(text.c_str(), "user.a", "v", 1, 0), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(open(text.c_str(), O_RDWR | O_TRUNC), -1);
  EXPECT_EQ(errno, EROFS);
  // Cached mode learns of it at the first write: opens make no request.
  const int fd = open(text.c_str(), O_RDWR);
  EXPECT_EQ(fd >= 0, GetParam() == "cached");
  if (fd >= 0) {
    EXPECT_EQ(write(fd, "x", 1), -1);
    EXPECT_EQ(errno, EROFS);
    EXPECT_EQ(fallocate(fd, 0, 0, 10), -1);
  }
  EXPECT_EQ(errno, EROFS);
  close(fd);
  // Names are the directory's, which is the sandbox's own.
  EXPECT_EQ(rename((path + "/tool").c_str(), (path + "/moved").c_str()), 0);
  EXPECT_EQ(truncate((path + "/moved").c_str(), 0), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(unlink((path + "/moved").c_str()), 0);
  WriteFile(path + "/output", "fine");
  EXPECT_EQ(ReadFile(path + "/output"), "fine");
  EXPECT_EQ(ReadFile(path + "/text"), "text\n");
}

TEST_P(Sandboxes, ScratchLimitIsEnospcAndEverythingStaysReadable) {
  const std::string path = Make({.scratch_bytes_max = 1 << 20});
  const std::string quarter(256 << 10, 'q');
  const int fd = open((path + "/out").c_str(), O_CREAT | O_RDWR, 0644);
  ssize_t wrote = 0;
  int count = 0;
  while ((wrote = write(fd, quarter.data(), quarter.size())) ==
         static_cast<ssize_t>(quarter.size())) {
    ASSERT_LT(++count, 5);
  }
  EXPECT_EQ(wrote, -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_GE(count, 3);
  EXPECT_EQ(pwrite(fd, "again", 5, 0), 5) << "what is there can be rewritten";
  char byte = 0;
  EXPECT_EQ(pread(fd, &byte, 1, 300000), 1);
  EXPECT_EQ(byte, 'q');
  close(fd);
  EXPECT_EQ(unlink((path + "/out").c_str()), 0);
  EXPECT_EQ(ReadFile(path + "/text"), "text\n");
}

TEST_P(Sandboxes, CollectGivesWhatRev2Wants) {
  const std::string path = Make();
  fs::create_directories(path + "/out/sub");
  WriteFile(path + "/out/a.o", "object\n");
  WriteFile(path + "/out/sub/run", "#!/bin/sh\n");
  chmod((path + "/out/sub/run").c_str(), 0755);
  fs::create_symlink("a.o", path + "/out/latest");
  const auto collected = daemon_.client().Collect(
      last_name_, {"out", "out/sub/run", "out/a.o", "out/latest", "nothing"});
  ASSERT_TRUE(collected.ok()) << collected.status();
  ASSERT_EQ(collected->outputs.size(), 4u);
  const CollectedOutput& out = collected->outputs[0];
  EXPECT_EQ(out.kind, CollectedOutput::Kind::kDirectory);
  EXPECT_EQ(collected->outputs[1].kind, CollectedOutput::Kind::kExecutable);
  EXPECT_EQ(collected->outputs[1].digest, Digest::Of("#!/bin/sh\n"));
  EXPECT_EQ(collected->outputs[2].kind, CollectedOutput::Kind::kFile);
  EXPECT_EQ(collected->outputs[2].digest, Digest::Of("object\n"));
  EXPECT_EQ(collected->outputs[3].kind, CollectedOutput::Kind::kSymlink);
  EXPECT_EQ(collected->outputs[3].target, "a.o");
  EXPECT_EQ(collected->missing, std::vector<std::string>{"nothing"});
  const std::string tree = daemon_.At("tree/" + out.root_directory.ToString());
  EXPECT_EQ(RunShell("diff -r --no-dereference " + path + "/out " + tree).out,
            "");
  EXPECT_EQ(StatOf(tree + "/sub/run").st_mode, S_IFREG | 0555u);
  EXPECT_EQ(ReadFile(path + "/out/a.o"), "object\n") << "stays where it is";
}

TEST_P(Sandboxes, UnmodifiedInputsCollectToTheirOwnDigests) {
  Make();
  const CollectedOutput all = CollectOne(".");
  EXPECT_EQ(all.root_directory, root_);
  EXPECT_EQ(CollectOne("text").digest, Digest::Of("text\n"));
}

TEST_P(Sandboxes, WritingACollectedFileDoesNotChangeItsBlob) {
  const std::string path = Make();
  const int fd = open((path + "/out").c_str(), O_CREAT | O_RDWR, 0644);
  ASSERT_EQ(write(fd, "first", 5), 5);
  const auto collected =
      daemon_.client().Collect(last_name_, {"out"}, {.force = true});
  ASSERT_TRUE(collected.ok()) << collected.status();
  ASSERT_EQ(pwrite(fd, "SECON", 5, 0), 5);
  close(fd);
  const std::string blob = daemon_.At("cas/" + Digest::Of("first").ToString());
  EXPECT_EQ(ReadFile(blob), "first");
  EXPECT_EQ(ReadFile(path + "/out"), "SECON");
  EXPECT_EQ(CollectOne("out").digest, Digest::Of("SECON"));
}

TEST_P(Sandboxes, ReleaseEndsTheDirectoryAndGivesScratchBack) {
  const std::string path = Make({.name = "short"});
  WriteFile(path + "/big", std::string(1 << 20, 'n'));
  ASSERT_TRUE(daemon_.client().Release("short").ok());
  EXPECT_EQ(access(path.c_str(), F_OK), -1);
  EXPECT_EQ(errno, ENOENT);
  const auto stats = daemon_.client().Stats();
  ASSERT_TRUE(stats.ok()) << stats.status();
  for (const auto& [owner, bytes] : stats->accounted_by_owner) {
    if (owner == "scratch") {
      EXPECT_EQ(bytes, 0);
    }
  }
  EXPECT_TRUE(absl::IsNotFound(daemon_.client().Release("short")));
  Make({.name = "short"});
  EXPECT_EQ(ReadFile(path + "/text"), "text\n") << "the name can come again";
}

TEST_P(Sandboxes, OpenDirectoryOfAReleasedSandboxIsStale) {
  const std::string path = Make({.name = "stale"});
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(daemon_.client().Release("stale").ok());
  EXPECT_EQ(openat(fd, "text", O_RDONLY), -1);
  EXPECT_EQ(errno, ESTALE);
  close(fd);
}

// G4
TEST_P(Sandboxes, LeaseTheirInputsAgainstEviction) {
  const std::string path = Make({.name = "leased"});
  const auto evicted = daemon_.client().Evict({Digest::Of("text\n")});
  ASSERT_TRUE(evicted.ok());
  ASSERT_EQ(evicted->failures.size(), 1u);
  EXPECT_TRUE(absl::IsFailedPrecondition(evicted->failures[0].second));
  EXPECT_EQ(ReadFile(path + "/text"), "text\n");
  ASSERT_TRUE(daemon_.client().Release("leased").ok());
  EXPECT_TRUE(daemon_.client().Evict({Digest::Of("text\n")})->failures.empty());
  const auto again = daemon_.client().Create({.root = root_});
  ASSERT_FALSE(again.ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(again.status()));
  EXPECT_NE(again.status().message().find(Digest::Of("text\n").HexHash()),
            absl::string_view::npos)
      << again.status();
}

TEST_P(Sandboxes, RenameAndLinkToAnotherSandboxIsExdev) {
  const std::string one = Make({.name = "one"});
  const std::string other = Make({.name = "other"});
  EXPECT_EQ(rename((one + "/text").c_str(), (other + "/text").c_str()), -1);
  EXPECT_EQ(errno, EXDEV);
  EXPECT_EQ(link((one + "/text").c_str(), (other + "/linked").c_str()), -1);
  EXPECT_EQ(errno, EXDEV);
}

TEST_P(Sandboxes, ListingFollowsAdditionsAndRemovals) {
  const std::string path = Make();
  const auto names = [&path] {
    return RunShell("ls -A " + path + " | tr '\\n' ' '").out;
  };
  EXPECT_EQ(names(), "big dir empty link text tool twin ");
  WriteFile(path + "/new", "");
  EXPECT_EQ(names(), "big dir empty link new text tool twin ");
  fs::remove(path + "/text");
  EXPECT_EQ(names(), "big dir empty link new tool twin ");
  WriteFile(path + "/text", "");
  EXPECT_EQ(names(), "big dir empty link new text tool twin ");
}

// G15
TEST_P(Sandboxes, MissingNamesAreAskedForOnce) {
  const std::string path = Make();
  access((path + "/missing.h").c_str(), F_OK);
  const double before = daemon_.Metric("fuse_requests_total", "lookup");
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(access((path + "/missing.h").c_str(), F_OK), -1);
    EXPECT_EQ(StatOf(path + "/text").st_size, 5);
  }
  EXPECT_LE(daemon_.Metric("fuse_requests_total", "lookup"), before + 1);
}

}  // namespace
}  // namespace casement
