// The program casement, run as anybody would, against a real control server.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>  // NOLINT
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/directory.h"
#include "nlohmann/json.hpp"
#include "support/control_harness.h"

namespace casement {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using Json = nlohmann::json;

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

struct Result {
  int exit_status = -1;
  std::string out;
  std::string err;

  Json json() const { return Json::parse(out, nullptr, false); }
};

class CasementTest : public ::testing::Test {
 protected:
  // Shell words after the program's name. `before` stands before it.
  Result Casement(const std::string& words, const std::string& before = "") {
    const std::string script =
        absl::StrCat(before, " ", CASEMENT, " --socket ", harness_.socket(),
                     " ", words, " >", files_ / ".out", " 2>", files_ / ".err");
    Result result;
    const int status =
        std::system(absl::StrCat("cd ", files_.path(), "; ", script).c_str());
    result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    result.out = Slurp(files_ / ".out");
    result.err = Slurp(files_ / ".err");
    return result;
  }

  void ExpectFails(const std::string& words, const std::string& message) {
    const Result result = Casement(words);
    EXPECT_EQ(result.exit_status, 1) << words;
    EXPECT_EQ(result.err, absl::StrCat("casement: ", message, "\n")) << words;
    EXPECT_EQ(result.out, "") << words;
  }

  ControlHarness harness_;
  TempDirectory files_;
};

TEST_F(CasementTest, WrongUsageIsExitStatusTwoAndOneLine) {
  for (const char* words : {"", "fly", "--fly", "get", "put --tree", "stats x",
                            "sandbox", "run --scratch-bytes-max 1X -- true"}) {
    const Result result = Casement(words);
    EXPECT_EQ(result.exit_status, 2) << words;
    EXPECT_THAT(result.err, MatchesRegex("casement: [^\n]+\n")) << words;
    EXPECT_EQ(result.out, "") << words;
  }
}

TEST_F(CasementTest, FailureIsExitStatusOneAndOneLine) {
  const Digest absent = Digest::Of("absent");
  const std::string name = absent.ToString();
  ExpectFails(absl::StrCat("get ", name),
              absl::StrCat("blob ", name, " is not in the store"));
  ExpectFails("put absent", "absent: No such file or directory");
  ExpectFails("put .", ".: is no regular file");
  ExpectFails("put --tree absent", "absent: No such file or directory");
  ExpectFails("sandbox diff s", "sandbox s: not found");
  ExpectFails("sandbox release s", "sandbox s: not found");
  for (const char* words :
       {"get abc", "evict abc", "run --root abc -- true",
        "sandbox create --root abc", "sandbox create --name a/b"}) {
    const Result result = Casement(words);
    EXPECT_EQ(result.exit_status, 1) << words;
    EXPECT_THAT(result.err, MatchesRegex("casement: [^\n]+\n")) << words;
  }
}

TEST_F(CasementTest, SocketNobodyAnswersIsExitStatusOneAtOnce) {
  const absl::Time start = absl::Now();
  const Result result = Casement("--socket /absent stats");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(result.err,
            "casement: no casementd answers at /absent: No such file or "
            "directory\n");
  EXPECT_LT(absl::Now() - start, absl::Seconds(2));
}

TEST_F(CasementTest, OutputThatCannotBeWrittenIsAnError) {
  const Result result = Casement("stats > /dev/full 2> .full #");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(Slurp(files_ / ".full"),
            "casement: standard output: No space left on device\n");
}

TEST_F(CasementTest, PutAndGetGiveFilesBack) {
  Write(files_ / "a", "hello");
  Write(files_ / "new\nline", "");
  const Result put = Casement("put a new*line");
  EXPECT_EQ(put.exit_status, 0) << put.err;
  const std::string name = Digest::Of("hello").ToString();
  EXPECT_EQ(put.out, absl::StrCat(name, "  a\n", Digest().ToString(),
                                  "  \"new\\nline\"\n"));
  EXPECT_EQ(Casement(absl::StrCat("get ", name)).out, "hello");
  EXPECT_EQ(Casement(absl::StrCat("get ", name, " -o b")).out, "");
  EXPECT_EQ(Slurp(files_ / "b"), "hello");
  const Json json = Casement(absl::StrCat("--json get ", name, " -o b")).json();
  EXPECT_EQ(json["bytes"], 5);
  EXPECT_EQ(Casement("put --json a").json()[0]["path"], "a");
}

TEST_F(CasementTest, GetThatFailsLeavesTheOldFile) {
  Write(files_ / "b", "old");
  const Result result =
      Casement(absl::StrCat("get ", Digest::Of("absent").ToString(), " -o b"));
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(Slurp(files_ / "b"), "old");
  int files = 0;
  for (const auto& entry : fs::directory_iterator(files_.path())) {
    files += entry.path().filename().string()[0] != '.';
  }
  EXPECT_EQ(files, 1);
}

TEST_F(CasementTest, PutTreePrintsTheRootsDigest) {
  fs::create_directory(files_ / "tree");
  Write(files_ / "tree/f", "f");
  DirectoryBuilder builder;
  builder.AddFile("f", Digest::Of("f"), false);
  const std::string root = Digest::Of(builder.Build()).ToString();
  EXPECT_EQ(Casement("put --tree tree").out, root + "\n");
  const Json json = Casement("put --tree tree --json").json();
  EXPECT_EQ(json["digest"], root);
  EXPECT_EQ(json["files"], 1);
  EXPECT_EQ(json["blobs_sent"], 0);
}

TEST_F(CasementTest, SandboxCommandsKeepTheirContract) {
  const Result created =
      Casement("sandbox create --name s --inputs read-only --label //a");
  EXPECT_EQ(created.exit_status, 0) << created.err;
  const std::string path = harness_.table().Info("s")->path;
  EXPECT_EQ(created.out, path + "\n");
  Write(path + "/out", "out");
  EXPECT_EQ(Casement("sandbox diff s").out, "A out\n");
  EXPECT_EQ(Casement("sandbox diff s --json").json()[0]["change"], "A");
  const Result collected = Casement("sandbox collect s out absent");
  EXPECT_EQ(collected.exit_status, 0);
  EXPECT_EQ(collected.out,
            absl::StrCat("file ", Digest::Of("out").ToString(), "  out\n"));
  EXPECT_EQ(collected.err, "missing absent\n");
  const Json json = Casement("--json sandbox collect s out absent").json();
  EXPECT_EQ(json["outputs"][0]["digest"], Digest::Of("out").ToString());
  EXPECT_EQ(json["missing"], Json({"absent"}));
  const Result unsent = Casement("sandbox collect s out --send");
  EXPECT_EQ(unsent.exit_status, 1);
  EXPECT_THAT(unsent.err, HasSubstr("no remote cache"));
  const Json list = Casement("sandbox list --json").json();
  EXPECT_EQ(list[0]["name"], "s");
  EXPECT_EQ(list[0]["inputs"], "read-only");
  EXPECT_THAT(Casement("sandbox list").out, HasSubstr("//a\n"));
  EXPECT_EQ(Casement("sandbox release s --stash").out, "");
  EXPECT_TRUE(harness_.table().was_stashed());
  EXPECT_EQ(Casement("sandbox list").out, "");
  EXPECT_EQ(Casement("sandbox list --json").out, "[]\n");
}

TEST_F(CasementTest, StoreCommandsKeepTheirContract) {
  Write(files_ / "a", "hello");
  Casement("put a");
  const std::string name = Digest::Of("hello").ToString();
  EXPECT_EQ(Casement("stats --json").json()["blobs"], 1);
  EXPECT_THAT(Casement("stats").out, HasSubstr("blobs      1 (0 leased)"));
  EXPECT_THAT(Casement("stats --prometheus").out,
              HasSubstr("casement_store_blobs 1\n"));
  EXPECT_THAT(Casement("verify").out, HasSubstr("verified 1 blobs, 5 bytes"));
  EXPECT_EQ(Casement("verify --json").json()["damaged"], Json::array());
  EXPECT_EQ(Casement("evict " + name).out, "evicted 1 blobs, 5 bytes\n");
  const Result again = Casement("evict " + name);
  EXPECT_EQ(again.exit_status, 1);
  EXPECT_EQ(again.err,
            absl::StrCat("casement: blob ", name, " is not in the store\n"));
  EXPECT_EQ(Casement("evict --unleased --json").json()["blobs"], 0);
}

TEST_F(CasementTest, VerifyOfADamagedStoreFails) {
  Write(files_ / "a", "hello");
  Casement("put a");
  for (const auto& entry :
       fs::recursive_directory_iterator(harness_.folder() / "store/cas")) {
    if (!entry.is_regular_file()) continue;
    fs::permissions(entry.path(), fs::perms(0600));
    Write(entry.path(), "hullo");
  }
  const Result result = Casement("verify --repair");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.out,
              HasSubstr(absl::StrCat("damaged ", Digest::Of("hello").ToString(),
                                     "\n")));
  EXPECT_EQ(result.err,
            "casement: verify: 1 of 1 blobs are damaged, and have been "
            "dropped\n");
  EXPECT_EQ(Casement("verify").exit_status, 0);
}

class VerifyTest : public CasementTest {
 protected:
  VerifyTest() {
    Write(files_ / "a", "hello");
    Casement("put a");
    fs::create_directory(files_ / "quarantine");
  }
  void Damage() {
    for (const auto& entry :
         fs::recursive_directory_iterator(harness_.folder() / "store/cas")) {
      if (!entry.is_regular_file()) continue;
      fs::permissions(entry.path(), fs::perms(0600));
      Write(entry.path(), "hullo");
    }
  }
};

TEST_F(VerifyTest, QuarantineGetsWhatIsDamaged) {
  Damage();
  const std::string quarantine = files_ / "quarantine";
  const Result result = Casement("verify --quarantine " + quarantine);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(result.err,
            absl::StrCat("casement: verify: 1 of 1 blobs are damaged, and 1 "
                         "have been moved to ",
                         quarantine, "\n"));
  EXPECT_EQ(Slurp(quarantine + "/" + Digest::Of("hello").ToString()), "hullo");
  const Json json = Casement("verify --json").json();
  EXPECT_EQ(json["blobs"], 0);
  EXPECT_EQ(json["unaccounted_bytes"], 0);
}

TEST_F(VerifyTest, WithoutRepairNothingIsDropped) {
  Damage();
  for (int i = 0; i < 2; ++i) {
    const Result result = Casement("verify --disk-share 100");
    EXPECT_EQ(result.exit_status, 1);
    EXPECT_EQ(result.err, "casement: verify: 1 of 1 blobs are damaged\n");
  }
}

TEST_F(VerifyTest, BytesWithoutAnOwnerAreAFailure) {
  Write(harness_.folder() / "store/cas/stray", "stray");
  const Result result = Casement("verify");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr("of the store's files are not accounted "
                                    "for\n"));
  EXPECT_THAT(result.out, HasSubstr("bytes, unaccounted 4096 bytes\n"));
}

TEST_F(VerifyTest, OptionsThatCannotBeAreWrongUsage) {
  for (const char* options :
       {"--disk-share 0", "--disk-share 101", "--disk-share x",
        "--quarantine quarantine", "--quarantine ''"}) {
    EXPECT_EQ(Casement(absl::StrCat("verify ", options)).exit_status, 2)
        << options;
  }
  const Result inside = Casement("verify --quarantine " +
                                 std::string(harness_.folder() / "store/cas"));
  EXPECT_EQ(inside.exit_status, 1);
  EXPECT_THAT(inside.err, HasSubstr("it is inside"));
}

// run.

class RunTest : public CasementTest {
 protected:
  bool NothingIsLeft() { return harness_.table().List().empty(); }
  // A command that can be told from all others on the machine, in whose
  // namespace its number is another.
  static std::string Sleep() { return absl::StrCat("sleep 60.", ::getpid()); }
  static bool IsAsleep() {
    return std::system(
               absl::StrCat("pgrep -f '^", Sleep(), "' > /dev/null").c_str()) ==
           0;
  }
};

TEST_F(RunTest, CollectsOutputsAfterTheCommandsOwnOutput) {
  const Result result = Casement(
      "run --output out --output absent -- sh -c 'echo said; echo new > out'");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(
      result.out,
      absl::StrCat("said\nfile ", Digest::Of("new\n").ToString(), "  out\n"));
  EXPECT_EQ(result.err, "missing absent\n");
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RunTest, WorksInTheSandbox) {
  EXPECT_EQ(Casement("run --name here -- sh -c 'pwd'").out,
            absl::StrCat(harness_.folder() / "sandboxes/here", "\n"));
}

TEST_F(RunTest, PassesOnExitStatuses) {
  EXPECT_EQ(Casement("run -- sh -c 'exit 7'").exit_status, 7);
  EXPECT_EQ(Casement("run -- sh -c 'kill -9 $$'").exit_status, 128 + 9);
  EXPECT_EQ(Casement("run -- sh -c 'kill $$'").exit_status, 128 + 15);
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RunTest, JsonAloneIsOnStandardOutput) {
  const Result result =
      Casement("run --json --output o -- sh -c 'echo said; ln -s t o; exit 3'");
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_EQ(result.err, "said\n");
  const Json json = result.json();
  ASSERT_TRUE(json.is_object()) << result.out;
  EXPECT_EQ(json["exit_status"], 3);
  EXPECT_GT(json["create_microseconds"], 0);
  EXPECT_GT(json["run_microseconds"], 0);
  EXPECT_EQ(json["input_files"], 0);
  EXPECT_EQ(json["inputs_opened"], 0);
  EXPECT_EQ(json["outputs"][0]["type"], "symlink");
  EXPECT_EQ(json["outputs"][0]["target"], "t");
  EXPECT_EQ(json["diff"][0]["path"], "o");
}

TEST_F(RunTest, StashKeepsTheSandboxForLater) {
  EXPECT_EQ(Casement("run --stash -- true").exit_status, 0);
  EXPECT_TRUE(harness_.table().was_stashed());
}

TEST_F(RunTest, CommandThatIsNotThereFails) {
  const Result result = Casement("run -- /no/such/command");
  EXPECT_NE(result.exit_status, 0);
  EXPECT_THAT(result.err, HasSubstr("/no/such/command"));
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RunTest, MissingBubblewrapIsSaid) {
  const Result result = Casement("run -- true", "PATH=/nowhere");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(result.err,
            "casement: run needs bubblewrap: bwrap: No such file or "
            "directory\n");
}

TEST_F(RunTest, TerminationReachesTheCommandWhichMayCleanUp) {
  const Result result = Casement(absl::StrCat(
      "run -- sh -c 'trap \"echo cleaned; exit 5\" TERM; echo up > ",
      files_ / "up", "; while :; do sleep 0.05; done' & ",
      "while [ ! -e up ]; do sleep 0.02; done; kill $!; wait $! #"));
  EXPECT_EQ(result.exit_status, 5) << result.err;
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RunTest, TerminationEndsACommandThatDoesNotCare) {
  const Result result = Casement(absl::StrCat(
      "run -- sh -c 'echo up > ", files_ / "up", "; exec sleep 60' & ",
      "while [ ! -e up ]; do sleep 0.02; done; kill $!; wait $! #"));
  EXPECT_EQ(result.exit_status, 128 + 15) << result.err;
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RunTest, KilledItselfItLeavesNeitherCommandNorSandbox) {
  Casement(absl::StrCat("run -- ", Sleep(), " & while ! pgrep -f '^", Sleep(),
                        "' > ", files_ / "pid",
                        "; do sleep 0.02; done; kill -9 $!; wait $! #"));
  ASSERT_NE(Slurp(files_ / "pid"), "");
  const absl::Time deadline = absl::Now() + absl::Seconds(5);
  while ((!NothingIsLeft() || IsAsleep()) && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_TRUE(NothingIsLeft());
  EXPECT_FALSE(IsAsleep()) << "the command still runs";
}

TEST_F(RunTest, WhatTheCommandLeftRunningEndsWithIt) {
  const Result result = Casement(absl::StrCat(
      "run -- sh -c 'setsid ", Sleep(), " & sleep 0.2; ", "pgrep -f ^sleep'"));
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_FALSE(IsAsleep());
  EXPECT_TRUE(NothingIsLeft());
}

TEST_F(RunTest, ChrootMakesTheSandboxTheRoot) {
  // A root that holds busybox' like: sh and what it is linked with.
  const Result made = Casement(
      "--version; mkdir -p root/bin root/tmp && for f in $(ldd /bin/sh | "
      "grep -o '/[^ ]*'); do mkdir -p root$(dirname $f); cp $f root$f; done; "
      "cp /bin/sh root/bin/sh #");
  ASSERT_EQ(made.exit_status, 0) << made.err;
  Result put = Casement("put --tree root");
  ASSERT_EQ(put.exit_status, 0) << put.err;
  put.out.pop_back();
  const Result result = Casement(absl::StrCat(
      "run --chroot --json --root ", put.out,
      " -- /bin/sh -c 'echo /*; echo x > /made; echo y > /tmp/t'"));
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, MatchesRegex("/bin /lib.* /tmp\n"));
  // Nothing but what the command did: /tmp is a mount, /proc was not made.
  EXPECT_EQ(result.json()["diff"].size(), 1u) << result.out;
  EXPECT_EQ(result.json()["diff"][0]["path"], "made");
}

// The example.

TEST_F(CasementTest, ExampleExecutorRunsAnAction) {
  fs::create_directory(files_ / "inputs");
  Write(files_ / "inputs/in", "hello");
  const int status = std::system(
      absl::StrCat("CASEMENT_SOCKET=", harness_.socket(), " ", RUN_ACTION, " ",
                   files_ / "inputs", " out 'tr a-z A-Z < in > out' > ",
                   files_ / ".out")
          .c_str());
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Slurp(files_ / ".out"),
            absl::StrCat(Digest::Of("HELLO").ToString(), "  out\n"));
  EXPECT_TRUE(harness_.table().List().empty());
}

}  // namespace
}  // namespace casement
