#include "base/mount_info.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace casement {
namespace {

std::vector<MountInfo> Read(const std::string& text) {
  const std::string path = testing::TempDir() + "/mountinfo";
  std::ofstream(path) << text;
  std::vector<MountInfo> mounts = ReadMountInfo(path);
  std::remove(path.c_str());
  return mounts;
}

TEST(MountInfo, HasTheFieldsOfEachLine) {
  const auto mounts = Read(
      "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw\n"
      "37 36 0:42 /sub /mnt/c rw - fuse.casement casement rw\n");
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_EQ(mounts[0].type, "ext3");
  EXPECT_EQ(mounts[1].id, "37");
  EXPECT_EQ(mounts[1].device, "0:42");
  EXPECT_EQ(mounts[1].root, "/sub");
  EXPECT_EQ(mounts[1].path, "/mnt/c");
  EXPECT_EQ(mounts[1].type, "fuse.casement");
}

TEST(MountInfo, PathsAreUnescaped) {
  const auto mounts = Read("1 2 0:3 / /a\\040b\\134c\\9 rw - tmpfs none rw\n");
  ASSERT_EQ(mounts.size(), 1u);
  EXPECT_EQ(mounts[0].path, "/a b\\c\\9");
}

TEST(MountInfo, LinesThatAreCutShortAreLeftOut) {
  EXPECT_TRUE(Read("1 2 0:3 / /a rw\n1 2 - x\n\n").empty());
  EXPECT_TRUE(Read("1 2 0:3 / /a rw -\n").empty());
}

TEST(MountInfo, OfAFileThatIsNotThereIsEmpty) {
  EXPECT_TRUE(ReadMountInfo("/nonexistent/mountinfo").empty());
}

TEST(MountInfo, OfThisProcessHasTheRoot) {
  bool found = false;
  for (const MountInfo& mount : ReadMountInfo("/proc/self/mountinfo")) {
    found |= mount.path == "/";
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace casement
