// What the commands print with --json: one value each, its fields in a fixed
// order.
//
// JSON text is UTF-8 and names are not. Where a name is not, its field has
// U+FFFD for what is wrong, and a second field, "<field>_base64", has its
// bytes.
#ifndef CASEMENT_CLI_JSON_H_
#define CASEMENT_CLI_JSON_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "casement/client.h"
#include "nlohmann/json.hpp"

namespace casement {

using Json = nlohmann::ordered_json;

// Sets `object[field]` to any bytes, as said above.
void SetBytes(Json& object, const std::string& field, absl::string_view bytes);

Json ToJson(const RunningSandbox& sandbox);
// null for a fresh one.
Json ToJson(const std::optional<ReusedSandbox>& reused);
Json ToJson(const std::vector<SandboxChange>& changes);
Json ToJson(const CollectedOutputs& collected);
Json ToJson(const StoreStats& stats);
Json ToJson(const EvictResult& evicted);
Json ToJson(const VerifyResult& verified);

// One line with its end.
std::string ToText(const Json& json);

}  // namespace casement

#endif  // CASEMENT_CLI_JSON_H_
