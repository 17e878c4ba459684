// Local transactions and ordinary records together, delivered to a tier as Kafka is on bad days:
// whatever comes together, by a seed, a read_committed reader has each transaction whole or not at
// all at any moment, and in the end everything once and in order, and nothing that was aborted.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/dead_letter.h"
#include "agent/forwarder.h"
#include "agent/local_transactions.h"
#include "agent/transaction_lane.h"
#include "base/random.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/scripted_cluster.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using test::ScriptedCluster;

using Partition = std::pair<std::string, int32_t>;
using Producer = proxy::LocalTransactions::Producer;
using Protocol = proxy::LocalTransactions::Protocol;
using Records = std::map<Partition, std::vector<std::string>>;

constexpr base::Duration kExpiration = hours(24);
const std::array<Partition, 4> kPartitions{{{"a", 0}, {"a", 1}, {"b", 0}, {"c", 0}}};

// A producer with a transactional id, as far as it knows.
struct Client {
  std::string id;
  Producer producer;  // None: it has to ask for one.
  std::vector<Producer> fenced;
  base::Duration timeout{};
  bool open = false;
  bool lost = false;  // Its open transaction, with the agent.
  base::TimePoint began;
  Records put;
  std::map<Partition, int32_t> sequences;
  // Its last commit was not answered before the agent died: it asks again,
  bool in_doubt = false;
  bool asks_again = false;
  std::optional<bool> committed;  // and hears this, if there was anything to be committed.
};

class TransactionSimulationTest : public AgentFixture,
                                  public testing::WithParamInterface<uint64_t> {
 protected:
  TransactionSimulationTest() {
    for (const auto& [topic, partitions] : {std::pair("a", 2), {"b", 1}, {"c", 1}}) {
      cluster_.AddTopic(topic, partitions);
    }
    for (int i = 0; i < 3; ++i) {
      clients_.emplace_back().id = "local-" + std::to_string(i);
    }
    cluster_.coordinator().on_commit = [this] { Check(); };
    local_options_.rules = {{.pattern = "local-*", .local = true}};
    lane_options_.upstream.transaction_timeout = milliseconds(random_.Below(2) == 0 ? 2000 : 60000);
    // So that more is tried.
    lane_options_.backoff_max = forward_options_.backoff_max = seconds(1);
    lane_options_.park_retry = forward_options_.park_retry = seconds(3);
    if (random_.Below(2) == 0) lane_options_.round_bytes_max = 300;
    if (random_.Below(2) == 0) lane_options_.upstream.request_bytes_max = 300;
    if (random_.Below(2) == 0) cluster_.poison_error = ErrorCode::kMessageTooLarge;
    Begin();
    cluster_.Connect();
  }
  ~TransactionSimulationTest() override {
    cluster_.coordinator().on_commit = {};
    End();
    clock_.RunUntilIdle();
  }

  // ---- The agent ----

  void Begin() {
    // What went without a transaction and comes when it has gone in one is taken once more.
    if (modes_.size() > 1) cluster_.ServeStranded();
    lane_options_.mode = modes_[random_.Below(modes_.size())];
    lane_ = std::make_unique<TransactionLane>(
        TransactionLane::Context{loop_, *spool_, cluster_, cache_, metrics_}, lane_options_,
        log_->kept().transactions, random_());
    forwarder_ = std::make_unique<Forwarder>(Forwarder::Context{.loop = loop_,
                                                                .spool = *spool_,
                                                                .tier = cluster_,
                                                                .cache = cache_,
                                                                .metrics = metrics_,
                                                                .records = log_.get(),
                                                                .lane = lane_.get()},
                                             forward_options_, log_->kept(), random_());
    local_ = std::make_unique<LocalTransactions>(
        LocalTransactions::Context{loop_, *spool_, cache_, *log_, *lane_, *forwarder_, metrics_},
        local_options_, log_->kept().transactions.producers);
    on_durable_ = [this](std::span<const spool::StreamId> streams) {
      forwarder_->NoteDurable(streams);
    };
    cluster_.SetObserver(forwarder_.get());
    forwarder_->Start();
    clock_.RunUntilIdle();
  }
  void End() {
    cluster_.SetObserver(nullptr);
    cluster_.Drop();
    lane_->Stop();
    forwarder_->Stop();
    on_durable_ = {};
    local_.reset();
    lane_.reset();
    forwarder_.reset();
  }
  // As kill -9: what the disk has at this moment is all that there is afterwards.
  void Kill() {
    std::string copy =
        (std::filesystem::path(directory_).parent_path() / "holdfast-agent-XXXXXX").string();
    HF_CHECK(mkdtemp(copy.data()) != nullptr);
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      std::filesystem::copy(entry.path(), std::filesystem::path(copy) / entry.path().filename());
    }
    End();
    CloseSpool();
    log_.reset();
    std::filesystem::remove_all(directory_);
    directory_ = copy;
    OpenSpool();
    Reopened();
  }
  void StopAndStart() {
    forwarder_->CloseJournal();
    forwarder_->Flush([] {});
    clock_.RunUntilIdle();
    End();
    ReopenSpool();
    Reopened();
  }
  void Reopened() {
    dies_after_.reset();
    Judge();
    Begin();
    if (random_.Below(2) == 0) cluster_.Connect();
    clock_.RunUntilIdle();
  }

  // Runs what is to be run, or the first of it, in any order of its threads, if the agent dies.
  void Settle() {
    if (!dies_after_) {
      clock_.RunUntilIdle();
      return;
    }
    for (; *dies_after_ > 0; --*dies_after_) {
      std::array<test::ManualExecutor*, 4> all = {&loop_, &writer_, &background_, &brokers_};
      std::ranges::rotate(all, all.begin() + static_cast<ptrdiff_t>(random_.Below(all.size())));
      if (std::ranges::none_of(all, [](auto* executor) { return executor->RunOne(); })) return;
    }
  }

  // ---- What is expected ----

  static bool IsGood(const std::string& value) {
    return !value.starts_with(ScriptedCluster::kPoison);
  }
  static std::vector<std::string> Good(std::vector<std::string> values) {
    std::erase_if(values, [](const std::string& value) { return !IsGood(value); });
    return values;
  }
  // What the spool may have, or have soon.
  void Try(const Records& records, std::optional<int64_t> transaction) {
    tried_ = records;
    tried_transaction_ = transaction;
    if (!transaction) return;
    for (const auto& [name, values] : records) {
      const size_t begin = expected_[name].size();
      const size_t end = begin + Good(values).size();
      if (end > begin) ranges_[*transaction][name] = {begin, end};
    }
  }
  void Take(bool stored) {
    for (const auto& [name, values] : tried_) {
      if (!stored) continue;
      spooled_[name] += values.size();
      for (const std::string& value : values)
        (IsGood(value) ? expected_ : dead_)[name].push_back(value);
    }
    if (!stored && tried_transaction_) ranges_.erase(*tried_transaction_);
    tried_.clear();
    tried_transaction_.reset();
  }
  // Of what was tried when the agent died: does the spool have it?
  void Judge() {
    std::optional<bool> stored;
    for (const auto& name : kPartitions) {
      const auto stream = spool_->FindStream(StreamName(name.first, name.second));
      const size_t has = stream ? static_cast<size_t>(spool_->Range(*stream).end) : 0;
      const auto tried = tried_.find(name);
      const size_t more = has - spooled_[name];
      if (tried == tried_.end()) {
        EXPECT_EQ(more, 0);
        continue;
      }
      EXPECT_TRUE(more == 0 || more == tried->second.size()) << more;
      EXPECT_EQ(stored.value_or(more > 0), more > 0) << "a part of a transaction";
      stored = more > 0;
    }
    Take(stored.value_or(false));
    for (Client& client : clients_) {
      if (std::exchange(client.in_doubt, false)) {
        client.asks_again = true;
        client.committed = stored;
      }
      client.lost = client.open;
    }
  }

  void Check() {
    if (HasFailure()) return;
    std::map<Partition, size_t> there;
    for (const Partition& name : kPartitions) {
      const std::vector<std::string> decided = cluster_.Decided(name);
      std::vector<std::string> expected = expected_[name];
      if (const auto tried = tried_.find(name); tried != tried_.end()) {
        const std::vector<std::string> good = Good(tried->second);
        expected.insert(expected.end(), good.begin(), good.end());
      }
      there[name] = decided.size();
      const bool right = decided.size() <= expected.size() &&
                         std::equal(decided.begin(), decided.end(), expected.begin());
      if (!right) {
        expected.resize(std::min(expected.size(), decided.size()));
        EXPECT_EQ(decided, expected) << name.first << "/" << name.second << " in step " << step_;
      }
    }
    for (const auto& [transaction, ranges] : ranges_) {
      std::optional<bool> all;
      for (const auto& [name, range] : ranges) {
        const bool here = there[name] > range.first;
        if (all.value_or(here) != here || (here && there[name] < range.second)) {
          ADD_FAILURE() << "half of transaction " << transaction << " in step " << step_;
          return;
        }
        all = here;
      }
    }
  }

  // ---- What happens ----

  void Step() {
    const uint64_t what = random_.Below(100);
    if (what < 16) return ProduceSome();
    if (what < 50) return Act(clients_[random_.Below(clients_.size())]);
    if (what < 74) return PassTime();
    if (what < 79) return cluster_.Aim();
    if (what < 80) return Hold(!held_);
    if (what < 82) return cluster_.Break(1 + static_cast<int32_t>(random_.Below(3)));
    if (what < 84) return MakeTrouble();
    if (what < 89) return Die();
    if (what < 90) return StopAndStart();
    if (what < 92) return cluster_.MoveSomeLeader();
    if (what < 93) return cluster_.MoveTransactionCoordinator();
    if (what < 94) return cluster_.MoveGroupCoordinator();
    if (what < 95) return cluster_.Kill(1 + static_cast<int32_t>(random_.Below(3)));
    if (what < 96) return cluster_.Revive();
    if (what < 97) return cluster_.RestartAll();
    if (what < 98) return cluster_.FenceAll();
    if (what < 99) return cluster_.ExpireProducers(kExpiration);
    cluster_.ServeStranded();
  }
  void MakeTrouble() {
    constexpr std::array<uint64_t, 4> kPercent{0, 2, 10, 30};
    constexpr std::array<uint64_t, 4> kLatencyMs{0, 1, 20, 1000};
    constexpr std::array<uint64_t, 4> kMarkerMs{0, 5, 100, 2000};
    cluster_.trouble = {.percent = kPercent[random_.Below(4)],
                        .latency_ms_max = kLatencyMs[random_.Below(4)],
                        .marker_ms_max = kMarkerMs[random_.Below(4)],
                        .strands = late_requests_,
                        .strands_for_ms = Milliseconds(kExpiration - hours(1))};
  }
  void PassTime() {
    if (held_ && random_.Below(4) == 0) Hold(false);
    if (random_.Below(3) > 0) cluster_.Connect();
    if (random_.Below(50) == 0) {
      cluster_.ServeStranded();
      clock_.Advance(hours(3 + random_.Below(30)));
      return cluster_.ServeStranded();
    }
    if (random_.Below(3) == 0) return clock_.Advance(seconds(1 + random_.Below(10)));
    clock_.Advance(milliseconds(random_.Below(100)));
  }
  // By a schedule that lets nothing go, or all.
  void Hold(bool held) {
    held_ = held;
    if (held) {
      forward_options_.schedule = Schedule({{.days = 0}}, Schedule::Clock::kUtc);
    } else {
      forward_options_.schedule = Schedule();
    }
    forwarder_->SetSchedule(forward_options_.schedule, /*high_priority_always=*/false);
    clock_.RunUntilIdle();
  }
  // While it does something, perhaps.
  void Die() {
    dies_after_ = random_.Below(30);
    if (random_.Below(3) == 0) {
      ProduceSome();
    } else {
      Act(clients_[random_.Below(clients_.size())]);
    }
    Settle();
    Kill();
  }
  [[nodiscard]] bool dead() const { return dies_after_ == 0; }

  std::vector<std::string> SomeValues() {
    std::vector<std::string> values;
    for (uint64_t records = 1 + random_.Below(3); records > 0; --records) {
      values.push_back(std::to_string(next_value_++));
      if (refuses_ && random_.Below(40) == 0) values.back().insert(0, 1, ScriptedCluster::kPoison);
    }
    return values;
  }
  void ProduceSome() {
    const Partition& name = kPartitions[random_.Below(kPartitions.size())];
    for (uint64_t batches = 1 + random_.Below(3); batches > 0; --batches) {
      Batch batch{.values = SomeValues()};
      if (old_records_ && random_.Below(10) == 0) {
        batch.timestamp = clock_.wall_clock_ms() -
                          Milliseconds(hours(late_requests_ ? 13 : 10) + hours(random_.Below(40)));
      }
      Try({{name, batch.values}}, std::nullopt);
      const Answer& answer = *Submit(name.first, {{name.second, batch}})[0];
      Settle();
      if (answer.error == ErrorCode::kUnknownServerError) {
        ASSERT_TRUE(dead());
        return;
      }
      ASSERT_EQ(answer.error, ErrorCode::kNone);
      Take(true);
    }
  }

  // ---- Clients ----

  struct Ended {
    bool answered = false;
    ErrorCode error = ErrorCode::kUnknownServerError;
    Producer producer;
  };
  struct Appended final : proxy::SinkRequest {
    Appended(std::shared_ptr<Ended> to, std::string name, std::string batch)
        : ended(std::move(to)), topic(std::move(name)), bytes(std::move(batch)) {}
    void Complete(std::unique_ptr<SinkRequest> /*self*/) override {
      *ended = {.answered = true, .error = entries[0].error};
    }
    std::shared_ptr<Ended> ended;
    std::string topic;
    std::string bytes;
  };

  Ended EndAs(const Client& client, const Producer& producer, bool commit) {
    const auto ended = std::make_shared<Ended>();
    local_->End({client.id}, producer, commit, protocol_, [ended](ErrorCode error, Producer given) {
      *ended = {.answered = true, .error = error, .producer = given};
    });
    Settle();
    return *ended;
  }
  Ended AppendAs(const Client& client, const Producer& producer, const Partition& name,
                 const std::vector<std::string>& values, int32_t sequence) {
    if (protocol_ == Protocol::kFirst) {
      const auto added = std::make_shared<Ended>();
      local_->AddPartitions({client.id}, producer, {name}, [added](ErrorCode error) {
        *added = {.answered = true, .error = error};
      });
      Settle();
      if (!added->answered || added->error != ErrorCode::kNone) return *added;
    }
    kafka::RecordBatchBuilder builder(
        {.producer = {.id = producer.id, .epoch = producer.epoch, .base_sequence = sequence},
         .transactional = true});
    for (const std::string& value : values) {
      builder.Add({.timestamp = clock_.wall_clock_ms(), .value = value});
    }
    const auto ended = std::make_shared<Ended>();
    auto request = std::make_unique<Appended>(ended, name.first, std::move(builder).Build());
    request->entries.push_back(
        {.topic = request->topic, .partition = name.second, .batch = request->bytes});
    local_->Append({client.id}, protocol_, std::move(request));
    Settle();
    return *ended;
  }

  void Act(Client& client) {
    if (client.asks_again) return AskAgain(client);
    if (client.producer.id < 0) return Init(client, /*renews=*/false);
    const uint64_t what = random_.Below(100);
    if (what < 45) return Put(client);
    if (what < 85) return client.open ? Commit(client) : Put(client);
    if (what < 90) return client.open ? Abort(client) : Put(client);
    if (what < 94) return Init(client, /*renews=*/random_.Below(2) == 0);
    if (!client.fenced.empty()) BeRefused(client);
  }
  void Init(Client& client, bool renews) {
    const Producer before = client.producer;
    const base::Duration timeout = milliseconds(std::array{1000, 20000, 60000}[random_.Below(3)]);
    const auto ended = std::make_shared<Ended>();
    local_->InitProducer({client.id}, static_cast<int32_t>(Milliseconds(timeout)),
                         renews ? before : Producer(), [ended](ErrorCode error, Producer given) {
                           *ended = {.answered = true, .error = error, .producer = given};
                         });
    Settle();
    Forget(client);
    client.producer = {};
    if (!ended->answered || (renews && ended->error == ErrorCode::kProducerFenced)) return;
    ASSERT_EQ(ended->error, ErrorCode::kNone);
    if (before.id >= 0) client.fenced.push_back(before);
    client.producer = ended->producer;
    client.timeout = timeout;
  }
  static void Forget(Client& client) {
    client.open = client.lost = false;
    client.put.clear();
    client.sequences.clear();
  }
  // Whether its transaction is to be there still; not sure: none.
  std::optional<bool> Lives(const Client& client) {
    // Of one of which nothing was acknowledged the agent need not have known.
    if (client.lost && client.put.empty()) return std::nullopt;
    if (client.lost) return false;
    const base::Duration age = clock_.now() - client.began;
    if (age == client.timeout) return std::nullopt;
    return age < client.timeout;
  }
  void Put(Client& client) {
    for (uint64_t batches = 1 + random_.Below(3); batches > 0; --batches) {
      const Partition& name = kPartitions[random_.Below(kPartitions.size())];
      const std::vector<std::string> values = SomeValues();
      const bool was_open = std::exchange(client.open, true);
      if (!was_open) client.began = clock_.now();
      int32_t& sequence = client.sequences[name];
      const Ended ended = AppendAs(client, client.producer, name, values, sequence);
      if (!ended.answered) {
        ASSERT_TRUE(dead());
        return;
      }
      const std::optional<bool> lives = Lives(client);
      if (lives) {
        ASSERT_EQ(ended.error == ErrorCode::kNone, *lives) << kafka::ErrorName(ended.error);
      }
      if (ended.error != ErrorCode::kNone) return Refused(client, ended.error);
      if (std::exchange(client.lost, false)) client.began = clock_.now();
      sequence += static_cast<int32_t>(values.size());
      auto& put = client.put[name];
      put.insert(put.end(), values.begin(), values.end());
    }
  }
  // What it had open is no more.
  void Refused(Client& client, ErrorCode error) {
    client.put.clear();
    if (error == ErrorCode::kTransactionAbortable) return Abort(client);
    Forget(client);
    client.producer = {};
  }
  void Commit(Client& client) {
    const std::optional<bool> lives = Lives(client);
    const Producer before = client.producer;
    Try(client.put, next_transaction_++);
    const Ended ended = EndAs(client, before, /*commit=*/true);
    if (!ended.answered) {
      ASSERT_TRUE(dead());
      client.in_doubt = true;
      return;
    }
    if (lives) {
      ASSERT_EQ(ended.error == ErrorCode::kNone, *lives) << kafka::ErrorName(ended.error);
    }
    Take(ended.error == ErrorCode::kNone);
    if (ended.error != ErrorCode::kNone) return Refused(client, ended.error);
    Committed(client, ended.producer);
    if (random_.Below(4) > 0) return;
    // The answer was lost on its way to it.
    const Ended again = EndAs(client, before, /*commit=*/true);
    if (!again.answered) return;
    ASSERT_EQ(again.error, ErrorCode::kNone);
    ASSERT_EQ(again.producer, client.producer);
  }
  static void Committed(Client& client, const Producer& producer) {
    client.open = client.lost = client.asks_again = false;
    client.put.clear();
    if (client.producer == producer) return;
    client.sequences.clear();
    client.producer = producer;
  }
  void AskAgain(Client& client) {
    const Ended ended = EndAs(client, client.producer, /*commit=*/true);
    if (!ended.answered) return;
    const bool committed = ended.error == ErrorCode::kNone;
    if (client.committed) {
      ASSERT_EQ(committed, *client.committed) << kafka::ErrorName(ended.error);
    }
    client.asks_again = false;
    if (!committed) return Refused(client, ended.error);
    Committed(client, ended.producer);
  }
  void Abort(Client& client) {
    const std::optional<bool> lives = Lives(client);
    const Ended ended = EndAs(client, client.producer, /*commit=*/false);
    if (ended.error == ErrorCode::kNone && ended.answered) return Committed(client, ended.producer);
    if (ended.answered && !client.lost && lives) {
      ASSERT_FALSE(*lives);
    }
    Forget(client);
    client.producer = {};
  }
  void BeRefused(Client& client) {
    const Producer producer = client.fenced[random_.Below(client.fenced.size())];
    const Ended ended = random_.Below(2) == 0
                            ? EndAs(client, producer, random_.Below(2) == 0)
                            : AppendAs(client, producer, kPartitions[0], {"fenced"}, 0);
    if (ended.answered) {
      ASSERT_NE(ended.error, ErrorCode::kNone);
    }
  }

  static int64_t Milliseconds(base::Duration duration) {
    return std::chrono::duration_cast<milliseconds>(duration).count();
  }
  static std::vector<DeliveryMode> ModesOf(uint64_t seed) {
    using enum DeliveryMode;
    const std::array<std::vector<DeliveryMode>, 5> all = {{{kIdempotent},
                                                           {kAuto},
                                                           {kTransactional},
                                                           {kAuto, kTransactional},
                                                           {kIdempotent, kAuto, kTransactional}}};
    return all[seed / 4 % all.size()];
  }

  std::vector<std::string> DeadLetters(const Partition& name) {
    return ValuesIn(DeadLetterStreamName(StreamName(name.first, name.second)));
  }

  base::Random random_{GetParam()};
  const bool refuses_ = random_.Below(2) == 0;  // The tier, some records for good.
  // What was on its way when a connection broke comes later, with every other seed. Then records
  // that the tier forgets at once go in transactions only.
  const bool late_requests_ = GetParam() % 2 == 0;
  const Protocol protocol_ = GetParam() / 2 % 2 == 0 ? Protocol::kSecond : Protocol::kFirst;
  const std::vector<DeliveryMode> modes_ = ModesOf(GetParam());
  const bool old_records_ =
      !late_requests_ || std::ranges::find(modes_, DeliveryMode::kIdempotent) == modes_.end();
  test::ManualExecutor loop_{clock_};
  test::ManualExecutor brokers_{clock_};
  proxy::MetadataCache cache_{{}};
  ScriptedCluster cluster_{loop_,
                           brokers_,
                           cache_,
                           {.second = protocol_ == Protocol::kSecond,
                            .seed = random_(),
                            .first_epoch = random_.Below(4) == 0 ? int16_t{32740} : int16_t{0}}};
  TransactionLane::Options lane_options_;
  Forwarder::Options forward_options_;
  LocalTransactions::Options local_options_;
  std::unique_ptr<TransactionLane> lane_;
  std::unique_ptr<Forwarder> forwarder_;
  std::unique_ptr<LocalTransactions> local_;
  bool held_ = false;
  std::optional<uint64_t> dies_after_;  // So many tasks.

  std::vector<Client> clients_;
  int64_t next_value_ = 0;
  int64_t next_transaction_ = 0;
  Records expected_;  // At the tier,
  Records dead_;      // and set aside.
  std::map<Partition, size_t> spooled_;
  Records tried_;
  std::optional<int64_t> tried_transaction_;
  // Of each transaction: where its records stand in what is expected.
  std::map<int64_t, std::map<Partition, std::pair<size_t, size_t>>> ranges_;
  int step_ = 0;
};

TEST_P(TransactionSimulationTest, TransactionsArriveWholeAndAllOnceAndInOrder) {
  MakeTrouble();
  for (; step_ < 400; ++step_) {
    Step();
    Check();
    if (HasFailure()) return;
  }
  Hold(false);
  cluster_.trouble = {};
  cluster_.Revive();
  cluster_.ServeStranded();
  for (int wait = 0; wait < 20; ++wait) {
    cluster_.Connect();
    clock_.Advance(seconds(30));
  }
  Check();
  for (const Partition& name : kPartitions) {
    EXPECT_EQ(cluster_.Committed(name), expected_[name]) << name.first << "/" << name.second;
    EXPECT_EQ(DeadLetters(name), dead_[name]) << name.first << "/" << name.second;
  }
  EXPECT_EQ(metrics_.undelivered_transactions.Value(), 0);
  EXPECT_EQ(forwarder_->GetStatus().backlog_records, 0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, TransactionSimulationTest, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace holdfast::agent
