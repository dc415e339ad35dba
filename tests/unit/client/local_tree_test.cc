#include "client/local_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>  // NOLINT
#include <fstream>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/directory.h"
#include "support/temp_directory.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

absl::StatusOr<LocalTree> Scan(const std::string& directory,
                               const LocalTree::Options& options = {}) {
  ProgressGatherer progress(nullptr);
  return LocalTree::Scan(directory, options, progress);
}

TEST(LocalTree, EmptyDirectoryIsTheEmptyDirectory) {
  TempDirectory folder;
  const auto tree = Scan(folder.path());
  ASSERT_TRUE(tree.ok()) << tree.status();
  EXPECT_EQ(tree->root(), Digest());
  EXPECT_EQ(tree->Blobs().size(), 1u);
}

TEST(LocalTree, IsWhatADirectoryBuilderMakes) {
  TempDirectory folder;
  Write(folder / "plain", "plain");
  Write(folder / "tool", "tool");
  fs::permissions(folder / "tool", fs::perms(0100));
  // Others may run it, its owner may not.
  Write(folder / "others", "others");
  fs::permissions(folder / "others", fs::perms(0655));
  fs::create_symlink("no/where", folder / "link");
  fs::create_directories(folder / "sub/empty");
  Write(folder / "sub/plain", "plain");

  DirectoryBuilder sub;
  sub.AddDirectory("empty", Digest());
  sub.AddFile("plain", Digest::Of("plain"), false);
  DirectoryBuilder root;
  root.AddFile("plain", Digest::Of("plain"), false);
  root.AddFile("tool", Digest::Of("tool"), true);
  root.AddFile("others", Digest::Of("others"), false);
  root.AddSymlink("link", "no/where");
  root.AddDirectory("sub", Digest::Of(sub.Build()));

  const auto tree = Scan(folder.path());
  ASSERT_TRUE(tree.ok()) << tree.status();
  EXPECT_EQ(tree->root(), Digest::Of(root.Build()));
  EXPECT_EQ(tree->directories(), 3u);
  EXPECT_EQ(tree->symlinks(), 1u);
  // Three Directories; plain, tool, others.
  EXPECT_EQ(tree->Blobs().size(), 6u);
}

TEST(LocalTree, TimesAndModesCountOnlyIfAskedFor) {
  TempDirectory folder;
  Write(folder / "f", "f");
  const auto plain = Scan(folder.path());
  const auto kept = Scan(folder.path(), {.node_properties = true});
  fs::permissions(folder / "f", fs::perms(0600));
  const struct timespec times[] = {{1, 0}, {1, 5}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (folder / "f").c_str(), times, 0), 0);
  ASSERT_TRUE(plain.ok() && kept.ok());
  EXPECT_EQ(Scan(folder.path())->root(), plain->root());
  const auto changed = Scan(folder.path(), {.node_properties = true});
  EXPECT_NE(changed->root(), kept->root());
  const auto directory =
      Directory::Parse(changed->Message(changed->Blobs().front()));
  ASSERT_TRUE(directory.ok()) << directory.status();
  const NodeProperties& properties = (*directory)->entries().front().properties;
  EXPECT_EQ(properties.unix_mode, 0600u);
  EXPECT_EQ(properties.mtime, absl::FromUnixSeconds(1) + absl::Nanoseconds(5));
}

TEST(LocalTree, OtherTypesAreRefusedByName) {
  TempDirectory folder;
  fs::create_directory(folder / "sub");
  ASSERT_EQ(::mkfifo((folder / "sub/fifo").c_str(), 0600), 0);
  const absl::Status status = Scan(folder.path()).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(status.message(),
            absl::StrCat(folder / "sub/fifo",
                         ": is a FIFO; only files, directories and symlinks "
                         "can be put"));
}

TEST(LocalTree, WhatCannotBeReadIsNamed) {
  TempDirectory folder;
  EXPECT_THAT(Scan(folder / "absent").status().message(), HasSubstr("absent"));
  Write(folder / "file", "f");
  const absl::Status status = Scan(folder / "file").status();
  EXPECT_THAT(status.message(), HasSubstr("Not a directory"));
}

TEST(LocalTree, DepthAndLengthOfPathsAreNoLimit) {
  TempDirectory folder;
  constexpr int kDepth = 2100;
  // 2,100 times "d/": longer than a system call takes.
  int at = ::open(folder.path().c_str(), O_PATH | O_DIRECTORY);
  for (int i = 0; i < kDepth; ++i) {
    ASSERT_EQ(::mkdirat(at, "d", 0755), 0);
    const int next = ::openat(at, "d", O_PATH | O_DIRECTORY);
    ::close(at);
    at = next;
  }
  const int file = ::openat(at, "f", O_CREAT | O_WRONLY, 0644);
  ASSERT_EQ(::write(file, "deep", 4), 4);
  ::close(file);
  ::close(at);

  std::string message;
  {
    DirectoryBuilder builder;
    builder.AddFile("f", Digest::Of("deep"), false);
    message = builder.Build();
  }
  for (int i = 0; i < kDepth; ++i) {
    DirectoryBuilder builder;
    builder.AddDirectory("d", Digest::Of(message));
    message = builder.Build();
  }
  const auto tree = Scan(folder.path());
  ASSERT_TRUE(tree.ok()) << tree.status().message().substr(0, 100);
  EXPECT_EQ(tree->root(), Digest::Of(message));
  const auto reopened = tree->Open(tree->Blobs().back());
  EXPECT_TRUE(reopened.ok());
}

TEST(LocalTree, FileThatGrowsWhileItIsReadIsAborted) {
  TempDirectory folder;
  Write(folder / "log", std::string(1 << 20, 'x'));
  const int fd = ::open((folder / "log").c_str(), O_RDONLY);
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    std::ofstream log(folder / "log", std::ios::app);
    while (!stop) log << std::string(4096, 'y') << std::flush;
  });
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) {
    ::lseek(fd, 0, SEEK_SET);
    status = HashFile(fd, "log").status();
  }
  stop = true;
  writer.join();
  ::close(fd);
  EXPECT_EQ(status, absl::AbortedError("log: changed while it was read"));
}

TEST(LocalTree, ProgressEndsWithEverything) {
  TempDirectory folder;
  for (int i = 0; i < 20; ++i) {
    Write(folder / absl::StrCat("f", i), std::string(100, 'x'));
  }
  TreeProgress last;
  ProgressGatherer progress([&last](const TreeProgress& now) { last = now; });
  ASSERT_TRUE(LocalTree::Scan(folder.path(), {}, progress).ok());
  progress.Finish();
  EXPECT_EQ(last.files, 20);
  EXPECT_EQ(last.bytes, 2000);
  EXPECT_EQ(last.files_hashed, 20);
  EXPECT_EQ(last.bytes_hashed, 2000);
}

}  // namespace
}  // namespace casement
