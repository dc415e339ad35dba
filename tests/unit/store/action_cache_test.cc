// Results of actions, on disks and among blobs that fail them.
#include "store/action_cache.h"

#include <atomic>
#include <cerrno>
#include <filesystem>  // NOLINT
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "model/directory.h"
#include "store/missing.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;
using ::testing::HasSubstr;

class ActionCacheTest : public StoreFixture {
 protected:
  ~ActionCacheTest() override { cache_.reset(); }

  absl::Status TryOpenBoth() {
    cache_.reset();
    RETURN_IF_ERROR(TryOpen());
    ActionCache::Options options = cache_options_;
    options.directory = directory_.path();
    options.log = options_.log;
    auto cache = ActionCache::Open(disk_, *store_, options);
    RETURN_IF_ERROR(cache.status());
    cache_ = *std::move(cache);
    return absl::OkStatus();
  }
  void OpenBoth() { ASSERT_EQ(TryOpenBoth(), absl::OkStatus()); }
  void KillBoth() {
    disk_.DieAtNthCall(1);
    cache_.reset();
    store_.reset();
    disk_.Heal();
  }

  static Digest Action(int number) {
    return Digest::Of(absl::StrCat("action ", number));
  }
  static void SetMessage(const Digest& digest, rev2::Digest* message) {
    message->set_hash(digest.HexHash());
    message->set_size_bytes(digest.size_bytes());
  }
  // One with these bytes as its only output.
  rev2::ActionResult ResultOf(const std::string& bytes) {
    rev2::ActionResult result;
    rev2::OutputFile& file = *result.add_output_files();
    file.set_path("out");
    SetMessage(MustPut(bytes), file.mutable_digest());
    result.set_exit_code(static_cast<int>(bytes.size()));
    return result;
  }
  std::string ResultPath(const Digest& action) const {
    return directory_ / ("actions/" + action.ToString());
  }
  size_t FilesOfResults() const {
    size_t files = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator(directory_ / "actions")) {
      ++files;
    }
    return files;
  }
  void ExpectBothSound() {
    cache_->CheckInvariants();
    ExpectSound();
    EXPECT_EQ(store_->ledger().Get(Owner::kScratch), 0);
  }

  ActionCache::Options cache_options_;
  std::unique_ptr<ActionCache> cache_;
};

TEST_F(ActionCacheTest, GivesBackWhatWasPut) {
  OpenBoth();
  EXPECT_EQ(cache_->Get(Action(1)).status(), absl::NotFoundError(""));
  rev2::ActionResult result = ResultOf("output");
  result.set_stdout_raw("hello");
  result.set_execution_metadata("\x0a\x01x");
  ASSERT_EQ(cache_->Put(Action(1), result), absl::OkStatus());
  const auto got = cache_->Get(Action(1));
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->SerializeAsString(), result.SerializeAsString());
  EXPECT_EQ(cache_->Get(Action(2)).status(), absl::NotFoundError(""));
  ExpectBothSound();
}

TEST_F(ActionCacheTest, ALaterResultTakesThePlaceOfTheEarlier) {
  OpenBoth();
  ASSERT_EQ(cache_->Put(Action(1), ResultOf("1")), absl::OkStatus());
  const int64_t bytes = cache_->GetStats().bytes;
  ASSERT_EQ(cache_->Put(Action(1), ResultOf("22")), absl::OkStatus());
  EXPECT_EQ(cache_->Get(Action(1))->exit_code(), 2);
  EXPECT_EQ(cache_->GetStats().results, 1);
  EXPECT_EQ(cache_->GetStats().bytes, bytes);
  EXPECT_EQ(FilesOfResults(), 1u);
  ExpectBothSound();
}

// G23
TEST_F(ActionCacheTest, SurvivesRestartsAndKills) {
  OpenBoth();
  ASSERT_EQ(cache_->Put(Action(1), ResultOf("1")), absl::OkStatus());
  OpenBoth();
  ASSERT_TRUE(cache_->Get(Action(1)).ok());
  ExpectBothSound();
  ASSERT_EQ(cache_->Put(Action(2), ResultOf("22")), absl::OkStatus());
  KillBoth();
  OpenBoth();
  EXPECT_EQ(cache_->Get(Action(1))->exit_code(), 1);
  EXPECT_EQ(cache_->Get(Action(2))->exit_code(), 2);
  ExpectBothSound();
}

TEST_F(ActionCacheTest, AResultWhoseBlobIsGoneIsNone) {
  OpenBoth();
  ASSERT_EQ(cache_->Put(Action(1), ResultOf("output")), absl::OkStatus());
  ASSERT_EQ(store_->Evict(Digest::Of("output")), absl::OkStatus());
  EXPECT_EQ(cache_->Get(Action(1)).status(), absl::NotFoundError(""));
  EXPECT_EQ(cache_->GetStats().results, 0);
  EXPECT_EQ(FilesOfResults(), 0u);
  ExpectBothSound();
}

TEST_F(ActionCacheTest, NamesTheBlobsThatAResultLacks) {
  OpenBoth();
  rev2::ActionResult result = ResultOf("output");
  SetMessage(Digest::Of("absent"), result.mutable_stdout_digest());
  const absl::Status put = cache_->Put(Action(1), result);
  EXPECT_TRUE(absl::IsFailedPrecondition(put)) << put;
  EXPECT_THAT(std::string(put.message()),
              HasSubstr(Digest::Of("absent").ToString()));
  google::rpc::PreconditionFailure failure;
  ASSERT_TRUE(failure.ParseFromString(
      std::string(*put.GetPayload(kPreconditionFailureType))));
  EXPECT_EQ(failure.violations(0).type(), "MISSING");
}

// Everything below an output directory, whichever way it is named.
TEST_F(ActionCacheTest, FilesOfOutputDirectoriesAreBlobsOfTheResult) {
  OpenBoth();
  const Digest file = MustPut("file");
  DirectoryBuilder child;
  child.AddFile("f", file, false);
  const std::string below = child.Build();
  DirectoryBuilder top;
  top.AddDirectory("d", Digest::Of(below));
  const std::string root = top.Build();
  rev2::Tree tree;
  ASSERT_TRUE(tree.mutable_root()->ParseFromString(root));
  ASSERT_TRUE(tree.add_children()->ParseFromString(below));
  const std::string tree_bytes = tree.SerializeAsString();
  for (const int ways : {1, 2, 3}) {
    rev2::ActionResult result;
    rev2::OutputDirectory& output = *result.add_output_directories();
    std::vector<std::string> needed = {"file"};
    if ((ways & 1) != 0) {
      SetMessage(Digest::Of(tree_bytes), output.mutable_tree_digest());
      needed.push_back(tree_bytes);
    }
    if ((ways & 2) != 0) {
      SetMessage(Digest::Of(root), output.mutable_root_directory_digest());
      needed.push_back(root);
      needed.push_back(below);
    }
    for (const std::string& bytes : needed) MustPut(bytes);
    ASSERT_EQ(cache_->Put(Action(1), result), absl::OkStatus()) << ways;
    for (const std::string& bytes : needed) {
      ASSERT_EQ(store_->Evict(Digest::Of(bytes)), absl::OkStatus());
      EXPECT_FALSE(cache_->Put(Action(2), result).ok());
      EXPECT_FALSE(cache_->Get(Action(1)).ok()) << ways;
      MustPut(bytes);
      ASSERT_EQ(cache_->Put(Action(1), result), absl::OkStatus());
      EXPECT_TRUE(cache_->Get(Action(1)).ok()) << ways;
    }
  }
}

TEST_F(ActionCacheTest, MalformedResultsAreInvalid) {
  OpenBoth();
  rev2::ActionResult no_digest;
  no_digest.add_output_files()->set_path("out");
  rev2::ActionResult no_tree;
  no_tree.add_output_directories();
  rev2::ActionResult wrong_tree;
  SetMessage(MustPut("\x0f no Tree"),
             wrong_tree.add_output_directories()->mutable_tree_digest());
  rev2::ActionResult large;
  large.set_stdout_raw(std::string(2 << 20, 'x'));
  for (const rev2::ActionResult& result :
       {no_digest, no_tree, wrong_tree, large}) {
    const absl::Status put = cache_->Put(Action(1), result);
    EXPECT_TRUE(absl::IsInvalidArgument(put)) << put;
    EXPECT_THAT(std::string(put.message()), HasSubstr(Action(1).ToString()));
  }
}

TEST_F(ActionCacheTest, TheLeastRecentlyUsedGoesFirst) {
  cache_options_.results_max = 3;
  OpenBoth();
  const rev2::ActionResult result = ResultOf("x");
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(cache_->Put(Action(i), result), absl::OkStatus());
  }
  EXPECT_TRUE(cache_->Get(Action(0)).ok());
  ASSERT_EQ(cache_->Put(Action(3), result), absl::OkStatus());
  EXPECT_FALSE(cache_->Get(Action(1)).ok());
  for (const int i : {0, 2, 3}) EXPECT_TRUE(cache_->Get(Action(i)).ok()) << i;
  EXPECT_EQ(FilesOfResults(), 3u);
  ExpectBothSound();
  cache_options_.results_max = 1;
  OpenBoth();
  EXPECT_EQ(cache_->GetStats().results, 1);
  EXPECT_TRUE(cache_->Get(Action(3)).ok());
}

TEST_F(ActionCacheTest, BytesHaveALimit) {
  cache_options_.bytes_max = 10 * 4096;
  OpenBoth();
  rev2::ActionResult result = ResultOf("x");
  result.set_stdout_raw(std::string(5000, 'x'));
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(cache_->Put(Action(i), result), absl::OkStatus());
    EXPECT_LE(cache_->GetStats().bytes, 10 * 4096);
    ExpectBothSound();
  }
  EXPECT_EQ(cache_->GetStats().results, 5);
  result.set_stdout_raw(std::string(50'000, 'x'));
  EXPECT_EQ(ErrnoOf(cache_->Put(Action(30), result)), ENOSPC);
  EXPECT_EQ(cache_->GetStats().results, 5);
}

// Blobs in use refresh their place, results among them.
TEST_F(ActionCacheTest, AResultThatIsReadKeepsItsBlobs) {
  OpenBoth();
  ASSERT_EQ(cache_->Put(Action(1), ResultOf(BytesOf(1, 4096))),
            absl::OkStatus());
  for (int i = 2; i < 20; ++i) MustPut(BytesOf(i, 4096));
  ASSERT_TRUE(cache_->Get(Action(1)).ok());
  cache_.reset();
  LimitTo(0);
  MustPut(BytesOf(100, 4096));
  EXPECT_TRUE(store_->Contains(Digest::Of(BytesOf(1, 4096))));
}

TEST_F(ActionCacheTest, TornAndForeignFilesAreNoResults) {
  OpenBoth();
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(cache_->Put(Action(i), ResultOf("x")), absl::OkStatus());
  }
  std::filesystem::resize_file(ResultPath(Action(0)), 20);
  std::filesystem::resize_file(ResultPath(Action(1)), 0);
  // Another action's.
  std::filesystem::remove(ResultPath(Action(2)));
  std::filesystem::copy_file(ResultPath(Action(4)), ResultPath(Action(2)));
  std::filesystem::remove(ResultPath(Action(3)));
  std::filesystem::create_symlink(ResultPath(Action(4)), ResultPath(Action(3)));
  std::ofstream(directory_ / "actions/notes") << "mine";
  std::filesystem::create_directory(ResultPath(Action(9)));
  for (const bool reopen : {true, false}) {
    if (reopen) OpenBoth();
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(cache_->Get(Action(i)).ok(), i == 4) << i;
    }
    ExpectBothSound();
  }
  EXPECT_TRUE(std::filesystem::exists(directory_ / "actions/notes"));
  // What is in the way goes, if it is a file.
  EXPECT_EQ(cache_->Put(Action(3), ResultOf("x")), absl::OkStatus());
  EXPECT_TRUE(cache_->Get(Action(3)).ok());
  EXPECT_FALSE(cache_->Put(Action(9), ResultOf("x")).ok());
  cache_->CheckInvariants();
}

TEST_F(ActionCacheTest, ADirectoryThatIsNoneIsSaid) {
  std::filesystem::create_symlink("/tmp", directory_ / "actions");
  const absl::Status opened = TryOpenBoth();
  EXPECT_THAT(std::string(opened.message()), HasSubstr("actions"));
}

TEST_F(ActionCacheTest, AFullStoreRefusesResults) {
  cache_options_.bytes_max = 1 << 20;
  OpenBoth();
  const rev2::ActionResult result = ResultOf("x");
  cache_.reset();
  LimitTo(0);
  OpenBoth();
  const auto lease = store_->LeaseBlob(Digest::Of("x"));
  EXPECT_EQ(ErrnoOf(cache_->Put(Action(1), result)), ENOSPC);
  EXPECT_EQ(FilesOfResults(), 0u);
  ExpectBothSound();
}

TEST_F(ActionCacheTest, AResultThatIsReplacedIsAlwaysThere) {
  OpenBoth();
  const std::vector<rev2::ActionResult> results = {ResultOf("1"),
                                                   ResultOf("22")};
  ASSERT_EQ(cache_->Put(Action(1), results[0]), absl::OkStatus());
  std::atomic<bool> is_over = false;
  std::thread reader([&] {
    while (!is_over) EXPECT_TRUE(cache_->Get(Action(1)).ok());
  });
  for (int i = 0; i < 500; ++i) {
    EXPECT_EQ(cache_->Put(Action(1), results[i % 2]), absl::OkStatus());
  }
  is_over = true;
  reader.join();
  ExpectBothSound();
}

// G3
TEST_F(ActionCacheTest, AResultThatCanNeitherTakeItsPlaceNorGoIsAccounted) {
  OpenBoth();
  const rev2::ActionResult before = ResultOf("1");
  const rev2::ActionResult after = ResultOf("22");
  ASSERT_EQ(cache_->Put(Action(1), before), absl::OkStatus());
  disk_.FailIf([](absl::string_view name) {
    return name == "Rename" || name == "Unlink" ? EIO : 0;
  });
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(cache_->Put(Action(1), after).ok());
    ExpectBothSound();
  }
  EXPECT_EQ(FilesOfResults(), 2u);
  disk_.Heal();
  EXPECT_EQ(cache_->Get(Action(1))->exit_code(), 1);
  OpenBoth();
  EXPECT_EQ(FilesOfResults(), 1u);
  ASSERT_EQ(cache_->Put(Action(1), after), absl::OkStatus());
  EXPECT_EQ(cache_->Get(Action(1))->exit_code(), 2);
  ExpectBothSound();
}

TEST_F(ActionCacheTest, ThreadsPutGetAndEvict) {
  cache_options_.results_max = 8;
  OpenBoth();
  std::vector<rev2::ActionResult> results;
  for (int i = 0; i < 4; ++i) results.push_back(ResultOf(BytesOf(i)));
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 200; ++i) {
        const Digest action = Action((thread + i) % 12);
        const int which = (thread + i) % 12 % 4;
        if (i % 3 == 0) {
          store_->Put(Digest::Of(BytesOf(which)), BytesOf(which)).IgnoreError();
          cache_->Put(action, results[which]).IgnoreError();
        } else if (i % 50 == 1) {
          store_->Evict(Digest::Of(BytesOf(which))).IgnoreError();
        } else if (const auto got = cache_->Get(action); got.ok()) {
          EXPECT_EQ(got->SerializeAsString(),
                    results[which].SerializeAsString());
        } else {
          EXPECT_EQ(got.status(), absl::NotFoundError(""));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectBothSound();
}

struct Fault {
  const char* name;
  int error_number;  // 0: a short write or read.
};

class ActionCacheFaults : public ActionCacheTest,
                          public ::testing::WithParamInterface<Fault> {
 protected:
  void Sweep(const std::function<void()>& act,
             const std::function<void()>& check) {
    for (int nth = 1;; ++nth) {
      ASSERT_LT(nth, 1000);
      if (GetParam().error_number == 0) {
        disk_.ShortenNthCall(nth);
      } else {
        disk_.FailNthCall(nth, GetParam().error_number);
      }
      act();
      const bool is_through = disk_.calls() < nth;
      disk_.Heal();
      SCOPED_TRACE(absl::StrCat("call ", nth, ": ", GetParam().name));
      check();
      if (HasFatalFailure() || is_through) return;
    }
  }
};

// G3, G8
TEST_P(ActionCacheFaults, APutThatFailsLeavesNothingAndTheNextWorks) {
  OpenBoth();
  const rev2::ActionResult before = ResultOf("1");
  const rev2::ActionResult after = ResultOf("22");
  // On a full disk a blob goes for a result: not one of its own.
  MustPut(BytesOf(1));
  absl::Status put;
  for (const bool is_there : {false, true}) {
    Sweep(
        [&] {
          if (is_there) cache_->Put(Action(1), before).IgnoreError();
          put = cache_->Put(Action(1), after);
        },
        [&] {
          ExpectBothSound();
          EXPECT_EQ(FilesOfResults(),
                    static_cast<size_t>(cache_->GetStats().results));
          const auto got = cache_->Get(Action(1));
          if (put.ok()) {
            ASSERT_TRUE(got.ok()) << got.status();
            EXPECT_EQ(got->exit_code(), 2);
          }
          ASSERT_EQ(cache_->Put(Action(1), after), absl::OkStatus());
          EXPECT_EQ(cache_->Get(Action(1))->exit_code(), 2);
          OpenBoth();
          EXPECT_EQ(cache_->Get(Action(1))->exit_code(), 2);
          std::filesystem::remove(ResultPath(Action(1)));
          EXPECT_FALSE(cache_->Get(Action(1)).ok());
          MustPut(BytesOf(1));
        });
  }
}

TEST_P(ActionCacheFaults, AReadThatFailsHarmsNothing) {
  OpenBoth();
  ASSERT_EQ(cache_->Put(Action(1), ResultOf("1")), absl::OkStatus());
  absl::StatusOr<rev2::ActionResult> got;
  Sweep([&] { got = cache_->Get(Action(1)); },
        [&] {
          if (!got.ok()) {
            EXPECT_EQ(ErrnoOf(got.status()), GetParam().error_number);
          }
          EXPECT_TRUE(cache_->Get(Action(1)).ok());
          ExpectBothSound();
        });
}

// G23
TEST_P(ActionCacheFaults, AStartThatFailsLosesNothing) {
  OpenBoth();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(cache_->Put(Action(i), ResultOf("x")), absl::OkStatus());
  }
  absl::Status opened;
  Sweep(
      [&] {
        cache_.reset();
        auto cache =
            ActionCache::Open(disk_, *store_, {.directory = directory_.path()});
        opened = cache.status();
      },
      [&] {
        OpenBoth();
        for (int i = 0; i < 3; ++i) {
          EXPECT_TRUE(cache_->Get(Action(i)).ok()) << opened;
        }
        ExpectBothSound();
      });
}

TEST_P(ActionCacheFaults, AnEvictionThatFailsIsAccounted) {
  cache_options_.results_max = 2;
  OpenBoth();
  const rev2::ActionResult result = ResultOf("x");
  int next = 0;
  for (; next < 2; ++next) {
    ASSERT_EQ(cache_->Put(Action(next), result), absl::OkStatus());
  }
  Sweep([&] { cache_->Put(Action(next), result).IgnoreError(); },
        [&] {
          ++next;
          ExpectBothSound();
          EXPECT_EQ(FilesOfResults(),
                    static_cast<size_t>(cache_->GetStats().results));
        });
}

INSTANTIATE_TEST_SUITE_P(AllKinds, ActionCacheFaults,
                         ::testing::Values(Fault{"no_space", ENOSPC},
                                           Fault{"io_error", EIO},
                                           Fault{"no_descriptors", EMFILE},
                                           Fault{"short", 0}),
                         [](const ::testing::TestParamInfo<Fault>& info) {
                           return std::string(info.param.name);
                         });

// G9, G23
TEST_F(ActionCacheTest, AKillAtAnyCallKeepsWhatWasAcknowledged) {
  for (int nth = 1;; ++nth) {
    ASSERT_LT(nth, 1000);
    OpenBoth();
    const rev2::ActionResult result = ResultOf("x");
    disk_.DieAtNthCall(nth);
    std::vector<int> acknowledged;
    for (int i = 0; i < 3; ++i) {
      if (cache_->Put(Action(nth * 10 + i), result).ok()) {
        acknowledged.push_back(nth * 10 + i);
      }
    }
    const bool is_through = disk_.calls() < nth;
    KillBoth();
    OpenBoth();
    for (const int action : acknowledged) {
      EXPECT_TRUE(cache_->Get(Action(action)).ok()) << nth;
    }
    ExpectBothSound();
    if (is_through) break;
  }
}

}  // namespace
}  // namespace casement
