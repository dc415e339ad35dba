// A ControlServer on a real socket over a real store, and sandboxes that are
// plain directories; everything in a temporary folder.
#ifndef CASEMENT_TESTS_SUPPORT_CONTROL_HARNESS_H_
#define CASEMENT_TESTS_SUPPORT_CONTROL_HARNESS_H_

#include <filesystem>  // NOLINT
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "casement/client.h"
#include "control/control_server.h"
#include "gtest/gtest.h"
#include "store/action_cache.h"
#include "store/blob_fetcher.h"
#include "store/blob_sender.h"
#include "store/blob_source.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "store/disk.h"
#include "support/fake_sandbox_table.h"
#include "support/temp_directory.h"

namespace casement {

class ControlHarness {
 public:
  // `remote`, if there is one, outlives this.
  explicit ControlHarness(ControlServer::Options options = {},
                          int64_t capacity_bytes = int64_t{1} << 30,
                          BlobSource* remote = nullptr)
      : socket_(folder_ / "socket") {
    // Other users' processes, for tests of who gets in.
    std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
    for (const char* name : {"store", "sandboxes"}) {
      std::filesystem::create_directory(folder_ / name);
    }
    auto store = BlobStore::Open(
        disk_, clock_,
        {.directory = folder_ / "store", .capacity_bytes = capacity_bytes});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    if (remote != nullptr) {
      fetcher_ = std::make_unique<BlobFetcher>(*store_, *remote,
                                               BlobFetcher::Options());
      sender_ =
          std::make_unique<BlobSender>(*store_, *remote, BlobSender::Options());
    }
    options.fetcher = fetcher_.get();
    options.sender = sender_.get();
    directories_ = std::make_unique<DirectoryTable>(
        *store_, DirectoryTable::Options(), fetcher_.get());
    auto actions =
        ActionCache::Open(disk_, *store_, {.directory = folder_ / "store"});
    EXPECT_TRUE(actions.ok()) << actions.status();
    actions_ = *std::move(actions);
    table_ = std::make_unique<FakeSandboxTable>(*store_, *directories_,
                                                folder_ / "sandboxes");
    options.socket_path = socket_;
    options.store_path = folder_ / "store";
    server_ = std::make_unique<ControlServer>(
        *store_, *directories_, *actions_, *table_,
        [] {
          return std::vector<Metric>{{.name = "things_total",
                                      .help = "Things",
                                      .labels = {{"kind", "a \"b\"\n"}},
                                      .value = 3}};
        },
        std::move(options));
    const absl::Status started = server_->Start();
    EXPECT_TRUE(started.ok()) << started;
  }

  std::unique_ptr<Client> Connect() {
    auto client = Client::Connect(socket_);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  TempDirectory& folder() { return folder_; }
  const std::string& socket() const { return socket_; }
  BlobStore& store() { return *store_; }
  DirectoryTable& directories() { return *directories_; }
  ActionCache& actions() { return *actions_; }
  FakeSandboxTable& table() { return *table_; }
  ControlServer& server() { return *server_; }

 private:
  TempDirectory folder_;
  const std::string socket_;
  RealDisk disk_;
  SystemClock clock_;
  std::unique_ptr<BlobStore> store_;
  std::unique_ptr<BlobFetcher> fetcher_;  // These may be null.
  std::unique_ptr<BlobSender> sender_;
  std::unique_ptr<DirectoryTable> directories_;
  std::unique_ptr<ActionCache> actions_;
  std::unique_ptr<FakeSandboxTable> table_;
  std::unique_ptr<ControlServer> server_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_CONTROL_HARNESS_H_
