// Keeps gRPC's threads until the process ends.
#ifndef CASEMENT_PROTO_GRPC_LIFETIME_H_
#define CASEMENT_PROTO_GRPC_LIFETIME_H_

#include <grpc/grpc.h>

namespace casement {

// gRPC stops its threads when its last object goes, and waits for them. One of
// them may be asleep for 10 seconds then (gRPC 1.51's backup poller, after a
// write that had to wait), and so would we. Call this before the first object
// is made. Any thread may, any number of times.
inline void KeepGrpcRunning() {
  static const bool is_running = [] {
    grpc_init();
    return true;
  }();
  (void)is_running;
}

}  // namespace casement

#endif  // CASEMENT_PROTO_GRPC_LIFETIME_H_
