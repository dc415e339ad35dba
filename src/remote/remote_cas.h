// A BlobSource that is another REv2 cache: Capabilities,
// ContentAddressableStorage and ByteStream over gRPC.
//
// Thread safe; calls block. A call that fails in a way that may pass (the
// remote is not there, restarts, resets a stream) is tried again until
// `timeout` is over, with waits that grow to a second. Blobs on their way go on
// where they broke off: a Fetch always, a Send if the remote knows how far it
// was. Nobody need reconnect: a remote that is back is used.
//
// Errors, beyond BlobSource's: DataLoss, the remote sent too much or too
// little; FailedPrecondition, it is no cache of SHA-256 digests, or does not
// know the instance; others are the remote's own. Each names the remote, except
// those of sinks and readers, which stay as they are. The empty blob is
// everywhere: nobody is asked for it.
#ifndef CASEMENT_REMOTE_REMOTE_CAS_H_
#define CASEMENT_REMOTE_REMOTE_CAS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "casement/digest.h"
#include "remote/remote_address.h"
#include "remote/remote_calls.h"
#include "remote/remote_channels.h"
#include "remote/tries.h"
#include "store/blob_source.h"

namespace casement {

class RemoteCas final : public BlobSource {
 public:
  struct Options {
    RemoteAddress address;
    // Read once, by Open(), as the headers are.
    RemoteTlsFiles tls = {};
    std::string headers_path = {};  // remote_headers.h; empty for none.
    // For all tries of a call together; for one blob of any size, how long no
    // byte of it may come or go, and how long after its last byte the remote
    // may take to answer.
    absl::Duration timeout = absl::Seconds(30);
    // Blobs of more than 64 KiB travel in zstd if the remote can. Such a Send
    // that breaks off starts anew.
    bool compress = false;
    // Calls take them in turn. One is as fast as one stream of TCP.
    int connections = 4;
    // At one time; more wait. Servers customarily take 100 a connection.
    int calls_max = 128;
  };
  // What was asked of this object, whatever it took.
  enum class Kind : uint8_t {
    kCapabilities,
    kFindMissing,
    kFetchSmall,
    kFetch,
    kSendSmall,
    kSend,
  };
  enum class Result : uint8_t {
    kOk,
    kNotFound,
    kUnavailable,
    kDeadlineExceeded,
    kCancelled,
    kDataLoss,
    kOther,
  };
  static constexpr size_t kKinds = 6;
  static constexpr size_t kResults = 7;
  // As metrics say it: "fetch_small", "not_found".
  static absl::string_view NameOf(Kind kind);
  static absl::string_view NameOf(Result result);

  struct Stats {
    // By kind, then by result. A FetchSmall() or SendSmall() has the first
    // error of a blob.
    std::array<std::array<int64_t, kResults>, kKinds> calls = {};
    // Of blobs. What was sent twice counts twice.
    int64_t fetched_bytes = 0;
    int64_t sent_bytes = 0;
    int64_t retries = 0;

    int64_t Calls(Kind kind, Result result) const {
      return calls[static_cast<size_t>(kind)][static_cast<size_t>(result)];
    }
  };

  // Does not connect. InvalidArgument, or why a file cannot be read.
  static absl::StatusOr<std::unique_ptr<RemoteCas>> Open(
      const Options& options);

  // Connects and asks what the remote can, so that no call need wait for that.
  // Calls do both by themselves when nobody has.
  absl::Status Connect();

  // Each once, however often it is given.
  absl::StatusOr<std::vector<Digest>> FindMissing(
      absl::Span<const Digest> digests) override;
  int64_t small_bytes_max() const override;
  size_t small_blobs_max() const override;
  // More than that comes in several exchanges.
  void FetchSmall(absl::Span<const Digest> digests, Take take) override;
  absl::Status Fetch(const Digest& digest, Sink sink) override;
  // As FetchSmall().
  void SendSmall(absl::Span<const SmallBlob> blobs, Sent sent) override;
  absl::Status Send(const Digest& digest, Read read) override;
  void Cancel() override;

  const RemoteAddress& address() const { return options_.address; }
  Stats GetStats() const;

 private:
  // What the remote says of itself.
  struct Abilities {
    int64_t batch_bytes_max = 0;
    bool knows_zstd = false;
  };
  class Batch;

  RemoteCas(const Options& options, RemoteHeaders headers,
            const std::vector<std::shared_ptr<grpc::Channel>>& channels);

  // Asks once; then it is known.
  absl::StatusOr<Abilities> Learn(Tries& tries) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<Abilities> AskAbilities(Tries& tries);
  absl::StatusOr<std::vector<Digest>> FindMissingNow(
      absl::Span<const Digest> digests);
  // Of so few that one message holds them.
  absl::StatusOr<std::vector<Digest>> AskMissing(
      absl::Span<const Digest> digests, Tries& tries);
  void FetchBatches(absl::Span<const Digest> digests, Batch& batch);
  absl::Status FetchWhole(const Digest& digest, Batch& batch);
  // Each blob's answer goes to `sent`, but for the error of the whole call.
  absl::Status SendBatch(absl::Span<const SmallBlob> blobs, Tries& tries,
                         Sent sent);
  absl::Status SendWhole(const SmallBlob& blob);
  absl::Status SendNow(const Digest& digest, Read read, bool& is_readers);
  bool TravelsInZstd(const Digest& digest, const Abilities& abilities) const;

  // Says of an error which remote did what.
  absl::Status Named(const absl::Status& status, absl::string_view what) const;
  void Count(Kind kind, const absl::Status& status);

  const Options options_;
  RemoteCalls calls_;

  std::array<std::array<std::atomic<int64_t>, kResults>, kKinds> counts_ = {};
  std::atomic<int64_t> fetched_bytes_ = 0;
  std::atomic<int64_t> sent_bytes_ = 0;

  Mutex mu_;  // A leaf.
  CondVar learned_;
  bool is_asking_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<Abilities> abilities_ ABSL_GUARDED_BY(mu_);
};

}  // namespace casement

#endif  // CASEMENT_REMOTE_REMOTE_CAS_H_
