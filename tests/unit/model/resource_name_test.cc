#include "model/resource_name.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

std::string Blob() {
  return absl::StrCat("blobs/", Digest::Of("hello").HexHash(), "/5");
}

TEST(ResourceName, MayHaveAnInstanceOfAnyDepth) {
  for (const char* instance : {"", "main/", "a/b/c/"}) {
    EXPECT_EQ(ParseReadName(absl::StrCat(instance, Blob()))->digest,
              Digest::Of("hello"));
    EXPECT_EQ(
        ParseWriteName(absl::StrCat(instance, "uploads/u-u/", Blob()))->digest,
        Digest::Of("hello"));
  }
}

TEST(ResourceName, SaysHowTheBytesTravel) {
  const std::string hash = Digest::Of("hello").HexHash();
  const std::string zstd = absl::StrCat("compressed-blobs/zstd/", hash, "/5");
  EXPECT_FALSE(ParseReadName(Blob())->is_zstd);
  EXPECT_FALSE(ParseWriteName(absl::StrCat("uploads/u/", Blob()))->is_zstd);
  for (const char* const suffix : {"", "/meta/data"}) {
    const auto name =
        ParseWriteName(absl::StrCat("i/uploads/u/", zstd, suffix));
    ASSERT_TRUE(name.ok()) << name.status();
    EXPECT_TRUE(name->is_zstd);
    EXPECT_EQ(name->digest, Digest::Of("hello"));
  }
  ASSERT_TRUE(ParseReadName(absl::StrCat("i/", zstd)).ok());
  EXPECT_TRUE(ParseReadName(absl::StrCat("i/", zstd))->is_zstd);
  EXPECT_EQ(ParseReadName(zstd)->digest, Digest::Of("hello"));
}

TEST(ResourceName, OfAnUploadMayHaveMetadata) {
  EXPECT_TRUE(
      ParseWriteName(absl::StrCat("uploads/u/", Blob(), "/src/a.cc")).ok());
}

TEST(ResourceName, OfAnotherKindIsInvalid) {
  const std::string hash = Digest::Of("hello").HexHash();
  for (const std::string& name :
       {std::string(), std::string("blobs"), absl::StrCat("blobs/", hash),
        absl::StrCat("blobs/", hash, "/5/more"),
        absl::StrCat("blobs/", hash, "/+5"), absl::StrCat("blobs/", hash, "/"),
        absl::StrCat("blobs/", hash, "/05"), absl::StrCat("blobs//5"),
        absl::StrCat("compressed-blobs/", hash, "/5"),
        absl::StrCat("compressed-blobs/lzma/", hash, "/5"),
        absl::StrCat("compressed-blobs/zstd/", hash),
        std::string("compressed-blobs"), std::string("compressed-blobs/zstd"),
        std::string(5000, '/')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseReadName(name).status())) << name;
    EXPECT_TRUE(
        absl::IsInvalidArgument(
            ParseWriteName(absl::StrCat("uploads/u/", name)).status()) ||
        name == absl::StrCat("blobs/", hash, "/5/more"))
        << name;
  }
  EXPECT_FALSE(ParseWriteName(Blob()).ok());
  EXPECT_FALSE(ParseWriteName(absl::StrCat("uploads//", Blob())).ok());
  EXPECT_FALSE(ParseWriteName(absl::StrCat("uploads/u/v/", Blob())).ok());
}

TEST(ResourceName, IsParsedAsItWasMade) {
  for (const char* const instance : {"", "main", "a/b"}) {
    for (const bool is_zstd : {false, true}) {
      const ResourceName blob = {.digest = Digest::Of("hello"),
                                 .is_zstd = is_zstd};
      const auto read = ParseReadName(ReadName(blob, instance));
      ASSERT_TRUE(read.ok()) << read.status();
      EXPECT_EQ(read->digest, blob.digest);
      EXPECT_EQ(read->is_zstd, is_zstd);
      const auto written = ParseWriteName(WriteName(blob, instance));
      ASSERT_TRUE(written.ok()) << written.status();
      EXPECT_EQ(written->digest, blob.digest);
      EXPECT_EQ(written->is_zstd, is_zstd);
    }
  }
  EXPECT_EQ(ReadName({.digest = Digest::Of("hello")}), Blob());
}

TEST(ResourceName, NoTwoUploadsHaveTheSame) {
  const ResourceName blob = {.digest = Digest::Of("hello")};
  EXPECT_NE(WriteName(blob), WriteName(blob));
}

TEST(ResourceName, OfTooManyBytesIsInvalid) {
  const std::string most(4096 - Blob().size() - 1, 'i');
  EXPECT_TRUE(ParseReadName(absl::StrCat(most, "/", Blob())).ok());
  EXPECT_FALSE(ParseReadName(absl::StrCat(most, "i/", Blob())).ok());
}

}  // namespace
}  // namespace casement
