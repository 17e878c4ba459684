// Client connections over real sockets: a blocking client, the front door, a sink that the test
// holds, and a tier whose answers the test writes.
#include "proxy/session.h"

#include <algorithm>
#include <condition_variable>
#include <future>

#include "base/endian.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/get_telemetry_subscriptions.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/api/push_telemetry.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/record_batch_builder.h"
#include "proxy/api_policy.h"
#include "proxy/local_answers.h"
#include "tests/net/loopback.h"
#include "tests/support/noise.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using net::TestPeer;

// Keeps what it is given until the test completes it.
class HeldSink final : public RecordSink {
 public:
  void Append(std::unique_ptr<SinkRequest> request) override {
    const std::lock_guard lock(mutex_);
    requests_.push_back(std::move(request));
    changed_.notify_all();
  }
  void NewProducerId(ProducerIdDone done) override { done(int64_t{4242}); }

  [[nodiscard]] size_t size() {
    const std::lock_guard lock(mutex_);
    return requests_.size();
  }
  std::unique_ptr<SinkRequest> Take() {
    std::unique_lock lock(mutex_);
    const bool came =
        changed_.wait_for(lock, std::chrono::seconds(10), [this] { return !requests_.empty(); });
    EXPECT_TRUE(came) << "nothing was handed to the sink";
    if (!came) return nullptr;
    auto first = std::move(requests_.front());
    requests_.erase(requests_.begin());
    return first;
  }
  // As the spool does when everything is durable.
  void Complete(int64_t base_offset, ErrorCode error = ErrorCode::kNone) {
    std::unique_ptr<SinkRequest> request = Take();
    ASSERT_NE(request, nullptr);
    for (SinkEntry& entry : request->entries) {
      entry.base_offset = base_offset;
      entry.error = error;
    }
    SinkRequest& target = *request;
    target.Complete(std::move(request));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<SinkRequest>> requests_;
};

// All transactions of the id "local" were open in an earlier run.
class LostTransactions final : public LocalTransactions {
 public:
  [[nodiscard]] bool Owns(std::string_view transactional_id) const override {
    return transactional_id == "local";
  }
  void InitProducer(Target /*target*/, int32_t /*timeout_ms*/, Producer /*known*/,
                    OnProducer done) override {
    done(ErrorCode::kNone, {.id = 7, .epoch = 0});
  }
  void AddPartitions(Target /*target*/, Producer /*producer*/, Partitions /*partitions*/,
                     Done done) override {
    done(ErrorCode::kTransactionAbortable);
  }
  void Append(Target /*target*/, Protocol /*protocol*/,
              std::unique_ptr<SinkRequest> request) override {
    for (SinkEntry& entry : request->entries) entry.error = ErrorCode::kTransactionAbortable;
    SinkRequest& target = *request;
    target.Complete(std::move(request));
  }
  void End(Target /*target*/, Producer /*producer*/, bool /*commit*/, Protocol /*protocol*/,
           OnProducer done) override {
    done(ErrorCode::kTransactionAbortable, {});
  }
};

// A broker that answers everything at once, with nothing.
class ObligingSession final : public net::Session {
 public:
  void OnFrame(base::Buffer frame, net::Reply reply) override {
    reply.SendBody(base::Buffer::Copy(frame.view().substr(4, 4)));
  }
};

class SessionTest : public net::LoopbackTest {
 protected:
  // How long the tier may keep silent. Where a test answers, none of them may end before it does.
  struct Patience {
    base::Duration cached = std::chrono::seconds(60);  // Of a question that the cache can answer.
    base::Duration other = std::chrono::seconds(60);
    base::Duration settings = std::chrono::seconds(60);
  };
  explicit SessionTest(const Patience& patience) {
    kafka::MetadataResponse metadata = TierMetadata();
    cache_.Learn(metadata, 1);
    cache_.LearnSettings("t", {.from_tier = true});
    std::promise<void> mapped;
    ports_.Request({1}, [&] { mapped.set_value(); });
    mapped.get_future().wait();
    front_ = std::make_unique<FrontDoor>(
        FrontDoorOptions{.bootstrap = {{"127.0.0.1", tier_->local_address().port()}},
                         .local_answer_after = patience.cached,
                         .answer_within = patience.other,
                         .settings_wait = patience.settings,
                         .versions_wait = std::chrono::milliseconds(50)},
        cache_, ports_, sink_, [this](std::string topic) { Refreshed(std::move(topic)); },
        [this](std::string topic) { Wanted(std::move(topic)); }, resolver_, metrics_,
        agent_metrics_);
    front_->SetTransactions(&transactions_);
    agent_ = Serve({}, [this](net::Connection& connection) {
      return std::make_unique<Session>(*front_, connection, kNoNode);
    });
    front_->SetAddresses({agent_->local_address()});
    client_ = std::make_unique<TestPeer>(agent_->local_address());
  }
  SessionTest() : SessionTest(Patience()) {}

  // As the tier itself would say it: its own addresses.
  kafka::MetadataResponse TierMetadata() {
    kafka::MetadataResponse metadata;
    metadata.cluster_id = "tier";
    metadata.controller_id = 1;
    metadata.brokers.push_back(
        {.node_id = 1, .host = "127.0.0.1", .port = tier_->local_address().port()});
    auto& topic = metadata.topics.emplace_back();
    topic.name = "t";
    topic.topic_id.bytes[0] = 1;
    topic.partitions.push_back({.partition_index = 0, .leader_id = 1});
    return metadata;
  }
  void Wanted(std::string topic) {
    const std::lock_guard lock(mutex_);
    wanted_.push_back(std::move(topic));
    changed_.notify_all();
  }
  void WaitForWanted(std::string_view topic) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(
        changed_.wait_for(lock, std::chrono::seconds(10),
                          [&] { return std::ranges::find(wanted_, topic) != wanted_.end(); }))
        << "nobody asked for the settings of " << topic;
  }
  // Known to be at the tier, and nothing else.
  void LearnTopic(std::string_view name) {
    kafka::MetadataResponse metadata = TierMetadata();
    metadata.topics.push_back(
        {.name = name, .partitions = {{.partition_index = 0, .leader_id = 1}}});
    cache_.Learn(metadata, 1);
  }
  void WaitUntilGone() {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (agent_->connections() > 0 && std::chrono::steady_clock::now() < limit) LetLoopsTurn();
    EXPECT_EQ(agent_->connections(), 0);
  }
  void Refreshed(std::string topic) {
    const std::lock_guard lock(mutex_);
    refreshed_.push_back(std::move(topic));
  }

  template <class Request>
  void Send(const Request& request, int16_t version, int32_t correlation_id) {
    client_->Write(kafka::EncodeRequest(request, version, correlation_id, "test")->view());
  }
  template <class Response>
  struct Answer {
    std::string frame;
    int32_t correlation_id = -1;
    Response response = {};
  };
  template <class Response>
  Answer<Response> Read(int16_t version) {
    Answer<Response> answer{.frame = client_->ReadFrame()};
    const auto id = kafka::ReadCorrelationId(answer.frame);
    if (id) answer.correlation_id = *id;
    auto response = kafka::DecodeResponse<Response>(answer.frame, version);
    EXPECT_TRUE(response) << response.error().message;
    if (response) answer.response = *std::move(response);
    return answer;
  }
  static std::string Batch(int records = 2) {
    kafka::RecordBatchBuilder builder({});
    for (int i = 0; i < records; ++i) builder.Add({.timestamp = 1'700'000'000'000, .value = "v"});
    return std::move(builder).Build();
  }
  static kafka::ProduceRequest Produce(std::string_view batch, std::string_view topic = "t",
                                       int32_t partition = 0, int16_t acks = -1) {
    kafka::ProduceRequest request{.acks = acks};
    request.topic_data.push_back(
        {.name = topic, .partition_data = {{.index = partition, .records = batch}}});
    return request;
  }
  static const kafka::ProduceResponse::PartitionProduceResponse& Only(
      const Answer<kafka::ProduceResponse>& answer) {
    return answer.response.responses.at(0).partition_responses.at(0);
  }

  std::unique_ptr<net::FramedServer> tier_ = ServeWitnessed();
  metrics::AgentMetrics agent_metrics_{registry_};
  net::Resolver resolver_;
  MetadataCache cache_{{{"declared", 3}}};
  HeldSink sink_;
  LostTransactions transactions_;
  // Written to by the loops, so they outlive the servers below.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> refreshed_;
  std::vector<std::string> wanted_;
  BrokerPorts ports_{first_->loop(),
                     {.open = [](int32_t node, uint16_t) -> base::Result<uint16_t> {
                        return static_cast<uint16_t>(7000 + node);
                      },
                      .changed = [](const BrokerPorts::Ports&) {}}};
  std::unique_ptr<FrontDoor> front_;
  std::unique_ptr<net::FramedServer> agent_;
  std::unique_ptr<TestPeer> client_;
};

class ImpatientSessionTest : public SessionTest {
 protected:
  ImpatientSessionTest()
      : SessionTest(
            {.other = std::chrono::milliseconds(100), .settings = std::chrono::milliseconds(20)}) {}
};

class SessionWithACacheTest : public SessionTest {
 protected:
  SessionWithACacheTest() : SessionTest({.cached = std::chrono::milliseconds(50)}) {}
};

TEST_F(SessionTest, ProduceIsAnsweredWhenTheSinkHasMadeItDurable) {
  const std::string batch = Batch();
  for (int16_t version = kafka::ProduceRequest::kApi.oldest; version <= 13; ++version) {
    kafka::ProduceRequest request = Produce(batch);
    request.topic_data[0].topic_id = cache_.cluster()->FindTopic("t")->id;
    Send(request, version, 70 + version);
    sink_.Complete(1000 + version);
    const auto answer = Read<kafka::ProduceResponse>(version);
    EXPECT_EQ(answer.correlation_id, 70 + version);
    EXPECT_EQ(Only(answer).error_code, ErrorCode::kNone);
    EXPECT_EQ(Only(answer).base_offset, 1000 + version);
  }
  EXPECT_EQ(agent_metrics_.acknowledged_records.Value(), 22);
}

TEST_F(SessionTest, ATopicIdThatIsNotKnownIsRefusedForTheClientToAskAgain) {
  const std::string batch = Batch();
  kafka::ProduceRequest request = Produce(batch);
  request.topic_data[0].topic_id.bytes[0] = 99;
  Send(request, 13, 1);
  const auto answer = Read<kafka::ProduceResponse>(13);
  EXPECT_EQ(Only(answer).error_code, ErrorCode::kUnknownTopicId);
  EXPECT_EQ(answer.response.responses[0].topic_id, request.topic_data[0].topic_id);
}

TEST_F(SessionTest, ADeclaredTopicIsProducedToByItsProvisionalId) {
  const std::string batch = Batch();
  kafka::ProduceRequest request = Produce(batch);
  request.topic_data[0].topic_id = ProvisionalId("declared");
  Send(request, 13, 1);
  sink_.Complete(7);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(13)).base_offset, 7);
}

TEST_F(SessionTest, WhatTheTierWouldRefuseIsRefusedAtOnce) {
  std::string damaged = Batch();
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  Send(Produce(damaged), 9, 1);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kCorruptMessage);
  Send(Produce(Batch(), "t", 5), 9, 2);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kUnknownTopicOrPartition);
  Send(Produce(Batch(), "unheard"), 9, 3);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kUnknownTopicOrPartition);
  Send(Produce(Batch(), "t", 0, 2), 9, 4);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kInvalidRequiredAcks);
  Send(Produce(""), 9, 5);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kInvalidRecord);
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(refreshed_, std::vector<std::string>{"unheard"});
}

TEST_F(SessionTest, TheTiersOwnTopicsAreNotProducedTo) {
  kafka::MetadataResponse metadata = TierMetadata();
  metadata.topics.push_back({.name = "__consumer_offsets",
                             .is_internal = true,
                             .partitions = {{.partition_index = 0, .leader_id = 1}}});
  cache_.Learn(metadata, 1);
  cache_.LearnSettings("__consumer_offsets", {.from_tier = true});
  Send(Produce(Batch(), "__consumer_offsets"), 9, 1);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kInvalidTopicException);
  EXPECT_EQ(sink_.size(), 0);
}

TEST_F(SessionTest, ALittleRequestWithVeryManyGuiltyRecordsIsAnsweredInLittle) {
  kafka::RecordBatchBuilder builder({.codec = kafka::Codec::kZstd});
  for (int i = 0; i < 200'000; ++i) builder.Add({.timestamp = int64_t{1} << 60});
  const std::string late = std::move(builder).Build();
  kafka::ProduceRequest request = Produce(late);
  auto& partitions = request.topic_data[0].partition_data;
  partitions.resize(20, partitions[0]);
  Send(request, 9, 1);
  const auto answer = Read<kafka::ProduceResponse>(9);
  EXPECT_LT(answer.frame.size(), 150'000);
  const auto& answers = answer.response.responses.at(0).partition_responses;
  ASSERT_EQ(answers.size(), 20);
  EXPECT_EQ(answers.front().record_errors.size(), kafka::kNamedRecordsMax);
  EXPECT_EQ(answers.back().error_code, ErrorCode::kInvalidTimestamp);
}

TEST_F(SessionTest, VeryManyRefusedBatchesAreNotEachAnsweredInWords) {
  kafka::ProduceRequest request = Produce("");
  auto& partitions = request.topic_data[0].partition_data;
  partitions.resize(20'000, partitions[0]);
  Send(request, 9, 1);
  const auto answer = Read<kafka::ProduceResponse>(9);
  EXPECT_LT(answer.frame.size(), 1'000'000);
  const auto& answers = answer.response.responses.at(0).partition_responses;
  ASSERT_EQ(answers.size(), 20'000);
  EXPECT_TRUE(answers.front().error_message);
  EXPECT_EQ(answers.back().error_code, ErrorCode::kInvalidRecord);
}

TEST_F(SessionTest, ALittleRequestIsNotTakenApartIntoGigabytes) {
  cache_.LearnSettings("t", {.from_tier = true, .compacted = true});
  kafka::RecordBatchBuilder builder({.codec = kafka::Codec::kZstd});
  const std::string large(60'000'000, '.');
  builder.Add({.timestamp = 1'700'000'000'000, .value = large});
  const std::string keyless = std::move(builder).Build();
  kafka::ProduceRequest request = Produce(keyless);
  auto& partitions = request.topic_data[0].partition_data;
  partitions.resize(1000, partitions[0]);
  Send(request, 9, 1);
  const auto answer = Read<kafka::ProduceResponse>(9);
  const auto& answers = answer.response.responses.at(0).partition_responses;
  const auto taken_apart =
      std::ranges::count(answers, ErrorCode::kInvalidRecord,
                         &kafka::ProduceResponse::PartitionProduceResponse::error_code);
  EXPECT_EQ(taken_apart, 4);
  ASSERT_EQ(answers.size(), 1000);
  EXPECT_EQ(answers.back().error_code, ErrorCode::kMessageTooLarge);
}

TEST_F(SessionTest, TheFirstRecordsForATopicWaitForItsSettings) {
  LearnTopic("new");
  const std::string batch = Batch();  // Without keys.
  Send(Produce(batch, "new"), 9, 1);
  Send(Produce(batch), 9, 2);
  WaitForWanted("new");
  EXPECT_EQ(sink_.size(), 0) << "what comes after keeps its place";
  cache_.LearnSettings("new", {.from_tier = true, .compacted = true});
  sink_.Complete(5);
  const auto refused = Read<kafka::ProduceResponse>(9);
  EXPECT_EQ(Only(refused).error_code, ErrorCode::kInvalidRecord);
  EXPECT_EQ(Only(refused).record_errors.size(), 2);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, 5);
}

TEST_F(SessionTest, SettingsAreAskedForWhileOtherRecordsWaitForTheirs) {
  LearnTopic("first");
  LearnTopic("second");
  const std::string batch = Batch();  // Without keys.
  Send(Produce(batch, "first"), 9, 1);
  Send(Produce(batch, "second"), 9, 2);
  WaitForWanted("first");
  WaitForWanted("second");
  cache_.LearnSettings("first", {.from_tier = true});
  cache_.LearnSettings("second", {.from_tier = true, .compacted = true});
  sink_.Complete(5);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, 5);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kInvalidRecord);
}

TEST_F(SessionTest, SettingsThatNoAnswerToldAreAskedForAgain) {
  LearnTopic("new");
  Send(Produce(Batch(), "new"), 9, 1);
  for (int asked = 0; asked < 2; ++asked) {
    WaitForWanted("new");
    const std::lock_guard lock(mutex_);
    wanted_.clear();
  }
  cache_.LearnSettings("new", {.from_tier = true});
  sink_.Complete(5);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, 5);
}

TEST_F(SessionTest, RecordsThatWaitForSettingsAreTakenThoughTheClientIsGone) {
  LearnTopic("new");
  LearnTopic("other");
  for (const std::string_view topic : {"new", "other"}) Send(Produce(Batch(), topic, 0, 0), 9, 1);
  WaitForWanted("other");
  client_->Close();
  LetLoopsTurn();
  EXPECT_EQ(sink_.size(), 0);
  EXPECT_EQ(agent_->connections(), 1);
  cache_.LearnSettings("other", {.from_tier = true});
  cache_.LearnSettings("new", {.from_tier = true});
  for (const std::string_view topic : {"new", "other"}) {
    std::unique_ptr<SinkRequest> request = sink_.Take();
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(request->entries.at(0).topic, topic) << "in their order";
    SinkRequest& target = *request;
    target.Complete(std::move(request));
  }
  WaitUntilGone();
  EXPECT_EQ(Closed("peer"), 1);
}

TEST_F(ImpatientSessionTest, RecordsOfAClientThatIsGoneDoNotWaitForForEver) {
  LearnTopic("new");
  Send(Produce(Batch(), "new", 0, 0), 9, 1);
  client_->Reset();
  sink_.Complete(5);
  WaitUntilGone();
}

TEST_F(SessionTest, ARequestForTheTierGetsThereThoughTheClientIsGone) {
  const base::Buffer request = *kafka::EncodeRequest(kafka::HeartbeatRequest(), 4, 1, "test");
  client_->Close();
  for (size_t i = 1; i <= 10; ++i) {
    TestPeer quick(agent_->local_address());
    quick.Write(request.view());
    quick.Close();
    witness_.WaitForRequests(i);
  }
  WaitUntilGone();
}

TEST_F(SessionTest, ARequestThatWaitsLeavesItsMemoryToOthers) {
  kafka::RecordBatchBuilder builder({});
  builder.Add({.timestamp = 1'700'000'000'000, .value = std::string(600'000, '.')});
  const std::string large = std::move(builder).Build();  // Two of them are over the budget.
  Send(Produce(large), 9, 1);
  std::unique_ptr<SinkRequest> waiting = sink_.Take();
  ASSERT_NE(waiting, nullptr);
  EXPECT_GT(waiting->memory, large.size());
  EXPECT_GE(budget_.used(), waiting->memory);
  waiting->OnWait();
  EXPECT_EQ(budget_.used(), 0);
  TestPeer other(agent_->local_address());
  other.Write(kafka::EncodeRequest(Produce(large), 9, 2, "test")->view());
  sink_.Complete(7);
  EXPECT_GT(other.ReadFrame().size(), 10);
  SinkRequest& target = *waiting;
  target.Complete(std::move(waiting));
  EXPECT_EQ(Read<kafka::ProduceResponse>(9).correlation_id, 1);
}

TEST_F(ImpatientSessionTest, ATierThatDoesNotTellSettingsIsNotWaitedForForEver) {
  LearnTopic("new");
  const std::string batch = Batch();
  for (int i = 0; i < 2; ++i) {
    Send(Produce(batch, "new"), 9, i);
    sink_.Complete(i);
    EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, i);
  }
}

TEST_F(ImpatientSessionTest, ATopicWithoutSettingsDoesNotKeepThoseOfOthersFromBeingAskedFor) {
  LearnTopic("untold");
  LearnTopic("new");
  const std::string batch = Batch();
  for (const std::string_view topic : {"untold", "new"}) {
    Send(Produce(batch, topic), 9, 1);
    sink_.Complete(5);
    EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, 5);
    WaitForWanted(topic);
  }
}

TEST_F(SessionTest, WithTheTierAwayRecordsDoNotWaitForSettings) {
  LearnTopic("new");
  cache_.SetTierAway(true);
  Send(Produce(Batch(), "new"), 9, 1);
  sink_.Complete(5);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, 5);
}

TEST_F(SessionTest, ATopicThatTheTierDeniesIsRefusedUntilTheDenialIsOld) {
  cache_.NoteDenied("t", first_->loop().WallClockMs());
  Send(Produce(Batch()), 9, 1);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kTopicAuthorizationFailed);
  cache_.NoteDenied("t", first_->loop().WallClockMs() - MetadataCache::kDenialHoldsMs);
  Send(Produce(Batch()), 9, 2);
  sink_.Complete(5);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, 5);
}

TEST_F(SessionTest, OneRefusedPartitionDoesNotRefuseTheOthers) {
  const std::string batch = Batch();
  kafka::ProduceRequest request = Produce(batch, "t", 7);
  request.topic_data[0].partition_data.push_back({.index = 0, .records = batch});
  Send(request, 9, 1);
  sink_.Complete(5);
  const auto answer = Read<kafka::ProduceResponse>(9);
  const auto& partitions = answer.response.responses.at(0).partition_responses;
  EXPECT_EQ(partitions.at(0).error_code, ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(partitions.at(0).base_offset, -1);
  EXPECT_EQ(partitions.at(1).error_code, ErrorCode::kNone);
  EXPECT_EQ(partitions.at(1).base_offset, 5);
}

TEST_F(SessionTest, AcksZeroIsNotAnswered) {
  Send(Produce(Batch(), "t", 0, 0), 9, 1);
  Send(Produce(Batch()), 9, 2);
  sink_.Complete(0);
  sink_.Complete(2);
  EXPECT_EQ(Read<kafka::ProduceResponse>(9).correlation_id, 2);
}

TEST_F(SessionTest, ARefusedProduceWithAcksZeroCostsTheConnection) {
  Send(Produce(Batch(), "unheard", 0, 0), 9, 1);
  EXPECT_TRUE(client_->AtEnd());
}

TEST_F(SessionTest, OtherRequestsPassByteForByteWithTheirCorrelationIds) {
  kafka::FetchRequest fetch{.max_wait_ms = 5};
  fetch.topics.push_back({.topic = "t", .partitions = {{.partition = 0, .fetch_offset = 12}}});
  const base::Buffer sent = *kafka::EncodeRequest(fetch, 11, 0x7fffffff, "test");
  client_->Write(sent.view());
  auto request = witness_.Take();
  EXPECT_EQ(request.body, sent.view().substr(4));
  // The tier's answer, whatever is in it.
  const std::string answer = std::string("\x7f\xff\xff\xff", 4) + "not even a message";
  request.reply.SendBody(base::Buffer::Copy(answer));
  EXPECT_EQ(client_->ReadFrame(), answer);
}

TEST_F(SessionTest, TelemetryIsTheTiersWhileItAnswers) {
  const auto ask_tier = [this](const auto& request, const auto& response) {
    const base::Buffer sent = *kafka::EncodeRequest(request, 0, 5, "test");
    client_->Write(sent.view());
    auto asked = witness_.Take();
    EXPECT_EQ(asked.body, sent.view().substr(kafka::kLengthPrefixBytes));
    const base::Buffer answer = kafka::EncodeResponse(response, 0, 5);
    const std::string body(answer.view().substr(kafka::kLengthPrefixBytes));
    asked.reply.SendBody(base::Buffer::Copy(body));
    EXPECT_EQ(client_->ReadFrame(), body);
  };
  ask_tier(
      kafka::GetTelemetrySubscriptionsRequest(),
      kafka::GetTelemetrySubscriptionsResponse{.subscription_id = 9, .push_interval_ms = 1000});
  ask_tier(kafka::PushTelemetryRequest{.subscription_id = 9, .metrics = "measured"},
           kafka::PushTelemetryResponse{.throttle_time_ms = 3});
}

TEST_F(SessionTest, ABrokerIsFollowedToAnotherAddress) {
  Send(kafka::FetchRequest(), 11, 1);
  witness_.Take().reply.Close("the broker goes");
  EXPECT_TRUE(client_->AtEnd());
  const auto moved = ServeWitnessed();
  kafka::MetadataResponse metadata = TierMetadata();
  metadata.brokers[0].port = moved->local_address().port();
  cache_.Learn(metadata, 2);
  tier_.reset();
  TestPeer again(agent_->local_address());
  again.Write(kafka::EncodeRequest(kafka::FetchRequest(), 11, 2, "test")->view());
  witness_.Take().reply.SendBody(base::Buffer::Copy(std::string_view("\0\0\0\2x", 5)));
  EXPECT_EQ(again.ReadFrame(), std::string_view("\0\0\0\2x", 5));
}

TEST_F(SessionTest, AClientIsLedToTheBrokersNewAddressWhereAnotherListensAtTheOld) {
  const auto answered = [this](int32_t id) {
    witness_.Take().reply.SendBody(base::Buffer::Copy(std::string("\0\0\0", 3) + char(id)));
    return *kafka::ReadCorrelationId(client_->ReadFrame()) == id;
  };
  Send(kafka::FetchRequest(), 11, 1);
  EXPECT_TRUE(answered(1));
  const auto moved =
      Serve({}, [](net::Connection&) { return std::make_unique<ObligingSession>(); });
  kafka::MetadataResponse metadata = TierMetadata();
  metadata.topics.clear();
  metadata.brokers.push_back({.node_id = 2, .host = "two", .port = 9092});
  cache_.Learn(metadata, 2);
  Send(kafka::FetchRequest(), 11, 2);
  EXPECT_TRUE(answered(2)) << "it did not move";
  metadata.brokers[0].port = moved->local_address().port();
  metadata.brokers[1] = {.node_id = 2, .host = "127.0.0.1", .port = tier_->local_address().port()};
  cache_.Learn(metadata, 3);
  // Any broker may answer this.
  Send(kafka::FindCoordinatorRequest{.key = "g"}, 2, 3);
  const auto answer =
      kafka::EncodeResponse(kafka::FindCoordinatorResponse{.node_id = 2, .host = "two"}, 2, 3);
  witness_.Take().reply.SendBody(base::Buffer::Copy(answer.view().substr(4)));
  EXPECT_EQ(Read<kafka::FindCoordinatorResponse>(2).correlation_id, 3);
  Send(kafka::FetchRequest(), 11, 4);
  EXPECT_TRUE(client_->AtEnd());

  client_ = std::make_unique<TestPeer>(agent_->local_address());
  Send(kafka::FetchRequest(), 11, 5);
  EXPECT_EQ(*kafka::ReadCorrelationId(client_->ReadFrame()), 5);
  // Not any broker of another cluster.
  metadata.cluster_id = "other";
  cache_.Learn(metadata, 4);
  Send(kafka::FindCoordinatorRequest{.key = "g"}, 2, 6);
  EXPECT_TRUE(client_->AtEnd());
}

// The agent was given another tier while it was down, and the old one is still there.
TEST_F(SessionTest, AddressesOfTheLastRunAreNotTakenBeforeTheListHasSpoken) {
  const auto old = Serve({}, [](net::Connection&) { return std::make_unique<ObligingSession>(); });
  kafka::MetadataResponse metadata = TierMetadata();
  metadata.cluster_id = "old";
  metadata.brokers[0].port = old->local_address().port();
  MetadataCache before({});
  before.Learn(metadata, 1);
  ASSERT_TRUE(cache_.Load(before.Serialize()));
  Send(kafka::FetchRequest(), 11, 1);
  witness_.Take().reply.SendBody(base::Buffer::Copy(std::string_view("\0\0\0\1x", 5)));
  EXPECT_EQ(client_->ReadFrame(), std::string_view("\0\0\0\1x", 5));
  Send(kafka::MetadataRequest(), 9, 2);
  witness_.Take().reply.Send(kafka::EncodeResponse(TierMetadata(), 9, 2));
  EXPECT_EQ(Read<kafka::MetadataResponse>(9).correlation_id, 2);
  // A broker of the list has spoken, to a client.
  EXPECT_EQ(cache_.cluster()->id, "tier");
  EXPECT_EQ(front_->WayToTier(1, base::TimePoint())->to.port, tier_->local_address().port());
}

TEST_F(SessionTest, AnAnswerOfAnotherClusterCostsTheClientItsConnection) {
  Send(kafka::MetadataRequest(), 9, 1);
  kafka::MetadataResponse other = TierMetadata();
  other.cluster_id = "other";
  witness_.Take().reply.Send(kafka::EncodeResponse(other, 9, 1));
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(cache_.cluster()->id, "tier");
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(refreshed_, std::vector<std::string>{""});
}

TEST_F(SessionTest, TheBootstrapListenerGoesOnToOtherBrokersWhileItsOwnIsDown) {
  const auto other =
      Serve({}, [](net::Connection&) { return std::make_unique<ObligingSession>(); });
  kafka::MetadataResponse metadata = TierMetadata();
  metadata.brokers.push_back(
      {.node_id = 2, .host = "127.0.0.1", .port = other->local_address().port()});
  cache_.Learn(metadata, 2);
  tier_.reset();
  // Each attempt costs a client its connection, as with any broker that is down.
  for (int attempt = 0; attempt < 5; ++attempt) {
    TestPeer peer(agent_->local_address());
    peer.Write(kafka::EncodeRequest(kafka::FetchRequest(), 11, 1, "test")->view());
    if (!peer.AtEnd()) return;
  }
  FAIL() << "never reached the broker that is up";
}

// Clients take the bootstrap address for the first broker, and keep a connection to it.
TEST_F(SessionTest, AClientOnADetourComesAgainWhenTheRightBrokerIsThere) {
  const auto other =
      Serve({}, [](net::Connection&) { return std::make_unique<ObligingSession>(); });
  kafka::MetadataResponse metadata = TierMetadata();
  const auto right =
      std::exchange(metadata.brokers,
                    {{.node_id = 2, .host = "127.0.0.1", .port = other->local_address().port()}});
  cache_.Learn(metadata, 2);
  FrontDoor front(
      {.bootstrap = {{"127.0.0.1", other->local_address().port()}}}, cache_, ports_, sink_,
      [](const std::string&) {}, [](const std::string&) {}, resolver_, metrics_, agent_metrics_);
  const auto agent = Serve({}, [&front](net::Connection& connection) {
    return std::make_unique<Session>(front, connection, kNoNode);
  });
  client_ = std::make_unique<TestPeer>(agent->local_address());
  const auto answered = [this](int32_t id) {
    return *kafka::ReadCorrelationId(client_->ReadFrame()) == id;
  };
  Send(kafka::FetchRequest(), 11, 1);
  EXPECT_TRUE(answered(1));
  metadata.brokers.push_back(right.at(0));
  cache_.Learn(metadata, 3);
  // A login on the way is not cut off; nothing that is due is lost.
  Send(kafka::SaslHandshakeRequest{.mechanism = "PLAIN"}, 1, 2);
  EXPECT_TRUE(answered(2));
  Send(Produce(Batch()), 9, 3);
  Send(kafka::FetchRequest(), 11, 4);
  sink_.Complete(5);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, 5);
  EXPECT_TRUE(client_->AtEnd());

  client_ = std::make_unique<TestPeer>(agent->local_address());
  Send(kafka::FetchRequest(), 11, 5);
  witness_.Take().reply.SendBody(base::Buffer::Copy(std::string_view("\0\0\0\5x", 5)));
  EXPECT_TRUE(answered(5));
  Send(kafka::FetchRequest(), 11, 6);
  witness_.Take().reply.SendBody(base::Buffer::Copy(std::string_view("\0\0\0\6x", 5)));
  EXPECT_TRUE(answered(6));
}

TEST_F(SessionTest, ABrokerThatStaysUnreachableIsTriedLessAndLessOften) {
  using std::chrono::seconds;
  base::TimePoint now = base::TimePoint() + seconds(1);
  const auto way = [&](base::Duration later) { return *front_->WayToTier(kNoNode, now + later); };
  const FrontDoor::Way own = way({});
  EXPECT_FALSE(own.detour);
  for (const int avoided : {2, 4, 8, 16, 32, 60, 60}) {
    front_->NoteUnreachable(kNoNode, own, now);
    front_->NoteUnreachable(kNoNode, own, now + seconds(1));
    front_->NoteUnreachable(kNoNode, {.to = own.to, .detour = true}, now + seconds(1));
    EXPECT_TRUE(way(seconds(avoided - 1)).detour);
    EXPECT_FALSE(way(seconds(avoided)).detour);
    now += seconds(avoided);
  }
  front_->NoteReached(kNoNode, own);
  front_->NoteUnreachable(kNoNode, own, now);
  EXPECT_FALSE(way(seconds(2)).detour);
}

TEST_F(SessionTest, ABrokerThatIsGoneClosesItsClients) {
  const auto gone = Serve({}, [this](net::Connection& connection) {
    return std::make_unique<Session>(*front_, connection, /*node=*/9);
  });
  TestPeer peer(gone->local_address());
  peer.Write(kafka::EncodeRequest(kafka::FetchRequest(), 11, 1, "test")->view());
  EXPECT_TRUE(peer.AtEnd());
  // Not what the cache can answer.
  TestPeer asking(gone->local_address());
  asking.Write(kafka::EncodeRequest(kafka::MetadataRequest(), 9, 1, "test")->view());
  const std::string answer = asking.ReadFrame();
  EXPECT_TRUE(kafka::DecodeResponse<kafka::MetadataResponse>(answer, 9));
}

TEST_F(SessionTest, AnswersKeepTheOrderOfRequests) {
  Send(Produce(Batch()), 9, 1);
  Send(kafka::FetchRequest(), 11, 2);
  auto request = witness_.Take();
  request.reply.SendBody(base::Buffer::Copy(std::string_view("\0\0\0\2fetched", 11)));
  LetLoopsTurn();
  sink_.Complete(9);
  EXPECT_EQ(Read<kafka::ProduceResponse>(9).correlation_id, 1);
  EXPECT_EQ(client_->ReadFrame(), std::string_view("\0\0\0\2fetched", 11));
}

TEST_F(SessionTest, TransactionalBatchesGoToTheTier) {
  const std::string batch = Batch();
  kafka::ProduceRequest produce = Produce(batch);
  produce.transactional_id = "tx";
  Send(produce, 10, 1);
  auto request = witness_.Take();
  kafka::ProduceResponse response;
  response.responses.push_back(
      {.name = "t", .partition_responses = {{.index = 0, .base_offset = 77}}});
  response.node_endpoints.push_back({.node_id = 1, .host = "secret", .port = 1});
  request.reply.Send(kafka::EncodeResponse(response, 10, 1));
  const auto answer = Read<kafka::ProduceResponse>(10);
  EXPECT_EQ(Only(answer).base_offset, 77);
  EXPECT_EQ(answer.frame.find("secret"), std::string::npos);
}

// INVALID_PRODUCER_ID_MAPPING is the end of Java's producer from 4.0 on, in the first form of the
// protocol, too.
TEST_F(SessionTest, ALostTransactionIsToldInCodesAfterWhichEveryClientAborts) {
  kafka::AddPartitionsToTxnRequest add{.v3_and_below_transactional_id = "local",
                                       .v3_and_below_producer_id = 7,
                                       .v3_and_below_producer_epoch = 0};
  add.v3_and_below_topics.push_back({.name = "t", .partitions = {0}});
  for (int16_t version = 0; version <= 3; ++version) {
    Send(add, version, 1);
    const auto added = Read<kafka::AddPartitionsToTxnResponse>(version);
    EXPECT_EQ(added.response.results_by_topic_v3_and_below.at(0)
                  .results_by_partition.at(0)
                  .partition_error_code,
              ErrorCode::kUnknownProducerId);
  }
  for (int16_t version = 0; version <= 5; ++version) {
    Send(kafka::EndTxnRequest{.transactional_id = "local", .producer_id = 7, .producer_epoch = 0},
         version, 2);
    EXPECT_EQ(Read<kafka::EndTxnResponse>(version).response.error_code,
              version < 4 ? ErrorCode::kUnknownProducerId : ErrorCode::kTransactionAbortable);
  }
  kafka::RecordBatchBuilder builder(
      {.producer = {.id = 7, .epoch = 0, .base_sequence = 0}, .transactional = true});
  builder.Add({.timestamp = 1'700'000'000'000, .value = "v"});
  const std::string batch = std::move(builder).Build();
  kafka::ProduceRequest produce = Produce(batch);
  produce.transactional_id = "local";
  for (int16_t version = 3; version <= 12; ++version) {
    Send(produce, version, 3);
    EXPECT_EQ(Only(Read<kafka::ProduceResponse>(version)).error_code,
              version < 11 ? ErrorCode::kInvalidTxnState : ErrorCode::kTransactionAbortable);
  }
}

TEST_F(SessionTest, FetchAnswersNameNewLeadersByOurAddresses) {
  Send(kafka::FetchRequest(), 17, 1);
  auto request = witness_.Take();
  kafka::FetchResponse fetched{.session_id = 5};
  fetched.responses.push_back({.partitions = {{.partition_index = 3, .records = "records"}}});
  const base::Buffer plain = kafka::EncodeResponse(fetched, 17, 1);
  request.reply.SendBody(base::Buffer::Copy(plain.view().substr(4)));
  EXPECT_EQ(client_->ReadFrame(), plain.view().substr(4));

  Send(kafka::FetchRequest(), 17, 2);
  request = witness_.Take();
  fetched.node_endpoints.push_back({.node_id = 8, .host = "secret", .port = 1});
  request.reply.Send(kafka::EncodeResponse(fetched, 17, 2));
  const auto answer = Read<kafka::FetchResponse>(17);
  EXPECT_EQ(answer.response.session_id, 5);
  EXPECT_EQ(answer.response.responses.at(0).partitions.at(0).records, "records");
  ASSERT_EQ(answer.response.node_endpoints.size(), 1);
  EXPECT_EQ(answer.response.node_endpoints[0].host, "127.0.0.1");
  EXPECT_EQ(answer.response.node_endpoints[0].port, 7008);
}

// Larger than what the connection takes in one piece.
TEST_F(SessionTest, ALongAnswerPassesWhileItStillComes) {
  std::promise<void> mapped;
  ports_.Request({8}, [&] { mapped.set_value(); });
  mapped.get_future().wait();
  const std::string records(5 * PassThrough::kPieceBytes / 2, 'r');
  Send(kafka::FetchRequest(), 17, 1);
  auto request = witness_.Take();
  kafka::FetchResponse fetched{.session_id = 5};
  fetched.responses.push_back({.partitions = {{.partition_index = 3, .records = records}}});
  fetched.node_endpoints.push_back({.node_id = 8, .host = "secret.example.com", .port = 1});
  const base::Buffer whole = kafka::EncodeResponse(fetched, 17, 1);
  const size_t half = whole.size() / 2;
  std::vector<base::Buffer> part;
  part.push_back(base::Buffer::Copy(whole.view().substr(0, half)));
  request.reply.SendPart(std::move(part));
  // The rest is not there yet.
  const std::string length = client_->Read(4);
  EXPECT_EQ(length, whole.view().substr(0, 4));
  std::string frame = client_->Read(PassThrough::kPieceBytes);
  request.reply.Send([&] {
    std::vector<base::Buffer> rest;
    rest.push_back(base::Buffer::Copy(whole.view().substr(half)));
    return rest;
  }());
  frame += client_->Read(whole.size() - length.size() - frame.size());
  const auto answer = kafka::DecodeResponse<kafka::FetchResponse>(frame, 17);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->responses.at(0).partitions.at(0).records, records);
  ASSERT_EQ(answer->node_endpoints.size(), 1);
  EXPECT_EQ(answer->node_endpoints[0].host, "127.0.0.1");
  EXPECT_EQ(answer->node_endpoints[0].port, 7008);

  // And nothing of it is left in the way.
  Send(kafka::HeartbeatRequest{.group_id = "g"}, 3, 2);
  request = witness_.Take();
  request.reply.Send(kafka::EncodeResponse(kafka::HeartbeatResponse(), 3, 2));
  EXPECT_EQ(Read<kafka::HeartbeatResponse>(3).correlation_id, 2);
}

// A number of tags that takes a byte more than it needs.
TEST_F(SessionTest, ALongAnswerWithoutAddressesEndsAsItCame) {
  const std::string records(5 * PassThrough::kPieceBytes / 2, 'r');
  Send(kafka::FetchRequest(), 17, 1);
  auto request = witness_.Take();
  kafka::FetchResponse fetched;
  fetched.responses.push_back({.partitions = {{.records = records}}});
  std::string frame(kafka::EncodeResponse(fetched, 17, 1).view().substr(4));
  ASSERT_EQ(frame.back(), '\0');
  frame.back() = '\x80';
  frame += '\0';
  request.reply.SendBody(base::Buffer::Copy(frame));
  EXPECT_TRUE(client_->ReadFrame() == frame);
}

// Large sets of records go through pipes, small ones and what is between them do not.
TEST_F(SessionTest, RecordsOfManySizesPassInOrder) {
  std::promise<void> mapped;
  ports_.Request({8}, [&] { mapped.set_value(); });
  mapped.get_future().wait();
  const std::string noise = test::Noise(3 * PassThrough::kPieceBytes);
  const std::string_view bytes(noise);
  kafka::FetchResponse fetched{.session_id = 5};
  size_t from = 0;
  for (const size_t first : {3, 700000, 64, 300000}) {
    auto& topic = fetched.responses.emplace_back();
    for (const size_t size : {first, size_t{0}, size_t{70000}, size_t{200}, size_t{500000}}) {
      topic.partitions.push_back(
          {.partition_index = static_cast<int32_t>(size), .records = bytes.substr(from, size)});
      from = (from + 1001) % 80000;
    }
  }
  fetched.node_endpoints.push_back({.node_id = 8, .host = "secret.example.com", .port = 1});
  for (const int32_t id : {1, 2, 3}) {
    Send(kafka::FetchRequest(), 17, id);
    auto request = witness_.Take();
    request.reply.Send(kafka::EncodeResponse(fetched, 17, id));
    const auto answer = Read<kafka::FetchResponse>(17);
    EXPECT_EQ(answer.correlation_id, id);
    ASSERT_EQ(answer.response.responses.size(), fetched.responses.size());
    for (size_t i = 0; i < fetched.responses.size(); ++i) {
      const auto& sent = fetched.responses[i].partitions;
      const auto& got = answer.response.responses[i].partitions;
      ASSERT_EQ(got.size(), sent.size());
      for (size_t j = 0; j < sent.size(); ++j) EXPECT_TRUE(got[j].records == sent[j].records);
    }
    ASSERT_EQ(answer.response.node_endpoints.size(), 1);
    EXPECT_EQ(answer.response.node_endpoints[0].host, "127.0.0.1");
    EXPECT_EQ(answer.response.node_endpoints[0].port, 7008);
  }
  LetLoopsTurn();
  EXPECT_GT(IdlePipes(), 0U) << "none was used";
}

// Several of them at once, to a client that takes little at a time.
TEST_F(SessionTest, ASlowClientGetsPipelinedAnswersInOrder) {
  const std::string noise = test::Noise(12 * PassThrough::kPieceBytes);
  client_ = std::make_unique<TestPeer>(agent_->local_address(), 8192);
  for (const int32_t id : {1, 2, 3}) Send(kafka::FetchRequest(), 17, id);
  const std::string_view bytes(noise);
  for (const int32_t id : {1, 2, 3}) {
    auto request = witness_.Take();
    kafka::FetchResponse fetched;
    fetched.responses.push_back(
        {.partitions = {{.records = bytes.substr(static_cast<size_t>(id) * 1000)}}});
    request.reply.Send(kafka::EncodeResponse(fetched, 17, id));
  }
  for (const int32_t id : {1, 2, 3}) {
    const auto answer = Read<kafka::FetchResponse>(17);
    EXPECT_EQ(answer.correlation_id, id);
    EXPECT_TRUE(answer.response.responses.at(0).partitions.at(0).records ==
                bytes.substr(static_cast<size_t>(id) * 1000));
  }
}

TEST_F(SessionTest, ALongAnswerWaitsForThoseBeforeIt) {
  const std::string records(3 * PassThrough::kPieceBytes, 'r');
  Send(Produce(Batch()), 11, 1);
  Send(kafka::FetchRequest(), 12, 2);
  auto request = witness_.Take();
  kafka::FetchResponse fetched;
  fetched.responses.push_back({.topic = "t", .partitions = {{.records = records}}});
  request.reply.Send(kafka::EncodeResponse(fetched, 12, 2));
  sink_.Complete(7);
  EXPECT_EQ(Read<kafka::ProduceResponse>(11).correlation_id, 1);
  const auto answer = Read<kafka::FetchResponse>(12);
  EXPECT_EQ(answer.correlation_id, 2);
  EXPECT_EQ(answer.response.responses.at(0).partitions.at(0).records, records);
}

TEST_F(SessionTest, ALongAnswerThatBreaksOffCostsTheClientItsConnection) {
  Send(kafka::FetchRequest(), 12, 1);
  auto request = witness_.Take();
  kafka::FetchResponse fetched;
  const std::string records(3 * PassThrough::kPieceBytes, 'r');
  fetched.responses.push_back({.topic = "t", .partitions = {{.records = records}}});
  const base::Buffer whole = kafka::EncodeResponse(fetched, 12, 1);
  std::vector<base::Buffer> part;
  part.push_back(base::Buffer::Copy(whole.view().substr(0, whole.size() / 2)));
  request.reply.SendPart(std::move(part));
  request.reply.Close("the test says so");
  const std::string got = client_->Read(whole.size());
  EXPECT_LT(got.size(), whole.size());
  EXPECT_EQ(got, whole.view().substr(0, got.size()));
  EXPECT_TRUE(client_->AtEnd());
}

// More than may wait for the tier, and it all leaves at once: first with the connection that is
// made for it, then over the same.
TEST_F(SessionTest, AClientIsReadAgainAfterALongRequest) {
  // The agent's side of the request leaves no room in the budget of the others.
  net::MemoryBudget budget(size_t{4} << 20, metrics_);
  auto roomy = net::FramedServer::Listen(
      {.listen = {"127.0.0.1", 0}}, {.acceptor = acceptor_->loop(), .workers = {&first_->loop()}},
      budget, metrics_, [this](net::Connection& connection) {
        return std::make_unique<net::WitnessedSession>(connection, witness_);
      });
  ASSERT_TRUE(roomy);
  const std::unique_ptr<net::FramedServer> tier = *std::move(roomy);
  kafka::MetadataResponse metadata = TierMetadata();
  metadata.brokers[0].port = tier->local_address().port();
  cache_.Learn(metadata, 2);
  for (const int32_t id : {1, 3}) {
    const base::Buffer heartbeat =
        *kafka::EncodeRequest(kafka::HeartbeatRequest{.group_id = "g"}, 3, id, "test");
    std::string longer(heartbeat.view().substr(4));
    longer.append(PassThrough::kQueueHigh, 'x');
    client_->Write(net::Framed(longer));
    auto request = witness_.Take();
    EXPECT_TRUE(request.body == longer);
    request.reply.Send(kafka::EncodeResponse(kafka::HeartbeatResponse(), 3, id));
    EXPECT_EQ(Read<kafka::HeartbeatResponse>(3).correlation_id, id);
    Send(kafka::HeartbeatRequest{.group_id = "g"}, 3, id + 1);
    witness_.Take().reply.Send(kafka::EncodeResponse(kafka::HeartbeatResponse(), 3, id + 1));
    EXPECT_EQ(Read<kafka::HeartbeatResponse>(3).correlation_id, id + 1);
  }
}

// One that comes from here, and waits for one that the tier owes.
TEST_F(SessionTest, ALongAnswerDoesNotKeepTheTierFromGivingTheOneBeforeIt) {
  std::vector<std::string> names;
  for (int i = 0; i < 6000; ++i) names.push_back(std::to_string(i) + std::string(200, 'n'));
  kafka::MetadataResponse metadata = TierMetadata();
  for (const std::string& name : names) {
    metadata.topics.push_back(
        {.name = name, .partitions = {{.partition_index = 0, .leader_id = 1}}});
  }
  cache_.Learn(metadata, 2);
  Send(kafka::HeartbeatRequest{.group_id = "g"}, 3, 1);
  auto request = witness_.Take();
  cache_.SetTierAway(true);
  Send(kafka::MetadataRequest(), 9, 2);
  LetLoopsTurn();
  request.reply.Send(kafka::EncodeResponse(kafka::HeartbeatResponse(), 3, 1));
  EXPECT_EQ(Read<kafka::HeartbeatResponse>(3).correlation_id, 1);
  const auto answer = Read<kafka::MetadataResponse>(9);
  EXPECT_EQ(answer.correlation_id, 2);
  EXPECT_GT(answer.frame.size(), size_t{1} << 20);
}

TEST_F(ImpatientSessionTest, ASilentTierCostsTheClientItsConnectionInTime) {
  Send(kafka::HeartbeatRequest{.group_id = "g"}, 3, 1);
  auto ignored = witness_.Take();
  EXPECT_TRUE(client_->AtEnd());
  ignored.reply.Close("late");
}

TEST_F(SessionTest, MetadataComesWithOurAddressesAndTeachesTheCache) {
  Send(kafka::MetadataRequest(), 9, 1);
  auto request = witness_.Take();
  kafka::MetadataResponse metadata = TierMetadata();
  metadata.brokers.push_back({.node_id = 8, .host = "eight", .port = 9092});
  metadata.topics.push_back(
      {.name = "new", .partitions = {{.partition_index = 0, .leader_id = 8}}});
  request.reply.Send(kafka::EncodeResponse(metadata, 9, 1));
  const auto answer = Read<kafka::MetadataResponse>(9);
  ASSERT_EQ(answer.response.brokers.size(), 2);
  EXPECT_EQ(answer.response.brokers[0].port, agent_->local_address().port());
  EXPECT_EQ(answer.response.brokers[0].host, "127.0.0.1");
  // A broker that was new got a port of its own before the client heard of it.
  EXPECT_EQ(answer.response.brokers[1].port, 7008);
  EXPECT_EQ(cache_.cluster()->LeaderOf("new", 0), 8);
  cache_.LearnSettings("new", {});
  Send(Produce(Batch(), "new"), 9, 2);
  sink_.Complete(0);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kNone);
}

// librdkafka 2.15 asks for all topics so, and Kafka ignores what follows.
TEST_F(SessionTest, BytesBehindARequestAreIgnored) {
  const std::string body(
      "\0\x03\0\x0d\0\0\0\x09\0\1c\0"
      "\0\0\0\0\1\0\0",
      19);
  client_->Write(net::Framed(body));
  auto request = witness_.Take();
  EXPECT_EQ(request.body, body);
  request.reply.Send(kafka::EncodeResponse(TierMetadata(), 13, 9));
  EXPECT_EQ(Read<kafka::MetadataResponse>(13).correlation_id, 9);
}

TEST_F(SessionTest, ADeclaredTopicIsNotMadeByTheTiersDefaults) {
  kafka::MetadataRequest metadata;
  metadata.topics.emplace().push_back({.name = "declared"});
  Send(metadata, 9, 1);
  auto request = witness_.Take();
  const auto header = kafka::ReadRequestHeader(request.body);
  EXPECT_EQ(header->correlation_id, 1);
  EXPECT_EQ(header->client_id, "test");
  const auto passed = kafka::DecodeRequest<kafka::MetadataRequest>(request.body, *header);
  EXPECT_FALSE(passed->allow_auto_topic_creation);
  kafka::MetadataResponse response = TierMetadata();
  response.topics = {{.error_code = ErrorCode::kUnknownTopicOrPartition, .name = "declared"}};
  request.reply.Send(kafka::EncodeResponse(response, 9, 1));
  const auto answer = Read<kafka::MetadataResponse>(9);
  EXPECT_EQ(answer.response.topics.at(0).error_code, ErrorCode::kNone);
  EXPECT_EQ(answer.response.topics.at(0).partitions.size(), 3);
}

TEST_F(SessionWithACacheTest, ASilentTierDoesNotKeepMetadataWaiting) {
  Send(kafka::MetadataRequest(), 9, 1);
  auto ignored = witness_.Take();
  const auto answer = Read<kafka::MetadataResponse>(9);
  EXPECT_EQ(answer.correlation_id, 1);
  EXPECT_EQ(answer.response.topics.size(), 2);
  // The late answer is dropped; the next one is that of the next request.
  ignored.reply.Send(kafka::EncodeResponse(TierMetadata(), 9, 1));
  Send(kafka::FetchRequest(), 11, 2);
  witness_.Take().reply.SendBody(base::Buffer::Copy(std::string_view("\0\0\0\2x", 5)));
  EXPECT_EQ(client_->ReadFrame(), std::string_view("\0\0\0\2x", 5));
}

// The client gets its answer behind that of the fetch anyway.
TEST_F(SessionWithACacheTest, MetadataBehindALongPollIsTheTiersOwn) {
  Send(kafka::FetchRequest{.max_wait_ms = 60'000}, 11, 1);
  Send(kafka::MetadataRequest(), 9, 2);
  auto fetch = witness_.Take();
  auto metadata = witness_.Take();
  // Asked later, and answered from the cache.
  TestPeer other(agent_->local_address());
  other.Write(kafka::EncodeRequest(kafka::MetadataRequest(), 9, 3, "test")->view());
  EXPECT_FALSE(other.ReadFrame().empty());
  auto ignored = witness_.Take();
  kafka::MetadataResponse own = TierMetadata();
  own.topics.clear();
  metadata.reply.Send(kafka::EncodeResponse(own, 9, 2));
  fetch.reply.Send(kafka::EncodeResponse(kafka::FetchResponse(), 11, 1));
  EXPECT_EQ(Read<kafka::FetchResponse>(11).correlation_id, 1);
  EXPECT_TRUE(Read<kafka::MetadataResponse>(9).response.topics.empty());
  ignored.reply.Close("late");
}

TEST_F(SessionTest, WithTheTierAwayTheCacheAnswers) {
  cache_.SetTierAway(true);
  tier_.reset();
  Send(kafka::MetadataRequest(), 12, 1);
  EXPECT_EQ(Read<kafka::MetadataResponse>(12).response.brokers.size(), 1);
  Send(kafka::FindCoordinatorRequest{.key = "g"}, 2, 2);
  EXPECT_EQ(Read<kafka::FindCoordinatorResponse>(2).response.error_code,
            ErrorCode::kCoordinatorNotAvailable);
  Send(Produce(Batch()), 9, 3);
  sink_.Complete(0);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).error_code, ErrorCode::kNone);
}

TEST_F(SessionTest, AClientThatTheTierAnswersDoesNotHearThatItIsAway) {
  cache_.SetTierAway(true);
  Send(kafka::FindCoordinatorRequest{.key = "g"}, 3, 1);
  EXPECT_EQ(Read<kafka::FindCoordinatorResponse>(3).response.error_code,
            ErrorCode::kCoordinatorNotAvailable);
  const auto heartbeat = kafka::EncodeResponse(kafka::HeartbeatResponse(), 4, 2);
  Send(kafka::HeartbeatRequest(), 4, 2);
  witness_.Take().reply.SendBody(
      base::Buffer::Copy(heartbeat.view().substr(kafka::kLengthPrefixBytes)));
  Read<kafka::HeartbeatResponse>(4);
  Send(kafka::FindCoordinatorRequest{.key = "g"}, 3, 3);
  witness_.WaitForRequests(2);
  // Once it is lost nobody answers.
  tier_.reset();
  EXPECT_EQ(Read<kafka::FindCoordinatorResponse>(3).response.error_code,
            ErrorCode::kCoordinatorNotAvailable);
}

TEST_F(SessionTest, WhatTheTierAnsweredInAnotherAbsenceSaysNothing) {
  cache_.SetTierAway(true);
  Send(kafka::HeartbeatRequest(), 4, 1);
  const auto heartbeat = kafka::EncodeResponse(kafka::HeartbeatResponse(), 4, 1);
  witness_.Take().reply.SendBody(
      base::Buffer::Copy(heartbeat.view().substr(kafka::kLengthPrefixBytes)));
  Read<kafka::HeartbeatResponse>(4);
  cache_.SetTierAway(false);
  cache_.SetTierAway(true);
  Send(kafka::FindCoordinatorRequest{.key = "g"}, 3, 2);
  EXPECT_EQ(Read<kafka::FindCoordinatorResponse>(3).response.error_code,
            ErrorCode::kCoordinatorNotAvailable);
}

TEST_F(SessionTest, ALostTierClosesTheClientAfterTheAnswersThatWereItsDue) {
  Send(Produce(Batch()), 9, 1);
  Send(kafka::FetchRequest(), 11, 2);
  witness_.WaitForRequests(1);
  tier_.reset();
  LetLoopsTurn();
  sink_.Complete(3);
  EXPECT_EQ(Read<kafka::ProduceResponse>(9).correlation_id, 1);
  EXPECT_TRUE(client_->AtEnd());
}

TEST_F(SessionTest, ALostTierAnswersMetadataFromTheCache) {
  Send(kafka::MetadataRequest(), 9, 1);
  witness_.WaitForRequests(1);
  tier_.reset();
  EXPECT_EQ(Read<kafka::MetadataResponse>(9).response.topics.size(), 2);
  Send(Produce(Batch()), 9, 2);
  sink_.Complete(3);
  EXPECT_EQ(Only(Read<kafka::ProduceResponse>(9)).base_offset, 3);
}

TEST_F(SessionTest, ProducerIdsWithoutTransactionsAreOurs) {
  Send(kafka::InitProducerIdRequest(), 4, 1);
  const auto own = Read<kafka::InitProducerIdResponse>(4);
  EXPECT_EQ(own.response.producer_id, 4242);
  EXPECT_EQ(own.response.producer_epoch, 0);
  Send(kafka::InitProducerIdRequest{.transactional_id = "tx"}, 4, 2);
  witness_.Take().reply.Send(
      kafka::EncodeResponse(kafka::InitProducerIdResponse{.producer_id = 17}, 4, 2));
  EXPECT_EQ(Read<kafka::InitProducerIdResponse>(4).response.producer_id, 17);
}

TEST_F(SessionTest, ApiVersionsIsAnsweredHereInAllVersions) {
  kafka::ApiVersionsResponse tier;
  tier.api_keys.push_back({.api_key = 0, .min_version = 0, .max_version = 13});
  cache_.Learn(tier);
  const kafka::ApiVersionsRequest request{.client_software_name = "x",
                                          .client_software_version = "1"};
  for (int16_t version = 0; version <= 4; ++version) {
    Send(request, version, version);
    const auto answer = Read<kafka::ApiVersionsResponse>(version);
    EXPECT_EQ(answer.response.api_keys.at(0).max_version, 13);
  }
  // A newer client reads version 0, and takes the version to ask in from there.
  client_->Write(std::string_view("\0\0\0\x0a\0\x12\0\x63\0\0\0\x05\xff\xff", 14));
  const auto answer = Read<kafka::ApiVersionsResponse>(0);
  EXPECT_EQ(answer.correlation_id, 5);
  EXPECT_EQ(answer.response.error_code, ErrorCode::kUnsupportedVersion);
  EXPECT_EQ(answer.response.api_keys.at(0).max_version, 4);
}

TEST_F(SessionTest, ApiVersionsDoesNotWaitLongForATierThatWasNeverSeen) {
  Send(kafka::ApiVersionsRequest(), 0, 1);
  EXPECT_GT(Read<kafka::ApiVersionsResponse>(0).response.api_keys.size(), 5);
}

TEST_F(SessionTest, GarbageCostsTheSenderItsConnection) {
  client_->Write(net::Framed("ab"));
  EXPECT_TRUE(client_->AtEnd());
  for (const std::string_view garbage :
       {std::string_view("\0\0\0\x09\0\0\0\1\xff\xff####", 14),   // Produce, cut off.
        std::string_view("\0\0\0\x01\0\0\0\1\xff\xff", 10),       // Produce v1.
        std::string_view("\0\x03\0\x63\0\0\0\1\xff\xff", 10)}) {  // Metadata v99.
    TestPeer peer(agent_->local_address());
    peer.Write(net::Framed(garbage));
    EXPECT_TRUE(peer.AtEnd());
  }
}

TEST_F(SessionTest, AVersionThatWasNotOfferedCostsTheSenderItsConnection) {
  for (const bool away : {false, true}) {
    cache_.SetTierAway(away);
    for (const ApiPolicy& policy : ApiPolicies()) {
      if (policy.away == Away::kCloses || policy.key == kafka::ApiVersionsRequest::kApi.key)
        continue;
      for (const int version : {-1, policy.oldest - 1, policy.newest + 1, 99}) {
        TestPeer peer(agent_->local_address());
        std::string frame("\0\0\0\0\0\0\0\1\xff\xff\0", 11);
        base::StoreBig(frame.data(), policy.key);
        base::StoreBig(frame.data() + 2, static_cast<int16_t>(version));
        peer.Write(net::Framed(frame));
        EXPECT_TRUE(peer.AtEnd()) << policy.name << " v" << version;
      }
    }
  }
}

}  // namespace
}  // namespace holdfast::proxy
