// Real files: that those of a sandbox may be more than a process may have open.
#include "vfs/scratch_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>  // NOLINT
#include <memory>
#include <optional>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

class ScratchFileTest : public StoreFixture {
 protected:
  using FilePtr = std::shared_ptr<ScratchFile>;

  ScratchFileTest() {
    Open();
    MustPut("a blob");  // So that there is a shard.
  }
  ~ScratchFileTest() override { files_.reset(); }

  void OpenAtMost(size_t open_max) { files_.emplace(*store_, open_max); }
  FilePtr Make(absl::string_view bytes) {
    absl::StatusOr<FilePtr> file = files_->Create(budget_);
    EXPECT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(*(*file)->Write(0, bytes), bytes.size());
    return *std::move(file);
  }
  std::vector<FilePtr> MakeMany(int count) {
    std::vector<FilePtr> files;
    for (int i = 0; i < count; ++i) files.push_back(Make(BytesOf(i)));
    return files;
  }
  static std::string BytesIn(ScratchFile& file) {
    std::string bytes(1000, '\0');
    const auto count = file.Read(0, absl::MakeSpan(bytes));
    EXPECT_TRUE(count.ok()) << count.status();
    bytes.resize(count.value_or(0));
    return bytes;
  }
  // What lies in scratch/.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(directory_ / "scratch")) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  const std::shared_ptr<ByteBudget> budget_ = std::make_shared<ByteBudget>(0);
  std::optional<ScratchFiles> files_;
};

TEST_F(ScratchFileTest, ThereMayBeMoreThanMayBeOpen) {
  OpenAtMost(3);
  const size_t before = Descriptors();
  std::vector<FilePtr> files = MakeMany(20);
  EXPECT_EQ(Descriptors(), before + 3);
  EXPECT_THAT(Names(), SizeIs(17));
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(BytesIn(*files[i]), BytesOf(i)) << i;
      EXPECT_LE(Descriptors(), before + 3);
    }
  }
  EXPECT_EQ(*files[0]->Write(2, "changed"), 7u);
  EXPECT_EQ(files[1]->Truncate(1), absl::OkStatus());
  for (int i = 2; i < 20; ++i) BytesIn(*files[i]);
  EXPECT_EQ(BytesIn(*files[0]), BytesOf(0).replace(2, 7, "changed"));
  EXPECT_EQ(BytesIn(*files[1]), "1");
  EXPECT_EQ(files[1]->size(), 1);
  ExpectSound();
  files.clear();
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(Descriptors(), before);
  EXPECT_EQ(store_->ledger().Get(Owner::kScratch), 0);
  EXPECT_EQ(budget_->used(), 0);
}

TEST_F(ScratchFileTest, OneThatWasUsedSinceStaysOpen) {
  OpenAtMost(3);
  const std::vector<FilePtr> files = MakeMany(4);  // The first is closed.
  EXPECT_THAT(Names(), SizeIs(1));
  BytesIn(*files[1]);
  const FilePtr last = Make("last");
  EXPECT_THAT(Names(), SizeIs(2));
  for (const bool is_used : {true, false}) {
    struct stat attributes;
    const auto open = files[is_used ? 1 : 2]->Open();
    ASSERT_TRUE(open.ok()) << open.status();
    ASSERT_EQ(fstat((*open)->get(), &attributes), 0);
    EXPECT_EQ(attributes.st_nlink, is_used ? 0u : 1u);
  }
}

// G9
TEST_F(ScratchFileTest, OneThatWasClosedBecomesABlobLikeAnyOther) {
  OpenAtMost(1);
  const std::string bytes = BytesOf(1);
  std::vector<FilePtr> files = {Make(bytes), Make(bytes), Make("other")};
  EXPECT_THAT(Names(), SizeIs(2));
  for (const bool is_first : {true, false}) {
    const auto published = files[is_first ? 0 : 1]->Publish();
    ASSERT_TRUE(published.ok()) << published.status();
    EXPECT_EQ(published->digest, Digest::Of(bytes));
    EXPECT_EQ(published->is_linked, is_first);
  }
  EXPECT_THAT(Names(), SizeIs(1)) << "of the other one";
  struct stat attributes;
  ASSERT_EQ(stat(PathOf(Digest::Of(bytes)).c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_nlink, 1u);
  EXPECT_EQ(attributes.st_mode & 07777, 0444u);
  // It is never given a name again, which could be written to.
  std::vector<FilePtr> more = MakeMany(5);
  ASSERT_EQ(stat(PathOf(Digest::Of(bytes)).c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_nlink, 1u);
  EXPECT_EQ(BytesIn(*files[0]), bytes);
  ExpectSound();
}

TEST_F(ScratchFileTest, WithoutRoomForANameTheyStayOpen) {
  OpenAtMost(1);
  disk_.FailIf(
      [](absl::string_view name) { return name == "Link" ? ENOSPC : 0; });
  std::vector<FilePtr> files = MakeMany(5);
  EXPECT_THAT(Names(), IsEmpty());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(BytesIn(*files[i]), BytesOf(i));
  disk_.Heal();
  files.push_back(Make("now there is room"));
  files.push_back(Make("for some"));
  EXPECT_THAT(Names(), SizeIs(6));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(BytesIn(*files[i]), BytesOf(i));
  ExpectSound();
}

TEST_F(ScratchFileTest, OneThatCannotBeOpenedAgainSaysSo) {
  OpenAtMost(1);
  const FilePtr closed = Make("closed");
  const FilePtr open = Make("open");
  disk_.FailIf([](absl::string_view name) { return name == "Open" ? EIO : 0; });
  EXPECT_EQ(ErrnoOf(closed->Write(0, "x").status()), EIO);
  EXPECT_EQ(ErrnoOf(closed->Publish().status()), EIO);
  EXPECT_EQ(BytesIn(*open), "open");
  disk_.Heal();
  EXPECT_EQ(BytesIn(*closed), "closed");
}

// G8
TEST_F(ScratchFileTest, WhatAKilledDaemonLeavesIsSwept) {
  OpenAtMost(1);
  std::vector<FilePtr> files = MakeMany(3);
  EXPECT_THAT(Names(), SizeIs(2));
  disk_.DieAtNthCall(1);
  files.clear();
  EXPECT_THAT(Names(), SizeIs(2));
  store_.reset();
  disk_.Heal();
  Open();
  EXPECT_THAT(Names(), IsEmpty());
  ExpectSound();
}

TEST_F(ScratchFileTest, ManyThreadsUseThemAtOnce) {
  OpenAtMost(3);
  std::vector<FilePtr> shared = MakeMany(8);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) {
        const FilePtr own = Make(BytesOf(1000 + t));
        EXPECT_EQ(BytesIn(*shared[i % 8]).substr(0, 100), BytesOf(i % 8));
        const std::string last = absl::StrCat(t);
        EXPECT_EQ(*shared[i % 8]->Write(200 + t, last), 1u);
        EXPECT_EQ(BytesIn(*own), BytesOf(1000 + t));
        if (i % 10 == 0) {
          EXPECT_TRUE(own->Publish().ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const FilePtr& file : shared) {
    EXPECT_EQ(BytesIn(*file).substr(200), "0123");
  }
  shared.clear();
  EXPECT_THAT(Names(), IsEmpty());
  ExpectSound();
}

}  // namespace
}  // namespace casement
