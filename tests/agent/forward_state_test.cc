#include "agent/forward_state.h"

#include <gtest/gtest.h>

#include "agent/port_state.h"
#include "agent/produce_request.h"
#include "kafka/api/produce.h"
#include "kafka/codec.h"
#include "kafka/record_batch_builder.h"

namespace holdfast::agent {
namespace {

TEST(ForwardStateTest, RecordsComeBackAsTheyWereWritten) {
  const ForwardRecord record{.identity = {.producer_id = int64_t{1} << 40,
                                          .epoch = 31000,
                                          .base_ordinal = int64_t{1} << 50,
                                          .cluster_tag = 0xfedcba98},
                             .confirmed = (int64_t{1} << 50) + 7,
                             .tier_offset = -1,
                             .topic_id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}};
  const auto read = ForwardRecord::Parse(record.Serialize());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, record);
  const UpstreamProducer producer{.id = 12, .cluster_tag = ClusterTag("cluster")};
  const auto read_producer = UpstreamProducer::Parse(producer.Serialize());
  ASSERT_TRUE(read_producer);
  EXPECT_EQ(read_producer->id, 12);
  EXPECT_EQ(read_producer->cluster_tag, ClusterTag("cluster"));
}

TEST(ForwardStateTest, TheFormWithoutATopicIdIsStillRead) {
  ForwardRecord record{.identity = {.producer_id = 7, .epoch = 1, .base_ordinal = 4},
                       .confirmed = 9,
                       .tier_offset = 30,
                       .topic_id = {{1}}};
  const std::string bytes = record.Serialize();
  const auto read = ForwardRecord::Parse("\x01" + bytes.substr(1, bytes.size() - 17));
  ASSERT_TRUE(read) << read.error().message;
  record.topic_id = {};
  EXPECT_EQ(*read, record);
}

TEST(ForwardStateTest, OtherFormsAreRefused) {
  const std::string bytes = ForwardRecord().Serialize();
  EXPECT_EQ(ForwardRecord::Parse("").error().code, base::Code::kInvalid);
  EXPECT_EQ(ForwardRecord::Parse(bytes.substr(0, 10)).error().code, base::Code::kCorrupt);
  EXPECT_EQ(ForwardRecord::Parse(bytes + "x").error().code, base::Code::kCorrupt);
  EXPECT_EQ(ForwardRecord::Parse("\x07" + bytes.substr(1)).error().code, base::Code::kInvalid);
}

TEST(ForwardStateTest, ClusterTagsComeBackAsTheyWereWritten) {
  const uint32_t tag = ClusterTag("some cluster");
  EXPECT_EQ(*ParseClusterTag(SerializeClusterTag(tag)), tag);
  EXPECT_EQ(ParseClusterTag("").error().code, base::Code::kInvalid);
  EXPECT_EQ(ParseClusterTag(SerializeClusterTag(tag) + "x").error().code, base::Code::kCorrupt);
}

TEST(ForwardStateTest, DestinationsComeBackAsTheyWereWritten) {
  const Destination one{.bootstrap = {"a:9092", "b:9092"}, .principal = "PLAIN orders"};
  const auto back = Destination::Parse(one.Serialize());
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, one);
  EXPECT_TRUE(one.SharesAddress({.bootstrap = {"c:9092", "b:9092"}}));
  EXPECT_FALSE(one.SharesAddress({.bootstrap = {"c:9092"}}));
  EXPECT_TRUE(one.IsSamePrincipal({.principal = "PLAIN orders"}));
  EXPECT_FALSE(one.IsSamePrincipal({.principal = "PLAIN others"}));
  EXPECT_FALSE(Destination().IsSamePrincipal(Destination()));
  // Of a later version.
  EXPECT_TRUE(Destination::Parse(R"({"bootstrap": ["a:9092"], "more": 1})"));
  for (const char* wrong :
       {"", "{", "[]", R"({"bootstrap": [1]})", R"({"bootstrap": 1})", R"({"principal": 1})"})
    EXPECT_FALSE(Destination::Parse(wrong)) << wrong;
}

TEST(ForwardStateTest, StreamNamesAndKeysGoBothWays) {
  EXPECT_EQ(StreamName("orders.v1", 12), "orders.v1/12");
  EXPECT_EQ(ParseStreamName("orders.v1/12"), (std::pair<std::string, int32_t>("orders.v1", 12)));
  for (const char* name : {"orders", "orders/", "orders/x", "orders/-1", "orders/1x"}) {
    EXPECT_EQ(ParseStreamName(name), std::nullopt) << name;
  }
  const spool::StreamId id(0x01020304);
  EXPECT_EQ(ParseStreamKey(kForwardPrefix, StreamKey(kForwardPrefix, id)), id);
  EXPECT_EQ(ParseStreamKey(kDedupePrefix, StreamKey(kForwardPrefix, id)), std::nullopt);
}

TEST(PortStateTest, MappingComesBackAsItWasWritten) {
  const proxy::BrokerPorts::Ports ports{{1, 0}, {2, 65535}, {1000, 7000}};
  EXPECT_EQ(ParsePorts(SerializePorts(ports)), ports);
  EXPECT_EQ(ParsePorts(""), std::nullopt);
  EXPECT_EQ(ParsePorts("12345"), std::nullopt);
}

std::string Batch(kafka::Codec codec, std::string_view value) {
  kafka::RecordBatchBuilder builder({.codec = codec, .producer = {77, 3, 41}});
  builder.Add({.timestamp = 1'700'000'000'000, .key = "k", .value = value});
  builder.Add({.timestamp = 1'700'000'000'001, .value = value});
  return std::move(builder).Build();
}

TEST(ProduceRequestTest, PayloadsTravelUntouchedUnderANewHeader) {
  const std::string first = Batch(kafka::Codec::kZstd, "one");
  const std::string second = Batch(kafka::Codec::kNone, std::string(100'000, 'x'));
  const std::vector<OutgoingBatch> batches{
      {.topic = "a", .partition = 3, .bytes = first, .producer = {500, 1, 10}},
      {.topic = "a", .partition = 4, .bytes = second, .producer = {500, 2, 0x7fffffff}},
      {.topic = "b", .partition = 0, .bytes = first, .producer = {501, 0, 0}}};
  for (int16_t version = kafka::ProduceRequest::kApi.oldest; version <= kForwardProduceCap;
       ++version) {
    const auto frame = BuildProduceRequest(batches, version, 1500);
    ASSERT_TRUE(frame) << frame.error().message;
    const std::string_view body = frame->view().substr(kafka::kLengthPrefixBytes);
    const auto header = kafka::ReadRequestHeader(body);
    const auto request = kafka::DecodeRequest<kafka::ProduceRequest>(body, *header);
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->acks, -1);
    EXPECT_EQ(request->timeout_ms, 1500);
    ASSERT_EQ(request->topic_data.size(), 2);
    ASSERT_EQ(request->topic_data[0].partition_data.size(), 2);
    const std::vector<std::string_view> sent{*request->topic_data[0].partition_data[0].records,
                                             *request->topic_data[0].partition_data[1].records,
                                             *request->topic_data[1].partition_data[0].records};
    for (size_t i = 0; i < sent.size(); ++i) {
      ASSERT_TRUE(kafka::CheckProduced(sent[i], {}).ok());
      const kafka::RecordBatchView batch(sent[i]);
      EXPECT_EQ(batch.header().producer, batches[i].producer);
      EXPECT_EQ(batch.payload(), kafka::RecordBatchView(batches[i].bytes).payload());
      EXPECT_EQ(batch.header().max_timestamp, 1'700'000'000'001);
    }
  }
}

}  // namespace
}  // namespace holdfast::agent
