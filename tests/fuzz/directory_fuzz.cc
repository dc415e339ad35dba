// Directory messages: what parses can be found by name, and is written again
// so that it parses to the same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "model/directory.h"

namespace casement {
namespace {

std::string Rewrite(const Directory& directory) {
  DirectoryBuilder builder;
  builder.SetProperties(directory.properties());
  for (const Directory::Entry& entry : directory.entries()) {
    switch (entry.type) {
      case EntryType::kFile:
        builder.AddFile(entry.name, entry.digest, entry.is_executable,
                        entry.properties);
        break;
      case EntryType::kDirectory:
        builder.AddDirectory(entry.name, entry.digest);
        break;
      case EntryType::kSymlink:
        builder.AddSymlink(entry.name, entry.target, entry.properties);
        break;
    }
  }
  return builder.Build();
}

void Try(absl::string_view bytes) {
  const auto directory = Directory::Parse(bytes);
  if (!directory.ok()) {
    CASEMENT_CHECK(absl::IsInvalidArgument(directory.status()));
    return;
  }
  const auto& entries = (*directory)->entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    CASEMENT_CHECK(CheckName(entries[i].name).ok());
    CASEMENT_CHECK((*directory)->Find(entries[i].name) == i);
  }
  const std::string canonical = Rewrite(**directory);
  const auto again = Directory::Parse(canonical);
  CASEMENT_CHECK(again.ok());
  CASEMENT_CHECK((*again)->entries().size() == entries.size());
  CASEMENT_CHECK(Rewrite(**again) == canonical);
}

}  // namespace
}  // namespace casement

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  casement::Try(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
