// Calls in a sandbox, one fact a test. What they do in any order is for
// tests/model to find out, what programs do for programs_test.cc.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>
#include <string>

#include "base/unique_fd.h"
#include "mount/data_paths.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

class SandboxCalls : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const std::string source = daemon_.folder() + "/source";
    fs::create_directories(source + "/dir");
    WriteFile(source + "/text", "text\n");
    WriteFile(source + "/big", std::string(1 << 20, 'b'));
    WriteFile(source + "/dir/one", "1");
    WriteFile(source + "/dir/two", "2");
    const auto put = daemon_.client().PutTree(source, {});
    ASSERT_TRUE(put.ok()) << put.status();
    root_ = put->root;
    path_ = Make({});
  }

  std::string Make(SandboxSpec spec) {
    spec.root = root_;
    const auto made = daemon_.client().Create(spec);
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? made->info.path : "";
  }

  RunningDaemon daemon_{{"--data-path", GetParam()}};
  std::string Name() const { return fs::path(path_).filename(); }

  Digest root_;
  std::string path_;
};

CASEMENT_IN_BOTH_DATA_PATHS(SandboxCalls);

TEST_P(SandboxCalls, UserXattrsAreKeptListedAndRemoved) {
  for (const std::string& name : {path_ + "/text", path_ + "/dir"}) {
    char value[8];
    EXPECT_EQ(getxattr(name.c_str(), "user.a", value, 8), -1);
    EXPECT_EQ(errno, ENODATA);
    ASSERT_EQ(setxattr(name.c_str(), "user.a", "one", 3, XATTR_CREATE), 0);
    EXPECT_EQ(setxattr(name.c_str(), "user.a", "one", 3, XATTR_CREATE), -1);
    EXPECT_EQ(errno, EEXIST);
    EXPECT_EQ(setxattr(name.c_str(), "user.b", "two", 3, XATTR_REPLACE), -1);
    EXPECT_EQ(errno, ENODATA);
    EXPECT_EQ(getxattr(name.c_str(), "user.a", nullptr, 0), 3);
    EXPECT_EQ(getxattr(name.c_str(), "user.a", value, 2), -1);
    EXPECT_EQ(errno, ERANGE);
    EXPECT_EQ(listxattr(name.c_str(), value, sizeof(value)), 7);
    EXPECT_STREQ(value, "user.a");
    EXPECT_EQ(removexattr(name.c_str(), "user.a"), 0);
    EXPECT_EQ(listxattr(name.c_str(), value, sizeof(value)), 0);
  }
}

TEST_P(SandboxCalls, XattrsOutsideUserAreEopnotsupp) {
  const std::string name = path_ + "/text";
  EXPECT_EQ(setxattr(name.c_str(), "trusted.a", "v", 1, 0), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(setxattr(name.c_str(), "security.a", "v", 1, 0), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_P(SandboxCalls, XattrsOfAFileHaveALimit) {
  const std::string name = path_ + "/text";
  const std::string half(40 << 10, 'v');
  ASSERT_EQ(setxattr(name.c_str(), "user.a", half.data(), half.size(), 0), 0);
  EXPECT_EQ(setxattr(name.c_str(), "user.b", half.data(), half.size(), 0), -1);
  EXPECT_EQ(errno, ENOSPC);
}

TEST_P(SandboxCalls, TemporaryFileHasNoNameUntilItIsLinked) {
  const int fd = open(path_.c_str(), O_TMPFILE | O_RDWR, 0600);
  ASSERT_GE(fd, 0) << errno;
  ASSERT_EQ(write(fd, "temporary", 9), 9);
  const auto before =
      daemon_.client().Diff(fs::path(path_).filename().string());
  ASSERT_TRUE(before.ok());
  EXPECT_TRUE(before->empty());
  ASSERT_EQ(linkat(fd, "", AT_FDCWD, (path_ + "/named").c_str(), AT_EMPTY_PATH),
            0)
      << errno;
  close(fd);
  EXPECT_EQ(ReadFile(path_ + "/named"), "temporary");
}

// Names that are added while a program lists come before where it is.
TEST_P(SandboxCalls, ListingEndsThoughEveryNameIsRenamed) {
  DIR* const directory = opendir((path_ + "/dir").c_str());
  ASSERT_NE(directory, nullptr);
  int seen = 0;
  while (const dirent* const entry = readdir(directory)) {
    ASSERT_LT(++seen, 100);
    const std::string name = path_ + "/dir/" + entry->d_name;
    if (entry->d_name[0] != '.') rename(name.c_str(), (name + "x").c_str());
  }
  closedir(directory);
  EXPECT_GE(seen, 4);
}

TEST_P(SandboxCalls, CopyFileRangeCopiesAnInput) {
  const int from = open((path_ + "/big").c_str(), O_RDONLY);
  const int to = open((path_ + "/copy").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(to, 0);
  loff_t in = 5;
  loff_t out = 2;
  EXPECT_EQ(copy_file_range(from, &in, to, &out, 100000, 0), 100000);
  close(from);
  close(to);
  EXPECT_EQ(ReadFile(path_ + "/copy"),
            std::string(2, 0) + std::string(100000, 'b'));
}

TEST_P(SandboxCalls, DeviceNodesAreKeptButNeverOpened) {
  const std::string name = path_ + "/null";
  ASSERT_EQ(mknod(name.c_str(), S_IFCHR | 0666, makedev(1, 3)), 0) << errno;
  struct stat status {};
  ASSERT_EQ(stat(name.c_str(), &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
  EXPECT_EQ(status.st_rdev, makedev(1, 3));
  EXPECT_EQ(open(name.c_str(), O_RDONLY), -1);
  EXPECT_EQ(errno, EACCES);
  const auto collected = daemon_.client().Collect(Name(), {"null"});
  EXPECT_NE(collected.status().message().find("device node"), std::string::npos)
      << collected.status();
}

TEST_P(SandboxCalls, RenameWithAWhiteoutLeavesOne) {
  const std::string name = path_ + "/text";
  const std::string other = path_ + "/other";
  ASSERT_EQ(renameat2(AT_FDCWD, name.c_str(), AT_FDCWD, other.c_str(),
                      RENAME_WHITEOUT),
            0)
      << errno;
  EXPECT_EQ(ReadFile(other), "text\n");
  struct stat status {};
  ASSERT_EQ(lstat(name.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, static_cast<mode_t>(S_IFCHR));
  EXPECT_EQ(status.st_rdev, 0u);
  EXPECT_EQ(unlink(name.c_str()), 0);
}

TEST_P(SandboxCalls, DirectoriesAndLongSymlinksTakeABlock) {
  struct stat status {};
  ASSERT_EQ(stat((path_ + "/dir").c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 4096);
  EXPECT_EQ(status.st_blocks, 8);
  for (const size_t length : {59u, 60u}) {
    const std::string name = path_ + "/link" + std::to_string(length);
    ASSERT_EQ(symlink(std::string(length, 'x').c_str(), name.c_str()), 0);
    ASSERT_EQ(lstat(name.c_str(), &status), 0);
    EXPECT_EQ(status.st_blocks, length < 60 ? 0 : 8);
  }
}

TEST_P(SandboxCalls, XattrsOfASandboxHaveALimitThatRemovingGivesBack) {
  const std::string value(60 << 10, 'v');
  const auto set = [&](int i) {
    const std::string name = path_ + "/dir/" + std::to_string(i);
    WriteFile(name, "");
    return setxattr(name.c_str(), "user.a", value.data(), value.size(), 0);
  };
  int count = 0;
  while (set(count) == 0) ASSERT_LT(++count, 2000);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_GT(count, 1000);
  EXPECT_EQ(set(count), -1);
  ASSERT_EQ(unlink((path_ + "/dir/0").c_str()), 0);
  ASSERT_EQ(removexattr((path_ + "/dir/1").c_str(), "user.a"), 0);
  EXPECT_EQ(set(count), 0);
}

// One component more than PATH_MAX allows in one call; each alone is fine.
TEST_P(SandboxCalls, PathsOf4095BytesWorkAndLongerOnesAreEnametoolong) {
  std::string path = path_;
  const std::string component(200, 'p');
  while (path.size() + 201 < 4095) {
    path += "/" + component;
    ASSERT_EQ(mkdir(path.c_str(), 0755), 0) << errno;
  }
  const std::string longest =
      path + "/" + std::string(4095 - path.size() - 1, 'f');
  ASSERT_EQ(longest.size(), 4095u);
  WriteFile(longest, "deep");
  EXPECT_EQ(ReadFile(longest), "deep");
  EXPECT_EQ(open((longest + "x").c_str(), O_RDONLY | O_CREAT, 0644), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
  EXPECT_TRUE(daemon_.client().Collect(Name(), {component}).ok());
}

TEST_P(SandboxCalls, NamesAreAnyBytesButSlashAndNul) {
  std::set<std::string> names;
  for (int byte = 1; byte < 256; ++byte) {
    if (byte == '/') continue;
    const std::string name = {'n', static_cast<char>(byte)};
    names.insert(name);
    WriteFile(path_ + "/dir/" + name, name);
    EXPECT_EQ(ReadFile(path_ + "/dir/" + name), name);
  }
  DIR* const directory = opendir((path_ + "/dir").c_str());
  ASSERT_NE(directory, nullptr);
  while (const dirent* const entry = readdir(directory)) {
    names.erase(entry->d_name);
  }
  closedir(directory);
  EXPECT_TRUE(names.empty());
  EXPECT_TRUE(daemon_.client().Collect(Name(), {"dir"}).ok());
}

TEST_P(SandboxCalls, CollectSeesWhatALiveSharedMappingWrote) {
  const std::string name = path_ + "/out";
  const int fd = open(name.c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(ftruncate(fd, 8192), 0);
  void* const mapped =
      mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  close(fd);
  std::string bytes(8192, 0);
  for (const char byte : {'x', 'y'}) {
    static_cast<char*>(mapped)[5000] = byte;
    bytes[5000] = byte;
    const auto collected = daemon_.client().Collect(Name(), {"out"});
    ASSERT_TRUE(collected.ok()) << collected.status();
    ASSERT_EQ(collected->outputs.size(), 1u);
    EXPECT_EQ(collected->outputs[0].digest, Digest::Of(bytes));
    EXPECT_EQ(static_cast<char*>(mapped)[5000], byte);
  }
  munmap(mapped, 8192);
}

TEST_P(SandboxCalls, OutputsOpenForWritingAreNotCollectedUnlessForced) {
  const std::string name = fs::path(path_).filename();
  const int fd = open((path_ + "/dir/out").c_str(), O_WRONLY | O_CREAT, 0644);
  ASSERT_EQ(write(fd, "out", 3), 3);
  const auto refused = daemon_.client().Collect(name, {"dir"});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  const std::string message(refused.status().message());
  EXPECT_NE(message.find("\"dir/out\""), std::string::npos) << message;
  EXPECT_NE(message.find("process " + std::to_string(getpid()) + " ("),
            std::string::npos)
      << message;
  EXPECT_TRUE(daemon_.client().Collect(name, {"text"}).ok());
  EXPECT_TRUE(daemon_.client().Collect(name, {"dir"}, {.force = true}).ok());
  close(fd);
  const int reader = open((path_ + "/dir/out").c_str(), O_RDONLY);
  const auto collected = daemon_.client().Collect(name, {"dir"});
  EXPECT_TRUE(collected.ok()) << collected.status();
  close(reader);
}

TEST_P(SandboxCalls, AnInputThatIsWrittenCanBeOpenedAgainThroughProc) {
  const std::string reopened =
      RunShell("cd " + path_ +
               "; exec < text; echo more >> text; cat /dev/stdin; cat text")
          .out;
  // Passthrough: who opened it before the first write reads the old bytes.
  EXPECT_TRUE(reopened == "text\nmore\ntext\nmore\n" ||
              (GetParam() == "passthrough" && reopened == "text\ntext\nmore\n"))
      << reopened;
}

// "What is opened later sees the new bytes" (casement(7)): later than when the
// input was opened for writing, not than when it was written.
TEST_P(SandboxCalls, WhatIsOpenedBesideAWriterSeesWhatThatWritesByAnyName) {
  const std::string one = path_ + "/text";
  const std::string other = path_ + "/dir/other";
  ASSERT_EQ(link(one.c_str(), other.c_str()), 0);
  const UniqueFd old(open(one.c_str(), O_RDONLY));
  const UniqueFd writer(open(one.c_str(), O_WRONLY));
  for (const std::string& name : {other, one}) {
    const UniqueFd reader(open(name.c_str(), O_RDONLY));
    ASSERT_TRUE(reader.valid()) << errno;
    ASSERT_EQ(pwrite(writer.get(), name.data(), 9, 0), 9);
    std::string bytes(9, '-');
    EXPECT_EQ(pread(reader.get(), bytes.data(), 9, 0), 9);
    EXPECT_EQ(bytes, name.substr(0, 9));
    ASSERT_EQ(ftruncate(writer.get(), 0), 0);
  }
}

// The kernel knows the name that is left by the file's first number.
TEST_P(SandboxCalls, WhatIsWrittenByTheLastNameLeftIsSeenByWhoHadAnother) {
  const std::string one = path_ + "/text";
  const std::string other = path_ + "/dir/other";
  ASSERT_EQ(link(one.c_str(), other.c_str()), 0);
  UniqueFd old(open(one.c_str(), O_RDONLY));
  const UniqueFd first(open(one.c_str(), O_RDWR));
  std::string bytes(5, '-');
  EXPECT_EQ(pread(first.get(), bytes.data(), 5, 0), 5);  // The pages.
  old.Reset();
  ASSERT_EQ(unlink(one.c_str()), 0);
  const UniqueFd second(open(other.c_str(), O_WRONLY));
  ASSERT_TRUE(second.valid()) << errno;
  ASSERT_EQ(pwrite(second.get(), "TEXT", 4, 0), 4);
  EXPECT_EQ(pread(first.get(), bytes.data(), 5, 0), 5);
  EXPECT_EQ(bytes, "TEXT\n");
}

// In passthrough mode the kernel then knows the file under two numbers.
TEST_P(SandboxCalls, OtherNamesOfAnInputShowWhatIsWrittenWhileItIsRead) {
  const std::string one = path_ + "/text";
  const std::string other = path_ + "/dir/other";
  ASSERT_EQ(link(one.c_str(), other.c_str()), 0);
  ASSERT_EQ(ReadFile(other), "text\n");
  const int reader = open(one.c_str(), O_RDONLY);
  const int writer = open(one.c_str(), O_WRONLY | O_APPEND);
  ASSERT_GE(writer, 0) << errno;
  for (uintmax_t size : {6, 7, 8}) {
    ASSERT_EQ(write(writer, "1", 1), 1);
    EXPECT_EQ(fs::file_size(other), size);
  }
  ASSERT_EQ(ftruncate(writer, 5), 0);
  for (const std::string wanted : {"text\n1", "text\n11", "text\n111"}) {
    ASSERT_EQ(write(writer, "1", 1), 1);
    EXPECT_EQ(fs::file_size(other), wanted.size());
    EXPECT_EQ(ReadFile(other), wanted);
    EXPECT_EQ(fs::file_size(one), wanted.size());
  }
  ASSERT_EQ(fchmod(reader, 0600), 0);
  ASSERT_EQ(chmod(other.c_str(), 0640), 0);
  struct stat status {};
  for (const std::string& name : {one, other}) {
    ASSERT_EQ(stat(name.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0640u) << name;
  }
  ASSERT_EQ(fchmod(reader, 0604), 0);
  for (const std::string& name : {one, other}) {
    ASSERT_EQ(stat(name.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0604u) << name;
  }
  close(reader);
  close(writer);
  ASSERT_EQ(truncate(other.c_str(), 2), 0);
  EXPECT_EQ(ReadFile(one), "te");
  WriteFile(one, "new text");
  EXPECT_EQ(ReadFile(other), "new text");
}

// The kernel cuts the file to its size afterwards, which nobody asked for.
TEST_P(SandboxCalls, ADirectWriteThatFailsChangesNothing) {
  const int fd = open((path_ + "/text").c_str(), O_RDWR | O_DIRECT);
  struct stat before {};
  ASSERT_EQ(fstat(fd, &before), 0);
  usleep(10000);
  EXPECT_EQ(pwrite(fd, "x", 1, off_t{1} << 44), -1);
  EXPECT_EQ(errno, EFBIG);
  struct stat after {};
  ASSERT_EQ(fstat(fd, &after), 0);
  EXPECT_EQ(after.st_size, before.st_size);
  EXPECT_EQ(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
  EXPECT_EQ(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
  EXPECT_TRUE(daemon_.client().Diff(Name())->empty());
  // Somebody asks for it.
  ASSERT_EQ(ftruncate(fd, before.st_size), 0);
  ASSERT_EQ(fstat(fd, &after), 0);
  EXPECT_GT(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
  close(fd);
}

TEST_P(SandboxCalls, DirectoriesCanBeSynced) {
  const int fd = open((path_ + "/dir").c_str(), O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(fsync(fd), 0) << errno;
  close(fd);
}

TEST_P(SandboxCalls, NodesPastTheLimitAreEnospcAndStatfsSaysSo) {
  const std::string path = Make({.nodes_max = 2});
  WriteFile(path + "/one", "1");
  ASSERT_EQ(mkdir((path + "/two").c_str(), 0755), 0);
  EXPECT_EQ(symlink("x", (path + "/three").c_str()), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(open(path.c_str(), O_TMPFILE | O_RDWR, 0600), -1);
  EXPECT_EQ(errno, ENOSPC);
  struct statvfs limits {};
  ASSERT_EQ(statvfs(path.c_str(), &limits), 0);
  EXPECT_EQ(limits.f_ffree, 0u);
  ASSERT_EQ(unlink((path + "/one").c_str()), 0);
  EXPECT_EQ(symlink("x", (path + "/three").c_str()), 0);
}

}  // namespace
}  // namespace casement
