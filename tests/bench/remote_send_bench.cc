// Question: with a remote cache 25 ms away, how much longer does it take to
// collect 2,000 small outputs if they are sent there before it returns?
//
// The way back and forth takes 25 ms more, by a proxy between two daemons. The
// control collects the same number without sending. Printed too is what it
// takes to collect and send them again, when all are there already.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "bench/bench.h"
#include "support/running_daemon.h"
#include "support/socket_proxy.h"

namespace casement {
namespace {

constexpr absl::Duration kOneWay = absl::Microseconds(12500);

class RemoteSendBench {
 public:
  explicit RemoteSendBench(const BenchOptions& options)
      : options_(options),
        files_(options.quick ? 50 : 2000),
        proxy_(cluster_.folder() + "/proxy", cluster_.socket()),
        host_(
            {"--remote", absl::StrCat("unix:", cluster_.folder(), "/proxy")}) {
    proxy_.SetDelay(kOneWay);
  }

  int Run() {
    PrintHeading(absl::StrFormat(
        "A remote cache %.4g ms away: collecting %d small outputs and sending "
        "them there, against collecting them",
        2 * absl::ToDoubleMilliseconds(kOneWay), files_));
    const Series series = Alternate(
        options_.rounds, [this] { return Collect(/*send=*/true); },
        [this] { return Collect(/*send=*/false); });
    const auto line = [](const char* what, const std::vector<double>& values) {
      std::printf("  %-44s %s s\n", what, Spread(values).c_str());
    };
    line("collected and sent", series.subject);
    line("collected", series.control);
    std::printf("  %-44s %.3g s\n", "difference",
                Median(series.subject) - Median(series.control));
    line("sent again, when all are there", again_);
    std::printf("  blobs sent: %d of %d\n", sent_, expected_);
    return 0;
  }

 private:
  int Sent() {
    return static_cast<int>(host_.Metric("remote_sent_blobs_total"));
  }

  double Collect(bool send) {
    const std::string name = absl::StrCat("round", round_++);
    const CreatedSandbox sandbox = Must(host_.client().Create({.name = name}));
    const std::string folder = sandbox.info.path + "/out";
    Require(RunProgram({"mkdir", folder}).exit_status == 0, "mkdir");
    for (int i = 0; i < files_; ++i) {
      // Nobody else's bytes.
      WriteFile(absl::StrCat(folder, "/", i), absl::StrCat(name, ":", i));
    }
    const int before = Sent();
    const auto collect = [&] {
      return Seconds(
          [&] { Must(host_.client().Collect(name, {"out"}, {.send = send})); });
    };
    const double seconds = collect();
    if (send) {
      again_.push_back(collect());
      expected_ += files_ + 2;  // A Directory, and the Tree.
    }
    sent_ += Sent() - before;
    Require(host_.client().Release(name).ok(), "release");
    if (sent_ == expected_) return seconds;
    std::fprintf(stderr, "sent %d blobs, not %d\n", sent_, expected_);
    std::exit(1);
  }

  const BenchOptions options_;
  const int files_;
  RunningDaemon cluster_;
  SocketProxy proxy_;
  RunningDaemon host_;
  int round_ = 0;
  int sent_ = 0;
  int expected_ = 0;
  std::vector<double> again_;
};

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::RemoteSendBench(casement::ParseBenchOptions(argc, argv))
      .Run();
}
