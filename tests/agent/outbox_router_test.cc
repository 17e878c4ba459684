#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/outbox/router.h"
#include "kafka/record_reader.h"

namespace holdfast::outbox {
namespace {

using namespace std::chrono_literals;

constexpr int64_t kNow = 1'700'000'000'000;
constexpr base::TimePoint kStart{std::chrono::hours(5)};

struct Sent {
  std::string topic;
  int32_t partition = 0;
  std::optional<std::string> key;
  std::optional<std::string> value;
  int64_t timestamp = 0;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
};

class RouterTest : public testing::Test {
 protected:
  void Know(const std::string& name, size_t partitions, proxy::TopicSettings settings = {}) {
    auto topic = std::make_shared<proxy::Topic>();
    topic->at_tier = true;
    topic->leaders.assign(partitions, 0);
    settings.from_tier = true;
    topic->settings = settings;
    cluster_.topics[name] = std::move(topic);
  }

  Router Make(Router::Options options = {.topic = "outbox.event.${aggregatetype}"}) {
    auto router = Router::Make(std::move(options));
    EXPECT_TRUE(router) << router.error().message;
    return *std::move(router);
  }

  static Row RowOf(int64_t position, std::string route, std::optional<std::string> key,
                   std::optional<std::string> payload = "p") {
    return {.position = position,
            .id = "id-" + std::to_string(position),
            .route = std::move(route),
            .key = std::move(key),
            .payload = std::move(payload)};
  }

  static std::vector<Sent> Read(const Router::Placed& placed) {
    std::vector<Sent> all;
    for (const agent::NewBatch& batch : placed.batches) {
      const kafka::RecordBatchView view(batch.bytes);
      kafka::RecordReader reader(view.header(), kafka::UncompressedRecords::Of(view)->bytes());
      kafka::Record record;
      while (reader.Next(&record)) {
        Sent& sent = all.emplace_back();
        sent.topic = batch.topic;
        sent.partition = batch.partition;
        if (record.key) sent.key = *record.key;
        if (record.value) sent.value = *record.value;
        sent.timestamp = record.timestamp;
        for (const kafka::RecordHeader& header : record.headers) {
          sent.headers.emplace_back(
              header.key, header.value ? std::optional<std::string>(*header.value) : std::nullopt);
        }
      }
      EXPECT_TRUE(reader.status());
    }
    return all;
  }

  proxy::Cluster cluster_;
};

TEST_F(RouterTest, MakesRecordsOfRows) {
  Know("outbox.event.Order", 3);
  Router router = Make();
  Row row = RowOf(1, "Order", "abc", "{}");
  row.timestamp_ms = kNow - 5;
  row.headers = {{"eventType", "Placed"}, {"none", std::nullopt}};
  const auto sent = Read(router.Place({&row, 1}, cluster_, kStart, kNow, false));
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].topic, "outbox.event.Order");
  EXPECT_EQ(sent[0].partition, 479470107 % 3);
  EXPECT_EQ(sent[0].key, "abc");
  EXPECT_EQ(sent[0].value, "{}");
  EXPECT_EQ(sent[0].timestamp, kNow - 5);
  const std::vector<std::pair<std::string, std::optional<std::string>>> headers{
      {"id", "id-1"}, {"eventType", "Placed"}, {"none", std::nullopt}};
  EXPECT_EQ(sent[0].headers, headers);
}

TEST_F(RouterTest, TellsNullFromEmpty) {
  Know("outbox.event.a", 1);
  const std::vector<Row> rows{RowOf(1, "a", std::nullopt, std::nullopt), RowOf(2, "a", "", "")};
  auto sent = Read(Make().Place(rows, cluster_, kStart, kNow, false));
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[0].key, std::nullopt);
  EXPECT_EQ(sent[0].value, std::nullopt);
  EXPECT_EQ(sent[0].timestamp, kNow);
  EXPECT_EQ(sent[1].key, "");
  EXPECT_EQ(sent[1].value, "");
  sent = Read(Make({.topic = "outbox.event.${aggregatetype}", .tombstone_on_empty_payload = true})
                  .Place(rows, cluster_, kStart, kNow, false));
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[1].value, std::nullopt);
}

TEST_F(RouterTest, KeepsTheOrderOfEachKey) {
  Know("outbox.event.a", 4);
  std::vector<Row> rows;
  for (int64_t at = 0; at < 2000; ++at) {
    rows.push_back(RowOf(at, "a", "key-" + std::to_string(at % 10), std::string(1000, 'x')));
  }
  const auto placed = Make().Place(rows, cluster_, kStart, kNow, false);
  EXPECT_GT(placed.batches.size(), 4U) << "no batch was cut";
  std::map<std::string, int64_t> last;
  const auto sent = Read(placed);
  ASSERT_EQ(sent.size(), rows.size());
  std::set<int64_t> positions;
  for (const RowId& ref : placed.spooled) positions.insert(ref.position);
  EXPECT_EQ(positions.size(), rows.size());
  for (const Sent& one : sent) {
    const int64_t position = std::stoll(one.headers[0].second->substr(3));
    EXPECT_LT(last.emplace(*one.key, -1).first->second, position);
    last[*one.key] = position;
  }
}

TEST_F(RouterTest, NamesTopicsByOtherFields) {
  Know("eu.Order", 1);
  Router router = Make({.topic = "${region}.${aggregatetype}"});
  std::vector<Row> rows{RowOf(1, "Order", "k"), RowOf(2, "Order", "k")};
  rows[0].fields = {{"region", "eu"}};
  const auto placed = router.Place(rows, cluster_, kStart, kNow, false);
  EXPECT_EQ(Read(placed).size(), 1U);
  ASSERT_EQ(placed.poison.size(), 1U);
  EXPECT_EQ(placed.poison[0].row.position, 2);
  EXPECT_NE(placed.poison[0].reason.find("`region`"), std::string::npos);
  for (const char* wrong : {"", "a${", "a${}"}) EXPECT_FALSE(Router::Make({.topic = wrong}));
}

TEST_F(RouterTest, SetsAsideWhatCannotBeSent) {
  Know("outbox.event.a", 2, {.max_message_bytes = 1000, .compacted = true});
  std::vector<Row> rows{RowOf(1, "a", "k"),
                        RowOf(2, "a", std::nullopt),                 // Compacted: needs a key.
                        RowOf(3, "a", "k", std::string(2000, 'x')),  // Too large.
                        RowOf(4, "no good", "k"),
                        RowOf(5, "a", "k"),
                        RowOf(6, "a", "k"),
                        RowOf(7, "a", "k"),
                        RowOf(8, "tiers_own", "k")};
  auto own = std::make_shared<proxy::Topic>(*cluster_.topics["outbox.event.a"]);
  own->internal = true;
  cluster_.topics["outbox.event.tiers_own"] = own;
  rows[4].partition = 2;
  rows[5].problem = "payload: unreadable";
  rows[6].partition = 1;
  const auto placed = Make().Place(rows, cluster_, kStart, kNow, false);
  std::set<int64_t> poison;
  for (const auto& one : placed.poison) {
    EXPECT_FALSE(one.reason.empty());
    poison.insert(one.row.position);
  }
  EXPECT_EQ(poison, (std::set<int64_t>{2, 3, 4, 5, 6, 8}));
  std::set<int64_t> spooled;
  for (const RowId& ref : placed.spooled) spooled.insert(ref.position);
  EXPECT_EQ(spooled, (std::set<int64_t>{1, 7}));
}

TEST_F(RouterTest, HoldsRowsOfUnknownTopicsBackAndOthersFlow) {
  Know("outbox.event.known", 1);
  Router router = Make({.topic = "outbox.event.${aggregatetype}",
                        .unknown_topic_timeout = std::chrono::seconds(10)});
  const std::vector<Row> rows{RowOf(1, "new", "k"), RowOf(2, "known", "k"), RowOf(3, "new", "k")};
  auto placed = router.Place(rows, cluster_, kStart, kNow, false);
  EXPECT_EQ(placed.held, (std::set<std::string, std::less<>>{"new"}));
  EXPECT_EQ(placed.unknown_topics, (std::set<std::string, std::less<>>{"outbox.event.new"}));
  EXPECT_EQ(Read(placed).size(), 1U);
  // While the tier is away nobody can say that there is no such topic.
  placed = router.Place(rows, cluster_, kStart + 60s, kNow, true);
  EXPECT_TRUE(placed.poison.empty());
  placed = router.Place(rows, cluster_, kStart + 69s, kNow, false);
  EXPECT_TRUE(placed.poison.empty());
  placed = router.Place(rows, cluster_, kStart + 70s, kNow, false);
  EXPECT_EQ(placed.poison.size(), 2U);
  Know("outbox.event.new", 1);
  placed = router.Place(rows, cluster_, kStart + 70s, kNow, false);
  EXPECT_EQ(Read(placed).size(), 3U);
}

TEST_F(RouterTest, HoldsRowsOfUnknownTopicsForThatLongThoughTheClockIsSet) {
  Router router = Make({.topic = "outbox.event.${aggregatetype}",
                        .unknown_topic_timeout = std::chrono::seconds(10)});
  const std::vector<Row> rows{RowOf(1, "new", "k")};
  constexpr int64_t kHour = 3'600'000;
  EXPECT_TRUE(router.Place(rows, cluster_, kStart, kNow, false).poison.empty());
  EXPECT_TRUE(router.Place(rows, cluster_, kStart + 9s, kNow + kHour, false).poison.empty());
  EXPECT_EQ(router.Place(rows, cluster_, kStart + 10s, kNow - kHour, false).poison.size(), 1U);
}

// The tier may have removed and may make it again.
TEST_F(RouterTest, ATopicThatWasOnceUnknownIsWaitedForAnew) {
  Router router = Make({.topic = "outbox.event.${aggregatetype}",
                        .unknown_topic_timeout = std::chrono::seconds(10)});
  const std::vector<Row> rows{RowOf(1, "new", "k")};
  const auto quarantines = [&](std::chrono::seconds at) {
    return !router.Place(rows, cluster_, kStart + at, kNow, false).poison.empty();
  };
  EXPECT_FALSE(quarantines(0s));
  EXPECT_TRUE(quarantines(10s));
  EXPECT_TRUE(quarantines(11s)) << "each row would wait for that long";
  EXPECT_FALSE(quarantines(1000s));
  EXPECT_FALSE(quarantines(1009s));
  EXPECT_TRUE(quarantines(1010s));
}

TEST_F(RouterTest, TakesNoMoreThanItsShareOfMemory) {
  Know("outbox.event.a", 1, {.max_message_bytes = 100 << 20});
  const std::vector<Row> rows(10, RowOf(1, "a", "k", std::string(3 << 20, 'x')));
  EXPECT_EQ(Make().Place(rows, cluster_, kStart, kNow, false).spooled.size(), 3U);
}

}  // namespace
}  // namespace holdfast::outbox
