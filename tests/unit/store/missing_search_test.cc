#include "store/missing_search.h"

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/blob_fetcher.h"
#include "support/fake_blob_source.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// A blob that nobody has made.
Digest Number(int number) {
  return *Digest::FromParts(absl::StrFormat("%064x", number), 1);
}

class MissingSearchTest : public StoreFixture {
 protected:
  MissingSearchTest() {
    Open();
    fetcher_ =
        std::make_unique<BlobFetcher>(*store_, source_, BlobFetcher::Options{});
  }
  ~MissingSearchTest() override { fetcher_.reset(); }

  FakeBlobSource source_;
  std::unique_ptr<BlobFetcher> fetcher_;
};

TEST_F(MissingSearchTest, FindsWhatNobodyHas) {
  MissingSearch search(*fetcher_);
  search.Add(Number(1));
  search.Add(source_.Add(BytesOf(2)));
  search.Add(MustPut(BytesOf(3)));
  search.Add(Number(4));
  search.Add(Number(1));
  EXPECT_THAT(*search.Finish(), UnorderedElementsAre(Number(1), Number(4)));
  EXPECT_EQ(source_.calls(), 1);
}

TEST_F(MissingSearchTest, AsksNobodyForNothing) {
  MissingSearch search(*fetcher_);
  EXPECT_THAT(*search.Finish(), IsEmpty());
  EXPECT_EQ(source_.calls(), 0);
}

// More than one thread's parts, too: the test ends only if what is added does
// not wait for answers that come while more is added.
TEST_F(MissingSearchTest, AsksForSomeWhileMoreAreAdded) {
  constexpr int kBlobs = 100'000;
  MissingSearch search(*fetcher_);
  for (int i = 0; i < kBlobs; ++i) {
    search.Add(Number(i));
    if (i == kBlobs / 2) source_.WaitForCalls(2);
  }
  EXPECT_EQ((*search.Finish()).size(), kBlobs);
  EXPECT_GT(source_.calls(), 10);
}

TEST_F(MissingSearchTest, AsksForFewWhenItIsTold) {
  MissingSearch search(*fetcher_);
  search.Ask();
  search.Add(Number(1));
  search.Ask();
  source_.WaitForCalls(1);
  search.Add(Number(2));
  EXPECT_THAT(*search.Finish(), UnorderedElementsAre(Number(1), Number(2)));
  EXPECT_EQ(source_.calls(), 2);
}

TEST_F(MissingSearchTest, SaysAnError) {
  source_.SetError(absl::UnavailableError("the cache is gone"));
  MissingSearch search(*fetcher_);
  search.Add(Number(1));
  EXPECT_TRUE(absl::IsUnavailable(search.Finish().status()));
}

TEST_F(MissingSearchTest, EndsInTheMiddle) {
  MissingSearch search(*fetcher_);
  for (int i = 0; i < 10'000; ++i) search.Add(Number(i));
}

}  // namespace
}  // namespace casement
