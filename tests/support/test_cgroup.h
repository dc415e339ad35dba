// A control group (version 2) of the test's own. Needs root.
#ifndef CASEMENT_TESTS_SUPPORT_TEST_CGROUP_H_
#define CASEMENT_TESTS_SUPPORT_TEST_CGROUP_H_

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mount_info.h"

namespace casement {

class TestCgroup {
 public:
  TestCgroup() {
    for (const MountInfo& mount : ReadMountInfo("/proc/self/mountinfo")) {
      if (mount.type == "cgroup2") tree_ = mount.path;
    }
    path_ = absl::StrCat(tree_, "/casement-test-", ::getpid());
    is_made_ = !tree_.empty() && ::mkdir(path_.c_str(), 0755) == 0;
  }
  // Whatever is still in it is killed.
  ~TestCgroup() {
    std::ofstream(path_ + "/cgroup.kill") << 1;
    for (int i = 0; i < 500 && ::rmdir(path_.c_str()) != 0; ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
  }
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;

  // False if there is no such tree here, or it cannot be written to.
  bool is_made() const { return is_made_; }
  const std::string& path() const { return path_; }
  const std::string& tree() const { return tree_; }

  // A shell command in it, and its process. The command must be one that goes
  // on and stays there: "exec sleep 1000", say.
  pid_t Spawn(const std::string& command) const {
    const std::string script =
        absl::StrCat("echo $$ > ", path_, "/cgroup.procs; ", command);
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::execl("/bin/sh", "sh", "-c", script.c_str(), nullptr);
      ::_exit(127);
    }
    while (pid > 0 && !Holds(pid)) absl::SleepFor(absl::Milliseconds(1));
    return pid;
  }

 private:
  bool Holds(pid_t wanted) const {
    std::ifstream pids(path_ + "/cgroup.procs");
    for (pid_t pid = 0; pids >> pid;) {
      if (pid == wanted) return true;
    }
    return false;
  }

  std::string tree_;
  std::string path_;
  bool is_made_ = false;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_TEST_CGROUP_H_
