#include "agent/transaction_lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "agent/delivery_outcome.h"
#include "agent/spool_usage.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/api/describe_configs.h"
#include "kafka/record_batch.h"
#include "proxy/agent_state.h"
#include "proxy/backoff.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

constexpr std::string_view kExpirationKey = "producer.id.expiration.ms";
constexpr size_t kAskedAtOnce = 500;
constexpr size_t kReadBytes = size_t{1} << 20;
constexpr size_t kGrowBytes = size_t{1} << 10;
constexpr uint32_t kAttemptsUntilWarning = 3;
constexpr base::Duration kLookAgainAfter = std::chrono::seconds(1);
constexpr base::Duration kTellWaitAfter = std::chrono::seconds(3);
constexpr base::Duration kAskExpirationEvery = std::chrono::hours(1);

bool OfLocalTransaction(const spool::EntryView& entry) {
  const auto batch = kafka::RecordBatchView::Front(entry.bytes);
  return batch && batch->header().transactional();
}

}  // namespace

struct TransactionLane::Round {
  Turn turn = Turn::kWell;
  // Each member's part so far; begin and end are equal if it has none.
  std::map<uint32_t, TransactionPart> parts;
  std::vector<spool::StreamId> leaving;
  std::vector<spool::StreamId> ordinary;  // Those with batches that are of no local transaction.
  size_t bytes = 0;
  size_t bytes_max = 0;  // What comes next begins below that.
};

TransactionLane::TransactionLane(const Context& context, Options options, KeptTransactions kept,
                                 uint64_t seed)
    : context_(context),
      options_(std::move(options)),
      random_(seed),
      name_(std::move(kept.name)),
      well_bytes_max_(options_.round_bytes_max),
      tried_bytes_max_(options_.round_bytes_max),
      fresh_for_ms_(options_.fresh_for.count()),
      self_(std::make_shared<TransactionLane*>(this)) {
  for (CommittedTransaction& transaction : kept.committed) Add(std::move(transaction));
}

TransactionLane::~TransactionLane() { *self_ = nullptr; }

void TransactionLane::Rest(base::Task done) {
  rests_ = true;
  if (!IsOut()) return done();
  rested_ = std::move(done);
}

void TransactionLane::Abort() {
  if (upstream_) upstream_->Abort();
}

// Whether the tier may have a transaction open.
bool TransactionLane::IsOut() const {
  return !running_.empty() || left_open_ || (upstream_ && upstream_->busy());
}

void TransactionLane::Stop() {
  stopped_ = true;
  timer_.Cancel();
  if (upstream_) upstream_->Stop();
}

bool TransactionLane::Takes(const spool::EntryView& entry) {
  if (OfLocalTransaction(entry)) return true;
  if (options_.mode != DeliveryMode::kAuto) return options_.mode == DeliveryMode::kTransactional;
  if (const uint64_t version = context_.cache.version(); version != tier_version_) {
    tier_version_ = version;
    tier_ = TransactionsOf(*context_.cache.cluster());
  }
  const int64_t age_ms = context_.loop.WallClockMs() - entry.info.max_timestamp_ms;
  return (tier_ == TierTransactions::kFirst || tier_ == TierTransactions::kSecond) &&
         entry.info.max_timestamp_ms >= 0 && age_ms > fresh_for_ms_;
}

void TransactionLane::Enter(spool::StreamId stream, std::string topic, int32_t partition,
                            int64_t at, std::vector<LeftOut> left_out) {
  Failed before;
  if (const auto left = has_left_.extract(stream.value())) before = left.mapped();
  members_[stream.value()] = {.stream = stream,
                              .topic = std::move(topic),
                              .partition = partition,
                              .at = at,
                              .parked = before.parked_at == at,
                              .left_out = std::move(left_out),
                              .failures = before.failures,
                              .unjudged = before.unjudged,
                              .not_before = before.not_before};
  Wake();
}

void TransactionLane::Add(CommittedTransaction transaction) {
  std::erase_if(transaction.ranges, [&](const CommittedTransaction::Range& range) {
    return context_.spool.Range(range.stream).start >= range.end;
  });
  if (transaction.ranges.empty()) {
    finished_.push_back(transaction.Key());
    return Wake();
  }
  for (const CommittedTransaction::Range& range : transaction.ranges) {
    begins_[range.stream.value()][range.begin] = transaction.number;
  }
  waiting_partitions_ += transaction.ranges.size();
  if (transaction.given_up) given_up_.insert(transaction.number);
  transactions_[transaction.number] = std::move(transaction);
  context_.metrics.undelivered_transactions.Set(static_cast<double>(transactions_.size()));
  Wake();
}

void TransactionLane::Hold(bool held) {
  held_ = held;
  Wake();
}

void TransactionLane::Wake() {
  if (stopped_) return;
  AskExpiration();
  if (upstream_) upstream_->Wake();
  const bool nothing =
      members_.empty() && given_up_.empty() && finished_.empty() && !left_open_ && !rested_;
  if (nothing || std::exchange(posted_, true)) return;
  context_.loop.Post([self = std::weak_ptr<TransactionLane*>(self_)] {
    const auto alive = self.lock();
    if (!alive || *alive == nullptr) return;
    (*alive)->posted_ = false;
    (*alive)->Work();
  });
}

void TransactionLane::WakeAt(base::TimePoint when) {
  timer_ = context_.loop.After(when - context_.loop.Now(), [this] { Wake(); });
}

// The only place that decides what the lane does next.
void TransactionLane::Work() {
  if (stopped_ || host_ == nullptr) return;
  if (rested_ && !IsOut()) std::exchange(rested_, {})();
  LetGo();
  Finish();
  if (members_.empty() && !left_open_) return;
  if (!upstream_) return LearnName();
  if (upstream_->busy() || !running_.empty() || AskProgress()) return;
  if (rests_) return;
  if (held_) return LetGoWhileHeld();
  if (context_.loop.Now() < not_before_) return WakeAt(not_before_);
  std::array turns = {Turn::kWell, Turn::kUnjudged, Turn::kFailed};
  if (!well_next_) std::ranges::rotate(turns, turns.begin() + 1);
  for (const Turn turn : turns) {
    if (!MayTry(turn)) continue;
    Round round{.turn = turn, .bytes_max = BytesMax(turn)};
    Gather(round);
    Leave(round.leaving);
    std::erase_if(round.parts,
                  [](const auto& part) { return part.second.begin == part.second.end; });
    if (!round.parts.empty()) return Run(std::move(round));
  }
  well_next_ = true;
}

const CommittedTransaction* TransactionLane::Next(spool::StreamId stream, int64_t from) const {
  const auto begins = begins_.find(stream.value());
  if (begins == begins_.end()) return nullptr;
  const auto at = begins->second.lower_bound(from);
  return at == begins->second.end() ? nullptr : &transactions_.at(at->second);
}

const CommittedTransaction* TransactionLane::Find(spool::StreamId stream, int64_t begin) const {
  const CommittedTransaction* next = Next(stream, begin);
  return next != nullptr && next->RangeIn(stream)->begin == begin ? next : nullptr;
}

const CommittedTransaction* TransactionLane::GivenUp(spool::StreamId stream, int64_t begin) const {
  if (given_up_.empty()) return nullptr;
  const CommittedTransaction* found = Find(stream, begin);
  return found != nullptr && given_up_.contains(found->number) ? found : nullptr;
}

bool TransactionLane::GiveUp(uint64_t number, DropCause cause) {
  CommittedTransaction& transaction = transactions_.at(number);
  const bool on_its_way = std::ranges::any_of(transaction.ranges, [&](const auto& range) {
    const auto running = running_.find(range.stream.value());
    return running != running_.end() && running->second >= range.end;
  });
  if (on_its_way || transaction.given_up) return false;
  transaction.given_up = cause;
  host_->Keep(transaction.Key(), transaction.Serialize());
  host_->Flush([this, number] {
    const auto durable = transactions_.find(number);
    if (durable == transactions_.end()) return;
    given_up_.insert(number);
    const CommittedTransaction copy = durable->second;
    host_->OnGivenUp(copy);
    Wake();
  });
  return true;
}

bool TransactionLane::IsSettled(spool::StreamId stream) const {
  const auto member = members_.find(stream.value());
  return member != members_.end() && member->second.asked && !running_.contains(stream.value());
}

bool TransactionLane::Release(spool::StreamId stream) {
  const auto member = members_.find(stream.value());
  if (member == members_.end() || running_.contains(stream.value()) ||
      member->second.setting_aside) {
    return false;
  }
  member->second.released = true;
  Wake();
  return true;
}

void TransactionLane::Retry(spool::StreamId stream) {
  none_tried_before_ = context_.loop.Now();
  if (const auto member = members_.find(stream.value()); member != members_.end()) {
    member->second.not_before = none_tried_before_;
  } else if (const auto left = has_left_.find(stream.value()); left != has_left_.end()) {
    left->second.not_before = none_tried_before_;
  }
  Wake();
}

// Those that the host wants back, and those that have come to a transaction that was given up.
// What is not known of a round that failed does not matter: records that went in one come here
// again, and are asked about then.
void TransactionLane::LetGo() {
  std::vector<spool::StreamId> leaving;
  for (const auto& [id, member] : members_) {
    if (running_.contains(id) || member.setting_aside) continue;
    if (member.released || GivenUp(member.stream, member.at) != nullptr) {
      leaving.push_back(member.stream);
    }
  }
  Leave(leaving);
}

// Those that came here only to be asked about.
void TransactionLane::LetGoWhileHeld() {
  std::vector<spool::StreamId> leaving;
  std::optional<base::TimePoint> ask_at;
  for (auto& [id, member] : members_) {
    if (!member.asked) {
      const base::TimePoint at = std::max(member.not_before, not_before_);
      ask_at = std::min(ask_at.value_or(at), at);
    } else if (!member.setting_aside && !IsOwn(member)) {
      leaving.push_back(member.stream);
    }
  }
  if (ask_at) WakeAt(*ask_at);
  Leave(leaving);
}

// Whether what comes next in it goes here, if anything does.
bool TransactionLane::IsOwn(Member& member) {
  const spool::OffsetRange range = context_.spool.Range(member.stream);
  const int64_t at = std::max(member.at, range.start);
  if (at >= range.end || member.own_at == at) return true;
  const auto lease = context_.spool.ReadSound(member.stream, at, 1);
  if (IsLost(lease, at)) return false;
  const bool own = !lease || !member.left_out.empty() || Takes(lease->entries().front());
  // Work comes with each commit.
  if (own && lease) member.own_at = at;
  return own;
}

// Written down before it is used.
void TransactionLane::LearnName() {
  if (std::exchange(naming_, true)) return;
  if (name_.empty()) {
    base::Random random = base::Random::FromSystem();
    name_ = fmt::format("{}{:016x}", proxy::kAgentNames, random());
  }
  host_->Keep(std::string(kTransactionsKey), name_);
  host_->Flush([this] {
    UpstreamTransactions::Options options = options_.upstream;
    options.transactional_id = options.group = name_;
    upstream_ = std::make_unique<UpstreamTransactions>(
        UpstreamTransactions::Context{.loop = context_.loop,
                                      .spool = context_.spool,
                                      .tier = context_.tier,
                                      .cache = context_.cache},
        std::move(options), random_());
    Wake();
  });
}

// How long the tier remembers a producer: it may be changed while it runs, and the tier be another
// cluster. One that does not say is taken to have Kafka's default.
void TransactionLane::AskExpiration() {
  constexpr int8_t kBrokerResource = 4;
  if (context_.loop.Now() < ask_expiration_at_) return;
  const proxy::ClusterPtr cluster = context_.cache.cluster();
  const auto broker = std::ranges::find_if(
      cluster->brokers, [&](const auto& one) { return context_.tier.Ready(one.first); });
  if (broker == cluster->brokers.end()) return;
  ask_expiration_at_ = context_.loop.Now() + kAskExpirationEvery;
  kafka::DescribeConfigsRequest request;
  request.resources.push_back({.resource_type = kBrokerResource,
                               .resource_name = request.strings.Keep(std::to_string(broker->first)),
                               .configuration_keys = std::vector{kExpirationKey}});
  context_.tier.Call(broker->first, request,
                     [this](const base::Result<kafka::DescribeConfigsResponse>& response) {
                       if (!response) {
                         ask_expiration_at_ = {};
                         return;
                       }
                       for (const auto& result : response->results) {
                         for (const auto& config : result.configs) {
                           const std::string_view text = config.value.value_or("");
                           int64_t expiration_ms = 0;
                           std::from_chars(text.data(), text.data() + text.size(), expiration_ms);
                           if (config.name != kExpirationKey || expiration_ms <= 0) continue;
                           fresh_for_ms_ = expiration_ms / 2;
                           if (host_ != nullptr) host_->OnExpiration(expiration_ms);
                         }
                       }
                     });
}

// Of the members about whom that is not known. True if the question is out. What is held back can
// wait for it, but the transaction that is still open at the tier cannot.
bool TransactionLane::AskProgress() {
  std::vector<std::pair<UpstreamTransactions::Partition, uint32_t>> about;
  for (const auto& [id, member] : members_) {
    if (member.asked || about.size() == kAskedAtOnce) continue;
    if (!left_open_ && member.not_before > context_.loop.Now()) continue;
    about.push_back({{member.topic, member.partition}, id});
  }
  // After a round that failed this is done at once: it also ends what that left open at the tier,
  // even if there is nobody left to ask about.
  if (about.empty() && !left_open_) return false;
  if (attempts_ != 1 && context_.loop.Now() < not_before_) return false;
  std::ranges::sort(about);
  std::vector<UpstreamTransactions::Partition> partitions;
  std::vector<uint32_t> asked;
  for (auto& [partition, id] : about) {
    partitions.push_back(std::move(partition));
    asked.push_back(id);
  }
  upstream_->Ask(
      std::move(partitions),
      [this, asked = std::move(asked)](const base::Result<std::vector<TierProgress>>& progress) {
        OnProgress(asked, progress);
      });
  return true;
}

void TransactionLane::OnProgress(const std::vector<uint32_t>& asked,
                                 const base::Result<std::vector<TierProgress>>& progress) {
  // Some may have left meanwhile.
  if (!progress) {
    for (const uint32_t id : asked) {
      const auto member = members_.find(id);
      if (member != members_.end()) Trouble(member->second, progress.error().message, attempts_);
    }
    return Backoff();
  }
  left_open_ = false;
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto found = members_.find(asked[i]);
    if (found == members_.end()) continue;
    Member& member = found->second;
    const TierProgress& told = (*progress)[i];
    if (told.error != ErrorCode::kNone) {
      OnGuilty(member, told.error, "asking how far it has come in transactions");
      continue;
    }
    if (told.foreign) {
      OnForeignProgress(member, told.end);
      continue;
    }
    if (told.end > context_.spool.Range(member.stream).end) {
      HoldBack(member, Outcome::kParked,
               fmt::format("the tier has {} records of this agent for it, more than the "
                           "spool ever held: is there a copy of this spool?",
                           told.end));
      continue;
    }
    member.asked = true;
    if (told.end > member.at) Advance(member, told.end, told.tier_offset);
  }
  Wake();
}

void TransactionLane::OnForeignProgress(Member& member, int64_t end) {
  const std::string text =
      fmt::format("somebody else has committed position {} to the agent's group {}", end, name_);
  if (member.failures == 0) {
    base::Log(base::Event::kProgressNotOwn,
              {"transaction", StreamName(member.topic, member.partition)}, "{}", text);
  }
  HoldBack(member, Outcome::kParked, text);
}

// The leader of the member's partition, if the member can go on now.
int32_t TransactionLane::NodeFor(const Member& member, const proxy::Cluster& cluster) const {
  if (!member.asked || member.setting_aside || member.not_before > context_.loop.Now()) {
    return proxy::kNoNode;
  }
  const int32_t leader = cluster.LeaderOf(member.topic, member.partition);
  if (leader == proxy::kNoNode) context_.tier.RefreshMetadata(member.topic);
  return leader != proxy::kNoNode && context_.tier.Ready(leader) ? leader : proxy::kNoNode;
}

bool TransactionLane::IsTried(const Member& member, Turn turn) {
  return member.failures > 0 &&
         (turn == Turn::kFailed || (turn == Turn::kUnjudged && member.unjudged));
}

// From when on those that have failed of late may be tried, for all that concerns the others.
base::TimePoint TransactionLane::NoneTriedBefore() const {
  const bool any_well =
      std::ranges::any_of(members_, [](const auto& member) { return member.second.failures == 0; });
  return any_well ? none_tried_before_ : base::TimePoint();
}

bool TransactionLane::MayTry(Turn turn) const {
  if (turn == Turn::kWell) return true;
  const base::TimePoint now = context_.loop.Now();
  return now >= NoneTriedBefore() && std::ranges::any_of(members_, [&](const auto& member) {
           return IsTried(member.second, turn) && member.second.not_before <= now;
         });
}

void TransactionLane::Gather(Round& round) {
  const bool well = round.turn == Turn::kWell;
  std::vector<Member*> able;
  const proxy::ClusterPtr cluster = context_.cache.cluster();
  for (auto& [id, member] : members_) {
    // Those that are well may be needed for a transaction with one that is tried.
    const bool tried = IsTried(member, round.turn);
    if (!tried && member.failures > 0) continue;
    const int32_t node = NodeFor(member, *cluster);
    if (node == proxy::kNoNode) continue;
    // Somebody may have dropped records from the spool.
    member.at = std::max(member.at, context_.spool.Range(member.stream).start);
    if (tried || well) able.push_back(&member);
    round.parts[id] = {.stream = member.stream,
                       .topic = member.topic,
                       .partition = member.partition,
                       .node = node,
                       .begin = member.at,
                       .end = member.at,
                       .left_out = member.left_out,
                       .cuts = member.cuts};
  }
  // Another one begins each time, so that neither a long backlog nor somebody who fails keeps the
  // others waiting.
  uint32_t& first = well ? first_ : tried_first_;
  const auto turn = std::ranges::find_if(
      able, [&](const Member* member) { return member->stream.value() > first; });
  std::rotate(able.begin(), turn, able.end());
  if (!able.empty()) first = able.front()->stream.value();
  for (bool extended = true; extended && round.bytes < round.bytes_max;) {
    extended = false;
    for (Member* member : able) {
      if (Extend(round, *member)) {
        round.ordinary.push_back(member->stream);
        extended = true;
      } else {
        extended |= IncludeAt(round, *member);
      }
    }
    extended |= IncludeReached(round);
    extended &= well;
  }
  LookAgain(round);
}

// At those that are not in the round, or are held back since.
void TransactionLane::LookAgain(const Round& round) {
  const base::TimePoint now = context_.loop.Now();
  const base::TimePoint none_before = NoneTriedBefore();
  std::optional<base::TimePoint> again;
  for (auto& [id, member] : members_) {
    const base::TimePoint due =
        member.failures > 0 ? std::max(member.not_before, none_before) : member.not_before;
    const bool held_back = due > now;
    const bool waits = TellWait(round, member);
    if (!held_back && !waits && round.parts.contains(id)) continue;
    const base::TimePoint at = held_back ? due : now + kLookAgainAfter;
    again = std::min(again.value_or(at), at);
  }
  if (again) WakeAt(*again);
}

// For people, once it lasts, and every so often. True if it waits.
bool TransactionLane::TellWait(const Round& round, Member& member) {
  if (round.turn != Turn::kWell || member.failures > 0) return false;
  const base::TimePoint now = context_.loop.Now();
  if (member.waits_since && now - *member.waits_since < kTellWaitAfter) return true;
  std::string why = WaitOf(round, member);
  if (why.empty()) {
    member.waits_since.reset();
    return false;
  }
  if (std::exchange(member.waits_since, now)) {
    const bool told = std::exchange(member.wait_told, true);
    Trouble(member, std::move(why), told ? 0 : kAttemptsUntilWarning);
  }
  return true;
}

// Empty: it does not, or for what is said of the tier as a whole.
std::string TransactionLane::WaitOf(const Round& round, const Member& member) const {
  if (!member.asked || member.setting_aside ||
      member.at >= context_.spool.Range(member.stream).end) {
    return {};
  }
  const auto part = round.parts.find(member.stream.value());
  if (part == round.parts.end()) {
    const bool led =
        context_.cache.cluster()->LeaderOf(member.topic, member.partition) != proxy::kNoNode;
    return led ? "" : "the tier has no leader for this partition, or not the partition";
  }
  if (part->second.end > part->second.begin || round.bytes >= round.bytes_max) return {};
  const CommittedTransaction* transaction = Find(member.stream, member.at);
  if (transaction == nullptr) return {};
  for (const CommittedTransaction::Range& range : transaction->ranges) {
    const auto other = round.parts.find(range.stream.value());
    if (other != round.parts.end() && other->second.end >= range.begin) continue;
    return fmt::format("waits for {}, of its local transaction", NameOf(range.stream));
  }
  return {};
}

std::string TransactionLane::NameOf(spool::StreamId stream) const {
  if (const auto member = members_.find(stream.value()); member != members_.end()) {
    return StreamName(member->second.topic, member->second.partition);
  }
  for (const auto& [name, id] : context_.spool.Streams()) {
    if (id == stream) return name;
  }
  return {};
}

// By ordinary batches. True if there were any.
bool TransactionLane::Extend(Round& round, Member& member) {
  TransactionPart& part = round.parts.at(member.stream.value());
  const int64_t before = part.end;
  const int64_t limit = context_.spool.Range(member.stream).end;
  while (part.end < limit && round.bytes < round.bytes_max) {
    const auto lease = context_.spool.ReadSound(member.stream, part.end, kReadBytes);
    if (IsLost(lease, part.end)) {
      if (part.end == member.at) round.leaving.push_back(member.stream);
      break;
    }
    if (!lease) {
      HoldBack(member, Outcome::kParked, lease.error().message);
      break;
    }
    for (const spool::EntryView& entry : lease->entries()) {
      if (round.bytes >= round.bytes_max || entry.info.base_offset > part.end) break;
      if (OfLocalTransaction(entry)) return part.end > before;
      // What is left out is known here only.
      if (!Takes(entry) && member.left_out.empty()) {
        if (part.end == member.at) round.leaving.push_back(member.stream);
        return part.end > before;
      }
      part.end = entry.info.end_offset();
      round.bytes += entry.bytes.size();
      if (round.turn != Turn::kWell) return true;
    }
  }
  return part.end > before;
}

// The local transactions to which the round's parts have come, in the order of their commits: with
// each its streams come to the next. True if there were any.
bool TransactionLane::IncludeReached(Round& round) {
  std::set<uint64_t> reached;
  const auto reach = [&](const TransactionPart& part) {
    const auto begins = begins_.find(part.stream.value());
    if (begins == begins_.end()) return;
    const auto next = begins->second.upper_bound(part.end);
    if (next != begins->second.begin()) reached.insert(std::prev(next)->second);
  };
  for (const auto& [id, part] : round.parts) reach(part);
  bool any = false;
  while (!reached.empty() && round.bytes < round.bytes_max) {
    const CommittedTransaction& transaction =
        transactions_.at(reached.extract(reached.begin()).value());
    if (!Include(round, transaction)) continue;
    any = true;
    for (const CommittedTransaction::Range& range : transaction.ranges) {
      reach(round.parts.at(range.stream.value()));
    }
  }
  return any;
}

// The local transaction to which the member has come, while there is room for it.
bool TransactionLane::IncludeAt(Round& round, const Member& member) {
  if (round.bytes >= round.bytes_max) return false;
  const CommittedTransaction* next = Find(member.stream, round.parts.at(member.stream.value()).end);
  return next != nullptr && Include(round, *next);
}

// True if all streams of the transaction have come to it, and it is in the round now.
bool TransactionLane::Include(Round& round, const CommittedTransaction& transaction) {
  if (transaction.given_up) return false;
  bool of_turn = round.turn == Turn::kWell;
  for (const CommittedTransaction::Range& range : transaction.ranges) {
    const auto part = round.parts.find(range.stream.value());
    // Past the beginning only if somebody dropped records from the spool.
    if (part == round.parts.end() || part->second.end < range.begin ||
        part->second.end >= range.end) {
      return false;
    }
    if (!IsTried(members_.at(range.stream.value()), round.turn)) continue;
    if (part->second.end > part->second.begin) return false;
    of_turn = true;
  }
  if (!of_turn) return false;
  const std::optional<size_t> bytes = Measure(round, transaction);
  if (!bytes) {
    GiveUp(transaction.number, DropCause::kDamaged);
    return false;
  }
  round.bytes += *bytes;
  for (const CommittedTransaction::Range& range : transaction.ranges) {
    round.parts.at(range.stream.value()).end = range.end;
  }
  return !transaction.ranges.empty();
}

// What the transaction adds to the round. None: the spool has lost some of it.
std::optional<size_t> TransactionLane::Measure(const Round& round,
                                               const CommittedTransaction& transaction) {
  size_t bytes = 0;
  for (const CommittedTransaction::Range& range : transaction.ranges) {
    for (int64_t at = round.parts.at(range.stream.value()).end; at < range.end;) {
      const auto lease = context_.spool.ReadSound(range.stream, at, kReadBytes);
      if (IsLost(lease, at)) return std::nullopt;
      if (!lease) break;  // Run will say so.
      for (const spool::EntryView& entry : lease->entries()) {
        if (entry.info.base_offset > at) break;
        if (entry.info.base_offset < range.end) bytes += entry.bytes.size();
        at = entry.info.end_offset();
      }
    }
  }
  return bytes;
}

void TransactionLane::Leave(const std::vector<spool::StreamId>& streams) {
  for (const spool::StreamId stream : streams) {
    const auto member = members_.extract(stream.value());
    if (!member) continue;
    const Member& left = member.mapped();
    if (left.failures > 0) {
      has_left_[stream.value()] = {.failures = left.failures,
                                   .unjudged = left.unjudged,
                                   .not_before = left.not_before,
                                   .parked_at = left.parked ? left.at : -1};
    }
    host_->OnLeftLane(stream, left.asked);
  }
}

void TransactionLane::Run(Round round) {
  well_next_ = round.turn != Turn::kWell;
  round_began_ = context_.loop.Now();
  running_turn_ = round.turn;
  running_bytes_ = round.bytes;
  std::vector<TransactionPart> parts;
  for (auto& [id, part] : round.parts) parts.push_back(std::move(part));
  std::ranges::sort(
      parts, {}, [](const TransactionPart& part) { return std::tie(part.topic, part.partition); });
  for (const TransactionPart& part : parts) running_[part.stream.value()] = part.end;
  host_->MarkInLane(round.ordinary, [this, parts] {
    if (!stopped_) Send(parts);
  });
}

void TransactionLane::Send(const std::vector<TransactionPart>& parts) {
  upstream_->Run(parts, [this, parts](const TransactionResult& result) {
    running_.clear();
    if (result.committed) {
      OnCommitted(parts, result);
    } else {
      OnFailed(parts, result);
    }
  });
}

size_t& TransactionLane::BytesMax(Turn turn) {
  return turn == Turn::kWell ? well_bytes_max_ : tried_bytes_max_;
}

// The link may be too slow for as much before somebody's patience is over: half of it is tried.
void TransactionLane::ShrinkRounds() {
  size_t& bytes_max = BytesMax(running_turn_);
  bytes_max = std::max<size_t>(std::min(bytes_max, running_bytes_ / 2), 1);
}

// By little, since it costs as long as that patience to find out that it was too much.
void TransactionLane::GrowRounds() {
  size_t& bytes_max = BytesMax(running_turn_);
  if (running_bytes_ < bytes_max) return;
  bytes_max = std::min(options_.round_bytes_max, bytes_max + bytes_max / 4 + kGrowBytes);
}

void TransactionLane::OnCommitted(const std::vector<TransactionPart>& parts,
                                  const TransactionResult& result) {
  context_.metrics.upstream_transactions.With("committed").Add();
  attempts_ = 0;
  left_open_ = false;
  GrowRounds();
  for (size_t i = 0; i < parts.size(); ++i) {
    Advance(members_.at(parts[i].stream.value()), parts[i].end, result.tier_offsets[i]);
  }
  Finish();
  Wake();
}

// True: it is out of the way soon, and the next round goes without it.
bool TransactionLane::SetAside(Member& member, const RefusedBatch& batch) {
  member.setting_aside = true;
  const bool taken = host_->SetAsideRefused(
      member.stream, batch, [this, &member](TransactionHost::Remainder remainder) {
        member.setting_aside = false;
        member.left_out = std::move(remainder.left_out);
        member.cuts.insert(remainder.cuts.begin(), remainder.cuts.end());
        if (remainder.trouble.empty()) return Wake();
        HoldBack(member, Outcome::kRetry, std::move(remainder.trouble));
        Wake();
      });
  if (!taken) member.setting_aside = false;
  return taken;
}

void TransactionLane::OnFailed(const std::vector<TransactionPart>& parts,
                               const TransactionResult& result) {
  context_.metrics.upstream_transactions.With("failed").Add();
  left_open_ = true;
  const bool lost = result.error == ErrorCode::kNetworkException;
  const bool late = result.error == ErrorCode::kRequestTimedOut;
  if (lost || late || result.guilty.empty()) ShrinkRounds();
  for (const TransactionPart& part : parts) {
    Member& member = members_.at(part.stream.value());
    member.asked = false;
    if (!result.guilty.empty()) {
      member.unjudged = member.failures > 0;
      continue;
    }
    Trouble(member, fmt::format("{}: {}", result.trouble, kafka::ErrorName(result.error)),
            attempts_);
  }
  if (result.guilty.empty()) {
    context_.tier.RefreshMetadata({});
    return Backoff();
  }
  if (lost) {
    HoldBackOn(parts[result.guilty.front().part].node, result.trouble);
  }
  for (const TransactionResult::Guilty& guilty : result.guilty) {
    Member& member = members_.at(parts[guilty.part].stream.value());
    if (guilty.error == ErrorCode::kNetworkException) continue;
    if (!guilty.refused || !SetAside(member, *guilty.refused)) {
      OnGuilty(member, guilty.error, result.trouble);
    } else {
      context_.metrics.forward_errors.With(kafka::ErrorName(guilty.error)).Add();
    }
  }
  // The others need not wait.
  attempts_ = 0;
  well_next_ = true;
  const base::TimePoint now = context_.loop.Now();
  none_tried_before_ = now + (now - round_began_);
  Wake();
}

void TransactionLane::OnGuilty(Member& member, ErrorCode error, std::string_view doing) {
  const std::string_view name = kafka::ErrorName(error);
  context_.metrics.forward_errors.With(name).Add();
  HoldBack(member, OutcomeOf(error), fmt::format("{}: {}", doing, name));
  context_.tier.RefreshMetadata(member.topic);
}

// A broker that has not answered, or is gone, has not for whoever would have been next.
void TransactionLane::HoldBackOn(int32_t node, const std::string& trouble) {
  context_.metrics.forward_errors.With("lost answer").Add();
  const proxy::ClusterPtr cluster = context_.cache.cluster();
  for (auto& [id, member] : members_) {
    if (cluster->LeaderOf(member.topic, member.partition) != node) continue;
    if (member.parked) {
      member.not_before = context_.loop.Now() + options_.park_retry;
    } else {
      HoldBack(member, Outcome::kRetry, trouble);
    }
  }
  context_.tier.RefreshMetadata({});
}

void TransactionLane::HoldBack(Member& member, Outcome outcome, std::string trouble) {
  member.unjudged = false;
  member.parked = outcome == Outcome::kRefused || outcome == Outcome::kParked;
  Trouble(member, std::move(trouble), member.failures);
  const base::Duration growing =
      proxy::Backoff(options_.backoff_min, options_.backoff_max, member.failures++, random_);
  member.not_before = context_.loop.Now() + (member.parked ? options_.park_retry : growing);
}

void TransactionLane::Advance(Member& member, int64_t end, int64_t tier_offset) {
  member.at = end;
  member.failures = 0;
  member.unjudged = false;
  member.waits_since.reset();
  member.wait_told = false;
  std::erase_if(member.left_out, [end](const LeftOut& range) { return range.end <= end; });
  member.cuts.erase(member.cuts.begin(), member.cuts.upper_bound(end));
  member.parked = false;
  if (std::exchange(member.troubled, false)) {
    host_->OnLaneTrouble(member.stream, {}, /*parked=*/false);
  }
  host_->OnTransacted(member.stream, end, tier_offset);
  if (const auto begins = begins_.find(member.stream.value()); begins != begins_.end()) {
    if (Finish(begins->second, member.stream, end)) begins_.erase(begins);
  }
}

// Forgets the transactions of which nothing is left to be delivered, whoever moved the streams. Of
// each stream only the first ones are looked at: very many may wait behind them.
void TransactionLane::Finish() {
  for (auto at = begins_.begin(); at != begins_.end();) {
    const spool::StreamId stream(at->first);
    const bool all = Finish(at->second, stream, context_.spool.Range(stream).start);
    at = all ? begins_.erase(at) : std::next(at);
  }
  for (std::string& key : std::exchange(finished_, {})) host_->Forget(std::move(key));
  context_.metrics.undelivered_transactions.Set(static_cast<double>(transactions_.size()));
}

// What the stream has below `end`. True if nothing else waits in it.
bool TransactionLane::Finish(std::map<int64_t, uint64_t>& begins, spool::StreamId stream,
                             int64_t end) {
  while (!begins.empty()) {
    const auto first = begins.begin();
    const auto transaction = transactions_.find(first->second);
    std::vector<CommittedTransaction::Range>& ranges = transaction->second.ranges;
    const auto range = std::ranges::find(ranges, stream, &CommittedTransaction::Range::stream);
    if (range->end > end) return false;
    begins.erase(first);
    ranges.erase(range);
    --waiting_partitions_;
    if (!ranges.empty()) continue;
    finished_.push_back(transaction->second.Key());
    given_up_.erase(transaction->first);
    transactions_.erase(transaction);
  }
  return true;
}

void TransactionLane::Backoff() {
  const base::Duration wait =
      proxy::Backoff(options_.backoff_min, options_.backoff_max, attempts_++, random_);
  not_before_ = context_.loop.Now() + wait;
  WakeAt(not_before_);
  Wake();
}

void TransactionLane::Trouble(Member& member, std::string text, uint32_t attempts) {
  // The host says what is parked.
  if (attempts == kAttemptsUntilWarning && !member.parked)
    base::Log(base::Event::kTransactionDelayed,
              {"transaction", StreamName(member.topic, member.partition)}, "{}", text);
  else if (base::LogEnabled(base::LogLevel::kDebug, "transaction"))
    base::Log(base::LogLevel::kDebug, {"transaction", StreamName(member.topic, member.partition)},
              "{}", text);
  member.troubled = true;
  host_->OnLaneTrouble(member.stream, std::move(text), member.parked);
}

}  // namespace holdfast::agent
