// From frames to handlers and back, with a service that serves two APIs and answers one of them
// later.
#include "kafka/dispatch.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "kafka/api/fetch.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"

namespace holdfast::kafka {
namespace {

struct Service {
  HeartbeatResponse Handle(const Caller& caller, const HeartbeatRequest& request) {
    client_id = caller.client_id;
    return {.error_code =
                request.generation_id == 7 ? ErrorCode::kNone : ErrorCode::kIllegalGeneration};
  }
  void Handle(Call<ProduceRequest> call) { waiting.emplace(std::move(call)); }
  void Adjust(const Caller& /*caller*/, ApiVersionsResponse& response) const {
    if (!with_features) return;
    response.supported_features.push_back(
        {.name = "from.zero", .min_version = 0, .max_version = 1});
    response.supported_features.push_back({.name = "from.one", .min_version = 1, .max_version = 1});
  }

  std::string client_id;
  std::optional<Call<ProduceRequest>> waiting;
  bool with_features = false;
};

constexpr RouteTable kRoutes(std::array{Bind<Service, HeartbeatRequest>({.oldest = 1, .newest = 3}),
                                        Bind<Service, ProduceRequest>({.advertised_oldest = 0})});

class DispatchTest : public testing::Test {
 protected:
  // `frame` has its length in front.
  base::Result<> Dispatch(const base::Buffer& frame) {
    answer_.reset();
    return kRoutes.Dispatch(service_, peer_,
                            base::Buffer::Copy(frame.view().substr(kLengthPrefixBytes)),
                            [this](Answer answer) { answer_ = std::move(answer); });
  }
  template <class Request>
  base::Result<> Dispatch(const Request& request, int16_t version) {
    const base::Result<base::Buffer> frame = EncodeRequest(request, version, 99, "client");
    EXPECT_TRUE(frame);
    return Dispatch(*frame);
  }
  // A frame by hand: key and version, then correlation id 99, a null client id, and `rest`.
  base::Result<> DispatchRaw(int16_t key, int16_t version, std::string_view rest = "") {
    std::string frame(kLengthPrefixBytes + 10, '\0');
    base::StoreBig(frame.data() + 4, key);
    base::StoreBig(frame.data() + 6, version);
    base::StoreBig<int32_t>(frame.data() + 8, 99);
    base::StoreBig<int16_t>(frame.data() + 12, -1);
    return Dispatch(base::Buffer::Copy(frame.append(rest)));
  }
  [[nodiscard]] std::string_view response() const {
    return answer_->frame.view().substr(kLengthPrefixBytes);
  }

  Service service_;
  std::shared_ptr<const Peer> peer_ =
      std::make_shared<const Peer>(Peer{.address = "127.0.0.1:5", .listener = "local"});
  std::optional<Answer> answer_;
};

TEST_F(DispatchTest, AHandlerThatReturnsItsResponseIsAnsweredAtOnce) {
  for (int16_t version = 1; version <= 3; ++version) {
    ASSERT_TRUE(Dispatch(HeartbeatRequest{.group_id = "g", .generation_id = 7}, version));
    ASSERT_TRUE(answer_);
    EXPECT_EQ(answer_->kind, Answer::Kind::kFrame);
    EXPECT_EQ(base::LoadBig<uint32_t>(answer_->frame.data()), response().size());
    EXPECT_EQ(*ReadCorrelationId(response()), 99);
    const auto decoded = DecodeResponse<HeartbeatResponse>(response(), version);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->error_code, ErrorCode::kNone);
    EXPECT_EQ(service_.client_id, "client");
  }
}

TEST_F(DispatchTest, ACallKeepsItsFrameUntilItIsAnsweredLater) {
  ProduceRequest request{.acks = -1};
  request.topic_data.push_back(
      {.name = "topic", .partition_data = {{.index = 3, .records = "records"}}});
  ASSERT_TRUE(Dispatch(request, 9));
  EXPECT_FALSE(answer_);

  Call<ProduceRequest> call = *std::move(service_.waiting);
  service_.waiting.reset();
  EXPECT_FALSE(answer_);  // Only what was moved from has gone.
  EXPECT_EQ(call.version(), 9);
  EXPECT_EQ(call.caller().peer->address, "127.0.0.1:5");
  EXPECT_EQ(call.request.topic_data[0].name, "topic");
  EXPECT_EQ(call.request.topic_data[0].partition_data[0].records, "records");
  call.Respond({.throttle_time_ms = 5});
  ASSERT_TRUE(answer_);
  EXPECT_EQ(DecodeResponse<ProduceResponse>(response(), 9)->throttle_time_ms, 5);
}

TEST_F(DispatchTest, AProducerThatWantsNoAcknowledgementGetsNothing) {
  ASSERT_TRUE(Dispatch(ProduceRequest{.acks = 0}, 3));
  service_.waiting->NoResponse();
  ASSERT_TRUE(answer_);
  EXPECT_EQ(answer_->kind, Answer::Kind::kNothing);
}

TEST_F(DispatchTest, ACallThatIsGivenUpClosesItsConnection) {
  ASSERT_TRUE(Dispatch(ProduceRequest{.acks = 1}, 3));
  service_.waiting.reset();
  ASSERT_TRUE(answer_);
  EXPECT_EQ(answer_->kind, Answer::Kind::kClose);
}

TEST_F(DispatchTest, ACallIsClosedWithItsReason) {
  ASSERT_TRUE(Dispatch(ProduceRequest{.acks = 0}, 3));
  service_.waiting->Close("not the leader");
  ASSERT_TRUE(answer_);
  EXPECT_EQ(answer_->kind, Answer::Kind::kClose);
  EXPECT_EQ(answer_->reason, "not the leader");
}

TEST_F(DispatchTest, AnsweringTwiceIsABrokenInvariant) {
  ASSERT_TRUE(Dispatch(ProduceRequest{.acks = 1}, 3));
  service_.waiting->Respond({});
  EXPECT_TRUE(service_.waiting->answered());
  EXPECT_DEATH(service_.waiting->Respond({}), "reply_");
}

TEST_F(DispatchTest, WhatIsNotServedIsRefusedWithAReasonAndWithoutAnAnswer) {
  const struct {
    int16_t key;
    int16_t version;
    const char* reason;
  } rows[] = {
      {1, 4, "API 1, which is not served here"},
      {-1, 0, "API -1, which is not served here"},
      {12, 0, "Heartbeat version 0, served are 1-3"},  // Known to the codec, not served.
      {12, 4, "Heartbeat version 4, served are 1-3"},
      {0, 2, "Produce version 2, served are 3-13"},  // Advertised, not served.
      {0, -1, "Produce version -1, served are 3-13"},
      {18, -1, "ApiVersions version -1"},
  };
  for (const auto& row : rows) {
    const base::Result<> served = DispatchRaw(row.key, row.version);
    ASSERT_FALSE(served);
    EXPECT_NE(served.error().message.find(row.reason), std::string::npos) << served.error().message;
    EXPECT_NE(served.error().message.find("127.0.0.1:5"), std::string::npos)
        << served.error().message;
    EXPECT_FALSE(answer_);
  }
}

TEST_F(DispatchTest, AnUndecodableBodyIsRefusedWithoutAnAnswer) {
  const base::Result<> served = DispatchRaw(12, 3, "nonsense");
  ASSERT_FALSE(served);
  EXPECT_EQ(served.error().code, base::Code::kInvalid);
  EXPECT_NE(served.error().message.find("Heartbeat request of version 3"), std::string::npos);
  EXPECT_FALSE(answer_);
  EXPECT_FALSE(DispatchRaw(18, 3, "\xff"));
  EXPECT_FALSE(answer_);
}

TEST_F(DispatchTest, AFrameShorterThanItsHeaderIsRefused) {
  for (size_t size = 0; size < 10; ++size) {
    EXPECT_FALSE(Dispatch(base::Buffer::Copy(std::string(kLengthPrefixBytes + size, '\0'))));
    EXPECT_FALSE(answer_);
  }
}

TEST_F(DispatchTest, ApiVersionsIsPrintedFromTheRoutes) {
  for (int16_t version = 0; version <= 4; ++version) {
    ApiVersionsRequest request;
    if (version >= 3)
      request = {.client_software_name = "test", .client_software_version = "1.0-x"};
    ASSERT_TRUE(Dispatch(request, version));
    ASSERT_TRUE(answer_);
    const auto decoded = DecodeResponse<ApiVersionsResponse>(response(), version);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->error_code, ErrorCode::kNone);
    ASSERT_EQ(decoded->api_keys.size(), 3);
    EXPECT_EQ(decoded->api_keys[0].api_key, 0);
    EXPECT_EQ(decoded->api_keys[0].min_version, 0);
    EXPECT_EQ(decoded->api_keys[0].max_version, 13);
    EXPECT_EQ(decoded->api_keys[1].api_key, 12);
    EXPECT_EQ(decoded->api_keys[1].min_version, 1);
    EXPECT_EQ(decoded->api_keys[1].max_version, 3);
    EXPECT_EQ(decoded->api_keys[2].api_key, 18);
    EXPECT_EQ(decoded->api_keys[2].max_version, 4);
  }
}

TEST_F(DispatchTest, ApiVersionsTellsWhoTheClientIs) {
  const std::shared_ptr<const Peer> before = peer_;
  ASSERT_TRUE(Dispatch(
      ApiVersionsRequest{.client_software_name = "librdkafka", .client_software_version = "2.0.2"},
      3));
  EXPECT_EQ(peer_->software_name, "librdkafka");
  EXPECT_EQ(peer_->software_version, "2.0.2");
  EXPECT_EQ(peer_->address, "127.0.0.1:5");
  EXPECT_EQ(before->software_name, "");  // Calls made earlier are not changed under their hands.
}

TEST_F(DispatchTest, ApiVersionsOfAVersionYetUnknownIsAnsweredInVersion0) {
  ASSERT_TRUE(DispatchRaw(18, 99, "whatever it will hold"));
  ASSERT_TRUE(answer_);
  const auto decoded = DecodeResponse<ApiVersionsResponse>(response(), 0);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->error_code, ErrorCode::kUnsupportedVersion);
  ASSERT_EQ(decoded->api_keys.size(), 1);
  EXPECT_EQ(decoded->api_keys[0].api_key, 18);
  EXPECT_EQ(decoded->api_keys[0].min_version, 0);
  EXPECT_EQ(decoded->api_keys[0].max_version, 4);

  const auto as_asked = DecodeResponse<ApiVersionsResponse>(response(), 4);
  ASSERT_TRUE(as_asked) << as_asked.error().message;
  EXPECT_EQ(as_asked->error_code, ErrorCode::kUnsupportedVersion);
}

TEST_F(DispatchTest, SoftwareNamesThatKafkaWouldRefuseAreRefused) {
  for (const char* name : {"", "-a", "a-", ".", "a b", "a\n", "\xc3\xa4"}) {
    ASSERT_TRUE(Dispatch(
        ApiVersionsRequest{.client_software_name = name, .client_software_version = "1"}, 3));
    ASSERT_TRUE(answer_);
    const auto decoded = DecodeResponse<ApiVersionsResponse>(response(), 3);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(decoded->error_code, ErrorCode::kInvalidRequest) << name;
    EXPECT_TRUE(decoded->api_keys.empty());
    EXPECT_EQ(peer_->software_name, "");
  }
}

TEST_F(DispatchTest, FeaturesThatBeginAtZeroAreHiddenFromOldClients) {
  service_.with_features = true;
  const ApiVersionsRequest request{.client_software_name = "a", .client_software_version = "1"};
  ASSERT_TRUE(Dispatch(request, 3));
  EXPECT_EQ(DecodeResponse<ApiVersionsResponse>(response(), 3)->supported_features.size(), 1);
  ASSERT_TRUE(Dispatch(request, 4));
  EXPECT_EQ(DecodeResponse<ApiVersionsResponse>(response(), 4)->supported_features.size(), 2);
}

TEST(CodecTest, ARequestThatItsVersionCannotCarryIsNotMade) {
  const MetadataRequest request{.topics = {{}}, .allow_auto_topic_creation = false};
  EXPECT_TRUE(EncodeRequest(request, 4, 1, "c"));
  const auto refused = EncodeRequest(request, 3, 1, "c");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Code::kInvalid);
}

TEST(CodecTest, AResponseLeavesOutWhatItsVersionCannotCarry) {
  const FetchResponse response{.session_id = 5};
  const base::Buffer frame = EncodeResponse(response, 4, 1);
  const auto decoded = DecodeResponse<FetchResponse>(frame.view().substr(kLengthPrefixBytes), 4);
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(decoded->session_id, 0);
}

TEST(CodecTest, TheVersionPickedIsTheNewestThatBothSidesSpeak) {
  ApiVersionsResponse server;
  server.api_keys.push_back({.api_key = 0, .min_version = 0, .max_version = 7});
  server.api_keys.push_back({.api_key = 1, .min_version = 4, .max_version = 99});
  server.api_keys.push_back({.api_key = 12, .min_version = 9, .max_version = 12});
  EXPECT_EQ(PickVersion(ProduceRequest::kApi, server), 7);
  EXPECT_EQ(PickVersion(ProduceRequest::kApi, server, 5), 5);
  EXPECT_EQ(PickVersion(ProduceRequest::kApi, server, 2), std::nullopt);
  EXPECT_EQ(PickVersion(FetchRequest::kApi, server), 18);
  EXPECT_EQ(PickVersion(HeartbeatRequest::kApi, server), std::nullopt);
  EXPECT_EQ(PickVersion(MetadataRequest::kApi, server), std::nullopt);
}

TEST(CodecTest, TheTableOfApisIsRenderedForTheDocuments) {
  EXPECT_EQ(RenderApiTable(kRoutes.served()),
            "| key | API | versions served | advertised | flexible from |\n"
            "| ---: | --- | --- | --- | --- |\n"
            "| 0 | Produce | 3-13 | 0-13 | 9 |\n"
            "| 12 | Heartbeat | 1-3 | 1-3 | 4 |\n"
            "| 18 | ApiVersions | 0-4 | 0-4 | 3 |\n");
}

// Each partition has 1 + 3 + 3 array elements.
TEST(CodecTest, MetadataOfALargeClusterIsRead) {
  constexpr size_t kPartitions = 160'000;
  MetadataResponse large;
  large.topics.push_back({.name = "t"});
  large.topics[0].partitions.resize(
      kPartitions, {.leader_id = 1, .replica_nodes = {1, 2, 3}, .isr_nodes = {1, 2, 3}});
  const base::Buffer frame = EncodeResponse(large, 4, 1);
  const auto read = DecodeResponse<MetadataResponse>(frame.view().substr(kLengthPrefixBytes), 4);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->topics[0].partitions.size(), kPartitions);
}

}  // namespace
}  // namespace holdfast::kafka
