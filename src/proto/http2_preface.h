// What a client of HTTP/2, and so of gRPC's, says before anything else.
#ifndef CASEMENT_PROTO_HTTP2_PREFACE_H_
#define CASEMENT_PROTO_HTTP2_PREFACE_H_

#include "absl/strings/string_view.h"

namespace casement {

// RFC 9113, section 3.4.
inline constexpr absl::string_view kHttp2Preface =
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

}  // namespace casement

#endif  // CASEMENT_PROTO_HTTP2_PREFACE_H_
