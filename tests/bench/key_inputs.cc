#include "bench/key_inputs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/bench.h"
#include "bench/input_tree.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkBytes = 1 << 20;
constexpr int64_t kSmallFileBytes = 4096;

void MakeBig(const std::string& path, int64_t bytes) {
  std::vector<char> chunk(kChunkBytes);
  const UniqueFd fd(
      open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
  Require(fd.valid(), path);
  for (int64_t done = 0; done < bytes; done += kChunkBytes) {
    for (size_t i = 0; i < chunk.size(); i += 61) {
      chunk[i] = static_cast<char>(1 + (i + static_cast<size_t>(done)) % 100);
    }
    Require(write(fd.get(), chunk.data(), kChunkBytes) == kChunkBytes, path);
  }
}

}  // namespace

std::string KeyMode::name() const {
  return absl::StrCat(data_path, ", ", transport);
}

KeyInputs::KeyInputs(const KeySizes& sizes, const std::string& other)
    : sizes_(sizes), toolchain_([this] {
        fs::create_directory(daemon_.folder() + "/plain");
        return Toolchain(daemon_.folder() + "/plain", "compile", sizes_.source);
      }()) {
  const std::string plain = daemon_.folder() + "/plain";
  MakeTree(plain + "/walk", sizes.walk_files);
  MakeTree(plain + "/small", sizes.small_files);
  WriteFile(plain + "/4k", std::string(kSmallFileBytes, 'x'));
  MakeBig(plain + "/big", sizes.big_bytes);
  root_ = Must(daemon_.client().PutTree(plain, {})).root;
  big_ = Must(daemon_.client().PutFile(plain + "/big"));
  for (const int files : sizes.known_files) {
    const std::string tree = absl::StrCat(daemon_.folder(), "/known-", files);
    MakeTree(tree, files);
    known_.push_back({tree, Must(daemon_.client().PutTree(tree, {})).root});
  }
  MakeControls(plain, other);
}

KeyInputs::~KeyInputs() {
  std::error_code ignored;
  if (!copy_.empty()) fs::remove_all(copy_, ignored);
}

void KeyInputs::MakeControls(const std::string& plain,
                             const std::string& other) {
  const InputTree tree = ScanTree(plain);
  const std::string hard_links = daemon_.folder() + "/hard-links";
  const std::string symlinks = daemon_.folder() + "/symlinks";
  MakeHardLinkTree(tree, hard_links);
  MakeSymlinkTree(tree, symlinks);
  controls_ = {{"plain directory", plain},
               {"hard links", hard_links, /*is_links=*/true},
               {"symlinks", symlinks, /*is_links=*/true}};
  if (!other.empty()) {
    copy_ = other + "/casement-bench-XXXXXX";
    Require(mkdtemp(copy_.data()) != nullptr, copy_);
    MakeCopy(tree, copy_ + "/copy");
    controls_.push_back({"other", copy_ + "/copy"});
  }
  for (const KeyPlace& place : controls_) toolchain_.CheckIn(place.directory);
}

bool KeyInputs::Enter(const KeyMode& mode) {
  released_later_.clear();  // They end with the daemon.
  daemon_.Stop();
  daemon_.SetArguments(
      {"--data-path", mode.data_path, "--transport", mode.transport});
  daemon_.Start();
  const bool has_uring = daemon_.Metric("fuse_io_uring") > 0;
  const bool has_passthrough = daemon_.Metric("fuse_passthrough") > 0;
  if (has_uring != (mode.transport == std::string("io_uring")) ||
      has_passthrough != (mode.data_path == std::string("passthrough"))) {
    return false;
  }
  if (!mode_.empty()) {
    std::erase_if(controls_, [](const KeyPlace& one) { return one.is_links; });
    has_links_ = false;
  }
  mode_ = mode.name();
  sandbox_ = Must(daemon_.client().Create({.root = root_})).info.path;
  toolchain_.CheckIn(sandbox_);
  return true;
}

std::string KeyInputs::NewSandbox(const Digest& root) {
  const CreatedSandbox made = Must(daemon_.client().Create(
      {.root = root}, /*session=*/nullptr, {.never_reuse = true}));
  released_later_.push_back(made.info.name);
  return made.info.path;
}

void KeyInputs::Release() {
  for (const std::string& name : std::exchange(released_later_, {})) {
    const absl::Status released = daemon_.client().Release(name);
    if (released.ok()) continue;
    std::fprintf(stderr, "%s\n", std::string(released.message()).c_str());
    std::exit(1);
  }
}

void KeyInputs::WaitUntilForgotten(double nodes) {
  // What the kernel gives back comes a little later, and only delays.
  constexpr int kTriesMax = 500;
  for (int i = 0; i < kTriesMax && daemon_.Metric("nodes") > nodes; ++i) {
    usleep(10000);
  }
}

}  // namespace casement
