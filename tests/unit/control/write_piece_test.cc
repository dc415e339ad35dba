#include "control/write_piece.h"

#include <grpcpp/support/slice.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/bytestream/bytestream.pb.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

using google::bytestream::WriteRequest;

// `bytes` as they come from a connection: in slices that end anywhere.
grpc::ByteBuffer Message(absl::string_view bytes,
                         const std::vector<size_t>& ends) {
  std::vector<grpc::Slice> slices;
  size_t begin = 0;
  for (const size_t end : ends) {
    slices.emplace_back(bytes.data() + begin, end - begin);
    begin = end;
  }
  slices.emplace_back(bytes.data() + begin, bytes.size() - begin);
  return {slices.data(), slices.size()};
}

std::string DataOf(const WritePiece& piece) {
  std::string data;
  for (const absl::string_view view : piece.data())
    absl::StrAppend(&data, view);
  EXPECT_EQ(piece.data_bytes(), data.size());
  return data;
}

// What protobuf makes of the same bytes.
void ExpectSameAsProtobuf(absl::string_view bytes,
                          const std::vector<size_t>& ends) {
  WriteRequest expected;
  const bool is_valid =
      expected.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  WritePiece piece;
  grpc::ByteBuffer message = Message(bytes, ends);
  ASSERT_EQ(piece.Parse(message).ok(), is_valid);
  EXPECT_FALSE(message.Valid());
  if (!is_valid) return;
  EXPECT_EQ(piece.resource_name(), expected.resource_name());
  EXPECT_EQ(piece.write_offset(), expected.write_offset());
  EXPECT_EQ(piece.finish_write(), expected.finish_write());
  EXPECT_EQ(DataOf(piece), expected.data());
}

std::string Sample() {
  WriteRequest request;
  request.set_resource_name("uploads/1-2-3/blobs/abc/1234567");
  request.set_write_offset(1234567890123);
  request.set_finish_write(true);
  request.set_data("these are the bytes of a blob, more than a few of them");
  return request.SerializeAsString();
}

TEST(WritePieceTest, SaysWhatProtobufSaysWhereverSlicesEnd) {
  const std::string bytes = Sample();
  ExpectSameAsProtobuf(bytes, {});
  ExpectSameAsProtobuf("", {});
  for (size_t one = 0; one <= bytes.size(); ++one) {
    for (size_t two = one; two <= bytes.size(); ++two) {
      ExpectSameAsProtobuf(bytes, {one, two});
    }
  }
}

TEST(WritePieceTest, AMessageThatIsCutIsNone) {
  const std::string bytes = Sample();
  for (size_t size = 0; size < bytes.size(); ++size) {
    ExpectSameAsProtobuf(absl::string_view(bytes).substr(0, size), {size / 2});
  }
}

TEST(WritePieceTest, UnknownFieldsArePassedOverAndTheLastValueCounts) {
  WriteRequest other;
  other.set_data("other data");
  other.set_write_offset(-1);
  other.GetReflection()->MutableUnknownFields(&other)->AddVarint(20, 300);
  other.GetReflection()->MutableUnknownFields(&other)->AddFixed32(21, 1);
  other.GetReflection()->MutableUnknownFields(&other)->AddFixed64(22, 1);
  *other.GetReflection()->MutableUnknownFields(&other)->AddLengthDelimited(23) =
      "unknown";
  ExpectSameAsProtobuf(other.SerializeAsString() + Sample(), {5, 40});
  ExpectSameAsProtobuf(Sample() + other.SerializeAsString(), {5, 40});
}

// Messages with one byte damaged: garbage for the most part.
TEST(WritePieceTest, SaysOfGarbageWhatProtobufSays) {
  const std::string sample = Sample();
  const std::string name_ends = "1234567";
  // protobuf refuses names that are no UTF-8, and groups are refused here: both
  // are avoided.
  const size_t after_name = sample.find(name_ends) + name_ends.size();
  constexpr uint8_t kNameTag = 1 << 3 | 2;
  for (size_t at = after_name; at < sample.size(); ++at) {
    for (int value = 0; value <= 0xff; ++value) {
      const int wire_type = value & 7;
      if (value == kNameTag || wire_type == 3 || wire_type == 4) continue;
      std::string bytes = sample;
      bytes[at] = static_cast<char>(value);
      SCOPED_TRACE(absl::StrCat(value, " at ", at));
      ExpectSameAsProtobuf(bytes, {at});
    }
  }
}

}  // namespace
}  // namespace casement
