#include "base/compression.h"

#include <zstd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace casement {
namespace {

// On one host a byte costs less than the time to save it: the fastest level,
// about 500 MB/s a core.
constexpr int kLevel = 1;
constexpr int kWindowLogMax = 23;
static_assert(int64_t{1} << kWindowLogMax == ZstdDecompressor::kWindowBytesMax);
// ZSTD_DStreamOutSize(): a block of zstd's.
constexpr size_t kBlockBytes = size_t{128} << 10;

}  // namespace

ZstdCompressor::ZstdCompressor() : context_(ZSTD_createCCtx()) {
  CASEMENT_CHECK(context_ != nullptr);
  CASEMENT_CHECK(!ZSTD_isError(
      ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, kLevel)));
}

ZstdCompressor::~ZstdCompressor() { ZSTD_freeCCtx(context_); }

void ZstdCompressor::Compress(absl::string_view bytes, bool is_last,
                              std::string& out) {
  ZSTD_inBuffer input = {bytes.data(), bytes.size(), 0};
  const ZSTD_EndDirective end = is_last ? ZSTD_e_end : ZSTD_e_continue;
  for (;;) {
    const size_t before = out.size();
    out.resize(before + kBlockBytes);
    ZSTD_outBuffer output = {out.data() + before, kBlockBytes, 0};
    // Fails only for want of memory.
    const size_t left = ZSTD_compressStream2(context_, &output, &input, end);
    CASEMENT_CHECK(!ZSTD_isError(left));
    out.resize(before + output.pos);
    if (is_last ? left == 0 : input.pos == input.size) return;
  }
}

ZstdDecompressor::ZstdDecompressor()
    : context_(ZSTD_createDCtx()),
      buffer_(std::make_unique<char[]>(kBlockBytes)) {
  CASEMENT_CHECK(context_ != nullptr);
  CASEMENT_CHECK(!ZSTD_isError(
      ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kWindowLogMax)));
}

ZstdDecompressor::~ZstdDecompressor() { ZSTD_freeDCtx(context_); }

absl::Status ZstdDecompressor::Decompress(
    absl::string_view bytes,
    absl::FunctionRef<absl::Status(absl::string_view)> sink) {
  ZSTD_inBuffer input = {bytes.data(), bytes.size(), 0};
  bool may_hold_more = !bytes.empty();
  while (may_hold_more) {
    ZSTD_outBuffer output = {buffer_.get(), kBlockBytes, 0};
    const size_t left = ZSTD_decompressStream(context_, &output, &input);
    if (ZSTD_isError(left)) {
      return absl::InvalidArgumentError(
          absl::StrCat("zstd: ", ZSTD_getErrorName(left)));
    }
    is_complete_ = left == 0;
    if (output.pos > 0) {
      RETURN_IF_ERROR(sink(absl::string_view(buffer_.get(), output.pos)));
    }
    may_hold_more =
        input.pos < input.size || (!is_complete_ && output.pos == output.size);
  }
  return absl::OkStatus();
}

std::string ZstdCompress(absl::string_view bytes) {
  std::string out;
  ZstdCompressor().Compress(bytes, /*is_last=*/true, out);
  return out;
}

absl::StatusOr<std::string> ZstdDecompress(absl::string_view bytes,
                                           int64_t bytes_max) {
  std::string out;
  ZstdDecompressor decompressor;
  RETURN_IF_ERROR(decompressor.Decompress(bytes, [&](absl::string_view piece) {
    if (static_cast<int64_t>(out.size() + piece.size()) > bytes_max) {
      return absl::InvalidArgumentError(
          absl::StrCat("zstd: more than ", bytes_max, " bytes"));
    }
    absl::StrAppend(&out, piece);
    return absl::OkStatus();
  }));
  if (!decompressor.is_complete()) {
    return absl::InvalidArgumentError("zstd: the last frame is cut");
  }
  return out;
}

}  // namespace casement
