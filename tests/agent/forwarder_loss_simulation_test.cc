// Delivery to a tier that refuses, denies, loses topics, and from a spool that gives records up:
// whatever comes together, by a seed, each record is in the tier once and in its place, or listed
// as dropped, or a dead letter, as the ledger says at any moment.
#include <set>
#include <string_view>

#include "agent/dead_letter_replay.h"
#include "agent/transaction_lane.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"
#include "tests/agent/delivery_simulation.h"

namespace holdfast::agent {
namespace {

enum class Theme : uint8_t { kDrops, kRefusals, kRights, kTopics, kAll };

// What a seed stands for, so that one that fails is about few things.
struct Scenario {
  explicit Scenario(uint64_t seed) : theme(static_cast<Theme>(seed % 5)) {
    base::Random random(~seed);
    mode = static_cast<DeliveryMode>(random.Below(3));
    changes_mode = random.Below(4) == 0;
    // What comes late when its records went in a transaction meanwhile, or to another log, is
    // doubled, and so is what comes late where the tier does not tell what it knows.
    late_requests = !changes_mode && mode != DeliveryMode::kAuto && theme <= Theme::kRefusals &&
                    random.Below(2) == 0;
    letters = static_cast<DeadLetterPolicy>(random.Below(3));
    hides = random.Below(2) == 0;
  }
  [[nodiscard]] bool Has(Theme one) const { return theme == one || theme == Theme::kAll; }

  Theme theme;
  DeliveryMode mode;
  bool changes_mode;   // When the agent restarts.
  bool late_requests;  // See DeliverySimulation.
  DeadLetterPolicy letters;
  bool hides;  // Of rights: that to read may be missing, so that nobody knows what arrived.
};

// Of a stream, by its ordinals.
struct Model {
  std::vector<std::string> values;
  std::map<int64_t, DropCause> dropped;        // As the ledger said.
  std::set<int64_t> by_hand;                   // By `spool drop`, unless they had arrived.
  std::set<int64_t> letters;                   // Of which there is a dead letter.
  std::vector<std::vector<std::string>> gone;  // Logs of topics that were deleted.

  [[nodiscard]] int64_t end() const { return static_cast<int64_t>(values.size()); }
  [[nodiscard]] bool IsDeadLetter(int64_t ordinal) const {
    const auto found = dropped.find(ordinal);
    return found != dropped.end() && found->second == DropCause::kDeadLetter;
  }
  // It need not be at the tier.
  [[nodiscard]] bool IsExcused(int64_t ordinal) const {
    return dropped.contains(ordinal) || by_hand.contains(ordinal);
  }
};

class ForwarderLossSimulationTest : public DeliverySimulation,
                                    public testing::WithParamInterface<uint64_t> {
 protected:
  ForwarderLossSimulationTest()
      : DeliverySimulation(GetParam(), Scenario(GetParam()).late_requests) {
    tier_.transactions = &transactions_;
    tier_.answers_refreshes = true;
    tier_.AddTopic("dead", 1);
    cache_.Learn(transactions_.ApiVersions());
    options_.dead_letters = scenario_.letters;
    if (scenario_.letters == DeadLetterPolicy::kTopic) options_.dead_letter_topic = "dead";
    lane_options_.mode = scenario_.mode;
    if (scenario_.Has(Theme::kDrops)) {
      constexpr std::array kTtls{5'000, 60'000, 3'600'000};
      policies_ = std::make_shared<const Policies>(
          std::vector<Policies::TopicRule>{
              {.pattern = "a", .policy = {.ttl_ms = kTtls[random_.Below(kTtls.size())]}},
              {.pattern = "b", .policy = {.bytes_max = 1500, .when_full = WhenFull::kDropOldest}}},
          std::vector<Policies::ClientRule>());
    }
    sinks_.drop_oldest = [this](std::string topic, uint64_t bytes) {
      forwarder_->DropOldest(std::move(topic), bytes);
    };
    ReopenSpool();
    Begin();
    tier_.Connect();
  }
  ~ForwarderLossSimulationTest() override {
    End();
    log_->Close();
  }

  void Begin() override {
    if (scenario_.changes_mode) lane_options_.mode = static_cast<DeliveryMode>(random_.Below(3));
    lane_ = std::make_unique<TransactionLane>(
        TransactionLane::Context{loop_, *spool_, tier_, cache_, metrics_}, lane_options_,
        log_->kept().transactions, 1);
    DeliverySimulation::Begin();
    log_->SetPolicies(policies_);
    forwarder_->SetPolicies(policies_);
    OnDurable();
  }
  void CrashAgent() override {
    End();
    log_->Close();
    clock_.RunUntilIdle();
    std::vector<spool::StreamId> by_hand;
    if (scenario_.Has(Theme::kDrops) && random_.Below(3) == 0) {
      const auto& [topic, partition] = kPartitions[random_.Below(kPartitions.size())];
      const auto id = spool_->FindStream(StreamName(topic, partition));
      if (id) by_hand.push_back(*id);
    }
    for (const spool::StreamId id : by_hand) ThrowAway(id);
    ReopenSpool();
    ForgetWhatIsNotKept();
    Begin();
    if (random_.Below(2) == 0) tier_.Connect();
  }
  void ThrowAway(spool::StreamId id) {
    OnDurable();
    Model& model = ModelOf(id);
    for (int64_t at = spool_->Range(id).start; at < model.end(); ++at) model.by_hand.insert(at);
    CloseSpool();
    DropByHand({id});
  }
  // What the agent had not written down when it died never happened.
  void ForgetWhatIsNotKept() {
    const KeptState& kept = log_->kept();
    for (const auto& [name, id] : spool_->Streams()) {
      if (!models_.contains(name)) continue;
      Model& model = models_[name];
      const auto record = kept.forward.find(id.value());
      const int64_t confirmed = record == kept.forward.end() ? 0 : record->second.confirmed;
      model.dropped.erase(model.dropped.lower_bound(confirmed), model.dropped.end());
      const auto drops = kept.drops.find(id.value());
      if (drops != kept.drops.end()) Take(model, drops->second);
    }
  }

  void Step() override {
    const uint64_t what = random_.Below(100);
    if (what < 70) return DeliveryStep();
    if (what < 72) return transactions_.TimeOut();
    if (what < 75 && forwarder_->Resume("")) return PassTime(milliseconds(1));
    switch (scenario_.theme == Theme::kAll ? static_cast<Theme>(random_.Below(4))
                                           : scenario_.theme) {
      case Theme::kDrops:
        return DropSome();
      case Theme::kRefusals:
        return RefuseOrReplay();
      case Theme::kRights:
        return GiveOrTakeRights();
      default:
        return ChangeTopics();
    }
  }
  // While followers hang nobody can tell what a tier has that does not describe its producers.
  void DeliveryStep() {
    DeliverySimulation::Step();
    if (stalled_ && (scenario_.Has(Theme::kRights) || scenario_.Has(Theme::kTopics))) Stall(false);
  }
  void DropSome() {
    if (random_.Below(2) == 0) return ProduceTo("b", 0);
    forwarder_->DropOldest(random_.Below(2) == 0 ? "" : "b", 1 + random_.Below(400));
    clock_.RunUntilIdle();
  }
  void RefuseOrReplay() {
    constexpr std::array kErrors{ErrorCode::kInvalidRecord, ErrorCode::kInvalidTimestamp,
                                 ErrorCode::kUnsupportedCompressionType};
    constexpr std::array<size_t, 4> kSizes{75, 82, 1 << 20, 1 << 20};
    constexpr uint64_t kNewest = 15;
    switch (random_.Below(7)) {
      case 0:
        return tier_.poison.clear();
      case 1:
        tier_.poison_error = kErrors[random_.Below(kErrors.size())];
        tier_.names_poison = tier_.poison_error != ErrorCode::kUnsupportedCompressionType;
        return;
      case 2:
        tier_.batch_bytes_max = kSizes[random_.Below(kSizes.size())];
        return;
      case 3:
        return Replay();
      case 4:  // One that may have arrived.
        if (produced_ == 0) return;
        tier_.poison.insert(
            std::to_string(produced_ - 1 - random_.Below(std::min(produced_, kNewest))));
        return;
      default:
        return ProduceSome();
    }
  }
  void Replay() {
    const auto& [topic, partition] = kPartitions[random_.Below(kPartitions.size())];
    DeadLetterReplay::Start(*spool_, *log_, loop_, StreamName(topic, partition),
                            [](const auto&) {});
    clock_.RunUntilIdle();
  }
  void GiveOrTakeRights() {
    const std::string topic = random_.Below(2) == 0 ? "a" : "b";
    const auto either = [this](ErrorCode denied) {
      return random_.Below(2) == 0 ? denied : ErrorCode::kNone;
    };
    switch (random_.Below(5)) {
      case 0:
        return Deny(topic, !tier_.denied.contains(topic));
      case 1:
        tier_.describe_error = either(ErrorCode::kTopicAuthorizationFailed);
        return;
      case 2:
        tier_.init_error = either(ErrorCode::kClusterAuthorizationFailed);
        return;
      case 3:
        tier_.fetch_error =
            scenario_.hides ? either(ErrorCode::kTopicAuthorizationFailed) : ErrorCode::kNone;
        return;
      default:
        return GiveAllRights();
    }
  }
  void Deny(const std::string& topic, bool denied) {
    const int16_t add = kafka::AddPartitionsToTxnRequest::kApi.key;
    tier_.denied.erase(topic);
    transactions_.refusals.erase({add, topic});
    if (!denied) return;
    tier_.denied.insert(topic);
    transactions_.refusals[{add, topic}] = ErrorCode::kTopicAuthorizationFailed;
  }
  void GiveAllRights() {
    for (const char* topic : {"a", "b"}) Deny(topic, false);
    tier_.describe_error = tier_.init_error = tier_.fetch_error = ErrorCode::kNone;
  }
  void ChangeTopics() {
    if (stalled_) return;
    const std::string topic = random_.Below(2) == 0 ? "a" : "b";
    switch (random_.Below(4)) {
      case 0:
        return Delete(topic);
      case 1:
        Delete(topic);
        return Make(topic);
      case 2:
        Delete(topic);
        tier_.logs[{topic, 0}];  // And no metadata says so.
        return;
      default:
        return Make(topic);
    }
  }
  void Delete(const std::string& topic) {
    for (const auto& [partition, log] : tier_.logs) {
      if (partition.first != topic) continue;
      models_[StreamName(topic, partition.second)].gone.push_back(
          tier_.Values(topic, partition.second));
    }
    tier_.RemoveTopic(topic);
  }
  void Make(const std::string& topic) {
    tier_.AddTopic(topic, topic == "a" ? 1 + static_cast<int32_t>(random_.Below(2)) : 1);
  }

  void ProduceSome() override {
    const auto& [topic, partition] = kPartitions[random_.Below(kPartitions.size())];
    ProduceTo(topic, partition);
  }
  void ProduceTo(const std::string& topic, int32_t partition) {
    for (uint64_t batches = 1 + random_.Below(4); batches > 0; --batches) {
      Batch batch;
      for (uint64_t records = 1 + random_.Below(3); records > 0; --records) {
        batch.values.push_back(std::to_string(produced_++));
        if (scenario_.Has(Theme::kRefusals) && random_.Below(8) == 0)
          tier_.poison.insert(batch.values.back());
      }
      if (!late_requests_ && random_.Below(20) == 0) {
        batch.timestamp = clock_.wall_clock_ms() - Milliseconds(hours(10 + random_.Below(40)));
      }
      acknowledged_.push_back(
          {StreamName(topic, partition), batch.values, &ProduceLater(topic, partition, batch)});
    }
  }
  void PassTime(base::Duration duration) override {
    // The ledger has the newest drops only.
    for (int slice = 0; slice < 10 && duration > seconds(1); ++slice, duration -= seconds(1)) {
      clock_.Advance(seconds(1));
      Observe();
    }
    clock_.Advance(duration);
  }

  Model& ModelOf(spool::StreamId id) {
    for (const auto& [name, known] : spool_->Streams()) {
      if (known == id) return models_[name];
    }
    HF_CHECK(false);
  }
  // Reads what is new in the spool.
  void OnDurable() override {
    for (const auto& [name, id] : spool_->Streams()) {
      Model& model = models_[name];
      const int64_t end = spool_->Range(id).end;
      while (model.end() < end) {
        const auto lease = spool_->Read(id, model.end(), 1);
        ASSERT_TRUE(lease) << name << ": " << lease.error().message;
        const bool dead = name.ends_with("/dead-letters") || name == "dead/0";
        ForEach(lease->entries().front().bytes, [&](const kafka::Record& record) {
          model.values.emplace_back(record.value.value_or(""));
          if (dead) TakeDeadLetter(record);
        });
      }
    }
  }
  template <class Visit>
  static void ForEach(std::string_view bytes, Visit visit) {
    const kafka::RecordBatchView batch(bytes);
    const auto records = kafka::UncompressedRecords::Of(batch);
    kafka::RecordReader reader(batch.header(), records->bytes());
    kafka::Record record;
    while (reader.Next(&record)) visit(record);
  }
  void TakeDeadLetter(const kafka::Record& record) {
    std::map<std::string, std::string> headers;
    for (const auto& header : record.headers) headers[std::string(header.key)] = *header.value;
    const std::string stream =
        headers["holdfast.dlq.topic"] + "/" + headers["holdfast.dlq.partition"];
    const int64_t offset = std::stoll(headers["holdfast.dlq.offset"]);
    Model& model = models_[stream];
    ASSERT_LT(offset, model.end()) << stream;
    EXPECT_EQ(record.value, model.values[offset]) << stream;
    EXPECT_TRUE(model.letters.insert(offset).second) << stream << " has two for " << offset;
  }

  static void Take(Model& model, const Drops& drops) {
    for (const DropRange& range : drops.ranges()) {
      for (int64_t at = range.begin; at < range.end; ++at) model.dropped[at] = range.cause;
    }
  }
  // All that the ledger says holds.
  void Observe() {
    for (const CommitPoint& point : forwarder_->GetLedger()->streams) {
      Model& model = models_[point.stream];
      Take(model, point.drops);
      ASSERT_EQ(point.drops.records(), model.dropped.size()) << point.stream;
      const std::multiset<std::string> there = AtTier(point.stream);
      for (int64_t at = 0; at < point.confirmed; ++at) {
        if (model.IsExcused(at)) continue;
        ASSERT_TRUE(there.contains(model.values[at]))
            << point.stream << " is confirmed up to " << point.confirmed << ", and lacks " << at;
      }
    }
  }
  std::vector<std::string> Log(const std::string& stream) {
    const auto name = *ParseStreamName(stream);
    return tier_.logs.contains(name) ? tier_.Values(name.first, name.second)
                                     : std::vector<std::string>();
  }
  // In its logs of all times.
  std::multiset<std::string> AtTier(const std::string& stream) {
    std::multiset<std::string> all;
    for (const auto& log : models_[stream].gone) all.insert(log.begin(), log.end());
    const std::vector<std::string> log = Log(stream);
    all.insert(log.begin(), log.end());
    return all;
  }

  void Heal() {
    Stall(false);
    tier_.poison.clear();
    tier_.batch_bytes_max = 1 << 20;
    GiveAllRights();
    tier_.ServeStranded();
    tier_.AddTopic("a", 2);
    tier_.AddTopic("b", 1);
    for (int wait = 0; wait < 10; ++wait) {
      tier_.Connect();
      PassTime(seconds(30));
    }
    transactions_.TimeOut();
  }
  void CheckStream(const std::string& name, const Model& model) {
    const std::multiset<std::string> there = AtTier(name);
    for (int64_t at = 0; at < model.end(); ++at) {
      if (model.IsExcused(at)) continue;
      ASSERT_TRUE(there.contains(model.values[at])) << name << " has lost " << at;
    }
    for (const auto& [at, cause] : model.dropped) {
      EXPECT_EQ(cause == DropCause::kDeadLetter, model.letters.contains(at)) << name << " " << at;
    }
    for (const int64_t at : model.letters) EXPECT_TRUE(model.IsDeadLetter(at)) << name << " " << at;
    if (metrics_.forward_errors.With("unknowable").Value() > 0) return;
    CheckLog(name, model, Log(name));
    for (const auto& log : model.gone) CheckLog(name, model, log);
  }
  // In order and once. What was given up may have arrived if its answer was lost. A log that was
  // made anew may have a batch without the one before it: that follows, and then the batch again.
  void CheckLog(const std::string& name, const Model& model, const std::vector<std::string>& log) {
    std::map<std::string, int64_t> ordinals;
    for (int64_t at = 0; at < model.end(); ++at) {
      if (!model.IsDeadLetter(at)) ordinals[model.values[at]] = at;
    }
    std::set<int64_t> seen;
    int64_t last = -1;
    for (const std::string& value : log) {
      ASSERT_TRUE(ordinals.contains(value)) << name << " has " << value;
      const int64_t at = ordinals[value];
      const bool is_new = seen.insert(at).second;
      const bool may_follow =
          at > last ? is_new || !model.gone.empty() : is_new && !model.gone.empty();
      EXPECT_TRUE(may_follow) << name << " has " << at << " behind " << last;
      last = at;
    }
  }
  void CheckAll() {
    for (const auto& [stream, values, answer] : acknowledged_) {
      if (answer->error != ErrorCode::kNone) continue;
      const Model& model = models_[stream];
      for (size_t i = 0; i < values.size(); ++i) {
        const auto at = static_cast<size_t>(answer->base_offset) + i;
        ASSERT_LT(at, model.values.size());
        EXPECT_EQ(model.values[at], values[i]) << stream;
      }
    }
    for (const auto& stream : forwarder_->GetStatus().worst) {
      ADD_FAILURE() << stream.name << " has " << stream.backlog_records
                    << " left: " << stream.trouble;
    }
    for (const auto& [name, model] : models_) {
      if (ParseStreamName(name)) CheckStream(name, model);
    }
    EXPECT_EQ(metrics_.forward_errors.With("tier lost records").Value(), 0);
    EXPECT_EQ(metrics_.forward_errors.With("fenced").Value(), 0);
    if (!scenario_.hides || !scenario_.Has(Theme::kRights)) {
      EXPECT_EQ(metrics_.forward_errors.With("unknowable").Value(), 0);
    }
  }

  struct Acknowledged {
    std::string stream;
    std::vector<std::string> values;
    const Answer* answer;
  };

  const Scenario scenario_{GetParam()};
  test::ScriptedTransactions transactions_{/*second=*/GetParam() % 2 == 0};
  TransactionLane::Options lane_options_;
  PoliciesPtr policies_ = std::make_shared<const Policies>();
  std::map<std::string, Model> models_;  // By stream.
  std::vector<Acknowledged> acknowledged_;
  uint64_t produced_ = 0;
};

TEST_P(ForwarderLossSimulationTest, EachRecordIsAtTheTierOnceOrAccountedFor) {
  for (int step = 0; step < 300; ++step) {
    Step();
    Observe();
    if (HasFailure()) return;
  }
  Heal();
  CheckAll();
}

INSTANTIATE_TEST_SUITE_P(Seeds, ForwarderLossSimulationTest, testing::Range<uint64_t>(1, 26));

}  // namespace
}  // namespace holdfast::agent
