// cas/ and tree/ on a real mount.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>
#include <string>

#include "mount/data_paths.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

class Views : public testing::TestWithParam<std::string> {
 protected:
  Digest Put(const std::string& bytes) {
    const absl::StatusOr<Digest> digest = daemon_.client().Put(bytes);
    EXPECT_TRUE(digest.ok()) << digest.status();
    return digest.value_or(Digest());
  }
  std::string Cas(const Digest& digest, const std::string& suffix = "") {
    return daemon_.At("cas/" + digest.ToString() + suffix);
  }

  RunningDaemon daemon_{{"--data-path", GetParam()}};
};

CASEMENT_IN_BOTH_DATA_PATHS(Views);

struct stat StatOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path << ": " << errno;
  return status;
}

// G6
TEST_P(Views, BlobIs0444AndItsExecViewIs0555OverTheSameBytes) {
  const Digest digest = Put("bytes of a blob");
  const struct stat blob = StatOf(Cas(digest));
  const struct stat exec = StatOf(Cas(digest, ".exec"));
  EXPECT_EQ(blob.st_mode, S_IFREG | 0444u);
  EXPECT_EQ(exec.st_mode, S_IFREG | 0555u);
  EXPECT_EQ(blob.st_size, 15);
  EXPECT_EQ(exec.st_size, 15);
  EXPECT_NE(blob.st_ino, exec.st_ino);
  EXPECT_EQ(exec.st_blocks, 0) << "du must not count the bytes twice";
  EXPECT_GT(blob.st_blocks, 0);
  EXPECT_EQ(ReadFile(Cas(digest)), "bytes of a blob");
  EXPECT_EQ(ReadFile(Cas(digest, ".exec")), "bytes of a blob");
}

// As Bazel reads it: bytes, not hex.
TEST_P(Views, HaveTheirHashAsAnExtendedAttribute) {
  const Digest digest = Put("bytes of a blob");
  const std::string expected(digest.hash().begin(), digest.hash().end());
  for (const char* const suffix : {"", ".exec"}) {
    const std::string path = Cas(digest, suffix);
    char value[64];
    ASSERT_EQ(
        getxattr(path.c_str(), "user.checksum.sha256", value, sizeof(value)),
        32);
    EXPECT_EQ(std::string(value, 32), expected);
    EXPECT_EQ(getxattr(path.c_str(), "user.checksum.md5", value, 64), -1);
    EXPECT_EQ(errno, ENODATA);
    EXPECT_EQ(listxattr(path.c_str(), value, sizeof(value)), 0)
        << "what is listed is copied";
    EXPECT_EQ(setxattr(path.c_str(), "user.checksum.sha256", "x", 1, 0), -1);
    EXPECT_EQ(errno, EROFS);
  }
  char value[64];
  EXPECT_EQ(getxattr(daemon_.At("cas").c_str(), "user.checksum.sha256", value,
                     sizeof(value)),
            -1);
}

// G1
TEST_P(Views, RunningTheExecViewOfARealProgramAddsNothingToTheStore) {
  const Digest echo = Put(ReadFile("/bin/echo"));
  const std::string du = "du -B1 --inodes -s " + daemon_.store() +
                         "; du -B1 -s " + daemon_.store();
  const std::string before = RunShell(du).out;
  for (int i = 0; i < 20; ++i) {
    const ProgramResult run = RunProgram({Cas(echo, ".exec"), "hello"});
    EXPECT_EQ(run.out, "hello\n");
  }
  EXPECT_EQ(RunShell(du).out, before);
}

TEST_P(Views, RunningABlobItselfIsPermissionDenied) {
  const Digest echo = Put(ReadFile("/bin/echo"));
  const ProgramResult run = RunShell(Cas(echo) + " hello");
  EXPECT_EQ(run.exit_status, 126);
  EXPECT_NE(run.err.find("Permission denied"), std::string::npos) << run.err;
}

TEST_P(Views, WritingIsRefusedAlsoForRoot) {
  const Digest digest = Put("read-only");
  const std::string path = Cas(digest);
  EXPECT_EQ(open(path.c_str(), O_WRONLY | O_TRUNC), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(truncate(path.c_str(), 0), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(chmod(path.c_str(), 0777), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(unlink(path.c_str()), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(open(daemon_.At("cas/new").c_str(), O_CREAT | O_WRONLY, 0644), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(ReadFile(path), "read-only");
}

TEST_P(Views, WhatIsNoDigestDoesNotExist) {
  for (const char* name : {"cas/x", "cas/.exec", "tree/y", "z"}) {
    EXPECT_EQ(access(daemon_.At(name).c_str(), F_OK), -1) << name;
    EXPECT_EQ(errno, ENOENT) << name;
  }
}

TEST_P(Views, BlobPutAfterAMissIsSeenAtOnce) {
  const std::string bytes = "comes later";
  const Digest digest = Digest::Of(bytes);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(access(Cas(digest).c_str(), F_OK), 0);
    EXPECT_NE(access(Cas(digest, ".exec").c_str(), F_OK), 0);
  }
  Put(bytes);
  EXPECT_EQ(ReadFile(Cas(digest)), bytes);
  EXPECT_EQ(ReadFile(Cas(digest, ".exec")), bytes);
}

TEST_P(Views, EmptyBlobAndEmptyDirectoryAreAlwaysThere) {
  const Digest empty;
  EXPECT_EQ(StatOf(Cas(empty)).st_size, 0);
  EXPECT_EQ(ReadFile(Cas(empty)), "");
  EXPECT_TRUE(fs::is_empty(daemon_.At("tree/" + empty.ToString())));
}

std::set<std::string> NamesIn(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) {
    names.insert(entry.path().filename());
  }
  return names;
}

TEST_P(Views, ListingShowsBothViewsOfEveryBlobAndFollowsChanges) {
  const Digest first = Put("first");
  const std::string name = first.ToString();
  EXPECT_EQ(NamesIn(daemon_.At("cas")).count(name), 1u);
  EXPECT_EQ(NamesIn(daemon_.At("cas")).count(name + ".exec"), 1u);
  const Digest second = Put("second");
  EXPECT_EQ(NamesIn(daemon_.At("cas")).count(second.ToString()), 1u);
  ASSERT_TRUE(daemon_.client().Evict({first}).ok());
  EXPECT_EQ(NamesIn(daemon_.At("cas")).count(name), 0u);
}

TEST_P(Views, ListingOfManyBlobsIsStreamedCompletely) {
  std::set<std::string> expected;
  for (int i = 0; i < 1000; ++i) {
    const Digest digest = Put("blob " + std::to_string(i));
    expected.insert(digest.ToString());
    expected.insert(digest.ToString() + ".exec");
  }
  const std::set<std::string> names = NamesIn(daemon_.At("cas"));
  for (const std::string& name : expected) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
}

// G2, G4
TEST_P(Views, EvictedBlobIsGoneByNameButOpenHandlesAndMappingsReadOn) {
  const std::string bytes(100000, 'x');
  const Digest digest = Put(bytes);
  const int fd = open(Cas(digest, ".exec").c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  void* const map = mmap(nullptr, bytes.size(), PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(map, MAP_FAILED);
  const absl::StatusOr<EvictResult> evicted = daemon_.client().Evict({digest});
  ASSERT_TRUE(evicted.ok() && evicted->failures.empty());
  EXPECT_EQ(access(Cas(digest).c_str(), F_OK), -1);
  EXPECT_EQ(access(Cas(digest, ".exec").c_str(), F_OK), -1);
  std::string got(bytes.size(), ' ');
  EXPECT_EQ(pread(fd, got.data(), got.size(), 0),
            static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(memcmp(map, bytes.data(), bytes.size()), 0);
  EXPECT_EQ(daemon_.client().Stats()->zombies, 1);
  munmap(map, bytes.size());
  close(fd);
  for (int i = 0; i < 200 && daemon_.client().Stats()->zombies > 0; ++i) {
    usleep(5000);
  }
  EXPECT_EQ(daemon_.client().Stats()->zombies, 0);
}

// G11
TEST_P(Views, PuttingAResidentBlobAgainChangesNothing) {
  const Digest digest = Put("again");
  const struct stat before = StatOf(Cas(digest));
  const int fd = open(Cas(digest).c_str(), O_RDONLY);
  Put("again");
  const struct stat after = StatOf(Cas(digest));
  EXPECT_EQ(before.st_ino, after.st_ino);
  char got[5];
  EXPECT_EQ(pread(fd, got, 5, 0), 5);
  close(fd);
}

TEST_P(Views, TreeShowsADirectoryReadOnlyAtAnyDepth) {
  const std::string source = daemon_.folder() + "/source";
  fs::create_directories(source + "/a/b/c");
  fs::create_directories(source + "/empty");
  WriteFile(source + "/a/b/c/deep", "deep");
  WriteFile(source + "/tool", "#!/bin/sh\necho tool\n");
  chmod((source + "/tool").c_str(), 0755);
  fs::create_symlink("a/b/c/deep", source + "/link");
  fs::create_symlink("/nowhere", source + "/dangling");
  const auto put = daemon_.client().PutTree(source, {});
  ASSERT_TRUE(put.ok()) << put.status();
  const std::string tree = daemon_.At("tree/" + put->root.ToString());
  EXPECT_EQ(StatOf(tree).st_mode, S_IFDIR | 0555u);
  EXPECT_EQ(StatOf(tree).st_nlink, 4u);
  EXPECT_EQ(ReadFile(tree + "/a/b/c/deep"), "deep");
  EXPECT_EQ(ReadFile(tree + "/link"), "deep");
  EXPECT_EQ(fs::read_symlink(tree + "/dangling"), "/nowhere");
  EXPECT_TRUE(fs::is_empty(tree + "/empty"));
  EXPECT_EQ(StatOf(tree + "/tool").st_mode, S_IFREG | 0555u);
  EXPECT_EQ(StatOf(tree + "/a/b/c/deep").st_mode, S_IFREG | 0444u);
  for (const char* name : {"", "/tool", "/a/b"}) {
    EXPECT_EQ(StatOf(tree + name).st_mtime, 946684800) << name;
  }
  EXPECT_EQ(RunProgram({tree + "/tool"}).out, "tool\n");
  EXPECT_EQ(mkdir((tree + "/new").c_str(), 0755), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(RunShell("diff -r --no-dereference " + source + " " + tree).out,
            "");
}

}  // namespace
}  // namespace casement
