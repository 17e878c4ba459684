// Compacted topics, through whole brokers: what stays of each key, what consumers see of it, and
// the same at random against a model, through crashes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "broker/offset_map.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_offsets.h"
#include "net/admin_server.h"
#include "tests/broker/broker_fixture.h"

namespace holdfast::broker {
namespace {

using kafka::Codec;
using kafka::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

using Configs = std::vector<kafka::CreateTopicsRequest::CreatableTopicConfig>;
using KeyValue = std::pair<std::string, std::optional<std::string>>;

struct Seen {
  int64_t offset;
  std::string key;
  std::optional<std::string> value;

  bool operator==(const Seen&) const = default;
};
void PrintTo(const Seen& seen, std::ostream* out) {
  *out << seen.offset << ":" << seen.key << "=" << seen.value.value_or("(none)");
}

class CompactionTest : public testing::Test {
 protected:
  // Compacted as soon as anybody looks.
  void CreateTopic(Configs more = {}) {
    Configs configs{{"cleanup.policy", "compact", {}},
                    {"segment.ms", "1", {}},
                    {"min.cleanable.dirty.ratio", "0.01", {}}};
    configs.insert(configs.end(), more.begin(), more.end());
    broker_.CreateTopic("t", 1, configs);
  }
  std::string Batch(const std::vector<KeyValue>& records, const kafka::Producer& producer = {},
                    Codec codec = Codec::kNone, bool transactional = false) {
    kafka::RecordBatchBuilder builder(
        {.codec = codec, .producer = producer, .transactional = transactional});
    for (const auto& [key, value] : records) {
      builder.Add({.timestamp = broker_.clock().wall_clock_ms(), .key = key, .value = value});
    }
    return std::move(builder).Build();
  }
  int64_t Produce(const std::vector<KeyValue>& records, const kafka::Producer& producer = {},
                  Codec codec = Codec::kNone) {
    const auto response = broker_.Produce("t", 0, Batch(records, producer, codec));
    EXPECT_EQ(response.error_code, ErrorCode::kNone);
    return response.base_offset;
  }
  // Until the next round, and the one behind it that is there for what was sealed.
  void Compact() { broker_.clock().Advance(seconds(16)); }

  // As a consumer reads: from one batch's end to the next.
  std::vector<Seen> Read(int64_t from = 0) {
    std::vector<Seen> seen;
    for (int64_t offset = from;;) {
      kafka::FetchRequest request = BrokerFixture::MakeFetch("t", 0, offset);
      request.max_wait_ms = 0;
      const auto pending = broker_.Ask(request, 12);
      const auto response = pending.Get();
      const auto& data = response.responses.at(0).partitions.at(0);
      EXPECT_EQ(data.error_code, ErrorCode::kNone);
      kafka::BatchIterator batches(data.records.value_or(""));
      const int64_t before = offset;
      while (const auto batch = batches.Next()) {
        EXPECT_TRUE(batch->CrcMatches());
        const kafka::BatchHeader header = batch->header();
        offset = header.next_offset();
        if (header.control()) continue;
        const auto records = kafka::UncompressedRecords::Of(*batch);
        kafka::RecordReader reader(header, records->bytes());
        kafka::Record record;
        int32_t count = 0;
        for (; reader.Next(&record); ++count) {
          EXPECT_LE(record.offset, header.last_offset());
          seen.push_back({record.offset, std::string(record.key.value_or("(no key)")),
                          record.value ? std::optional(std::string(*record.value)) : std::nullopt});
        }
        EXPECT_TRUE(reader.status());
        EXPECT_EQ(count, header.record_count);
      }
      if (offset == before) {
        EXPECT_EQ(offset, data.high_watermark) << "a consumer would stay here for ever";
        return seen;
      }
    }
  }

  void DeleteRecords(std::string_view topic, int64_t offset) {
    kafka::DeleteRecordsRequest deletion;
    deletion.topics.emplace_back().name = topic;
    deletion.topics.back().partitions.push_back({0, offset, {}});
    EXPECT_EQ(broker_.Ask(deletion, 2).Get().topics[0].partitions[0].low_watermark, offset);
  }
  // When a batch with `text` is read the next time: once, and only after a restart, for the spool
  // has what was written just now not checked.
  void WhenRead(std::string text, base::Task then) {
    awaited_ = std::move(text);
    when_read_ = std::move(then);
  }
  Options Observed() {
    Options options;
    options.spool.check_entry = [this](std::string_view bytes) {
      if (when_read_ && bytes.find(awaited_) != std::string_view::npos) {
        std::exchange(when_read_, base::Task())();
      }
      return kafka::CheckStored(bytes);
    };
    return options;
  }

  std::string awaited_;
  base::Task when_read_;
  BrokerFixture broker_{Observed(), 1, /*compacts=*/true};
};

TEST_F(CompactionTest, TheLastRecordOfEachKeyStays) {
  CreateTopic();
  Produce({{"a", "1"}, {"b", "1"}, {"a", "2"}});
  Produce({{"a", "3"}});
  Produce({{"c", "1"}, {"b", "2"}}, {}, Codec::kZstd);
  Produce({{"last", "1"}});
  Compact();
  const std::vector<Seen> expected{{3, "a", "3"}, {4, "c", "1"}, {5, "b", "2"}, {6, "last", "1"}};
  EXPECT_EQ(Read(), expected);
  EXPECT_EQ(Read(1), expected) << "from where nothing is left";
  broker_.CrashAndRestart();
  EXPECT_EQ(Read(), expected);
  // And on, with keys of earlier rounds.
  Produce({{"a", "4"}});
  Produce({{"z", "1"}});
  Compact();
  EXPECT_EQ(Read(),
            (std::vector<Seen>{
                {4, "c", "1"}, {5, "b", "2"}, {6, "last", "1"}, {7, "a", "4"}, {8, "z", "1"}}));
}

TEST_F(CompactionTest, WhatWasTheLastBatchIsCompactedWhenAnotherFollows) {
  CreateTopic();
  Produce({{"a", "1"}});
  Produce({{"a", "2"}, {"a", "3"}});
  Compact();
  EXPECT_EQ(Read(), (std::vector<Seen>{{1, "a", "2"}, {2, "a", "3"}}));
  Compact();
  Produce({{"b", "1"}});
  Compact();
  EXPECT_EQ(Read(), (std::vector<Seen>{{2, "a", "3"}, {3, "b", "1"}}));
}

// A batch made of it would have a checksum that is right.
TEST_F(CompactionTest, NothingIsMadeOfABatchThatIsDamaged) {
  CreateTopic();
  Produce({{"a", "1"}, {"b", std::string(20'000, '.') + "precious"}});
  Produce({{"a", "2"}});
  Produce({{"last", "1"}});
  broker_.Damage("precious");
  Compact();
  EXPECT_EQ(Read(), (std::vector<Seen>{{2, "a", "2"}, {3, "last", "1"}}));
}

// Whoever repairs it starts the broker again.
TEST_F(CompactionTest, ARoundThatMeetsADamagedSegmentIsNotMadeAgainAtOnce) {
  CreateTopic();
  Produce({{"a", "1"}});
  Produce({{"a", "precious"}});
  Produce({{"a", "2"}});
  Produce({{"last", "1"}});
  broker_.Damage("precious");
  const auto failed = [&] {
    for (const net::AdminRoute& route : broker_.broker().AdminRoutes()) {
      if (route.path != "/metrics") continue;
      const std::string text = route.handler({}).body;
      const size_t at = text.find("compactions_total{outcome=\"failed\"}");
      return at == std::string::npos ? std::string() : text.substr(at, text.find('\n', at) - at);
    }
    return std::string();
  };
  broker_.clock().Advance(seconds(60));
  EXPECT_THAT(failed(), testing::EndsWith(" 1"));
  broker_.clock().Advance(seconds(300));
  EXPECT_THAT(failed(), testing::EndsWith(" 2"));
}

// As long as it is damaged, the segments before it would be written anew for each little change.
TEST_F(CompactionTest, RoundsThatMeetADamagedSegmentAreNotMadeAtAnyPrice) {
  CreateTopic();
  for (int i = 0; i < 15; ++i) {
    Produce({{"a", std::to_string(i)}});
    Produce({{"k" + std::to_string(i), std::string(900'000, '.')}});
  }
  Produce({{"a", "precious"}});
  Produce({{"a", "end"}});
  Produce({{"last", "1"}});
  broker_.Damage("precious");
  broker_.clock().Advance(seconds(1200));
  EXPECT_EQ(Read().front().key, "a") << "so little is not worth it";
}

TEST_F(CompactionTest, OffsetsAreFoundAmongWhatIsLeft) {
  CreateTopic();
  const int64_t begin_ms = broker_.clock().wall_clock_ms();
  Produce({{"a", "1"}});
  broker_.clock().Advance(milliseconds(100));
  Produce({{"a", "2"}, {"b", "1"}});
  broker_.clock().Advance(milliseconds(100));
  Produce({{"a", "3"}});
  Compact();
  const auto find = [&](int64_t timestamp) {
    kafka::ListOffsetsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.emplace_back().timestamp = timestamp;
    return broker_.Ask(request, 7).Get().topics.at(0).partitions.at(0).offset;
  };
  EXPECT_EQ(find(-2), 0);
  EXPECT_EQ(find(-1), 4);
  EXPECT_EQ(find(begin_ms), 2) << "the first that is left";
  EXPECT_EQ(find(begin_ms + 101), 3);
  EXPECT_EQ(find(begin_ms + 201), -1);
  EXPECT_EQ(find(-3), 3);
}

TEST_F(CompactionTest, TombstonesStayForAWhile) {
  CreateTopic({{"delete.retention.ms", "60000", {}}});
  Produce({{"a", "1"}, {"b", "1"}});
  Produce({{"a", std::nullopt}, {"b", "2"}});
  Produce({{"last", "1"}});
  Compact();
  EXPECT_EQ(Read(), (std::vector<Seen>{{2, "a", std::nullopt}, {3, "b", "2"}, {4, "last", "1"}}));
  const auto batch = broker_.Ask(BrokerFixture::MakeFetch("t", 0, 2), 12);
  const auto header =
      kafka::RecordBatchView::Front(*batch.Get().responses[0].partitions[0].records)->header();
  EXPECT_TRUE(header.delete_horizon());
  EXPECT_GT(header.base_timestamp, broker_.clock().wall_clock_ms());
  EXPECT_LE(header.max_timestamp, broker_.clock().wall_clock_ms()) << "records keep their times";

  broker_.clock().Advance(seconds(30));
  Produce({{"x", "1"}});
  Produce({{"y", "1"}});
  Compact();
  EXPECT_EQ(Read().front(), (Seen{2, "a", std::nullopt})) << "not yet";
  broker_.clock().Advance(seconds(30));
  Produce({{"x", "2"}});
  Produce({{"y", "2"}});
  Compact();
  EXPECT_EQ(Read().front(), (Seen{3, "b", "2"}));
}

TEST_F(CompactionTest, TheTopicSaysWhen) {
  CreateTopic({{"min.cleanable.dirty.ratio", "0.9", {}}});
  Produce({{"a", "1"}});
  Produce({{"a", "2"}});
  Produce({{"b", "1"}});
  Compact();
  EXPECT_EQ(Read().size(), 2u) << "nothing was clean before";
  Produce({{"a", "3"}});
  Compact();
  EXPECT_EQ(Read().size(), 3u) << "two of three batches are clean";
  for (int i = 0; i < 30; ++i) Produce({{"b", std::to_string(i)}});
  Compact();
  EXPECT_EQ(Read(), (std::vector<Seen>{{3, "a", "3"}, {33, "b", "29"}}));
}

TEST_F(CompactionTest, YoungRecordsAreLeftAlone) {
  CreateTopic({{"min.compaction.lag.ms", "60000", {}}});
  Produce({{"a", "1"}});
  Produce({{"a", "2"}});
  Produce({{"b", "1"}});
  Compact();
  EXPECT_EQ(Read().size(), 3u);
  broker_.clock().Advance(seconds(60));
  EXPECT_EQ(Read().size(), 2u);
}

TEST_F(CompactionTest, NoTopicWaitsLongerThanItsMaximum) {
  CreateTopic({{"min.cleanable.dirty.ratio", "1", {}},
               {"segment.ms", "604800000", {}},
               {"max.compaction.lag.ms", "60000", {}}});
  Produce({{"a", "1"}});
  Produce({{"a", "2"}});
  Produce({{"b", "1"}});
  Compact();
  EXPECT_EQ(Read().size(), 3u);
  broker_.clock().Advance(seconds(60));
  EXPECT_EQ(Read().size(), 2u);
}

TEST_F(CompactionTest, OtherTopicsAndOtherPartitionsAreUntouched) {
  CreateTopic();
  broker_.CreateTopic("u", 1);
  for (int i = 0; i < 10; ++i) {
    Produce({{"a", std::to_string(i)}});
    broker_.Produce("u", 0, broker_.Batch({std::to_string(i)}));
  }
  Compact();
  EXPECT_EQ(Read().size(), 1u);
  EXPECT_EQ(broker_.Values("u", 0, 0).size(), 10u);
  broker_.CrashAndRestart();
  EXPECT_EQ(broker_.Values("u", 0, 0).size(), 10u);
}

TEST_F(CompactionTest, ProducersGoOnWhereTheyWere) {
  CreateTopic();
  Produce({{"a", "1"}, {"a", "2"}}, {.id = 9, .epoch = 0, .base_sequence = 0});
  Produce({{"a", "3"}}, {.id = 9, .epoch = 0, .base_sequence = 2});
  Produce({{"b", "1"}});
  Compact();
  EXPECT_EQ(Read().size(), 2u);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(Produce({{"a", "3"}}, {.id = 9, .epoch = 0, .base_sequence = 2}), 2) << "a retry";
    EXPECT_EQ(broker_.Produce("t", 0, Batch({{"a", "5"}}, {9, 0, 9})).error_code,
              ErrorCode::kOutOfOrderSequenceNumber);
    broker_.CrashAndRestart();
  }
  EXPECT_EQ(Produce({{"a", "4"}}, {.id = 9, .epoch = 0, .base_sequence = 3}), 4);
}

TEST_F(CompactionTest, WithBothPoliciesOldRecordsGoToo) {
  CreateTopic({{"cleanup.policy", "compact,delete", {}}, {"retention.ms", "600000", {}}});
  Produce({{"a", "1"}});
  Produce({{"a", "2"}});
  Produce({{"b", "1"}});
  Compact();
  EXPECT_EQ(Read().size(), 2u);
  broker_.clock().Advance(seconds(900));
  EXPECT_EQ(Produce({{"c", "1"}}), 3);
  EXPECT_EQ(Read(3).size(), 1u);
  EXPECT_EQ(broker_.Produce("t", 0, Batch({{"c", "2"}})).log_start_offset, 3);
}

TEST_F(CompactionTest, ATopicIsCompactedWhoseStartLiesInTheOpenSegment) {
  CreateTopic({{"cleanup.policy", "compact,delete", {}}});
  for (int i = 0; i < 10; ++i) Produce({{"a", std::to_string(i)}});
  DeleteRecords("t", 3);
  Compact();
  EXPECT_EQ(Read(3), (std::vector<Seen>{{9, "a", "9"}}));
}

// What is noted as compacted, and was not looked at, would give up a tombstone before what it
// deletes.
TEST_F(CompactionTest, ADeletedKeyDoesNotComeBackWhenTheTopicIsTrimmedMeanwhile) {
  CreateTopic({{"cleanup.policy", "compact,delete", {}}, {"delete.retention.ms", "1000", {}}});
  const std::string much(100'000, '.');
  for (int i = 0; i < 20; ++i) Produce({{"key " + std::to_string(i), much}});
  Compact();
  Produce({{"x", much}});
  Produce({{"x", std::nullopt}});
  Produce({{"last", "1"}});
  broker_.CrashAndRestart();
  bool trimmed = false;
  WhenRead("key 2", [&] {
    broker_.Meanwhile([&] { DeleteRecords("t", 19); });
    trimmed = true;
  });
  Compact();
  EXPECT_TRUE(trimmed);
  EXPECT_EQ(Read(20), (std::vector<Seen>{{21, "x", std::nullopt}, {22, "last", "1"}}));
  for (const char* value : {"2", "3"}) {
    Produce({{"last", much + value}});
    Compact();
  }
  EXPECT_EQ(Read(20), (std::vector<Seen>{{24, "last", much + "3"}}));
}

// As of a topic that does not become due within its retention time.
TEST_F(CompactionTest, AStartThatPassesWhatWasCompactedKeepsNobodyFromCompaction) {
  CreateTopic({{"cleanup.policy", "compact,delete", {}}, {"min.cleanable.dirty.ratio", "0.5", {}}});
  broker_.CreateTopic("u", 1,
                      {{"cleanup.policy", "compact", {}},
                       {"segment.ms", "1", {}},
                       {"min.cleanable.dirty.ratio", "0.01", {}}});
  const auto produce_to_u = [&](const std::string& key) {
    EXPECT_EQ(broker_.Produce("u", 0, Batch({{key, "1"}})).error_code, ErrorCode::kNone);
  };
  for (int i = 0; i < 10; ++i) {
    Produce({{"k" + std::to_string(i), "1"}});
    produce_to_u("k" + std::to_string(i));
  }
  Compact();
  Produce({{"x", "1"}});
  Produce({{"y", "1"}});
  produce_to_u("k0");
  Compact();  // That of u, for which the segment is sealed: t's entries are counted.
  EXPECT_EQ(Read().size(), 12u);
  DeleteRecords("t", 11);
  for (int i = 0; i < 30; ++i) Produce({{"a", std::to_string(i)}});
  for (int i = 0; i < 5; ++i) produce_to_u("k0");
  Compact();
  EXPECT_EQ(Read(11), (std::vector<Seen>{{11, "y", "1"}, {41, "a", "29"}}));
  EXPECT_EQ(broker_.Values("u", 0, 0).size(), 10u);
}

TEST_F(CompactionTest, ATrimJustBeforeAPartitionIsReadKeepsNobodyFromCompaction) {
  const Configs configs{{"cleanup.policy", "compact,delete", {}},
                        {"segment.ms", "1", {}},
                        {"min.cleanable.dirty.ratio", "0.01", {}}};
  for (const char* topic : {"a", "b", "c"}) {
    broker_.CreateTopic(topic, 1, configs);
    for (int i = 0; i < 5; ++i) {
      broker_.Produce(topic, 0, Batch({{"k", std::string(20'000, '.') + "of " + topic}}));
    }
  }
  broker_.CrashAndRestart();
  bool trimmed = false;
  WhenRead("of a", [&] {
    broker_.Meanwhile([&] { DeleteRecords("b", 3); });
    trimmed = true;
  });
  Compact();
  EXPECT_TRUE(trimmed);
  EXPECT_EQ(broker_.Values("a", 0, 0).size(), 1u);
  EXPECT_EQ(broker_.Values("b", 0, 3).size(), 1u);
  EXPECT_EQ(broker_.Values("c", 0, 0).size(), 1u);
}

TEST_F(CompactionTest, RecordsWithoutKeysGoWhenATopicBecomesCompacted) {
  broker_.CreateTopic("t", 1, {{"segment.ms", "1", {}}});
  kafka::RecordBatchBuilder builder({});
  builder.Add({.timestamp = broker_.clock().wall_clock_ms(), .value = "v"});
  builder.Add({.timestamp = broker_.clock().wall_clock_ms(), .key = "k", .value = "v"});
  EXPECT_EQ(broker_.Produce("t", 0, std::move(builder).Build()).error_code, ErrorCode::kNone);
  Produce({{"a", "1"}});
  Compact();
  EXPECT_EQ(Read().size(), 3u) << "not compacted yet";
  kafka::IncrementalAlterConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = 2;
  resource.resource_name = "t";
  resource.configs.push_back({"cleanup.policy", 0, "compact", {}});
  EXPECT_EQ(broker_.Ask(request, 1).Get().responses.at(0).error_code, ErrorCode::kNone);
  Compact();
  EXPECT_EQ(Read(), (std::vector<Seen>{{1, "k", "v"}, {2, "a", "1"}}));
}

// A transactional producer.
class Transactional {
 public:
  explicit Transactional(BrokerFixture& broker) : broker_(broker) {
    kafka::InitProducerIdRequest request;
    request.transactional_id = "tx";
    request.transaction_timeout_ms = 600'000;
    const auto response = broker_.Ask(request, 4).Get();
    producer_ = {response.producer_id, response.producer_epoch, 0};
  }
  void Produce(const std::string& key, const std::string& value) {
    kafka::RecordBatchBuilder builder({.producer = producer_, .transactional = true});
    builder.Add({.timestamp = broker_.clock().wall_clock_ms(), .key = key, .value = value});
    const std::string batch = std::move(builder).Build();
    kafka::ProduceRequest request = BrokerFixture::MakeProduce("t", 0, batch);
    request.transactional_id = "tx";
    const auto pending = broker_.Ask(request, 12);
    EXPECT_EQ(pending.Get().responses[0].partition_responses[0].error_code, ErrorCode::kNone);
    ++producer_.base_sequence;
  }
  void End(bool commit) {
    kafka::EndTxnRequest request;
    request.transactional_id = "tx";
    request.producer_id = producer_.id;
    request.producer_epoch = producer_.epoch;
    request.committed = commit;
    const auto response = broker_.Ask(request, 5).Get();
    EXPECT_EQ(response.error_code, ErrorCode::kNone);
    producer_ = {response.producer_id, response.producer_epoch, 0};
  }

 private:
  BrokerFixture& broker_;
  kafka::Producer producer_;
};

TEST_F(CompactionTest, AbortedRecordsGoAndOpenTransactionsAreLeftAlone) {
  CreateTopic({{"delete.retention.ms", "60000", {}}});
  Transactional transactional(broker_);
  Produce({{"a", "1"}});                  // 0
  transactional.Produce("a", "aborted");  // 1
  transactional.End(false);               // 2
  transactional.Produce("b", "1");        // 3
  transactional.End(true);                // 4
  Produce({{"c", "1"}});                  // 5
  transactional.Produce("c", "open");     // 6
  Produce({{"a", "2"}});                  // 7
  const auto markers = [&] {
    std::vector<int64_t> offsets;
    const auto pending = broker_.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12);
    const auto response = pending.Get();
    kafka::BatchIterator batches(*response.responses[0].partitions[0].records);
    while (const auto batch = batches.Next()) {
      if (batch->header().control()) offsets.push_back(batch->base_offset());
    }
    return offsets;
  };
  Compact();
  EXPECT_EQ(Read(),
            (std::vector<Seen>{
                {0, "a", "1"}, {3, "b", "1"}, {5, "c", "1"}, {6, "c", "open"}, {7, "a", "2"}}))
      << "what aborted transactions say counts for nothing, nor does what is not decided";
  EXPECT_THAT(markers(), ElementsAre(2, 4));
  broker_.CrashAndRestart();
  transactional.End(true);  // 8
  Produce({{"b", "2"}});    // 9
  Produce({{"z", "1"}});    // 10
  Compact();
  EXPECT_EQ(Read(),
            (std::vector<Seen>{{6, "c", "open"}, {7, "a", "2"}, {9, "b", "2"}, {10, "z", "1"}}));
  EXPECT_THAT(markers(), ElementsAre(2, 4, 8)) << "nothing is left of one that was committed";
  broker_.clock().Advance(seconds(61));
  Produce({{"z", "2"}});  // 11
  Produce({{"z", "3"}});  // 12
  Compact();
  EXPECT_THAT(markers(), ElementsAre(2, 8)) << "readers need the abort's, and 8 has records";
  // Readers of committed records get the same.
  kafka::FetchRequest request = BrokerFixture::MakeFetch("t", 0, 0);
  request.isolation_level = 1;
  const auto committed = broker_.Ask(request, 12);
  EXPECT_THAT(BrokerFixture::ReadValues(committed.Get().responses[0].partitions[0]),
              testing::IsSupersetOf({"open", "2", "2", "3"}));
}

TEST_F(CompactionTest, AMapThatIsFullIsGoneOnWith) {
  Options options;
  options.compaction.memory_bytes_max = 0;  // The least that there can be: 3072 keys.
  BrokerFixture broker(options, 1, /*compacts=*/true);
  broker.CreateTopic("t", 1,
                     {{"cleanup.policy", "compact", {}},
                      {"segment.ms", "1", {}},
                      {"min.cleanable.dirty.ratio", "0.01", {}}});
  const auto fill = [&](const std::string& value) {
    for (int i = 0; i < 8000; i += 100) {
      kafka::RecordBatchBuilder builder({});
      for (int k = i; k < i + 100; ++k) {
        builder.Add({.timestamp = broker.clock().wall_clock_ms(),
                     .key = "key " + std::to_string(k),
                     .value = value});
      }
      broker.Produce("t", 0, std::move(builder).Build());
    }
  };
  fill("old");
  fill("new");
  broker.clock().Advance(seconds(200));
  size_t old = 0;
  size_t all = 0;
  for (int64_t offset = 0; offset < 16000;) {
    const auto pending = broker.Ask(BrokerFixture::MakeFetch("t", 0, offset), 12);
    const auto response = pending.Get();
    kafka::BatchIterator batches(*response.responses[0].partitions[0].records);
    const auto values = BrokerFixture::ReadValues(response.responses[0].partitions[0]);
    all += values.size();
    old += static_cast<size_t>(std::ranges::count(values, "old"));
    while (const auto batch = batches.Next()) offset = batch->header().next_offset();
  }
  EXPECT_EQ(old, 0u);
  EXPECT_EQ(all, 8000u);
}

// --- The map ------------------------------------------------------------------------------------

TEST(OffsetMapTest, FindsTheNewestOfEachKeyAndSaysWhenItIsFull) {
  OffsetMap map(size_t{1} << 20);
  std::map<std::string, int64_t> model;
  bool full = false;
  for (int64_t i = 0; !full; ++i) {
    const std::string key(static_cast<size_t>(i % 20), static_cast<char>('a' + i % 7));
    const std::string name = i % 3 == 0 ? key : key + std::to_string(i);
    full = !map.Put(spool::StreamId(static_cast<uint32_t>(i % 2)), name, i);
    if (!full) model[std::to_string(i % 2) + name] = i;
    ASSERT_LT(i, 1'000'000);
  }
  EXPECT_EQ(map.size(), model.size());
  EXPECT_GT(map.size(), 20'000u);
  for (const auto& [name, offset] : model) {
    const spool::StreamId stream(static_cast<uint32_t>(name[0] - '0'));
    ASSERT_EQ(map.Find(stream, name.substr(1)), offset);
  }
  EXPECT_EQ(map.Find(spool::StreamId(0), "never"), -1);
  EXPECT_TRUE(map.Put(spool::StreamId(0), model.begin()->first.substr(1), 5'000'000))
      << "one that is known has its place";
}

// --- At random ----------------------------------------------------------------------------------

class RandomCompactionTest : public CompactionTest {};

TEST_F(RandomCompactionTest, NoLastRecordIsEverLost) {
  CreateTopic({{"delete.retention.ms", "20000", {}}});
  std::mt19937 random(7);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  struct Newest {
    int64_t offset;
    std::optional<std::string> value;
  };
  std::map<std::string, Newest> newest;
  std::map<int64_t, std::pair<std::string, std::optional<std::string>>> all;
  int64_t end = 0;
  int32_t sequence = 0;
  const auto check = [&] {
    std::map<std::string, Seen> last;
    int64_t previous = -1;
    for (const Seen& seen : Read()) {
      ASSERT_GT(seen.offset, previous);
      previous = seen.offset;
      ASSERT_EQ(all.at(seen.offset), std::pair(seen.key, seen.value)) << "nothing is made up";
      last.insert_or_assign(seen.key, seen);
    }
    for (const auto& [key, record] : newest) {
      const auto found = last.find(key);
      if (found == last.end()) {
        // A deleted key may be gone without a trace, but never come back.
        ASSERT_FALSE(record.value.has_value()) << key;
      } else {
        ASSERT_EQ(found->second.offset, record.offset) << key;
      }
    }
  };
  for (int step = 0; step < 600; ++step) {
    const size_t what = below(30);
    if (what < 24) {
      std::vector<KeyValue> records;
      for (size_t i = 0; i <= below(6); ++i) {
        records.emplace_back(
            "key " + std::to_string(below(40)),
            below(5) == 0 ? std::nullopt : std::optional("value " + std::to_string(step)));
      }
      const auto count = static_cast<int32_t>(records.size());
      const auto codec = static_cast<Codec>(below(5));
      const kafka::Producer producer =
          below(2) == 0 ? kafka::Producer{} : kafka::Producer{11, 0, sequence};
      ASSERT_EQ(Produce(records, producer, codec), end);
      if (producer.id >= 0) sequence += count;
      for (const auto& [key, value] : records) {
        newest.insert_or_assign(key, Newest{end, value});
        all[end++] = {key, value};
      }
    } else if (what < 28) {
      broker_.clock().Advance(seconds(1 + static_cast<int>(below(20))));
    } else if (what < 29) {
      broker_.CrashAndRestart();
    } else {
      broker_.Restart();
    }
    if (what >= 24) check();
    if (HasFatalFailure()) return;
  }
  Compact();
  check();
  EXPECT_LT(Read().size(), 150u) << "40 keys, and what is new";
}

}  // namespace
}  // namespace holdfast::broker
