// zstd (RFC 8878), piece by piece or all at once, in bounded memory.
//
// Of one thread at a time.
#ifndef CASEMENT_BASE_COMPRESSION_H_
#define CASEMENT_BASE_COMPRESSION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace casement {

class ZstdCompressor {
 public:
  ZstdCompressor();
  ~ZstdCompressor();
  ZstdCompressor(const ZstdCompressor&) = delete;
  ZstdCompressor& operator=(const ZstdCompressor&) = delete;

  // Appends to `out` what there is now, which may be nothing. `is_last` ends
  // the frame; what comes after it is in the next one.
  void Compress(absl::string_view bytes, bool is_last, std::string& out);

 private:
  ZSTD_CCtx_s* const context_;
};

class ZstdDecompressor {
 public:
  // A frame may refer to so many bytes before, which are kept in memory: what
  // the levels up to 19 use.
  static constexpr int64_t kWindowBytesMax = int64_t{8} << 20;

  ZstdDecompressor();
  ~ZstdDecompressor();
  ZstdDecompressor(const ZstdDecompressor&) = delete;
  ZstdDecompressor& operator=(const ZstdDecompressor&) = delete;

  // Hands on what `bytes` decompress to, in pieces of at most 128 KiB, however
  // much it is. InvalidArgument if they are not zstd's; or what `sink` says,
  // which ends it.
  absl::Status Decompress(
      absl::string_view bytes,
      absl::FunctionRef<absl::Status(absl::string_view)> sink);
  // Whether all that came so far are whole frames.
  bool is_complete() const { return is_complete_; }

 private:
  ZSTD_DCtx_s* const context_;
  const std::unique_ptr<char[]> buffer_;
  bool is_complete_ = true;
};

std::string ZstdCompress(absl::string_view bytes);
// InvalidArgument if it is not zstd's, is cut, or would be more than
// `bytes_max` bytes.
absl::StatusOr<std::string> ZstdDecompress(absl::string_view bytes,
                                           int64_t bytes_max);

}  // namespace casement

#endif  // CASEMENT_BASE_COMPRESSION_H_
