#include "bench/key.h"

#include <cstdio>
#include <cstdlib>

#include "bench/bench.h"

namespace casement {
namespace {

constexpr char kPlain[] = "a plain directory";
constexpr char kPlainRate[] = "a plain directory's throughput";
constexpr auto kAtMost = Key::Sense::kAtMost;
constexpr auto kAtLeast = Key::Sense::kAtLeast;
constexpr auto kNoTarget = Key::Sense::kNoTarget;

}  // namespace

const std::vector<Key>& AllKeys() {
  // Targets: issue 6.
  static const std::vector<Key> keys = {
      {"stat_warm", "x", kPlain, "warm", kAtMost, 1.3},
      {"open_read_close_4k_warm", "x", kPlain, "warm", kAtMost, 2.0},
      {"lookup_cold_us", "x", "one null request of the same transport",
       "names unknown to the kernel", kAtMost, 1.3},
      {"seq_read_1g_warm", "x", kPlainRate, "warm", kAtLeast, 0.95},
      {"mmap_1g_warm", "x", kPlainRate, "warm", kAtLeast, 0.95},
      {"seq_read_1g_cold", "x", kPlainRate, "pages dropped", kAtLeast, 0.95},
      {"create_write_close_4k", "x", kPlain, "warm", kAtMost, 1.5},
      {"write_1g", "x", kPlainRate, "warm", kAtLeast, 0.9},
      {"walk_stat_50k_first", "x", "a warm plain directory",
       "names unknown to the kernel", kAtMost, 3.0},
      {"tar_10k_warm", "x", kPlain, "warm", kAtMost, 1.3},
      {"compile_cold", "x", kPlain, "everything dropped, a new sandbox",
       kAtMost, 1.10},
      {"compile_warm", "x", kPlain, "warm", kAtMost, 1.02},
      {"sandbox_create_100", "ms", "a known tree of 100 files", "warm",
       kNoTarget, 0},
      {"sandbox_create_100k", "x", "sandbox_create_100", "warm", kAtMost, 1.2},
      {"sandbox_create_10k", "x", "making a tree of hard links", "warm",
       kAtMost, 0.01},
      {"collect_1g", "x", "SHA-256 by OpenSSL of the same bytes", "warm",
       kAtMost, 1.1},
      {"collect_1g_copied", "bytes", "written by the daemon meanwhile", "warm",
       kAtMost, 0},
      {"page_cache_after_both_views_1g", "x", "the blob's size",
       "pages dropped, then both views read", kAtMost, 1.05},
      {"exec_view_1000", "bytes+files", "added to the store by using them",
       "warm", kAtMost, 0},
      {"memory_per_node", "bytes", "the daemon's, after a first walk",
       "names unknown to the kernel", kAtMost, 250},
  };
  return keys;
}

const Key& KeyNamed(const std::string& name) {
  for (const Key& key : AllKeys()) {
    if (key.name == name) return key;
  }
  std::fprintf(stderr, "no key is called %s\n", name.c_str());
  std::exit(1);
}

bool IsMet(const Key& key, double value) {
  switch (key.sense) {
    case Key::Sense::kAtMost:
      return value <= key.target;
    case Key::Sense::kAtLeast:
      return value >= key.target;
    case Key::Sense::kNoTarget:
      return true;
  }
  return false;
}

KeyResult RatioOf(const std::string& key, const std::string& mode,
                  const std::vector<std::vector<double>>& seconds,
                  const std::vector<std::string>& others) {
  // Throughputs are the other way round.
  const bool is_rate = KeyNamed(key).sense == Key::Sense::kAtLeast;
  const auto ratios = [&](size_t way) {
    std::vector<double> values;
    for (size_t round = 0; round < seconds[way].size(); ++round) {
      const double ratio = seconds[way][round] / seconds[1][round];
      values.push_back(is_rate ? 1 / ratio : ratio);
    }
    return values;
  };
  KeyResult result = {.key = key, .mode = mode, .values = ratios(0)};
  for (size_t i = 0; i < others.size(); ++i) {
    result.others[others[i]] = ratios(i + 2);
  }
  result.figures["seconds"] = Median(seconds[0]);
  result.figures["control_seconds"] = Median(seconds[1]);
  return result;
}

}  // namespace casement
