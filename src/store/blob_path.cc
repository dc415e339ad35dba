#include "store/blob_path.h"

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "casement/digest.h"

namespace casement {

std::string ShardName(size_t shard) {
  return absl::StrCat(absl::Hex(shard, absl::kZeroPad2));
}

bool IsShardName(absl::string_view name) {
  return name.size() == 2 &&
         name.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

std::string BlobPath(const Digest& digest) {
  return absl::StrCat(ShardName(ShardOf(digest)), "/", digest.ToString());
}

std::optional<Digest> BlobOfName(size_t shard, absl::string_view name) {
  const absl::StatusOr<Digest> digest = Digest::Parse(name);
  if (!digest.ok() || ShardOf(*digest) != shard) return std::nullopt;
  return *digest;
}

}  // namespace casement
