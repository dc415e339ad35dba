#include "remote/remote_headers.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace casement {
namespace {

// What a peer takes in all by default (gRPC: 8 KiB), with room for gRPC's own.
constexpr size_t kHeadersBytesMax = 6 << 10;

// HTTP/2 and gRPC fill these in.
constexpr std::array<absl::string_view, 6> kTaken = {
    "connection", "content-type",      "host",
    "te",         "transfer-encoding", "user-agent"};

absl::Status CheckName(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("the name is missing");
  const bool is_fine = std::all_of(name.begin(), name.end(), [](char byte) {
    return absl::ascii_isalnum(byte) || byte == '-' || byte == '_' ||
           byte == '.';
  });
  if (!is_fine) {
    return absl::InvalidArgumentError(
        "a name has letters, digits, '-', '_' and '.'");
  }
  if (absl::StartsWith(name, "grpc-") ||
      std::find(kTaken.begin(), kTaken.end(), name) != kTaken.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("header ", name, " is gRPC's own"));
  }
  if (absl::EndsWith(name, "-bin")) {
    return absl::InvalidArgumentError(
        absl::StrCat("header ", name, ": binary headers are not supported"));
  }
  return absl::OkStatus();
}

absl::Status AddLine(absl::string_view line, RemoteHeaders& headers) {
  const size_t colon = line.find(':');
  if (colon == absl::string_view::npos) {
    return absl::InvalidArgumentError("not NAME: VALUE");
  }
  const std::string name = absl::AsciiStrToLower(
      absl::StripTrailingAsciiWhitespace(line.substr(0, colon)));
  RETURN_IF_ERROR(CheckName(name));
  const absl::string_view value =
      absl::StripAsciiWhitespace(line.substr(colon + 1));
  if (!std::all_of(value.begin(), value.end(), absl::ascii_isprint)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "header ", name, ": its value has bytes that are not printable ASCII"));
  }
  headers.emplace_back(name, value);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RemoteHeaders> ParseRemoteHeaders(absl::string_view text) {
  if (text.size() > kHeadersBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", kHeadersBytesMax, " bytes"));
  }
  RemoteHeaders headers;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    RETURN_IF_ERROR(Annotate(AddLine(line, headers), "line ", number));
  }
  return headers;
}

}  // namespace casement
