#include "bench/toolchain.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "bench/bench.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr char kLibraries[] = "lib";

ProgramResult RunOrEnd(const std::vector<std::string>& words) {
  ProgramResult result = RunProgram(words);
  if (result.exit_status == 0) return result;
  std::fprintf(stderr, "%s: %s", words[0].c_str(), result.err.c_str());
  std::exit(1);
}

std::string Find(const std::string& program) {
  const std::string path(absl::StripAsciiWhitespace(
      RunOrEnd({"g++", absl::StrCat("-print-prog-name=", program)}).out));
  if (!path.empty() && path[0] == '/') return path;
  return std::string(absl::StripAsciiWhitespace(
      RunOrEnd({"sh", "-c", absl::StrCat("command -v ", program)}).out));
}

// Where the preprocessor looks for headers, in order.
std::vector<std::string> SearchedDirectories() {
  const ProgramResult said = RunOrEnd(
      {"env", "LC_ALL=C", "g++", "-E", "-v", "-x", "c++", "/dev/null"});
  std::vector<std::string> found;
  bool listing = false;
  for (const absl::string_view line : absl::StrSplit(said.err, '\n')) {
    if (line.rfind("#include <", 0) == 0) {
      listing = true;
    } else if (line.rfind("End of search", 0) == 0) {
      listing = false;
    } else if (listing && fs::exists(std::string(line.substr(1)))) {
      found.push_back(fs::canonical(std::string(line.substr(1))));
    }
  }
  return found;
}

std::vector<std::string> IncludedFiles(const std::string& path) {
  const std::string source = CASEMENT_SOURCE;
  const ProgramResult said =
      RunOrEnd({"g++", "-std=c++20", "-M", "-I", source + "/src", "-I",
                source + "/include", absl::StrCat(source, "/", path)});
  std::vector<std::string> found;
  for (const absl::string_view word :
       absl::StrSplit(said.out, absl::ByAnyChar(" \\\n"), absl::SkipEmpty())) {
    if (word[0] == '/') found.emplace_back(word);
  }
  return found;
}

// What the dynamic linker would load, but for itself.
std::vector<std::string> LibrariesOf(const std::string& program) {
  std::vector<std::string> found;
  for (const absl::string_view line :
       absl::StrSplit(RunOrEnd({"ldd", program}).out, '\n')) {
    const size_t arrow = line.find("=> ");
    const size_t end = line.rfind(" (");
    if (arrow == line.npos || end == line.npos) continue;
    found.emplace_back(line.substr(arrow + 3, end - arrow - 3));
  }
  return found;
}

void Copy(const fs::path& from, const fs::path& to) {
  fs::create_directories(to.parent_path());
  fs::copy_file(fs::canonical(from), to, fs::copy_options::skip_existing);
}

}  // namespace

Toolchain::Toolchain(const std::string& directory, std::string name,
                     std::string source)
    : name_(std::move(name)), source_(std::move(source)) {
  const fs::path top = fs::path(directory) / name_;
  const fs::path repository = CASEMENT_SOURCE;
  const fs::path cc1plus = Find("cc1plus");
  compiler_ = "usr/bin/g++";
  compiler_proper_ = cc1plus.relative_path().parent_path();
  Copy(Find("g++"), top / compiler_);
  Copy(Find("as"), top / "usr/bin/as");
  Copy(cc1plus, top / cc1plus.relative_path());
  for (const char* const program : {"g++", "as", "cc1plus"}) {
    for (const std::string& library : LibrariesOf(Find(program))) {
      Copy(library, top / kLibraries / fs::path(library).filename());
    }
  }
  for (const std::string& path : SearchedDirectories()) {
    searched_.push_back(fs::path(path).relative_path());
    fs::create_directories(top / searched_.back());
  }
  for (const fs::path file : IncludedFiles(source_)) {
    const fs::path of_ours = file.lexically_relative(repository);
    const bool is_ours = *of_ours.begin() != "..";
    Copy(file, top / (is_ours ? of_ours : file.relative_path()));
  }
  CheckIn(directory);
}

std::vector<std::string> Toolchain::Words(const std::string& directory) const {
  std::vector<std::string> words = {
      "env", "-C", absl::StrCat(directory, "/", name_),
      absl::StrCat("LD_LIBRARY_PATH=", kLibraries), compiler_,
      // Not where a symlink to the compiler leads.
      "-no-canonical-prefixes", "-B", compiler_proper_ + "/", "-B", "usr/bin/",
      "-std=c++20", "-Isrc", "-Iinclude", "-nostdinc"};
  for (const std::string& path : searched_) {
    words.push_back("-isystem");
    words.push_back(path);
  }
  return words;
}

void Toolchain::CheckIn(const std::string& directory) const {
  std::vector<std::string> words = Words(directory);
  for (const char* const program : {"cc1plus", "as"}) {
    words.push_back(absl::StrCat("-print-prog-name=", program));
    const std::string said(absl::StripAsciiWhitespace(RunOrEnd(words).out));
    words.pop_back();
    if (fs::path(said).is_relative() && said.find('/') != said.npos) continue;
    std::fprintf(stderr, "%s: the machine's %s would run, %s\n",
                 directory.c_str(), program, said.c_str());
    std::exit(1);
  }
}

double Toolchain::Compile(const std::string& directory) const {
  std::vector<std::string> words = Words(directory);
  words.insert(words.end(), {"-pipe", "-c", "-o", "made.o", source_});
  const double seconds = Seconds([&] { RunOrEnd(words); });
  const std::string made = absl::StrCat(directory, "/", name_, "/made.o");
  Require(fs::exists(made) && fs::file_size(made) > 0, made);
  fs::remove(made);
  return seconds;
}

}  // namespace casement
