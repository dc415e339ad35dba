#include "base/compression.h"

#include <zstd.h>

#include <algorithm>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

using ::testing::HasSubstr;

std::string Text(size_t bytes) {
  std::string text;
  for (int64_t i = 0; text.size() < bytes; ++i) text += std::to_string(i * i);
  text.resize(bytes);
  return text;
}

TEST(Zstd, GivesBackWhatItCompressed) {
  for (const size_t bytes : {0, 1, 1000, 131072, 1'000'000}) {
    const std::string text = Text(bytes);
    const std::string compressed = ZstdCompress(text);
    const auto back = ZstdDecompress(compressed, text.size());
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(*back == text) << bytes;
  }
}

TEST(Zstd, PiecesOfAnySizeAreTheWhole) {
  const std::string text = Text(500'000);
  std::string compressed;
  ZstdCompressor compressor;
  for (size_t at = 0; at < text.size(); at += 7001) {
    compressor.Compress(absl::string_view(text).substr(at, 7001),
                        at + 7001 >= text.size(), compressed);
  }
  std::string back;
  ZstdDecompressor decompressor;
  for (size_t at = 0; at < compressed.size(); at += 13) {
    ASSERT_TRUE(decompressor
                    .Decompress(absl::string_view(compressed).substr(at, 13),
                                [&back](absl::string_view piece) {
                                  EXPECT_LE(piece.size(), 131072u);
                                  back.append(piece.data(), piece.size());
                                  return absl::OkStatus();
                                })
                    .ok());
    EXPECT_EQ(decompressor.is_complete(), at + 13 >= compressed.size());
  }
  EXPECT_TRUE(back == text);
}

TEST(Zstd, FramesFollowEachOther) {
  EXPECT_EQ(*ZstdDecompress(ZstdCompress("one ") + ZstdCompress("two"), 7),
            "one two");
}

TEST(Zstd, ABombEndsWhereItIsSaidTo) {
  const std::string bomb = ZstdCompress(std::string(100'000'000, '\0'));
  EXPECT_LT(bomb.size(), 50'000u);
  const auto back = ZstdDecompress(bomb, 1000);
  EXPECT_TRUE(absl::IsInvalidArgument(back.status())) << back.status();
  EXPECT_THAT(std::string(back.status().message()),
              HasSubstr("more than 1000 bytes"));
}

TEST(Zstd, WhatIsNoneOfItIsInvalid) {
  const std::string compressed = ZstdCompress(Text(1000));
  for (const std::string& wrong :
       {std::string("hello, world"), compressed.substr(0, 100),
        compressed + "more of it"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ZstdDecompress(wrong, 9999).status()));
  }
}

// What it says that it needs is allocated at once, whatever comes then.
TEST(Zstd, WindowsOfMoreThanEightMebibytesAreInvalid) {
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  for (const int log : {23, 24}) {
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, log);
    const std::string text = Text(100);
    std::string out(1000, '\0');
    ZSTD_inBuffer input = {text.data(), text.size(), 0};
    ZSTD_outBuffer output = {out.data(), out.size(), 0};
    // In two steps, so that it does not know how little it is.
    ZSTD_compressStream2(context, &output, &input, ZSTD_e_flush);
    ZSTD_compressStream2(context, &output, &input, ZSTD_e_end);
    out.resize(output.pos);
    EXPECT_EQ(ZstdDecompress(out, 1000).ok(), log == 23) << log;
  }
  ZSTD_freeCCtx(context);
}

TEST(Zstd, TheSinksErrorEndsIt) {
  ZstdDecompressor decompressor;
  int calls = 0;
  const absl::Status status = decompressor.Decompress(
      ZstdCompress(std::string(1'000'000, 'x')), [&calls](absl::string_view) {
        ++calls;
        return absl::ResourceExhaustedError("full");
      });
  EXPECT_EQ(status, absl::ResourceExhaustedError("full"));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace casement
