#include "bench/key_report.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "bench/bench.h"

namespace casement {
namespace {

const KeyResult& ResultOf(const KeyReport& report, const Key& key,
                          const std::string& mode) {
  for (const KeyResult& one : report.results) {
    if (one.key == key.name && one.mode == mode) return one;
  }
  std::fprintf(stderr, "%s was not measured in mode \"%s\"\n", key.name,
               mode.c_str());
  std::exit(1);
}

// The mode whose figures count for the target.
const KeyResult& BestOf(const KeyReport& report, const Key& key) {
  const KeyResult* best = nullptr;
  for (const std::string& mode : report.modes) {
    const KeyResult& one = ResultOf(report, key, mode);
    const bool more_is_better = key.sense == Key::Sense::kAtLeast;
    if (best == nullptr ||
        (more_is_better ? Median(one.values) > Median(best->values)
                        : Median(one.values) < Median(best->values))) {
      best = &one;
    }
  }
  return *best;
}

// The median, and the middle half if there is one.
std::string Shown(const std::vector<double>& values) {
  const double median = Median(values);
  if (values.size() == 1) return absl::StrFormat("%.3g", median);
  const auto [low, high] = MiddleHalf(values);
  return absl::StrFormat("%.3g (%.2g-%.2g)", median, low, high);
}

std::string TargetOf(const Key& key) {
  switch (key.sense) {
    case Key::Sense::kAtMost:
      return absl::StrFormat("<= %g", key.target);
    case Key::Sense::kAtLeast:
      return absl::StrFormat(">= %g", key.target);
    case Key::Sense::kNoTarget:
      return "";
  }
  return "";
}

std::string VerdictOn(const Key& key, const KeyResult& best) {
  if (key.sense == Key::Sense::kNoTarget) return "";
  return IsMet(key, Median(best.values)) ? "met" : "missed";
}

std::string SizesOf(const KeyReport& report) {
  return absl::StrFormat(
      "walk %d files, small %d, calls %d, big %d MiB, known trees %s, "
      "exec views %d",
      report.sizes.walk_files, report.sizes.small_files, report.sizes.calls,
      report.sizes.big_bytes >> 20,
      absl::StrJoin(report.sizes.known_files, " "), report.sizes.exec_views);
}

void PrintModes(const KeyReport& report) {
  std::printf("  %-31s %-12s", "key", "unit");
  for (const std::string& mode : report.modes) {
    std::printf(" %-25s", mode.c_str());
  }
  std::printf(" %-8s %-7s %s\n", "target", "", "best mode");
  for (const Key& key : AllKeys()) {
    std::printf("  %-31s %-12s", key.name, key.unit);
    for (const std::string& mode : report.modes) {
      std::printf(" %-25s", Shown(ResultOf(report, key, mode).values).c_str());
    }
    const KeyResult& best = BestOf(report, key);
    std::printf(" %-8s %-7s %s\n", TargetOf(key).c_str(),
                VerdictOn(key, best).c_str(), best.mode.c_str());
  }
}

// Other ways may have been measured in one mode only.
const KeyResult& OneWithOthers(const KeyReport& report, const Key& key) {
  const KeyResult* most = &BestOf(report, key);
  for (const std::string& mode : report.modes) {
    const KeyResult& one = ResultOf(report, key, mode);
    if (one.others.size() > most->others.size()) most = &one;
  }
  return *most;
}

// What each key is a ratio to, and the same of other ways.
void PrintControls(const KeyReport& report) {
  std::printf("\n  %-31s %-42s %-36s %s\n", "key", "x is the ratio to",
              "caches", "other ways to do it, in the same unit");
  for (const Key& key : AllKeys()) {
    std::vector<std::string> others;
    for (const auto& [name, values] : OneWithOthers(report, key).others) {
      others.push_back(absl::StrCat(name, " ", Shown(values)));
    }
    std::printf("  %-31s %-42s %-36s %s\n", key.name, key.to, key.caches,
                absl::StrJoin(others, ", ").c_str());
  }
}

std::string Quote(const std::string& text) {
  return absl::StrCat(
      "\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

std::string Number(double value) { return absl::StrFormat("%.6g", value); }

// "NAME": VALUE pairs, and how they are put together.
using Members = std::vector<std::pair<std::string, std::string>>;

std::string Object(const Members& members, int depth) {
  const std::string indent(static_cast<size_t>(2 * depth), ' ');
  std::vector<std::string> lines;
  for (const auto& [name, value] : members) {
    lines.push_back(absl::StrCat(indent, "  ", Quote(name), ": ", value));
  }
  return absl::StrCat("{\n", absl::StrJoin(lines, ",\n"), "\n", indent, "}");
}

void AddValues(const std::vector<double>& values, Members& members) {
  const auto [low, high] = MiddleHalf(values);
  members.emplace_back("median", Number(Median(values)));
  members.emplace_back("middle_half",
                       absl::StrCat("[", Number(low), ", ", Number(high), "]"));
  members.emplace_back("rounds", absl::StrCat(values.size()));
}

std::string JsonOf(const KeyResult& result) {
  Members members;
  AddValues(result.values, members);
  for (const auto& [name, value] : result.figures) {
    members.emplace_back(name, Number(value));
  }
  for (const auto& [name, values] : result.others) {
    Members other;
    AddValues(values, other);
    members.emplace_back(name, Object(other, 5));
  }
  return Object(members, 4);
}

std::string JsonOf(const KeyReport& report, const Key& key) {
  const KeyResult& best = BestOf(report, key);
  Members members;
  const std::string unit = key.unit;
  members.emplace_back(unit == "x" ? "ratio" : "value",
                       Number(Median(best.values)));
  members.emplace_back("unit", Quote(unit == "x" ? "ratio" : unit));
  members.emplace_back("to", Quote(key.to));
  members.emplace_back("caches", Quote(key.caches));
  members.emplace_back("best_mode", Quote(best.mode));
  if (key.sense != Key::Sense::kNoTarget) {
    members.emplace_back("target", Quote(TargetOf(key)));
    members.emplace_back("met",
                         IsMet(key, Median(best.values)) ? "true" : "false");
  }
  Members modes;
  for (const std::string& mode : report.modes) {
    modes.emplace_back(mode, JsonOf(ResultOf(report, key, mode)));
  }
  members.emplace_back("modes", Object(modes, 3));
  return Object(members, 2);
}

}  // namespace

void PrintTable(const KeyReport& report) {
  const Machine machine = ThisMachine();
  std::printf(
      "casement's keys: a sandbox against other ways to have the same files\n"
      "  Linux %s, %d CPUs (%s), %s, commit %s\n"
      "  at most %d rounds, medians and their middle halves%s\n  %s\n\n",
      machine.kernel.c_str(), static_cast<int>(machine.cpus),
      machine.cpu_model.c_str(), machine.file_system.c_str(),
      machine.commit.c_str(), report.rounds,
      report.quick ? "; --quick: small inputs" : "", SizesOf(report).c_str());
  PrintModes(report);
  PrintControls(report);
}

void PrintJson(const KeyReport& report) {
  const Machine machine = ThisMachine();
  std::vector<std::string> modes;
  for (const std::string& mode : report.modes) modes.push_back(Quote(mode));
  Members keys;
  for (const Key& key : AllKeys()) {
    keys.emplace_back(key.name, JsonOf(report, key));
  }
  const Members members = {
      {"kernel", Quote(machine.kernel)},
      {"cpus", absl::StrCat(machine.cpus)},
      {"cpu_model", Quote(machine.cpu_model)},
      {"file_system", Quote(machine.file_system)},
      {"commit", Quote(machine.commit)},
      {"quick", report.quick ? "true" : "false"},
      {"rounds", absl::StrCat(report.rounds)},
      {"sizes", Quote(SizesOf(report))},
      {"other", report.other.empty() ? "null" : Quote(report.other)},
      {"modes", absl::StrCat("[", absl::StrJoin(modes, ", "), "]")},
      {"keys", Object(keys, 1)},
  };
  std::printf("%s\n", Object(members, 0).c_str());
}

}  // namespace casement
