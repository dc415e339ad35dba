#include "control/write_piece.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <limits>

#include "google/bytestream/bytestream.pb.h"
#include "google/protobuf/io/coded_stream.h"

namespace casement {
namespace {

using google::bytestream::WriteRequest;
using google::protobuf::io::CodedInputStream;

// How a field stands in a message: the lower bits of its tag (protobuf's
// encoding).
enum WireType : uint32_t {
  kVarint = 0,
  kFixed64 = 1,
  kBytes = 2,
  kFixed32 = 5,
};
constexpr uint32_t kWireTypeMask = 7;
constexpr uint32_t kSmallestTag = 1 << 3;  // Fields count from 1.

constexpr uint32_t TagOf(int field, WireType type) {
  return static_cast<uint32_t>(field) << 3 | type;
}

bool ReadSize(CodedInputStream& input, int& size) {
  uint32_t value = 0;
  if (!input.ReadVarint32(&value)) return false;
  size = static_cast<int>(value);
  return value <= std::numeric_limits<int>::max();
}

bool SkipField(CodedInputStream& input, uint32_t tag) {
  if (tag < kSmallestTag) return false;
  uint64_t ignored = 0;
  int size = 0;
  switch (tag & kWireTypeMask) {
    case kVarint:
      return input.ReadVarint64(&ignored);
    case kFixed64:
      return input.Skip(sizeof(uint64_t));
    case kBytes:
      return ReadSize(input, size) && input.Skip(size);
    case kFixed32:
      return input.Skip(sizeof(uint32_t));
    default:
      return false;  // Groups, which nobody sends any more.
  }
}

// Appends views of the next `size` bytes.
bool ViewBytes(CodedInputStream& input, int size,
               std::vector<absl::string_view>& views) {
  while (size > 0) {
    const void* bytes = nullptr;
    int count = 0;
    if (!input.GetDirectBufferPointer(&bytes, &count)) return false;
    count = std::min(count, size);
    views.emplace_back(static_cast<const char*>(bytes), count);
    size -= count;
    if (!input.Skip(count)) return false;
  }
  return true;
}

}  // namespace

grpc::Status WritePiece::Parse(grpc::ByteBuffer& message) {
  message_.Clear();
  message_.Swap(&message);
  resource_name_.clear();
  write_offset_ = 0;
  finish_write_ = false;
  data_.clear();
  data_bytes_ = 0;
  if (ParseFields()) return grpc::Status::OK;
  return {grpc::StatusCode::INTERNAL, "no WriteRequest"};
}

// The last of several values of a field counts.
bool WritePiece::ParseFields() {
  grpc::ProtoBufferReader reader(&message_);
  if (!reader.status().ok()) return false;
  CodedInputStream input(&reader);
  while (const uint32_t tag = input.ReadTag()) {
    uint64_t value = 0;
    int size = 0;
    switch (tag) {
      case TagOf(WriteRequest::kResourceNameFieldNumber, kBytes):
        if (!ReadSize(input, size)) return false;
        if (!input.ReadString(&resource_name_, size)) return false;
        break;
      case TagOf(WriteRequest::kWriteOffsetFieldNumber, kVarint):
        if (!input.ReadVarint64(&value)) return false;
        write_offset_ = static_cast<int64_t>(value);
        break;
      case TagOf(WriteRequest::kFinishWriteFieldNumber, kVarint):
        if (!input.ReadVarint64(&value)) return false;
        finish_write_ = value != 0;
        break;
      case TagOf(WriteRequest::kDataFieldNumber, kBytes):
        if (!ReadSize(input, size)) return false;
        data_.clear();
        data_bytes_ = size;
        if (!ViewBytes(input, size, data_)) return false;
        break;
      default:
        if (!SkipField(input, tag)) return false;
    }
  }
  return input.ConsumedEntireMessage();
}

}  // namespace casement
