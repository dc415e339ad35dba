#include "control/resource_name.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace casement {
namespace {

using Segments = std::vector<absl::string_view>;

absl::Status Malformed(absl::string_view name, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "resource name ", absl::Utf8SafeCEscape(name.substr(0, 256)), ": ", why));
}

absl::Status CheckLength(absl::string_view name) {
  if (name.size() <= kResourceNameBytesMax) return absl::OkStatus();
  return Malformed(
      name, absl::StrCat("longer than ", kResourceNameBytesMax, " bytes"));
}

using Place = Segments::const_iterator;

bool IsBlobs(absl::string_view segment) {
  return segment == "blobs" || segment == "compressed-blobs";
}

// How many segments name the blob, from "blobs" or "compressed-blobs" on.
int SegmentsFrom(Place blobs) { return *blobs == "blobs" ? 3 : 4; }

// All of them are there.
absl::StatusOr<ResourceName> NameFrom(absl::string_view name, Place blobs) {
  const bool is_compressed = *blobs != "blobs";
  if (is_compressed && blobs[1] != "zstd") {
    return Malformed(name, "the only compressor is zstd");
  }
  const Place hash = blobs + (is_compressed ? 2 : 1);
  const absl::StatusOr<Digest> digest =
      Digest::Parse(absl::StrCat(hash[0], "-", hash[1]));
  if (!digest.ok()) return Malformed(name, digest.status().message());
  return ResourceName{.digest = *digest, .is_zstd = is_compressed};
}

}  // namespace

absl::StatusOr<ResourceName> ParseReadName(absl::string_view name) {
  RETURN_IF_ERROR(CheckLength(name));
  const Segments segments = absl::StrSplit(name, '/');
  const Place blobs = std::find_if(segments.begin(), segments.end(), IsBlobs);
  if (blobs == segments.end() ||
      segments.end() - blobs != SegmentsFrom(blobs)) {
    return Malformed(
        name,
        "not [INSTANCE/]blobs/<hash>/<size>, nor with compressed-blobs/zstd");
  }
  return NameFrom(name, blobs);
}

absl::StatusOr<ResourceName> ParseWriteName(absl::string_view name) {
  RETURN_IF_ERROR(CheckLength(name));
  const Segments segments = absl::StrSplit(name, '/');
  const Place uploads = std::find(segments.begin(), segments.end(), "uploads");
  if (segments.end() - uploads < 3 || uploads[1].empty() ||
      !IsBlobs(uploads[2]) ||
      segments.end() - uploads < 2 + SegmentsFrom(uploads + 2)) {
    return Malformed(name,
                     "not [INSTANCE/]uploads/<uuid>/blobs/<hash>/<size>, nor "
                     "with compressed-blobs/zstd");
  }
  return NameFrom(name, uploads + 2);
}

}  // namespace casement
