// How things look: JSON, Prometheus' text, lines.
#include <string>

#include "cli/bubblewrap.h"
#include "cli/json.h"
#include "cli/prometheus.h"
#include "cli/sandbox_lines.h"
#include "cli/terminal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/temp_directory.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(JsonBytes, ThatAreUtf8StandAlone) {
  Json json;
  SetBytes(json, "path", "a\n\"\xc3\xa9");
  EXPECT_EQ(ToText(json), "{\"path\":\"a\\n\\\"\xc3\xa9\"}\n");
}

TEST(JsonBytes, ThatAreNoUtf8AreBase64Besides) {
  Json json;
  SetBytes(json, "path", "a\xff");
  EXPECT_EQ(ToText(json),
            "{\"path\":\"a\xef\xbf\xbd\",\"path_base64\":\"Yf8=\"}\n");
}

TEST(Prometheus, NamesComeOnceWithAllTheirSamples) {
  StoreStats stats;
  stats.accounted_by_owner = {{"blobs", 1}, {"scratch", 2}};
  stats.metrics = {
      {.name = "x_total", .help = "X", .labels = {{"a", "1"}}, .value = 1},
      {.name = "y", .help = "Y\nY", .kind = Metric::Kind::kGauge, .value = 0.5},
      {.name = "x_total",
       .help = "X",
       .labels = {{"a", "\"2\\\n"}, {"b", "c"}},
       .value = 9007199254740991}};
  const std::string text = ToPrometheus(stats);
  EXPECT_THAT(text, HasSubstr("# HELP casement_x_total X\n"
                              "# TYPE casement_x_total counter\n"
                              "casement_x_total{a=\"1\"} 1\n"
                              "casement_x_total{a=\"\\\"2\\\\\\n\",b=\"c\"} "
                              "9007199254740991\n"
                              "# HELP casement_y Y\\nY\n"
                              "# TYPE casement_y gauge\n"
                              "casement_y 0.5\n"));
  EXPECT_THAT(
      text, HasSubstr("casement_store_accounted_bytes{owner=\"blobs\"} 1\n"
                      "casement_store_accounted_bytes{owner=\"scratch\"} 2\n"));
}

TEST(Lines, OfDiffAndCollectAreTheContract) {
  EXPECT_EQ(LinesOf(std::vector<SandboxChange>{
                {SandboxChange::Kind::kAdded, "a"},
                {SandboxChange::Kind::kModified, "b\n"},
                {SandboxChange::Kind::kDeleted, "c d"},
                {SandboxChange::Kind::kTypeOrMode, "e"}}),
            "A a\nM \"b\\n\"\nD c d\nT e\n");
  const Digest digest;
  const std::string name = digest.ToString();
  EXPECT_EQ(LinesOf(std::vector<CollectedOutput>{
                {.kind = CollectedOutput::Kind::kFile, .path = "f"},
                {.kind = CollectedOutput::Kind::kExecutable, .path = "x"},
                {.kind = CollectedOutput::Kind::kDirectory, .path = "d"},
                {.kind = CollectedOutput::Kind::kSymlink,
                 .path = "l",
                 .target = "t"}}),
            "file " + name + "  f\nexec " + name + "  x\ndir " + name +
                "  d\nsymlink t  l\n");
}

TEST(HumanBytes, ChangesItsUnitInTime) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(HumanBytes(int64_t{5} << 30), "5.0 GiB");
}

TEST(Bubblewrap, BindsTheSandboxAtItsOwnPath) {
  EXPECT_THAT(BubblewrapWords({.sandbox = "/s", .command = {"true", "-x"}}),
              ElementsAre("bwrap", "--die-with-parent", "--unshare-pid",
                          "--dev-bind", "/", "/", "--proc", "/proc", "--bind",
                          "/s", "/s", "--chdir", "/s", "--", "true", "-x"));
}

TEST(Bubblewrap, MountsInARootOnlyWhatItHasPlacesFor) {
  TempDirectory root;
  EXPECT_THAT(
      BubblewrapWords(
          {.sandbox = root.path(), .is_root = true, .command = {"t"}}),
      ElementsAre("bwrap", "--die-with-parent", "--unshare-pid", "--bind",
                  root.path(), "/", "--chdir", "/", "--", "t"));
  std::filesystem::create_directory(root / "dev");
  std::filesystem::create_directory(root / "tmp");
  std::filesystem::create_symlink("dev", root / "proc");
  EXPECT_THAT(BubblewrapWords(
                  {.sandbox = root.path(), .is_root = true, .command = {"t"}}),
              ElementsAre("bwrap", "--die-with-parent", "--unshare-pid",
                          "--bind", root.path(), "/", "--dev", "/dev",
                          "--tmpfs", "/tmp", "--chdir", "/", "--", "t"));
}

}  // namespace
}  // namespace casement
