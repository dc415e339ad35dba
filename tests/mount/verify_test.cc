// `verify` of a store that is in use: damage, repair, quarantine, the ledger.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "mount/data_paths.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

std::string FileOf(const RunningDaemon& daemon, const Digest& digest) {
  const std::string name = digest.ToString();
  return daemon.store() + "/cas/" + name.substr(0, 2) + "/" + name;
}

// One bit, as a bad disk would.
void FlipABit(const std::string& path) {
  std::string bytes = ReadFile(path);
  bytes[bytes.size() / 2] ^= 1;
  const int fd = open(path.c_str(), O_WRONLY);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(pwrite(fd, bytes.data(), bytes.size(), 0),
            static_cast<ssize_t>(bytes.size()));
  close(fd);
}

class Verify : public testing::TestWithParam<std::string> {
 protected:
  std::string View(const Digest& digest) const {
    return daemon_.At("cas/" + digest.ToString());
  }

  RunningDaemon daemon_{{"--data-path", GetParam()}};
};

CASEMENT_IN_BOTH_DATA_PATHS(Verify);

// G9
TEST_P(Verify, FlippedBitIsFoundAndTheBlobGoneFromEveryView) {
  const Digest good = *daemon_.client().Put(std::string(100000, 'g'));
  const Digest bad = *daemon_.client().Put(std::string(100000, 'b'));
  ASSERT_EQ(ReadFile(View(bad)).size(), 100000u);
  FlipABit(FileOf(daemon_, bad));
  EXPECT_EQ(daemon_.Casement({"verify"}).out.find("damaged " + bad.ToString()),
            0u);
  const ProgramResult repair = daemon_.Casement({"verify", "--repair"});
  EXPECT_EQ(repair.exit_status, 1);
  EXPECT_EQ(repair.out.find("damaged " + bad.ToString() + "\n"), 0u);
  EXPECT_FALSE(fs::exists(View(bad)));
  EXPECT_FALSE(fs::exists(View(bad) + ".exec"));
  EXPECT_FALSE(fs::exists(FileOf(daemon_, bad)));
  EXPECT_EQ(ReadFile(View(good)), std::string(100000, 'g'));
  EXPECT_NE(daemon_.log().find(bad.ToString()), std::string::npos)
      << daemon_.log();
  EXPECT_EQ(daemon_.client().Stats()->damaged, 1);
  EXPECT_EQ(daemon_.Casement({"verify"}).exit_status, 0);
  // It can be stored again, and is whole.
  ASSERT_TRUE(daemon_.client().Put(std::string(100000, 'b')).ok());
  EXPECT_EQ(ReadFile(View(bad)), std::string(100000, 'b'));
}

TEST_P(Verify, QuarantineKeepsTheBytesForWhoLooksAtThem) {
  const Digest bad = *daemon_.client().Put(std::string(5000, 'b'));
  FlipABit(FileOf(daemon_, bad));
  const std::string damaged = ReadFile(FileOf(daemon_, bad));
  const std::string folder = daemon_.folder() + "/quarantine";
  fs::create_directory(folder);
  const ProgramResult result =
      daemon_.Casement({"verify", "--quarantine", folder});
  EXPECT_EQ(result.exit_status, 1) << result.err;
  EXPECT_EQ(ReadFile(folder + "/" + bad.ToString()), damaged);
  EXPECT_FALSE(fs::exists(View(bad)));
  for (const std::string& wrong :
       {daemon_.store(), daemon_.mount(), daemon_.At("cas"),
        daemon_.store() + "/cas", folder + "/absent"}) {
    EXPECT_EQ(daemon_.Casement({"verify", "--quarantine", wrong}).exit_status,
              1)
        << wrong;
  }
}

// G3: with blobs that are evicted while open, mapped and running, files being
// written, and uploads.
TEST_P(Verify, LedgerCoversEverythingWhileTheMountIsBusy) {
  std::atomic<bool> stop{false};
  std::atomic<int> rounds{0};
  std::thread worker([&] {
    for (int i = 0; !stop; rounds = ++i) {
      const std::string bytes = "blob " + std::to_string(i) +
                                std::string(static_cast<size_t>(i) * 997, 'x');
      const auto digest = daemon_.client().Put(bytes);
      ASSERT_TRUE(digest.ok()) << digest.status();
      const int fd = open(View(*digest).c_str(), O_RDONLY);
      void* const mapped =
          mmap(nullptr, bytes.size(), PROT_READ, MAP_PRIVATE, fd, 0);
      const auto sandbox = daemon_.client().Create({});
      ASSERT_TRUE(sandbox.ok()) << sandbox.status();
      WriteFile(sandbox->info.path + "/out", bytes);
      EXPECT_TRUE(daemon_.client().Evict({&*digest, 1}).ok());
      EXPECT_EQ(*static_cast<const char*>(mapped), 'b');
      munmap(mapped, bytes.size());
      close(fd);
      EXPECT_TRUE(daemon_.client().Release(sandbox->info.name).ok());
    }
  });
  while (rounds < 50 && !HasFailure()) {
    const auto verified = daemon_.client().Verify({.disk_share_percent = 100});
    EXPECT_TRUE(verified.ok()) << verified.status();
    if (!verified.ok()) break;
    EXPECT_EQ(verified->unaccounted_bytes, 0);
    EXPECT_TRUE(verified->damaged.empty());
  }
  stop = true;
  worker.join();
}

// G23
TEST_P(Verify, SigtermDoesNotWaitForIt) {
  ASSERT_TRUE(daemon_.client().Put(std::string(32 << 20, 'x')).ok());
  const Digest later = *daemon_.client().Put(std::string(5000, 'b'));
  FlipABit(FileOf(daemon_, later));
  std::atomic<bool> has_begun{false};
  absl::Status ended;
  std::unique_ptr<Client> other = *Client::Connect(daemon_.socket());
  std::thread verifier([&] {
    ended = other
                ->Verify({.repair = true, .disk_share_percent = 1},
                         [&](int64_t, int64_t) { has_begun = true; })
                .status();
    has_begun = true;
  });
  while (!has_begun) usleep(1000);
  EXPECT_EQ(daemon_.Stop(), 0);
  verifier.join();
  EXPECT_FALSE(ended.ok());
  EXPECT_TRUE(fs::exists(FileOf(daemon_, later))) << "it went on to its end";
}

}  // namespace
}  // namespace casement
