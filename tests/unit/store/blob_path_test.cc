#include "store/blob_path.h"

#include "casement/digest.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

TEST(BlobPath, StartsWithTheFirstByteOfTheHash) {
  EXPECT_EQ(BlobPath(Digest()),
            "e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b"
            "855-0");
  EXPECT_EQ(ShardName(7), "07");
}

TEST(BlobPath, ANameIsABlobsInItsOwnShardOnly) {
  const Digest digest = Digest::Of("hello");
  EXPECT_EQ(BlobOfName(ShardOf(digest), digest.ToString()), digest);
  EXPECT_FALSE(BlobOfName(ShardOf(digest) ^ 1, digest.ToString()).has_value());
  EXPECT_FALSE(
      BlobOfName(ShardOf(digest), digest.ToString() + ".exec").has_value());
}

TEST(BlobPath, ShardNamesAreTwoLowerCaseHexDigits) {
  EXPECT_TRUE(IsShardName("0f"));
  EXPECT_FALSE(IsShardName("0F"));
  EXPECT_FALSE(IsShardName("0"));
  EXPECT_FALSE(IsShardName("0ff"));
  EXPECT_FALSE(IsShardName("zz"));
}

}  // namespace
}  // namespace casement
