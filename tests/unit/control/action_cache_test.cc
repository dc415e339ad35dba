// REv2's ActionCache, as its clients see it.
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "support/control_fixture.h"

namespace casement {
namespace {

using grpc::StatusCode;
using ::testing::HasSubstr;

class ActionCacheServiceTest : public ControlServerTest {
 protected:
  ActionCacheServiceTest() : actions_(rev2::ActionCache::NewStub(channel_)) {}

  static Digest Action(int number) {
    return Digest::Of(absl::StrCat("action ", number));
  }

  rev2::ActionResult ResultOf(const std::string& output) {
    rev2::ActionResult result;
    rev2::OutputFile& file = *result.add_output_files();
    file.set_path("out");
    *file.mutable_digest() = MessageOf(PutNow(output));
    *result.mutable_stdout_digest() = MessageOf(PutNow("said"));
    *result.mutable_stderr_digest() = MessageOf(PutNow("complained"));
    result.set_exit_code(7);
    return result;
  }

  grpc::Status Update(const Digest& action, const rev2::ActionResult& result,
                      rev2::ActionResult* response) {
    rev2::UpdateActionResultRequest request;
    *request.mutable_action_digest() = MessageOf(action);
    *request.mutable_action_result() = result;
    grpc::ClientContext context;
    return actions_->UpdateActionResult(&context, request, response);
  }

  grpc::Status Get(rev2::GetActionResultRequest request, const Digest& action,
                   rev2::ActionResult* response) {
    *request.mutable_action_digest() = MessageOf(action);
    grpc::ClientContext context;
    return actions_->GetActionResult(&context, request, response);
  }

  std::unique_ptr<rev2::ActionCache::Stub> actions_;
};

TEST_F(ActionCacheServiceTest, ResultsComeBack) {
  rev2::ActionResult response;
  ASSERT_TRUE(Update(Action(1), ResultOf("output"), &response).ok());
  EXPECT_EQ(response.exit_code(), 7);
  rev2::ActionResult got;
  ASSERT_TRUE(Get({}, Action(1), &got).ok());
  EXPECT_EQ(got.SerializeAsString(), response.SerializeAsString());
  const grpc::Status none = Get({}, Action(2), &got);
  EXPECT_EQ(none.error_code(), StatusCode::NOT_FOUND);
  EXPECT_THAT(none.error_message(), HasSubstr(Action(2).ToString()));
}

TEST_F(ActionCacheServiceTest, BlobsAreInlinedWhereAskedFor) {
  rev2::ActionResult stored = ResultOf("output");
  stored.mutable_output_files(0)->set_contents("sent along");
  rev2::ActionResult response;
  ASSERT_TRUE(Update(Action(1), stored, &response).ok());
  rev2::ActionResult got;
  ASSERT_TRUE(Get({}, Action(1), &got).ok());
  EXPECT_EQ(got.stdout_raw() + got.stderr_raw(), "");
  EXPECT_EQ(got.output_files(0).contents(), "");
  rev2::GetActionResultRequest request;
  request.set_inline_stdout(true);
  ASSERT_TRUE(Get(request, Action(1), &got).ok());
  EXPECT_EQ(got.stdout_raw(), "said");
  EXPECT_EQ(got.stderr_raw(), "");
  request.set_inline_stderr(true);
  request.add_inline_output_files("out");
  request.add_inline_output_files("no output");
  ASSERT_TRUE(Get(request, Action(1), &got).ok());
  EXPECT_EQ(got.stderr_raw(), "complained");
  EXPECT_EQ(got.output_files(0).contents(), "output");
}

TEST_F(ActionCacheServiceTest, OnlySoMuchIsInlined) {
  rev2::ActionResult response;
  rev2::ActionResult stored = ResultOf(Pattern(kMiB - 3));
  ASSERT_TRUE(Update(Action(1), stored, &response).ok());
  rev2::GetActionResultRequest request;
  request.set_inline_stdout(true);
  request.add_inline_output_files("out");
  rev2::ActionResult got;
  ASSERT_TRUE(Get(request, Action(1), &got).ok());
  EXPECT_EQ(got.stdout_raw(), "said");
  EXPECT_EQ(got.output_files(0).contents(), "");
}

TEST_F(ActionCacheServiceTest, WrongRequestsAreRefused) {
  rev2::ActionResult response;
  grpc::ClientContext first;
  EXPECT_EQ(actions_->GetActionResult(&first, {}, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  grpc::ClientContext second;
  EXPECT_EQ(actions_->UpdateActionResult(&second, {}, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  rev2::UpdateActionResultRequest no_result;
  *no_result.mutable_action_digest() = MessageOf(Action(1));
  grpc::ClientContext third;
  EXPECT_EQ(
      actions_->UpdateActionResult(&third, no_result, &response).error_code(),
      StatusCode::INVALID_ARGUMENT);
  rev2::GetActionResultRequest other_function;
  other_function.set_digest_function(
      static_cast<rev2::DigestFunction::Value>(9));
  EXPECT_EQ(Get(other_function, Action(1), &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  rev2::ActionResult large = ResultOf("x");
  large.set_stdout_raw(std::string(2 * kMiB, 'x'));
  EXPECT_EQ(Update(Action(1), large, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(ActionCacheServiceTest, ResultsWithoutTheirBlobsAreRefusedAndForgotten) {
  rev2::ActionResult result = ResultOf("output");
  rev2::ActionResult response;
  ASSERT_TRUE(Update(Action(1), result, &response).ok());
  ASSERT_TRUE(harness_.store().Evict(Digest::Of("output")).ok());
  EXPECT_EQ(Get({}, Action(1), &response).error_code(), StatusCode::NOT_FOUND);
  const grpc::Status refused = Update(Action(1), result, &response);
  EXPECT_EQ(refused.error_code(), StatusCode::FAILED_PRECONDITION);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(refused.error_details()));
  google::rpc::PreconditionFailure failure;
  ASSERT_TRUE(details.details(0).UnpackTo(&failure));
  EXPECT_EQ(failure.violations(0).subject(), BlobName(Digest::Of("output")));
}

TEST_F(ActionCacheServiceTest, AClientThatIsGoneLeavesNothingHalfDone) {
  const rev2::ActionResult result = ResultOf("output");
  for (int i = 0; i < 50; ++i) {
    rev2::UpdateActionResultRequest request;
    *request.mutable_action_digest() = MessageOf(Action(i));
    *request.mutable_action_result() = result;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::microseconds(20 * i));
    rev2::ActionResult response;
    actions_->UpdateActionResult(&context, request, &response);
  }
  harness_.server().Shutdown();
  harness_.actions().CheckInvariants();
  EXPECT_EQ(harness_.store().ledger().Get(Owner::kScratch), 0);
}

TEST_F(ActionCacheServiceTest, SixtyFourClientsShareIt) {
  const rev2::ActionResult result = ResultOf("output");
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([this, i, &result] {
      auto stub = rev2::ActionCache::NewStub(NewChannel());
      for (int action = 0; action < 4; ++action) {
        rev2::UpdateActionResultRequest update;
        *update.mutable_action_digest() = MessageOf(Action((i + action) % 16));
        *update.mutable_action_result() = result;
        grpc::ClientContext context;
        rev2::ActionResult response;
        EXPECT_TRUE(stub->UpdateActionResult(&context, update, &response).ok());
        rev2::GetActionResultRequest get;
        *get.mutable_action_digest() = update.action_digest();
        grpc::ClientContext second;
        const grpc::Status got = stub->GetActionResult(&second, get, &response);
        EXPECT_TRUE(got.ok()) << got.error_message();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(harness_.actions().GetStats().results, 16);
  harness_.actions().CheckInvariants();
}

TEST_F(ActionCacheServiceTest, CapabilitiesSayThatResultsMayBePut) {
  auto stub = rev2::Capabilities::NewStub(channel_);
  grpc::ClientContext context;
  rev2::ServerCapabilities capabilities;
  ASSERT_TRUE(stub->GetCapabilities(&context, {}, &capabilities).ok());
  EXPECT_TRUE(capabilities.cache_capabilities()
                  .action_cache_update_capabilities()
                  .update_enabled());
}

}  // namespace
}  // namespace casement
