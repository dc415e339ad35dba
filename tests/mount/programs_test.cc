// Real programs in a sandbox: each does there what it does in a plain folder
// with the same content. Debian's own, whatever else the machine has.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "mount/data_paths.h"
#include "support/running_daemon.h"
#include "support/tree_listing.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

// Fixed where programs would take them from the machine or the day, so that
// two runs have the same outcome.
constexpr char kEnvironment[] =
    "set -eu; umask 022; export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "
    "TZ=UTC "
    "HOME=\"$PWD\" TMPDIR=\"$PWD\" "
    "GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e "
    "GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e "
    "GIT_AUTHOR_DATE='@1000000000 +0000' "
    "GIT_COMMITTER_DATE='@1000000000 +0000' "
    "SOURCE_DATE_EPOCH=1000000000; "
    "unset MAKEFLAGS CC CPPFLAGS CFLAGS LDFLAGS LIBS GIT_DIR GIT_WORK_TREE "
    "  GIT_INDEX_FILE CARGO_HOME CARGO_TARGET_DIR RUSTFLAGS PYTHONPATH "
    "  PYTHONHOME DEBUGINFOD_URLS; ";

class Programs : public testing::TestWithParam<std::string> {
 protected:
  // The inputs, a folder of tests/mount/programs/ or another, in a sandbox and
  // in a plain folder. Their times are equal in both.
  void PutInputs(const std::string& source) {
    const auto put = daemon_.client().PutTree(source, {});
    ASSERT_TRUE(put.ok()) << put.status();
    const auto made = daemon_.client().Create({.root = put->root, .name = "s"});
    ASSERT_TRUE(made.ok()) << made.status();
    sandbox_ = made->info.path;
    // As long as the sandbox's: programs keep paths, and some have limits.
    plain_ = daemon_.folder() + "/plain/sandbox/s";
    ASSERT_EQ(plain_.size(), sandbox_.size());
    fs::create_directories(plain_);
    const ProgramResult copied =
        RunShell("cp -R '" + source + "/.' '" + plain_ + "' && cd '" + plain_ +
                 "' && chmod -R u=rwX,go=rX . && chmod 700 . && "
                 "find . -exec touch -h -d 2000-01-01T00:00:00Z {} +");
    ASSERT_EQ(copied.exit_status, 0) << copied.err;
  }
  void PutNoInputs() { PutInputs(MakeFolder("empty")); }

  std::string MakeFolder(const std::string& name) const {
    const std::string path = daemon_.folder() + "/" + name;
    fs::create_directory(path);
    return path;
  }

  // Runs a script in a folder; it must succeed.
  static std::string Run(const std::string& folder, const std::string& script) {
    const ProgramResult result =
        RunShell("cd '" + folder + "' && " + kEnvironment + script);
    EXPECT_EQ(result.exit_status, 0) << folder << ": " << script << "\n"
                                     << result.out << result.err;
    return result.out;
  }

  // Runs a script in both folders; it must succeed and print the same.
  std::string RunInBoth(const std::string& script) const {
    const std::string plain = Run(plain_, script);
    EXPECT_EQ(Run(sandbox_, script), plain) << script;
    return plain;
  }

  // Whether both folders hold the same, but for when it was made.
  void ExpectSameTrees(const std::string& below) const {
    EXPECT_EQ(ListTree(sandbox_ + below, {.times = false}),
              ListTree(plain_ + below, {.times = false}));
  }

  RunningDaemon daemon_{{"--data-path", GetParam()}};
  std::string sandbox_;
  std::string plain_;
};

CASEMENT_IN_BOTH_DATA_PATHS(Programs);

// git.

// Leaves the shell in a repository with a history.
constexpr char kRepository[] =
    "git init -q -b main origin; cd origin; "
    "git config pack.threads 1; git config gc.autoDetach false; "
    "for i in $(seq 100); do mkdir -p dir$((i % 7)); "
    "  seq $i 300 > dir$((i % 7))/file$i; done; "
    "git add .; git commit -qm one; git tag one; "
    "echo more >> dir0/file7; git mv dir1/file1 moved; git rm -q dir2/file2; "
    "chmod +x dir3/file3; ln -s dir3/file3 soft; git add -A; "
    "git commit -qm two; ";

TEST_P(Programs, GitClonesAndChecksOut) {
  PutNoInputs();
  RunInBoth(std::string(kRepository) +
            "cd ..; for kind in -l --no-hardlinks -s; do"
            "  git clone -q $kind origin clone; cd clone;"
            "  git checkout -q one; git ls-files -s; git status --porcelain;"
            "  test ! -x dir3/file3; test ! -e soft;"
            "  git checkout -q main; git log --format=%H; git diff one --stat;"
            "  git status --porcelain; test -x soft; git fsck --strict;"
            "  cd ..; mv clone clone$kind; done");
  ExpectSameTrees("/clone-s/dir3");
}

// Other bytes of the same length, in the same file.
TEST_P(Programs, GitSeesWhatChangesWithinOneTickOfTheClock) {
  PutNoInputs();
  RunInBoth(std::string(kRepository) +
            "for i in $(seq 10 40); do"
            "  echo \"a$i\" 1<> moved; git add moved; echo \"b$i\" 1<> moved;"
            "  test $(git diff --name-only) = moved; done");
}

TEST_P(Programs, GitCollectsGarbageAndFindsNoFault) {
  PutNoInputs();
  RunInBoth(std::string(kRepository) +
            "git checkout -q -b gone; echo gone > moved; git commit -qam gone;"
            "git checkout -q main; git branch -qD gone;"
            "git reflog expire --expire=now --all; git fsck --strict;"
            "git gc -q --prune=now; git fsck --strict --unreachable;"
            "git count-objects -v; git status --porcelain;"
            "git repack -qadf; git pack-refs --all; git verify-pack "
            "  .git/objects/pack/*.idx; git log --all --format=%H;"
            "git read-tree HEAD; git status --porcelain");
}

TEST_P(Programs, GitWorktreesAreAddedCommittedToRemovedAndPruned) {
  PutNoInputs();
  RunInBoth(std::string(kRepository) +
            "git worktree add -q -b topic ../topic; cd ../topic;"
            "echo topic > moved; git commit -qam topic; cd ../origin;"
            "git worktree list --porcelain | grep -v ^worktree;"
            "git merge -q topic; cat moved; git worktree remove ../topic;"
            "test ! -e ../topic; git worktree add -q ../other topic;"
            "git worktree lock ../other; git worktree unlock ../other;"
            "git worktree move ../other ../another;"
            "git -C ../another status --porcelain; rm -r ../another;"
            "git worktree prune -v 2>&1; git worktree list --porcelain |"
            "  grep -v ^worktree; git branch -d topic; git fsck --strict");
}

// Archives and copies.

// Makes the folder "tree", with all that -aHX and -S are there to keep.
constexpr char kTree[] =
    "mkdir tree; cd tree; mkdir -p dir/deep; echo text > text; ln text hard;"
    "ln text dir/hard; ln -s ../text dir/soft; ln -s nowhere dangling;"
    "ln -P dangling dir/dangling; mkfifo -m 640 fifo;"
    "truncate -s 4M sparse; printf x | dd of=sparse bs=1 seek=2000000 "
    "  conv=notrunc status=none; : > empty; seq 100000 > dir/deep/big;"
    "printf '#!/bin/sh\\n' > run; chmod 4751 run; mkdir -m 1777 sticky;"
    "mkdir -m 500 closed; touch 'a name\twith\nodd characters';"
    "setfattr -n user.a -v one text; setfattr -n user.b -v two dir;"
    "setfattr -n user.a -v '' empty; [ $(id -u) != 0 ] || chown -h 12:34 "
    "  dir/deep/big dangling fifo sticky;"
    "touch -d '2001-02-03 04:05:06.123456789' text run fifo a* sparse "
    "  dir/deep/big;"
    "touch -h -d '1999-12-31 23:59:59.999999999' dangling dir/soft;"
    "touch -d '1969-12-31 23:59:58.5' empty;"
    "touch -d '2002-03-04 05:06:07.000000001' dir/deep dir sticky closed .;"
    "cd ..; ";

// The bytes that a file has on disk.
uint64_t AllocatedBytes(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

class RoundTrips : public Programs {
 protected:
  // Copies the tree from either folder to either, by a script that gets $from
  // and $to, and expects it to arrive.
  void ExpectToArrive(const std::string& script) {
    PutNoInputs();
    RunInBoth(kTree);
    const std::string tree = ListTree(plain_ + "/tree");
    EXPECT_EQ(ListTree(sandbox_ + "/tree"), tree);
    for (const std::string& from : {sandbox_, plain_}) {
      for (const std::string& to : {sandbox_, plain_}) {
        Run(to,
            absl::StrCat("from='", from, "/tree' to='", to, "/copy';", script));
        EXPECT_EQ(ListTree(to + "/copy"), tree) << from << " to " << to;
        EXPECT_LT(AllocatedBytes(to + "/copy/sparse"), 1u << 20);
        Run(to, "rm -r copy");
      }
    }
  }
};

CASEMENT_IN_BOTH_DATA_PATHS(RoundTrips);

TEST_P(RoundTrips, TarKeepsEverything) {
  ExpectToArrive(
      "mkdir copy; tar --format=posix --xattrs -S -cf copy.tar -C \"$from\" .;"
      "tar --xattrs -xpSf copy.tar -C \"$to\";"
      "tar --compare -f copy.tar -C \"$to\"; rm copy.tar");
}

TEST_P(RoundTrips, RsyncKeepsEverything) {
  ExpectToArrive(
      "rsync -aHXS \"$from/\" \"$to/\";"
      // What it would still do, were it to look at every byte.
      "test -z \"$(rsync -aHXSnci --delete \"$from/\" \"$to/\")\"");
}

TEST_P(RoundTrips, CpKeepsEverything) {
  ExpectToArrive("cp -a --sparse=always \"$from\" \"$to\"");
}

TEST_P(RoundTrips, RsyncUpdatesACopyInPlaceAndByRenaming) {
  ExpectToArrive(
      "rsync -aHXS \"$from/\" \"$to/\"; echo changed > copy/text;"
      "echo more >> copy/dir/deep/big; chmod 600 copy/run; rm copy/empty;"
      "touch copy/extra; setfattr -x user.b copy/dir;"
      "rsync -aHXS --delete --inplace --no-whole-file \"$from/\" \"$to/\";"
      "echo less > copy/dir/deep/big; rm copy/fifo; mv copy/run copy/text;"
      "rsync -aHXS --delete --no-whole-file \"$from/\" \"$to/\"");
}

// Builds.

class AutotoolsProject : public Programs {
 protected:
  // libltdl, whose sources Debian's libltdl-dev has.
  void PutSources() {
    const std::string source = MakeFolder("source");
    Run(source,
        "libtoolize --quiet --copy --subproject --ltdl=libltdl; "
        "chmod +x libltdl/configure");
    PutInputs(source);
  }
};

CASEMENT_IN_BOTH_DATA_PATHS(AutotoolsProject);

TEST_P(AutotoolsProject, IsConfiguredBuiltCheckedAndInstalled) {
  PutSources();
  const auto install = [](const std::string& folder) {
    Run(folder,
        "cd libltdl; ./configure -q --prefix=/usr --enable-ltdl-install "
        "  CFLAGS='-O1 -w' >/dev/null; make -s -j2 >/dev/null;"
        "make -s check >/dev/null;"
        "make -s install DESTDIR=\"$PWD/stage\" >/dev/null 2>&1");
    return ListTree(folder + "/libltdl/stage", {.times = false});
  };
  static const std::string plain = install(plain_);
  EXPECT_NE(plain.find("libltdl.so.7"), std::string::npos);
  EXPECT_EQ(install(sandbox_), plain);
  // Only what is older than what it is made from is made again.
  EXPECT_EQ(Run(sandbox_,
                "cd libltdl; make -j2 libltdl.la; touch slist.c;"
                "make -j2 libltdl.la; make -j2 libltdl.la"),
            "  CC       libltdl_la-slist.lo\n  CCLD     libltdl.la\n");
}

TEST_P(AutotoolsProject, IsConfiguredAnewByAutoreconf) {
  PutSources();
  const auto configure = [](const std::string& folder) {
    Run(folder,
        "cd libltdl; autoreconf -fi >/dev/null 2>&1; rm -r autom4te.cache");
    return ListTree(folder + "/libltdl", {.times = false});
  };
  static const std::string plain = configure(plain_);
  EXPECT_EQ(configure(sandbox_), plain);
}

TEST_P(Programs, CargoBuildsTestsAndInstallsFromALocalFolder) {
  PutInputs(CASEMENT_TEST_PROGRAMS "/crate");
  EXPECT_EQ(Run(sandbox_,
                "export CARGO_HOME=\"$PWD/home\"; cargo -q build --offline;"
                "cargo -q test --offline >/dev/null;"
                "cargo -q install --path . --offline --root root 2>/dev/null;"
                "root/bin/crate; sed -i s/built/again/ dependency/src/lib.rs;"
                "cargo -q run --offline;"
                "cargo -q uninstall --root root crate; ls root/bin"),
            "built\nagain\n");
}

class Linkers : public Programs {
 protected:
  void SetUp() override {
    const std::string source = MakeFolder("source");
    fs::copy(CASEMENT_TEST_PROGRAMS "/linked", source);
    // An output that is there already, as an input.
    WriteFile(source + "/program", std::string(1 << 20, 'o'));
    PutInputs(source);
    RunInBoth("gcc -O1 -c main.c part.c");
  }
};

CASEMENT_IN_BOTH_DATA_PATHS(Linkers);

TEST_P(Linkers, BfdLinksAProgramThatRuns) {
  EXPECT_EQ(RunInBoth("gcc -fuse-ld=bfd -o program main.o part.o; ./program;"
                      "gcc -fuse-ld=bfd -shared -o libpart.so part.o;"
                      "gcc -fuse-ld=bfd -o program main.o ./libpart.so;"
                      "./program"),
            "total 6\ntotal 6\n");
  ExpectSameTrees("");
}

TEST_P(Linkers, GoldLinksThroughAMappingAProgramThatRuns) {
  EXPECT_EQ(RunInBoth("link='gcc -fuse-ld=gold -Wl,--mmap-output-file';"
                      "$link -o program main.o part.o; ./program;"
                      "$link -shared -fPIC -o libpart.so part.o;"
                      "$link -o program main.o ./libpart.so; ./program"),
            "total 6\ntotal 6\n");
  ExpectSameTrees("");
}

// gold writes through a mapping into the file that it made the last time.
TEST_P(Linkers, GoldUpdatesItsOwnOutput) {
  EXPECT_EQ(RunInBoth("link='gcc -fuse-ld=gold -fno-use-linker-plugin -no-pie "
                      "  -Wl,-z,norelro'; rm program;"
                      "$link -Wl,--incremental-full -o program main.o part.o;"
                      "./program; ls -i program > before;"
                      "sed -i 's/{1, 2, 3}/{2, 2, 3}/' part.c;"
                      "gcc -O1 -c part.c;"
                      "$link -Wl,--incremental-update -o program main.o part.o;"
                      "./program; ls -i program | cmp before -"),
            "total 6\ntotal 7\n");
}

TEST_P(Linkers, BinutilsChangeFilesInPlace) {
  EXPECT_EQ(RunInBoth("ar rcD libpart.a part.o; ranlib -D libpart.a;"
                      "ar rDs libpart.a main.o; ar dD libpart.a main.o;"
                      "gcc -o program main.o -L. -lpart; cp program stripped;"
                      "strip stripped; objcopy --strip-debug program;"
                      "echo extra > extra; objcopy --add-section "
                      "  .extra=extra stripped; ./stripped;"
                      "objcopy --dump-section .extra=extracted stripped;"
                      "cat extracted; strip -R .extra stripped; ./program;"
                      "ar t libpart.a"),
            "total 6\nextra\ntotal 6\npart.o\n");
  ExpectSameTrees("");
}

TEST_P(Programs, GdbRunsAProgramThatWasBuiltThere) {
  PutInputs(CASEMENT_TEST_PROGRAMS "/linked");
  const std::string said = RunInBoth(
      "gcc -g -O0 -o program main.c part.c;"
      "gdb -nx -nh -batch -ex 'set debuginfod enabled off' "
      "  -ex 'set startup-with-shell off' -ex 'break Total' -ex run -ex bt "
      "  -ex 'tbreak 9' -ex continue -ex 'print total' -ex continue "
      "  ./program 2>/dev/null | grep -v '^Breakpoint . at\\|libthread_db' |"
      "  sed 's/process [0-9]*/process N/; s/0x[0-9a-f]*/0xN/g'");
  for (const std::string wanted :
       {"#0  Total (number=3) at part.c:6", "in main () at main.c:6", "$1 = 6",
        "total 6", "exited normally"}) {
    EXPECT_NE(said.find(wanted), std::string::npos) << wanted << "\n" << said;
  }
}

// sqlite3.

// Two processes that both have the database open add 100 rows each.
std::string WriteByTwo(const std::string& journal_mode) {
  return "for name in 1 2; do"
         "  { echo '.timeout 200000'; echo 'SELECT count(*) FROM pairs;';"
         "    echo \".shell touch ready$name;"
         " while [ ! -e ready$((3 - name)) ]; do sleep 0.01; done\";"
         "    for i in $(seq 100); do"
         "      echo \"INSERT INTO pairs VALUES ($name, $i);\"; done;"
         "  } > writer$name; done;"
         "sqlite3 database 'PRAGMA journal_mode=" +
         journal_mode +
         "; CREATE TABLE pairs(writer, number, UNIQUE(writer, number))';"
         "for name in 1 2; do"
         "  timeout 250 sqlite3 -bail database <writer$name >said$name & "
         "  eval pid$name=$!; done; wait $pid1; wait $pid2;"
         "cat said1 said2; ls ready*;"
         "sqlite3 database 'PRAGMA integrity_check; PRAGMA journal_mode;"
         "  SELECT writer, count(*), sum(number) FROM pairs GROUP BY writer;"
         "  DELETE FROM pairs WHERE number > 50; VACUUM;"
         "  PRAGMA integrity_check; SELECT count(*) FROM pairs';"
         "ls database*";
}

// What that prints.
std::string BothWrote(const std::string& journal_mode) {
  return journal_mode + "\n0\n0\nready1\nready2\nok\n" + journal_mode +
         "\n1|100|5050\n2|100|5050\nok\n100\ndatabase\n";
}

TEST_P(Programs, SqliteHasTwoWritersByARollbackJournal) {
  PutNoInputs();
  EXPECT_EQ(RunInBoth(WriteByTwo("delete")), BothWrote("delete"));
}

TEST_P(Programs, SqliteHasTwoWritersByAWriteAheadLog) {
  PutNoInputs();
  EXPECT_EQ(RunInBoth(WriteByTwo("wal")), BothWrote("wal"));
}

// python3.

TEST_P(Programs, PythonCompilesAndRunsItsModules) {
  PutInputs(CASEMENT_TEST_PROGRAMS "/modules");
  RunInBoth(
      "python3 -m compileall -s \"$PWD\" .;"
      // The second time there is nothing left to do.
      "python3 -m compileall -s \"$PWD\" .; sha256sum */*/*.pyc;"
      "python3 main.py;"
      "echo 'NAME = \"changed\"' > package/part.py; python3 main.py");
}

// Those of python3's own tests that have to do with files, and how they ended.
// Three are left out: they want trusted extended attributes, which sandboxes
// do not have.
std::string OwnTestsOfPython(const std::string& folder) {
  const ProgramResult result = RunShell(
      "cd '" + folder + "' && " + kEnvironment +
      "mkdir t; python3 -m test -j2 --tempdir t --junit-xml outcomes "
      "  --ignore 'test_copy*xattr*' test_dbm test_dbm_dumb test_fcntl "
      "  test_file test_filecmp test_fileinput test_fileio test_glob "
      "  test_import test_mailbox test_mmap test_os test_pathlib test_posix "
      "  test_py_compile test_shutil test_stat test_tempfile "
      "  test_unicode_file test_unicode_file_functions test_zipimport "
      "  >log 2>&1 || :;"
      "python3 '" CASEMENT_TEST_PROGRAMS "/outcomes.py' outcomes; rm -r t");
  EXPECT_EQ(result.exit_status, 0) << ReadFile(folder + "/log") << result.err;
  return result.out;
}

TEST_P(Programs, PythonsOwnTestsEndAsInAPlainFolder) {
  PutNoInputs();
  static const std::string plain = OwnTestsOfPython(plain_);
  EXPECT_GT(plain.size(), 100000u);
  // The lines that differ alone: there are thousands.
  WriteFile(plain_ + "/plain", plain);
  WriteFile(plain_ + "/sandbox", OwnTestsOfPython(sandbox_));
  EXPECT_EQ(RunShell("cd '" + plain_ + "' && diff plain sandbox").out, "");
}

// Processes that meet by a file.

TEST_P(Programs, LocksAreBetweenProcesses) {
  PutInputs(CASEMENT_TEST_PROGRAMS "/linked");
  EXPECT_EQ(RunInBoth("python3 " CASEMENT_TEST_PROGRAMS "/locks.py main.c"),
            "flock shared beside shared taken\n"
            "flock exclusive beside shared EAGAIN\n"
            "flock exclusive after a wait taken\n"
            "range that is held EAGAIN\n"
            "range before it taken\n"
            "range after it taken\n"
            "held by True 5 10 True\n"
            "range that was held taken\n"
            "given up by a close\n"
            "range after a wait taken\n");
}

TEST_P(Programs, UnixSocketsConnectClientsToTheirServer) {
  PutNoInputs();
  const std::string said =
      RunInBoth("python3 " CASEMENT_TEST_PROGRAMS "/unix_sockets.py socket");
  EXPECT_NE(said.find("\nclient 0\n"), std::string::npos) << said;
}

}  // namespace
}  // namespace casement
