#include "model/hasher.h"

#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "casement/digest.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

TEST(Hasher, PiecesHashAsTheWhole) {
  const std::string bytes(100'000, 'x');
  Hasher hasher;
  for (size_t begin = 0, step = 1; begin < bytes.size(); begin += step++) {
    hasher.Update(absl::string_view(bytes).substr(begin, step));
  }
  EXPECT_EQ(hasher.size_bytes(), 100'000);
  EXPECT_EQ(hasher.Finish(), Digest::Of(bytes));
}

TEST(Hasher, MovesWithWhatItHasSeen) {
  Hasher first;
  first.Update("ab");
  Hasher second = std::move(first);
  second.Update("c");
  EXPECT_EQ(second.Finish(), Digest::Of("abc"));
}

}  // namespace
}  // namespace casement
