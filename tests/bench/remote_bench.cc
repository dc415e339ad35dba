// Question: with a remote cache 25 ms away, how soon is an action done that
// reads 200 files of a tree of 50,000, against fetching the whole tree first?
// The files have the sizes of those in /usr/include.
//
// The way back and forth takes 25 ms more, by a proxy between two daemons. The
// action reads with 32 threads, as a parallel build does; what it takes with
// one is printed, too, and what its next run takes on a host that has lost the
// blobs, with the same label.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/bench.h"
#include "bench/input_tree.h"
#include "build/buildgrid/local_cas.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "support/running_daemon.h"
#include "support/socket_proxy.h"

namespace casement {
namespace {

constexpr absl::Duration kOneWay = absl::Microseconds(12500);

namespace fs = std::filesystem;

std::vector<int> HeaderSizes() {
  std::vector<int> sizes;
  for (const InputTree::Link& link : ScanTree("/usr/include").links) {
    if (link.is_file) sizes.push_back(int(fs::file_size(link.target)));
  }
  return sizes;
}

// A host whose store is empty. It knows the remote already.
class Host {
 public:
  explicit Host(const std::string& remote)
      : daemon_({"--remote", absl::StrCat("unix:", remote)}) {
    while (daemon_.Metric("remote_calls_total", "capabilities") < 1) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }

  std::string Create(const Digest& root) {
    SandboxSpec spec;
    spec.root = root;
    spec.label = "//bench:action";
    spec.inputs_from = InputsFrom::kRemote;
    return Must(daemon_.client().Create(spec)).info.path;
  }
  void FetchTree(const Digest& root) {
    const auto stub = build::buildgrid::LocalContentAddressableStorage::NewStub(
        grpc::CreateChannel(absl::StrCat("unix:", daemon_.socket()),
                            grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    build::buildgrid::FetchTreeRequest request;
    build::buildgrid::FetchTreeResponse response;
    request.mutable_root_digest()->set_hash(root.HexHash());
    request.mutable_root_digest()->set_size_bytes(root.size_bytes());
    request.set_fetch_file_blobs(true);
    const grpc::Status status = stub->FetchTree(&context, request, &response);
    if (status.ok()) return;
    std::fprintf(stderr, "FetchTree: %s\n", status.error_message().c_str());
    std::exit(1);
  }
  int64_t Fetched() {
    return static_cast<int64_t>(daemon_.Metric("remote_fetched_blobs_total"));
  }
  // Ends the sandbox, and loses every blob.
  void Forget(const std::string& sandbox) {
    const std::string name = sandbox.substr(sandbox.rfind('/') + 1);
    if (!daemon_.client().Release(name).ok()) std::exit(1);
    Must(daemon_.client().EvictUnleased());
  }

 private:
  RunningDaemon daemon_;
};

// Reads every so many-th file, `files` of them, and returns their bytes.
size_t Act(const std::string& sandbox, int files, int step, int threads) {
  std::vector<size_t> bytes(static_cast<size_t>(threads));
  std::vector<std::thread> workers;
  for (int worker = 0; worker < threads; ++worker) {
    workers.emplace_back([&, worker] {
      for (int i = worker; i < files; i += threads) {
        bytes[static_cast<size_t>(worker)] +=
            ReadFile(absl::StrCat(sandbox, "/", TreeFileName(i * step))).size();
      }
    });
  }
  size_t sum = 0;
  for (int worker = 0; worker < threads; ++worker) {
    workers[static_cast<size_t>(worker)].join();
    sum += bytes[static_cast<size_t>(worker)];
  }
  return sum;
}

struct Results {
  std::vector<double> create;
  std::vector<double> parallel;
  std::vector<double> again;     // On the same host: nothing is fetched.
  std::vector<double> labelled;  // The blobs are lost, the list is not.
  std::vector<double> serial;
  std::vector<double> whole;
};

class RemoteBench {
 public:
  explicit RemoteBench(const BenchOptions& options)
      : options_(options),
        files_(options.quick ? 1000 : 50000),
        opened_(options.quick ? 20 : 200),
        proxy_(cluster_.folder() + "/proxy", cluster_.socket()) {
    const std::string tree = cluster_.folder() + "/tree";
    const std::vector<int> sizes = HeaderSizes();
    MakeTree(tree, files_, sizes);
    mean_bytes_ = std::reduce(sizes.begin(), sizes.end(), 0.0) / sizes.size();
    for (int i = 0; i < opened_; ++i) {
      read_bytes_ += fs::file_size(
          absl::StrCat(tree, "/", TreeFileName(i * (files_ / opened_))));
    }
    root_ = Must(cluster_.client().PutTree(tree, {})).root;
    proxy_.SetDelay(kOneWay);
  }

  int Run() {
    PrintHeading(absl::StrFormat(
        "A remote cache %.4g ms away: reading %d files of a tree of %d with "
        "%.3g bytes each, against fetching all of it first",
        2 * absl::ToDoubleMilliseconds(kOneWay), opened_, files_, mean_bytes_));
    for (int round = 0; round < options_.rounds; ++round) {
      if (round % 2 == 0) PlayLazy();
      PlayWhole();
      if (round % 2 != 0) PlayLazy();
    }
    Print();
    return 0;
  }

 private:
  // All stay to the end: for minutes, ext4 passes over the inodes of files that
  // were deleted, one by one, whenever it makes a new file.
  Host& NewHost() {
    hosts_.push_back(std::make_unique<Host>(cluster_.folder() + "/proxy"));
    return *hosts_.back();
  }
  double ActFor(const std::string& sandbox, int threads) {
    return Seconds([&] {
      const size_t bytes = Act(sandbox, opened_, files_ / opened_, threads);
      if (bytes != read_bytes_) std::exit(1);
    });
  }

  void PlayLazy() {
    Host& host = NewHost();
    std::string sandbox;
    const double create = Seconds([&] { sandbox = host.Create(root_); });
    results_.create.push_back(create);
    results_.parallel.push_back(create + ActFor(sandbox, 32));
    const int64_t fetched = host.Fetched();
    results_.again.push_back(ActFor(host.Create(root_), 32));
    if (host.Fetched() != fetched) {
      std::fprintf(stderr, "a second action fetched something\n");
      std::exit(1);
    }
    Host& other = NewHost();
    sandbox = other.Create(root_);
    results_.serial.push_back(ActFor(sandbox, 1));
    other.Forget(sandbox);
    results_.labelled.push_back(
        Seconds([&] { sandbox = other.Create(root_); }) + ActFor(sandbox, 1));
  }

  void PlayWhole() {
    Host& host = NewHost();
    double seconds = Seconds([&] { host.FetchTree(root_); });
    std::string sandbox;
    seconds += Seconds([&] { sandbox = host.Create(root_); });
    results_.whole.push_back(seconds + ActFor(sandbox, 32));
  }

  void Print() const {
    const auto line = [](const char* what, const std::vector<double>& values) {
      std::printf("  %-44s %s s\n", what, Spread(values).c_str());
    };
    line("the sandbox is there", results_.create);
    line("with it, read by 32 threads", results_.parallel);
    line("a second action, nothing fetched", results_.again);
    line("the whole tree first", results_.whole);
    std::printf("  %-44s 1/%.3g\n", "ratio",
                Median(results_.whole) / Median(results_.parallel));
    line("read by 1 thread, without the sandbox", results_.serial);
    line("blobs lost, same label, 1 thread, with it", results_.labelled);
  }

  const BenchOptions options_;
  const int files_;
  const int opened_;
  RunningDaemon cluster_;
  SocketProxy proxy_;
  Digest root_;
  double mean_bytes_ = 0;
  size_t read_bytes_ = 0;  // By an action.
  std::vector<std::unique_ptr<Host>> hosts_;
  Results results_;
};

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::RemoteBench(casement::ParseBenchOptions(argc, argv, 3))
      .Run();
}
