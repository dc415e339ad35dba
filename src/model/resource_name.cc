#include "model/resource_name.h"

#include <algorithm>
#include <array>
#include <random>
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

// A random one: version 4 of RFC 4122.
std::string NewUuid() {
  std::random_device random;
  std::array<char, 16> bytes;
  for (char& byte : bytes) byte = static_cast<char>(random());
  bytes[6] = static_cast<char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<char>((bytes[8] & 0x3f) | 0x80);
  const std::string hex = absl::BytesToHexString({bytes.data(), bytes.size()});
  const absl::string_view all = hex;
  return absl::StrCat(all.substr(0, 8), "-", all.substr(8, 4), "-",
                      all.substr(12, 4), "-", all.substr(16, 4), "-",
                      all.substr(20));
}

std::string Prefix(absl::string_view instance) {
  return instance.empty() ? "" : absl::StrCat(instance, "/");
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

std::string ReadName(const ResourceName& blob, absl::string_view instance) {
  return absl::StrCat(Prefix(instance),
                      blob.is_zstd ? "compressed-blobs/zstd/" : "blobs/",
                      blob.digest.HexHash(), "/", blob.digest.size_bytes());
}

std::string WriteName(const ResourceName& blob, absl::string_view instance) {
  return absl::StrCat(Prefix(instance), "uploads/", NewUuid(), "/",
                      ReadName(blob));
}

}  // namespace casement
