// A directory that goes with its object, and everything in it.
#ifndef CASEMENT_TESTS_SUPPORT_TEMP_DIRECTORY_H_
#define CASEMENT_TESTS_SUPPORT_TEMP_DIRECTORY_H_

#include <cstdlib>
#include <filesystem>  // NOLINT
#include <string>

#include "base/check.h"

namespace casement {

class TempDirectory {
 public:
  TempDirectory() : TempDirectory(std::filesystem::temp_directory_path()) {}
  explicit TempDirectory(const std::string& parent) {
    std::string name = parent + "/casement-test-XXXXXX";
    CASEMENT_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_TEMP_DIRECTORY_H_
