// Threads that put, open, lease, evict and publish the same few blobs again:
// whatever the order, everybody reads the digest's bytes, and at the end every
// byte is accounted for. Worth most under ThreadSanitizer.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/blob_store.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int kThreads = 4;

class BlobStoreRaces : public StoreFixture {
 protected:
  template <typename Act>
  void InThreads(Act act) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) threads.emplace_back(act, i);
    for (std::thread& thread : threads) thread.join();
  }

  static void ExpectBytes(const OpenBlob& blob, const std::string& bytes) {
    std::string read(bytes.size() + 1, '\0');
    const ssize_t count = pread(blob.fd(), read.data(), read.size(), 0);
    ASSERT_EQ(count, static_cast<ssize_t>(bytes.size()));
    read.resize(bytes.size());
    ASSERT_EQ(read, bytes);
    struct stat attributes;
    ASSERT_EQ(fstat(blob.fd(), &attributes), 0);
    ASSERT_EQ(attributes.st_mode & 07777, 0444u);
  }
};

// G2, G3, G4, G11, G12
TEST_F(BlobStoreRaces, EverythingAtOnceOverFewBlobs) {
  constexpr int kBlobs = 6;
  constexpr int kSteps = 1500;
  options_.open_blobs_max = 3;
  Open();
  std::vector<std::string> bytes;
  std::vector<Digest> digests;
  for (int i = 0; i < kBlobs; ++i) {
    bytes.push_back(BytesOf(i, 3000 + 1000 * i));
    digests.push_back(Digest::Of(bytes.back()));
  }
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  InThreads([&](int thread) {
    std::minstd_rand random(seed + thread);
    std::vector<BlobRef> refs;
    std::vector<Lease> leases;
    std::vector<std::shared_ptr<const OpenBlob>> blobs;
    for (int step = 0; step < kSteps; ++step) {
      const int i = random() % kBlobs;
      switch (random() % 9) {
        case 0:
        case 1:
          EXPECT_EQ(store_->Put(digests[i], bytes[i]), absl::OkStatus());
          break;
        case 2:
        case 3: {
          auto blob = store_->OpenDigest(digests[i]);
          if (blob.ok()) {
            ExpectBytes(**blob, bytes[i]);
            blobs.push_back(*std::move(blob));
          } else {
            EXPECT_TRUE(absl::IsNotFound(blob.status())) << blob.status();
          }
          break;
        }
        case 4: {
          auto ref = store_->Ref(digests[i]);
          if (!ref.ok()) break;
          store_->Evict(digests[i]).IgnoreError();
          const auto blob = ref->Open();
          ASSERT_TRUE(blob.ok()) << blob.status();
          ExpectBytes(**blob, bytes[i]);
          refs.push_back(*std::move(ref));
          break;
        }
        case 5: {
          const absl::Status evicted = store_->Evict(digests[i]);
          EXPECT_FALSE(ErrnoOf(evicted).has_value()) << evicted;
          break;
        }
        case 6: {
          auto lease = store_->LeaseBlob(digests[i]);
          if (!lease.ok()) break;
          // While it is leased it stays.
          EXPECT_TRUE(store_->OpenDigest(digests[i]).ok());
          leases.push_back(*std::move(lease));
          break;
        }
        case 7:
          if (random() % 8 == 0) store_->EvictUnleased();
          leases.clear();
          refs.clear();
          break;
        case 8:
          blobs.clear();
          if (random() % 64 == 0) {
            EXPECT_EQ(store_->Sync(), absl::OkStatus());
          }
          store_->CheckInvariants();
          break;
      }
    }
  });
  store_->CheckInvariants();
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
  store_->EvictUnleased();
  EXPECT_EQ(store_->ledger().Get(Owner::kBlobs), 0);
  EXPECT_EQ(store_->ledger().Get(Owner::kZombies), 0);
  EXPECT_EQ(store_->ledger().Get(Owner::kUploads), 0);
  EXPECT_THAT(FilesOnDisk(), IsEmpty());
  EXPECT_THAT(Log(), IsEmpty());
  ASSERT_EQ(store_->Sync(), absl::OkStatus());
  EXPECT_EQ(store_->ledger().Total(), Allocated());
}

// G3, G8, G16
TEST_F(BlobStoreRaces, ManyWritersOfAFullStoreStayWithinItsCapacity) {
  Open();
  MustPut(BytesOf(0, 4096));
  LimitTo(2 << 20);
  std::atomic<bool> is_done{false};
  // Each writer may be about to add a name to a directory.
  const int64_t bound = options_.capacity_bytes + kThreads * 4 * 4096;
  std::thread watcher([&] {
    while (!is_done.load()) EXPECT_LE(store_->ledger().Total(), bound);
  });
  InThreads([&](int thread) {
    for (int i = 0; i < 60; ++i) {
      const std::string bytes = BytesOf(thread * 1000 + i, 60'000);
      EXPECT_EQ(store_->Put(Digest::Of(bytes), bytes), absl::OkStatus());
    }
  });
  is_done.store(true);
  watcher.join();
  EXPECT_GT(store_->GetStats().evictions, 100);
  ExpectSound();
}

// G8
TEST_F(BlobStoreRaces, ConcurrentPutsOfOneBlobPublishItOnce) {
  Open();
  std::atomic<int> published{0};
  store_->SetListener({.published = [&](const Digest&) { ++published; }});
  const std::string bytes = BytesOf(1, 100'000);
  InThreads([&](int) {
    EXPECT_EQ(store_->Put(Digest::Of(bytes), bytes), absl::OkStatus());
  });
  EXPECT_EQ(published.load(), 1);
  EXPECT_EQ(store_->GetStats().published, 1);
  EXPECT_THAT(FilesOnDisk(), SizeIs(1));
  EXPECT_EQ(store_->ledger().Get(Owner::kUploads), 0);
  store_->SetListener({});
}

// The published race: a blob is evicted, and published again, while it is being
// opened. Each step of the opener in turn is where it happens. G2, G4
TEST_F(BlobStoreRaces, EvictionAtAnyStepOfAnOpenIsHarmless) {
  Open();
  const std::string bytes = BytesOf(1, 5000);
  const Digest digest = Digest::Of(bytes);
  for (const bool is_put_again : {false, true}) {
    for (int at = 1; at <= 3; ++at) {
      MustPut(bytes);
      int call = 0;
      bool is_busy = false;
      disk_.BeforeEach([&](absl::string_view) {
        if (is_busy || ++call != at) return;
        is_busy = true;
        ASSERT_EQ(store_->Evict(digest), absl::OkStatus());
        if (is_put_again) MustPut(bytes);
        is_busy = false;
      });
      {
        auto blob = store_->OpenDigest(digest);
        disk_.BeforeEach(nullptr);
        ASSERT_TRUE(blob.ok()) << blob.status();
        ExpectBytes(**blob, bytes);
        store_->CheckInvariants();
      }
      store_->EvictUnleased();
      EXPECT_EQ(store_->ledger().Get(Owner::kZombies), 0);
      EXPECT_EQ(store_->ledger().Get(Owner::kBlobs), 0);
      EXPECT_THAT(FilesOnDisk(), IsEmpty());
    }
  }
}

}  // namespace
}  // namespace casement
