// A WriteRequest of ByteStream whose data stay where gRPC received them: one
// copy less of each byte that is uploaded than in protobuf's message.
//
// Of one thread at a time.
#ifndef CASEMENT_CONTROL_WRITE_PIECE_H_
#define CASEMENT_CONTROL_WRITE_PIECE_H_

#include <grpcpp/impl/serialization_traits.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace casement {

class WritePiece {
 public:
  WritePiece() = default;
  WritePiece(const WritePiece&) = delete;
  WritePiece& operator=(const WritePiece&) = delete;

  // Becomes what `message` says, which is empty then. Internal, as gRPC says it
  // of other messages, if that is no WriteRequest; this is lost then.
  grpc::Status Parse(grpc::ByteBuffer& message);

  const std::string& resource_name() const { return resource_name_; }
  int64_t write_offset() const { return write_offset_; }
  bool finish_write() const { return finish_write_; }
  // One after the other, they are the data.
  absl::Span<const absl::string_view> data() const { return data_; }
  int64_t data_bytes() const { return data_bytes_; }

 private:
  bool ParseFields();

  grpc::ByteBuffer message_;  // Holds what `data_` shows.
  std::string resource_name_;
  int64_t write_offset_ = 0;
  bool finish_write_ = false;
  std::vector<absl::string_view> data_;
  int64_t data_bytes_ = 0;
};

}  // namespace casement

// How gRPC reads messages of a type that is not protobuf's.
template <>
class grpc::SerializationTraits<casement::WritePiece> {
 public:
  static Status Deserialize(ByteBuffer* message, casement::WritePiece* piece) {
    return piece->Parse(*message);
  }
};

#endif  // CASEMENT_CONTROL_WRITE_PIECE_H_
