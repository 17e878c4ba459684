#include "agent/outbox/half_messages.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "kafka/api/metadata.h"
#include "kafka/record_reader.h"
#include "metrics/registry.h"
#include "tests/support/manual_executor.h"

namespace holdfast::outbox {
namespace {

using net::AdminRequest;
using net::AdminResponse;
using nlohmann::json;

class HalfMessagesTest : public testing::Test {
 protected:
  HalfMessagesTest() {
    Know("orders");
    Start();
  }

  void Know(const std::string& name) {
    kafka::MetadataResponse response;
    response.brokers.push_back({.node_id = 1, .host = "tier", .port = 9092});
    auto& topic = response.topics.emplace_back();
    topic.name = name;
    topic.topic_id.bytes[0] = static_cast<uint8_t>(name.size());
    topic.partitions.push_back({.partition_index = 0, .leader_id = 1});
    cache_.Learn(response, clock_.wall_clock_ms());
  }

  void Start() {
    half_ = std::make_unique<HalfMessages>(
        HalfMessages::Context{
            .loop = loop_,
            .asking = asking_,
            .cache = cache_,
            .metrics = metrics_,
            .append = [this](auto append,
                             auto done) { Append(std::move(append), std::move(done)); },
            .want_topic = [this](std::string topic) { wanted_.insert(topic); },
            .ask = [this](const std::string& url) -> base::Result<std::string> {
              asked_.push_back(url);
              if (on_ask_) on_ask_();
              if (answer_.empty()) return base::Unexpected(base::Code::kUnavailable, "refused");
              return answer_;
            }},
        HalfMessages::Options{.check_urls = {"http://127.0.0.1"}, .count_max = count_max_}, state_);
    routes_ = half_->Routes();
  }
  void Restart() {
    half_.reset();
    clock_.RunUntilIdle();
    Start();
  }

  void Append(agent::NotedAppend append, agent::RecordLog::NotedDone done) {
    spool_.Post([this, append = std::move(append), done = std::move(done)]() mutable {
      if (full_) return done({.result = base::Unexpected(base::Code::kFull, "no room")});
      for (const agent::NewBatch& batch : append.batches) {
        const kafka::RecordBatchView view(batch.bytes);
        kafka::RecordReader reader(view.header(), kafka::UncompressedRecords::Of(view)->bytes());
        kafka::Record record;
        while (reader.Next(&record)) {
          std::string text = batch.topic + "/" + std::string(record.key.value_or("-")) + "/" +
                             std::string(record.value.value_or("-"));
          for (const auto& header : record.headers)
            text += "/" + std::string(header.key) + "=" + std::string(*header.value);
          sent_.push_back(text);
        }
      }
      if (append.note) {
        state_[append.key] = *append.note;
      } else {
        state_.erase(append.key);
      }
      done({});
    });
  }

  AdminResponse Ask(const std::string& path, std::map<std::string, std::string> query = {},
                    std::string body = {}) {
    std::optional<AdminResponse> got;
    for (const net::AdminRoute& route : routes_) {
      if (route.path != path) continue;
      route.deferred({.method = route.method,
                      .path = path,
                      .query = std::move(query),
                      .body = std::move(body)},
                     [&got](AdminResponse response) { got = std::move(response); });
    }
    clock_.RunUntilIdle();
    EXPECT_TRUE(got) << path << ": no answer";
    return got.value_or(AdminResponse{.status = 0});
  }
  std::string Prepare(const std::string& key = "k") {
    const AdminResponse response = Ask("/half/prepare",
                                       {{"topic", "orders"},
                                        {"key", key},
                                        {"check_url", "http://127.0.0.1:8080/check"},
                                        {"header.type", "Placed"}},
                                       "payload");
    EXPECT_EQ(response.status, 201) << response.body;
    return json::parse(response.body)["id"];
  }
  json Open() { return json::parse(Ask("/half").body)["messages"]; }

  test::ManualClock clock_;
  test::ManualExecutor loop_{clock_};
  test::ManualExecutor asking_{clock_};
  test::ManualExecutor spool_{clock_};
  metrics::Registry registry_;
  metrics::HalfMessageMetrics metrics_{registry_};
  proxy::MetadataCache cache_{{}};
  std::map<std::string, std::string, std::less<>> state_;
  std::vector<std::string> sent_;
  std::vector<std::string> asked_;
  std::set<std::string> wanted_;
  std::string answer_;
  std::function<void()> on_ask_;
  bool full_ = false;
  size_t count_max_ = 3;
  std::unique_ptr<HalfMessages> half_;
  std::vector<net::AdminRoute> routes_;
};

TEST_F(HalfMessagesTest, SendsWhatIsCommittedAndForgetsWhatIsRolledBack) {
  const std::string first = Prepare("a");
  const std::string second = Prepare("b");
  EXPECT_NE(first, second);
  EXPECT_TRUE(sent_.empty());
  EXPECT_EQ(state_.size(), 2U);
  EXPECT_EQ(Ask("/half/commit", {{"id", first}}).status, 200);
  EXPECT_EQ(Ask("/half/rollback", {{"id", second}}).status, 200);
  EXPECT_EQ(sent_, std::vector<std::string>{"orders/a/payload/type=Placed"});
  EXPECT_TRUE(state_.empty());
  EXPECT_TRUE(Open().empty());
  // Once more: the same is fine, the contrary is not.
  EXPECT_EQ(Ask("/half/commit", {{"id", first}}).status, 200);
  EXPECT_EQ(Ask("/half/rollback", {{"id", first}}).status, 409);
  EXPECT_EQ(Ask("/half/commit", {{"id", "unknown"}}).status, 404);
  EXPECT_EQ(sent_.size(), 1U);
}

TEST_F(HalfMessagesTest, IsAllThereAfterARestart) {
  const std::string id = Prepare();
  Restart();
  EXPECT_EQ(Open().size(), 1U);
  EXPECT_EQ(Ask("/half/commit", {{"id", id}}).status, 200);
  Restart();
  EXPECT_TRUE(Open().empty());
  EXPECT_EQ(Ask("/half/commit", {{"id", id}}).status, 404);
  EXPECT_EQ(sent_.size(), 1U);
}

TEST_F(HalfMessagesTest, AsksTheServiceMoreAndMoreRarelyAndDoesAsItSays) {
  const std::string id = Prepare();
  answer_ = "unknown";
  clock_.Advance(std::chrono::seconds(9));
  EXPECT_TRUE(asked_.empty());
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(asked_, std::vector<std::string>{"http://127.0.0.1:8080/check?id=" + id});
  clock_.Advance(std::chrono::seconds(19));
  EXPECT_EQ(asked_.size(), 1U);
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(asked_.size(), 2U);
  answer_ = "commit\n";
  clock_.Advance(std::chrono::seconds(40));
  EXPECT_EQ(sent_.size(), 1U);
  EXPECT_TRUE(Open().empty());

  Prepare();
  answer_ = "rollback";
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(sent_.size(), 1U);
  EXPECT_TRUE(Open().empty());
  EXPECT_EQ(metrics_.checks.With("unknown").Value(), 2U);
  EXPECT_EQ(metrics_.outcomes.With("rolled_back").Value(), 1U);
}

TEST_F(HalfMessagesTest, TakesTheServicesWordWhileItIsAsked) {
  const std::string id = Prepare();
  on_ask_ = [&] { EXPECT_EQ(Ask("/half/commit", {{"id", id}}).status, 200); };
  answer_ = "rollback";
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(asked_.size(), 1U);
  EXPECT_EQ(sent_.size(), 1U);
  EXPECT_TRUE(Open().empty());
}

// A service that hangs keeps each question for as long as it may take.
TEST_F(HalfMessagesTest, AsksAFewQuestionsAtATime) {
  count_max_ = 100;
  Restart();
  for (int at = 0; at < 40; ++at) Prepare();
  asking_.set_held(true);
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(asking_.queued(), 16U);
  // What is resolved meanwhile makes room once its question has come back, and not before.
  for (const auto& message : Open()) Ask("/half/commit", {{"id", message["id"]}});
  EXPECT_TRUE(Open().empty());
  for (int at = 0; at < 40; ++at) Prepare();
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(asking_.queued(), 16U);
  answer_ = "commit";
  asking_.set_held(false);
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(asked_.size(), 16U + 40U);
  EXPECT_TRUE(Open().empty());
}

TEST_F(HalfMessagesTest, AsksAboutEachOnceBeforeItAsksAboutAnyAgain) {
  count_max_ = 100;
  Restart();
  for (int at = 0; at < 40; ++at) Prepare();
  asking_.set_held(true);
  for (int round = 0; round < 3; ++round) {
    clock_.Advance(std::chrono::seconds(30));  // Longer than until the first are due again.
    for (size_t at = asking_.queued(); at > 0; --at) asking_.RunOne();
    clock_.RunUntilIdle();
  }
  ASSERT_EQ(asked_.size(), 3 * 16U);
  EXPECT_EQ(std::set<std::string>(asked_.begin(), asked_.begin() + 40).size(), 40U);
}

TEST_F(HalfMessagesTest, ParksWhatNobodyResolvesForAnOperator) {
  const std::string id = Prepare();
  clock_.Advance(std::chrono::hours(24));
  EXPECT_EQ(asked_.size(), 15U);
  ASSERT_EQ(Open().size(), 1U);
  EXPECT_TRUE(Open()[0]["parked"]);
  EXPECT_EQ(metrics_.messages.With("parked").Value(), 1);
  Restart();
  clock_.Advance(std::chrono::hours(24));
  EXPECT_EQ(asked_.size(), 15U) << "it was asked about after it was parked";
  EXPECT_EQ(Ask("/half/commit", {{"id", id}}).status, 200);
  EXPECT_EQ(sent_.size(), 1U);
}

TEST_F(HalfMessagesTest, KeepsWhatCannotBeSentNow) {
  const AdminResponse prepared =
      Ask("/half/prepare", {{"topic", "new"}, {"check_url", "http://127.0.0.1/"}}, "payload");
  ASSERT_EQ(prepared.status, 201);
  EXPECT_TRUE(wanted_.contains("new"));
  const std::string id = json::parse(prepared.body)["id"];
  EXPECT_EQ(Ask("/half/commit", {{"id", id}}).status, 503);
  Know("new");
  full_ = true;
  EXPECT_EQ(Ask("/half/commit", {{"id", id}}).status, 503);
  full_ = false;
  EXPECT_EQ(Ask("/half/commit", {{"id", id}}).status, 200);
  EXPECT_EQ(sent_, std::vector<std::string>{"new/-/payload"});
}

TEST_F(HalfMessagesTest, RefusesWhatItCannotKeepItsWordFor) {
  const auto status = [this](std::string topic, std::string url) {
    return Ask("/half/prepare", {{"topic", topic}, {"check_url", url}}, "p").status;
  };
  EXPECT_EQ(status("", "http://127.0.0.1/"), 400);
  EXPECT_EQ(status("a b", "http://127.0.0.1/"), 400);
  EXPECT_EQ(status("orders", ""), 400);
  EXPECT_EQ(status("orders", "http://127.0.0.1.example.com/"), 400);
  EXPECT_EQ(status("orders", "http://127.0.0.1@example.com/"), 400);
  EXPECT_EQ(status("orders", "http://127.0.0.1:x@example.com/"), 400);
  EXPECT_EQ(status("orders", "http://127.0.0.1:80@example.com/"), 400);
  EXPECT_EQ(status("orders", "http://127.0.0.1:80\\@example.com/"), 400);
  EXPECT_EQ(status("orders", "file:///etc/passwd"), 400);
  EXPECT_EQ(Ask("/half/prepare", {{"topic", "orders"}, {"check_url", "http://127.0.0.1/"}},
                std::string(2 << 20, 'x'))
                .status,
            400);
  full_ = true;
  EXPECT_EQ(status("orders", "http://127.0.0.1/"), 503);
  full_ = false;
  for (const char* url : {"http://127.0.0.1", "http://127.0.0.1:80/a@b", "http://127.0.0.1?a@b"})
    EXPECT_EQ(status("orders", url), 201) << url;
  EXPECT_EQ(status("orders", "http://127.0.0.1/"), 503);
}

}  // namespace
}  // namespace holdfast::outbox
