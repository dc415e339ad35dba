#include "remote/remote_cas.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/small_file.h"
#include "base/status.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "google/protobuf/arena.h"
#include "model/digest_message.h"
#include "proto/grpc_status.h"
#include "remote/blob_streams.h"
#include "remote/remote_headers.h"

namespace casement {
namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;

// Servers take messages of 4 MiB, the rule with gRPC: blobs of 3.5 MiB in a
// batch, with at most 100 bytes around each of 4000.
constexpr int64_t kBatchBytesMax = (int64_t{4} << 20) - (int64_t{512} << 10);
constexpr size_t kBatchBlobsMax = 4000;
// In one message; MissingSearch asks for more of them at once.
constexpr size_t kFindBlobsMax = 8000;
// Sent in one message; larger ones in pieces of this size.
constexpr int64_t kSendWholeBytesMax = int64_t{512} << 10;
constexpr int64_t kCompressFromBytes = int64_t{64} << 10;

bool IsEmptyBlob(const Digest& digest) { return digest.size_bytes() == 0; }

template <typename Values, typename Value>
bool Contains(const Values& values, Value value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

RemoteCas::Result ResultOf(const absl::Status& status) {
  using Result = RemoteCas::Result;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return Result::kOk;
    case absl::StatusCode::kNotFound:
      return Result::kNotFound;
    case absl::StatusCode::kUnavailable:
      return Result::kUnavailable;
    case absl::StatusCode::kDeadlineExceeded:
      return Result::kDeadlineExceeded;
    case absl::StatusCode::kCancelled:
      return Result::kCancelled;
    case absl::StatusCode::kDataLoss:
      return Result::kDataLoss;
    default:
      return Result::kOther;
  }
}

// Of a call that is not about one blob, NotFound is no answer: most likely the
// remote does not know the instance.
absl::Status NotAboutABlob(const absl::Status& status) {
  if (!absl::IsNotFound(status)) return status;
  return absl::FailedPreconditionError(status.message());
}

absl::Status CheckSize(const Digest& digest, size_t bytes) {
  if (static_cast<int64_t>(bytes) == digest.size_bytes()) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat("the remote sent ", bytes,
                                          " bytes of ", digest.size_bytes()));
}

}  // namespace

// The answers to one FetchSmall(): each blob gets as many as it is asked for.
class RemoteCas::Batch {
 public:
  Batch(const RemoteCas& cas, Take take) : cas_(cas), take_(take) {}

  void Expect(const Digest& digest) { ++expected_[digest]; }
  // Once; further answers for the blob mean nothing.
  void Answer(const Digest& digest, absl::StatusOr<absl::string_view> bytes) {
    const auto found = expected_.find(digest);
    if (found == expected_.end()) return;
    const int times = found->second;
    expected_.erase(found);
    if (!bytes.ok()) {
      if (first_error_.ok()) first_error_ = bytes.status();
      bytes = cas_.Named(bytes.status(),
                         absl::StrCat("fetching ", digest.ToString()));
    } else {
      bytes_ += static_cast<int64_t>(bytes->size());
    }
    for (int i = 0; i < times; ++i) take_(digest, bytes);
  }
  void Answer(const rev2::BatchReadBlobsResponse& response) {
    for (const auto& blob : response.responses()) {
      const absl::StatusOr<Digest> digest =
          Digest::FromParts(blob.digest().hash(), blob.digest().size_bytes());
      if (!digest.ok()) continue;  // None that was asked for.
      absl::Status status = FromProto(blob.status());
      if (status.ok() && blob.compressor() != rev2::Compressor::IDENTITY) {
        status = absl::DataLossError("the remote compressed it, unasked");
      }
      if (status.ok()) status = CheckSize(*digest, blob.data().size());
      if (status.ok()) {
        Answer(*digest, absl::string_view(blob.data()));
      } else {
        Answer(*digest, status);
      }
    }
  }

  int64_t bytes() const { return bytes_; }
  const absl::Status& first_error() const { return first_error_; }

 private:
  const RemoteCas& cas_;
  const Take take_;
  absl::flat_hash_map<Digest, int> expected_;
  int64_t bytes_ = 0;
  absl::Status first_error_;
};

absl::string_view RemoteCas::NameOf(Kind kind) {
  switch (kind) {
    case Kind::kCapabilities:
      return "capabilities";
    case Kind::kFindMissing:
      return "find_missing";
    case Kind::kFetchSmall:
      return "fetch_small";
    case Kind::kFetch:
      return "fetch";
    case Kind::kSendSmall:
      return "send_small";
    case Kind::kSend:
      return "send";
  }
  return "";
}

absl::string_view RemoteCas::NameOf(Result result) {
  switch (result) {
    case Result::kOk:
      return "ok";
    case Result::kNotFound:
      return "not_found";
    case Result::kUnavailable:
      return "unavailable";
    case Result::kDeadlineExceeded:
      return "deadline_exceeded";
    case Result::kCancelled:
      return "cancelled";
    case Result::kDataLoss:
      return "data_loss";
    case Result::kOther:
      return "other";
  }
  return "";
}

absl::StatusOr<std::unique_ptr<RemoteCas>> RemoteCas::Open(
    const Options& options) {
  if (options.timeout <= absl::ZeroDuration() ||
      options.timeout > absl::Hours(24)) {
    return absl::InvalidArgumentError(
        "the remote's timeout is more than nothing and at most a day");
  }
  if (options.connections < 1 || options.calls_max < 1) {
    return absl::InvalidArgumentError(
        "a remote has at least one connection and one call");
  }
  RemoteHeaders headers;
  if (!options.headers_path.empty()) {
    ASSIGN_OR_RETURN(const std::string text,
                     ReadSmallFile(options.headers_path));
    absl::StatusOr<RemoteHeaders> parsed = ParseRemoteHeaders(text);
    if (!parsed.ok()) return Annotate(parsed.status(), options.headers_path);
    headers = *std::move(parsed);
  }
  ASSIGN_OR_RETURN(
      const std::vector<std::shared_ptr<grpc::Channel>> channels,
      MakeRemoteChannels(options.address, options.tls, options.connections));
  return std::unique_ptr<RemoteCas>(
      new RemoteCas(options, std::move(headers), channels));
}

RemoteCas::RemoteCas(
    const Options& options, RemoteHeaders headers,
    const std::vector<std::shared_ptr<grpc::Channel>>& channels)
    : options_(options),
      calls_(channels, {.headers = std::move(headers),
                        .timeout = options.timeout,
                        .calls_max = static_cast<size_t>(options.calls_max)}) {}

absl::Status RemoteCas::Connect() {
  calls_.Connect();
  Tries tries = calls_.NewTries();
  return Named(Learn(tries).status(), "connecting");
}

absl::StatusOr<RemoteCas::Abilities> RemoteCas::Learn(Tries& tries) {
  {
    MutexLock lock(mu_);
    while (is_asking_) {
      const absl::Duration left = tries.left();
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError(
            absl::StrCat("GetCapabilities: no answer in ",
                         absl::FormatDuration(tries.timeout())));
      }
      learned_.WaitFor(mu_, left);
    }
    if (abilities_.has_value()) return *abilities_;
    is_asking_ = true;
  }
  absl::StatusOr<Abilities> asked = AskAbilities(tries);
  Count(Kind::kCapabilities, asked.status());
  MutexLock lock(mu_);
  is_asking_ = false;
  if (asked.ok()) abilities_ = *asked;
  learned_.NotifyAll();
  if (!asked.ok()) {
    return Annotate(NotAboutABlob(asked.status()), "GetCapabilities");
  }
  return asked;
}

absl::StatusOr<RemoteCas::Abilities> RemoteCas::AskAbilities(Tries& tries) {
  rev2::GetCapabilitiesRequest request;
  rev2::ServerCapabilities response;
  request.set_instance_name(options_.address.instance());
  RETURN_IF_ERROR(calls_.Ask(
      tries, [&](grpc::ClientContext& context, RemoteServices& remote) {
        return FromGrpc(
            remote.capabilities->GetCapabilities(&context, request, &response));
      }));
  const rev2::CacheCapabilities& cache = response.cache_capabilities();
  if (!response.has_cache_capabilities()) {
    return absl::FailedPreconditionError("the remote is no cache");
  }
  if (!Contains(cache.digest_functions(), rev2::DigestFunction::SHA256)) {
    return absl::FailedPreconditionError(
        "the remote does not know the digest function SHA256");
  }
  // 0 is without a limit of its own (REv2).
  const int64_t announced = cache.max_batch_total_size_bytes();
  return Abilities{
      .batch_bytes_max =
          announced > 0 ? std::min(announced, kBatchBytesMax) : kBatchBytesMax,
      .knows_zstd =
          Contains(cache.supported_compressors(), rev2::Compressor::ZSTD),
  };
}

absl::StatusOr<std::vector<Digest>> RemoteCas::FindMissing(
    absl::Span<const Digest> digests) {
  absl::StatusOr<std::vector<Digest>> missing = FindMissingNow(digests);
  Count(Kind::kFindMissing, missing.status());
  if (missing.ok()) return missing;
  return Named(NotAboutABlob(missing.status()), "looking for missing blobs");
}

absl::StatusOr<std::vector<Digest>> RemoteCas::FindMissingNow(
    absl::Span<const Digest> digests) {
  std::vector<Digest> wanted;
  for (const Digest& digest : digests) {
    if (!IsEmptyBlob(digest)) wanted.push_back(digest);
  }
  if (wanted.empty()) return wanted;
  Tries tries = calls_.NewTries();
  RETURN_IF_ERROR(Learn(tries).status());
  absl::flat_hash_set<Digest> missing;
  for (size_t i = 0; i < wanted.size(); i += kFindBlobsMax) {
    ASSIGN_OR_RETURN(
        const std::vector<Digest> some,
        AskMissing(absl::MakeConstSpan(wanted).subspan(i, kFindBlobsMax),
                   tries));
    missing.insert(some.begin(), some.end());
  }
  wanted.erase(std::remove_if(wanted.begin(), wanted.end(),
                              [&missing](const Digest& digest) {
                                return missing.erase(digest) == 0;
                              }),
               wanted.end());
  return wanted;
}

absl::StatusOr<std::vector<Digest>> RemoteCas::AskMissing(
    absl::Span<const Digest> digests, Tries& tries) {
  google::protobuf::Arena arena;  // One allocation for many digests.
  auto& request =
      *google::protobuf::Arena::CreateMessage<rev2::FindMissingBlobsRequest>(
          &arena);
  rev2::FindMissingBlobsResponse response;
  request.set_instance_name(options_.address.instance());
  for (const Digest& digest : digests) {
    SetMessage(digest, request.add_blob_digests());
  }
  RETURN_IF_ERROR(calls_.Ask(tries, [&](grpc::ClientContext& context,
                                        RemoteServices& remote) {
    return FromGrpc(remote.cas->FindMissingBlobs(&context, request, &response));
  }));
  return FromMessages(response.missing_blob_digests());
}

int64_t RemoteCas::small_bytes_max() const { return kBatchBytesMax; }

size_t RemoteCas::small_blobs_max() const { return kBatchBlobsMax; }

void RemoteCas::FetchSmall(absl::Span<const Digest> digests, Take take) {
  Batch batch(*this, take);
  std::vector<Digest> wanted;
  absl::flat_hash_set<Digest> seen;
  for (const Digest& digest : digests) {
    batch.Expect(digest);
    if (!seen.insert(digest).second) continue;
    if (IsEmptyBlob(digest)) {
      batch.Answer(digest, absl::string_view());
    } else {
      wanted.push_back(digest);
    }
  }
  if (wanted.empty()) return;
  FetchBatches(wanted, batch);
  Count(Kind::kFetchSmall, batch.first_error());
  fetched_bytes_.fetch_add(batch.bytes(), std::memory_order_relaxed);
}

// `digests` are distinct.
void RemoteCas::FetchBatches(absl::Span<const Digest> digests, Batch& batch) {
  Tries tries = calls_.NewTries();
  const absl::StatusOr<Abilities> abilities = Learn(tries);
  absl::Status failed = abilities.status();
  for (size_t i = 0; i < digests.size() && failed.ok();) {
    rev2::BatchReadBlobsRequest request;
    rev2::BatchReadBlobsResponse response;
    request.set_instance_name(options_.address.instance());
    int64_t left = abilities->batch_bytes_max;
    const size_t begin = i;
    while (i < digests.size() && i - begin < kBatchBlobsMax &&
           digests[i].size_bytes() <= left) {
      left -= digests[i].size_bytes();
      SetMessage(digests[i++], request.add_digests());
    }
    if (i == begin) {
      // More than the remote puts into a batch.
      failed = FetchWhole(digests[i++], batch);
      continue;
    }
    failed = calls_.Ask(tries, [&](grpc::ClientContext& context,
                                   RemoteServices& remote) {
      return FromGrpc(remote.cas->BatchReadBlobs(&context, request, &response));
    });
    if (!failed.ok()) break;
    batch.Answer(response);
    for (const Digest& digest : digests.subspan(begin, i - begin)) {
      batch.Answer(digest, absl::DataLossError("the remote left it out"));
    }
    tries.Progress();
  }
  if (failed.ok()) return;
  // Those that were not got to.
  for (const Digest& digest : digests) {
    batch.Answer(digest, NotAboutABlob(failed));
  }
}

// The error, if others will have it too.
absl::Status RemoteCas::FetchWhole(const Digest& digest, Batch& batch) {
  std::string bytes;
  const auto append = [&bytes](absl::string_view piece) {
    absl::StrAppend(&bytes, piece);
    return absl::OkStatus();
  };
  IncomingBlob blob({.digest = digest}, options_.address.instance(), append);
  Tries tries = calls_.NewTries();
  const absl::Status fetched = blob.Fetch(calls_, tries);
  if (fetched.ok()) {
    batch.Answer(digest, absl::string_view(bytes));
  } else {
    batch.Answer(digest, fetched);
  }
  const bool is_the_blobs =
      absl::IsNotFound(fetched) || absl::IsDataLoss(fetched);
  return is_the_blobs ? absl::OkStatus() : fetched;
}

absl::Status RemoteCas::Fetch(const Digest& digest, Sink sink) {
  if (IsEmptyBlob(digest)) return absl::OkStatus();
  Tries tries = calls_.NewTries();
  absl::Status fetched;
  const absl::StatusOr<Abilities> abilities = Learn(tries);
  bool is_sinks = false;
  if (abilities.ok()) {
    IncomingBlob blob(
        {.digest = digest, .is_zstd = TravelsInZstd(digest, *abilities)},
        options_.address.instance(), sink);
    fetched = blob.Fetch(calls_, tries);
    is_sinks = blob.is_sinks();
    fetched_bytes_.fetch_add(blob.bytes(), std::memory_order_relaxed);
  } else {
    fetched = abilities.status();
  }
  Count(Kind::kFetch, fetched);
  if (is_sinks) return fetched;
  return Named(fetched, absl::StrCat("fetching ", digest.ToString()));
}

void RemoteCas::SendSmall(absl::Span<const SmallBlob> blobs, Sent sent) {
  absl::Status first_error;
  const auto answer = [&](const Digest& digest, const absl::Status& status) {
    if (first_error.ok()) first_error = status;
    sent(digest, Named(NotAboutABlob(status),
                       absl::StrCat("sending ", digest.ToString())));
  };
  Tries tries = calls_.NewTries();
  const absl::StatusOr<Abilities> abilities = Learn(tries);
  absl::Status failed = abilities.status();
  size_t done = 0;
  while (done < blobs.size() && failed.ok()) {
    int64_t left = abilities->batch_bytes_max;
    size_t end = done;
    while (end < blobs.size() && end - done < kBatchBlobsMax &&
           blobs[end].digest.size_bytes() <= left) {
      left -= blobs[end++].digest.size_bytes();
    }
    if (end > done) {
      failed = SendBatch(blobs.subspan(done, end - done), tries, answer);
      if (failed.ok()) done = end;
    } else {
      // More than the remote takes in a batch.
      answer(blobs[done].digest, SendWhole(blobs[done]));
      ++done;
    }
  }
  for (const SmallBlob& blob : blobs.subspan(done)) answer(blob.digest, failed);
  Count(Kind::kSendSmall, first_error);
}

absl::Status RemoteCas::SendWhole(const SmallBlob& blob) {
  const auto read = [&blob](int64_t offset) {
    return absl::string_view(blob.bytes).substr(static_cast<size_t>(offset));
  };
  OutgoingBlob outgoing({.digest = blob.digest}, options_.address.instance(),
                        read);
  Tries tries = calls_.NewTries();
  absl::Status sent = outgoing.Send(calls_, tries);
  sent_bytes_.fetch_add(outgoing.bytes(), std::memory_order_relaxed);
  return sent;
}

absl::Status RemoteCas::Send(const Digest& digest, Read read) {
  if (IsEmptyBlob(digest)) return absl::OkStatus();
  bool is_readers = false;
  const absl::Status sent = SendNow(digest, read, is_readers);
  Count(Kind::kSend, sent);
  if (is_readers) return sent;
  return Named(NotAboutABlob(sent),
               absl::StrCat("sending ", digest.ToString()));
}

absl::Status RemoteCas::SendNow(const Digest& digest, Read read,
                                bool& is_readers) {
  Tries tries = calls_.NewTries();
  ASSIGN_OR_RETURN(const Abilities abilities, Learn(tries));
  const bool is_zstd = TravelsInZstd(digest, abilities);
  const int64_t size = digest.size_bytes();
  if (!is_zstd &&
      size <= std::min(kSendWholeBytesMax, abilities.batch_bytes_max)) {
    SmallBlob blob = {.digest = digest};
    std::string& bytes = blob.bytes;
    while (static_cast<int64_t>(bytes.size()) < size) {
      absl::StatusOr<absl::string_view> piece =
          read(static_cast<int64_t>(bytes.size()));
      if (piece.ok() && piece->empty()) {
        piece = absl::DataLossError(absl::StrCat("blob ", digest.ToString(),
                                                 " ends at ", bytes.size()));
      }
      is_readers = !piece.ok();
      RETURN_IF_ERROR(piece.status());
      absl::StrAppend(&bytes, piece->substr(0, size - bytes.size()));
    }
    absl::Status sent;
    RETURN_IF_ERROR(SendBatch(
        {&blob, 1}, tries,
        [&sent](const Digest&, const absl::Status& status) { sent = status; }));
    return sent;
  }
  OutgoingBlob blob({.digest = digest, .is_zstd = is_zstd},
                    options_.address.instance(), read);
  absl::Status sent = blob.Send(calls_, tries);
  is_readers = blob.is_readers();
  sent_bytes_.fetch_add(blob.bytes(), std::memory_order_relaxed);
  return sent;
}

absl::Status RemoteCas::SendBatch(absl::Span<const SmallBlob> blobs,
                                  Tries& tries, Sent sent) {
  rev2::BatchUpdateBlobsRequest request;
  rev2::BatchUpdateBlobsResponse response;
  request.set_instance_name(options_.address.instance());
  int64_t bytes = 0;
  for (const SmallBlob& blob : blobs) {
    auto& update = *request.add_requests();
    SetMessage(blob.digest, update.mutable_digest());
    update.set_data(blob.bytes);
    bytes += blob.digest.size_bytes();
  }
  RETURN_IF_ERROR(calls_.Ask(tries, [&](grpc::ClientContext& context,
                                        RemoteServices& remote) {
    sent_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return FromGrpc(remote.cas->BatchUpdateBlobs(&context, request, &response));
  }));
  absl::flat_hash_map<std::string, absl::Status> answers;
  for (const auto& result : response.responses()) {
    answers.try_emplace(result.digest().hash(), FromProto(result.status()));
  }
  for (const SmallBlob& blob : blobs) {
    const auto answer = answers.find(blob.digest.HexHash());
    sent(blob.digest,
         answer != answers.end()
             ? answer->second
             : absl::InternalError("the remote's answer leaves it out"));
  }
  tries.Progress();
  return absl::OkStatus();
}

void RemoteCas::Cancel() { calls_.Cancel(); }

bool RemoteCas::TravelsInZstd(const Digest& digest,
                              const Abilities& abilities) const {
  return options_.compress && abilities.knows_zstd &&
         digest.size_bytes() > kCompressFromBytes;
}

absl::Status RemoteCas::Named(const absl::Status& status,
                              absl::string_view what) const {
  return OfRemoteCache(
      Annotate(status, "remote ", options_.address.ToString(), ": ", what));
}

void RemoteCas::Count(Kind kind, const absl::Status& status) {
  counts_[static_cast<size_t>(kind)][static_cast<size_t>(ResultOf(status))]
      .fetch_add(1, std::memory_order_relaxed);
}

RemoteCas::Stats RemoteCas::GetStats() const {
  Stats stats;
  for (size_t kind = 0; kind < kKinds; ++kind) {
    for (size_t result = 0; result < kResults; ++result) {
      stats.calls[kind][result] =
          counts_[kind][result].load(std::memory_order_relaxed);
    }
  }
  stats.fetched_bytes = fetched_bytes_.load(std::memory_order_relaxed);
  stats.sent_bytes = sent_bytes_.load(std::memory_order_relaxed);
  stats.retries = calls_.retries();
  return stats;
}

}  // namespace casement
