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

absl::StatusOr<Digest> DigestOf(absl::string_view name, absl::string_view hash,
                                absl::string_view size) {
  const absl::StatusOr<Digest> digest =
      Digest::Parse(absl::StrCat(hash, "-", size));
  if (!digest.ok()) return Malformed(name, digest.status().message());
  return digest;
}

}  // namespace

absl::StatusOr<Digest> ParseReadName(absl::string_view name) {
  RETURN_IF_ERROR(CheckLength(name));
  const Segments segments = absl::StrSplit(name, '/');
  const auto blobs = std::find(segments.begin(), segments.end(), "blobs");
  if (segments.end() - blobs != 3) {
    return Malformed(name, "not [INSTANCE/]blobs/<hash>/<size>");
  }
  return DigestOf(name, blobs[1], blobs[2]);
}

absl::StatusOr<Digest> ParseWriteName(absl::string_view name) {
  RETURN_IF_ERROR(CheckLength(name));
  const Segments segments = absl::StrSplit(name, '/');
  const auto uploads = std::find(segments.begin(), segments.end(), "uploads");
  if (segments.end() - uploads < 5 || uploads[1].empty() ||
      uploads[2] != "blobs") {
    return Malformed(name, "not [INSTANCE/]uploads/<uuid>/blobs/<hash>/<size>");
  }
  return DigestOf(name, uploads[3], uploads[4]);
}

}  // namespace casement
