#include "cli/json.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cli/words.h"

namespace casement {
namespace {

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false,
                   Json::error_handler_t::replace);
}

Json ToJson(const Metric& metric) {
  Json json = {{"name", metric.name}, {"labels", Json::object()}};
  for (const auto& [name, value] : metric.labels) json["labels"][name] = value;
  json["value"] = metric.value;
  return json;
}

}  // namespace

void SetBytes(Json& object, const std::string& field, absl::string_view bytes) {
  const std::string text(bytes);
  const Json value = text;
  // What comes back changed was no UTF-8.
  const std::string dumped = Dump(value);
  const Json parsed = Json::parse(dumped, nullptr, /*allow_exceptions=*/false);
  object[field] = parsed;
  if (parsed != value) {
    object[absl::StrCat(field, "_base64")] = absl::Base64Escape(bytes);
  }
}

Json ToJson(const RunningSandbox& sandbox) {
  Json json;
  SetBytes(json, "name", sandbox.name);
  SetBytes(json, "path", sandbox.path);
  json["root"] = sandbox.spec.root.ToString();
  json["inputs"] = WordFor(sandbox.spec.inputs);
  json["inputs_from"] = WordFor(sandbox.spec.inputs_from);
  json["owner_uid"] = sandbox.spec.owner_uid;
  json["owner_gid"] = sandbox.spec.owner_gid;
  SetBytes(json, "label", sandbox.spec.label);
  json["scratch_bytes_max"] = sandbox.spec.scratch_bytes_max;
  json["nodes_max"] = sandbox.spec.nodes_max;
  json["created"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", sandbox.created,
                                     absl::UTCTimeZone());
  json["input_files"] = sandbox.input_files;
  json["inputs_opened"] = sandbox.inputs_opened;
  json["scratch_bytes"] = sandbox.scratch_bytes;
  json["nodes"] = sandbox.nodes;
  json["stash"] = sandbox.is_stash;
  return json;
}

Json ToJson(const std::optional<ReusedSandbox>& reused) {
  if (!reused.has_value()) return nullptr;
  Json json = {{"score", reused->score},
               {"nodes_kept", reused->nodes_kept},
               {"notifications", reused->notifications},
               {"directories_visited", reused->directories_visited},
               {"directories_skipped", reused->directories_skipped},
               {"microseconds", absl::ToDoubleMicroseconds(reused->time)}};
  SetBytes(json, "stash", reused->stash);
  return json;
}

Json ToJson(const std::vector<SandboxChange>& changes) {
  Json list = Json::array();
  for (const SandboxChange& change : changes) {
    Json json = {{"change", WordFor(change.kind)}};
    SetBytes(json, "path", change.path);
    list.push_back(std::move(json));
  }
  return list;
}

Json ToJson(const CollectedOutputs& collected) {
  Json outputs = Json::array();
  for (const CollectedOutput& output : collected.outputs) {
    Json json = {{"type", WordFor(output.kind)}};
    SetBytes(json, "path", output.path);
    if (output.kind == CollectedOutput::Kind::kSymlink) {
      SetBytes(json, "target", output.target);
    } else {
      json["digest"] = output.digest.ToString();
    }
    if (output.kind == CollectedOutput::Kind::kDirectory) {
      json["root_directory"] = output.root_directory.ToString();
    }
    outputs.push_back(std::move(json));
  }
  const Json missing = collected.missing;
  return {{"outputs", std::move(outputs)}, {"missing", missing}};
}

Json ToJson(const StoreStats& stats) {
  Json accounted = Json::object();
  for (const auto& [owner, bytes] : stats.accounted_by_owner) {
    accounted[owner] = bytes;
  }
  Json metrics = Json::array();
  for (const Metric& metric : stats.metrics) metrics.push_back(ToJson(metric));
  return {{"capacity_bytes", stats.capacity_bytes},
          {"accounted_bytes", stats.accounted_bytes},
          {"accounted_by_owner", std::move(accounted)},
          {"blobs", stats.blobs},
          {"leased_blobs", stats.leased_blobs},
          {"zombies", stats.zombies},
          {"size_bytes", stats.size_bytes},
          {"sandboxes", stats.sandboxes},
          {"sessions", stats.sessions},
          {"evictions", stats.evictions},
          {"published", stats.published},
          {"damaged", stats.damaged},
          {"metrics", std::move(metrics)}};
}

Json ToJson(const EvictResult& evicted) {
  Json failures = Json::array();
  for (const auto& [digest, status] : evicted.failures) {
    Json json = {{"digest", digest.ToString()}};
    SetBytes(
        json, "error",
        absl::string_view(status.message().data(), status.message().size()));
    failures.push_back(std::move(json));
  }
  return {{"blobs", evicted.blobs},
          {"bytes", evicted.bytes},
          {"failures", std::move(failures)}};
}

Json ToJson(const VerifyResult& verified) {
  Json damaged = Json::array();
  for (const Digest& digest : verified.damaged) {
    damaged.push_back(digest.ToString());
  }
  return {{"blobs", verified.blobs},
          {"bytes", verified.bytes},
          {"damaged", std::move(damaged)},
          {"dropped", verified.dropped},
          {"moved", verified.moved},
          {"accounted_bytes", verified.accounted_bytes},
          {"allocated_bytes", verified.allocated_bytes},
          {"unaccounted_bytes", verified.unaccounted_bytes}};
}

std::string ToText(const Json& json) { return absl::StrCat(Dump(json), "\n"); }

}  // namespace casement
