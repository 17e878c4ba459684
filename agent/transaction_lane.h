// Delivers what goes to the tier in transactions: local transactions, each whole and at once, and
// the ordinary batches of topics whose delivery is `transactional` (or `auto`, and old).
//
// The forwarder hands a stream over when the next batch is one of these and nothing of the stream
// is in flight any more; the lane gives it back when another kind of batch is next. In between it
// works in rounds: what the streams at hand have, up to Options::round_bytes_max, becomes one
// upstream transaction. A local transaction is part of a round when all its streams have come to
// it, and as a whole or not at all; transactions are committed to the spool in one order for all
// streams, so none waits for ever on another.
//
// Ordinary batches may go another way after a restart, if the mode is another then. So the host
// marks their stream before the first of them goes, until the tier has said what it has; a stream
// with a mark comes here first, whatever is next in it.
//
// A local transaction that has become too old, must make room, or of which the spool has lost a
// record, is given up as a whole: that is written down before the first of its streams moves past
// it. What else the spool has lost is the host's: it gets the stream back.
//
// What the tier says of progress that no agent has committed is not believed: the stream waits for
// a person, since records may be lost by it, or doubled.
//
// Records that the tier refuses for good are left out, if the host sets them aside, and the rest of
// their transaction is delivered as one; or all of it waits.
//
// Ownership: the context outlives it, but for the tier, which goes first; the host is told by
//   SetHost and outlives it.
// Threads: the loop.
// Shutdown: Stop, then destroy.
// Limits: one round at a time. A stream that the tier has something against fails the round it is
//   in, and keeps from the next ones itself and those that share a local transaction with it: for
//   a time that grows from backoff_min to backoff_max, or for park_retry if it needs a person, also
//   if it leaves and comes back meanwhile. A broker that does not answer holds back all streams
//   that it leads. Until it gets through it is tried in rounds that are for
//   such streams only, with one batch or local transaction of each, in turns with the others'
//   rounds. If such a round fails, those that were not the reason are tried again without the rest,
//   and not before as much time has passed as the failure took, if others can use it: it can take
//   long. After a round that failed as a whole, or for want of an answer, the next has half as much
//   at most, down to one batch or local transaction, and more again as rounds get through.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/forward_state.h"
#include "agent/refused_batch.h"
#include "agent/tier_transactions.h"
#include "agent/transaction_state.h"
#include "agent/upstream_transaction.h"
#include "base/executor.h"
#include "base/random.h"
#include "base/unique_function.h"
#include "metrics/catalogue.h"
#include "proxy/metadata_cache.h"
#include "proxy/tier.h"
#include "spool/spool.h"

namespace holdfast::agent {

enum class DeliveryMode : uint8_t {
  kIdempotent,     // The tier recognises repeats by the agent's producer id.
  kTransactional,  // Progress is kept in the tier, in the same transaction.
  kAuto,           // Transactional for records of which the tier may forget the producer.
};

// Whose streams they are: the forwarder.
class TransactionHost {
 public:
  virtual ~TransactionHost() = default;
  // Records below `end` are at the tier; what comes next there stands at `tier_offset`, if known.
  virtual void OnTransacted(spool::StreamId stream, int64_t end, int64_t tier_offset) = 0;
  // The stream's next batch goes the ordinary way. Settled: the tier has said how much it has of
  // what went in transactions, and nothing has gone since.
  virtual void OnLeftLane(spool::StreamId stream, bool settled) = 0;
  // Of these streams ordinary batches are about to go in a transaction, as soon as it is durable
  // that they may have: then `done` runs.
  virtual void MarkInLane(const std::vector<spool::StreamId>& streams, base::Task done) = 0;
  // It is durable that this one will not be delivered.
  virtual void OnGivenUp(const CommittedTransaction& transaction) = 0;
  // The tier refuses this batch for good. What of it can never be delivered is set aside, durably;
  // then `done` says what remains. False: the stream is to wait.
  struct Remainder {
    std::vector<LeftOut> left_out;  // All of the stream's.
    std::vector<int64_t> cuts;      // Where the rest of the batch is cut.
    std::string trouble;            // Why it is not all set aside, if so: it is tried again later.
  };
  using OnRemainder = base::UniqueFunction<void(Remainder)>;
  virtual bool SetAsideRefused(spool::StreamId stream, const RefusedBatch& batch,
                               OnRemainder done) = 0;
  // For people; empty: none any more. Parked: the stream is tried again rarely, until somebody
  // changes something.
  virtual void OnLaneTrouble(spool::StreamId stream, std::string trouble, bool parked) = 0;
  // So long after its newest batch the tier forgets a producer, as it said.
  virtual void OnExpiration(int64_t expiration_ms) = 0;
  // In the spool's state, some time soon; Flush runs its task when it is durable.
  virtual void Keep(std::string key, std::string value) = 0;
  virtual void Forget(std::string key) = 0;
  virtual void Flush(base::Task done) = 0;
};

class TransactionLane {
 public:
  struct Options {
    DeliveryMode mode = DeliveryMode::kIdempotent;
    // Of kAuto: records that are older than this go in transactions. Half of what the tier says of
    // its producer.id.expiration.ms, once it was asked; the host hears of that in any mode.
    std::chrono::milliseconds fresh_for = std::chrono::hours(12);
    size_t round_bytes_max = size_t{4} << 20;
    base::Duration backoff_min = std::chrono::milliseconds(100);
    base::Duration backoff_max = std::chrono::seconds(10);
    base::Duration park_retry = std::chrono::seconds(30);
    UpstreamTransactions::Options upstream;  // Names are filled in.
  };
  struct Context {
    base::Executor& loop;
    spool::Spool& spool;
    proxy::Tier& tier;
    proxy::MetadataCache& cache;
    metrics::AgentMetrics& metrics;
  };

  TransactionLane(const Context& context, Options options, KeptTransactions kept, uint64_t seed);
  ~TransactionLane();
  TransactionLane(const TransactionLane&) = delete;
  TransactionLane& operator=(const TransactionLane&) = delete;

  void SetHost(TransactionHost* host) { host_ = host; }
  // Before Stop, so that the tier has no transaction open afterwards, behind which nobody could
  // read before it is too old: no more rounds are begun, and `done` runs when the one that is out
  // is over; or, after Abort, when the tier has ended it.
  void Rest(base::Task done);
  void Abort();
  // Asks nothing more of the tier.
  void Stop();

  // Whether this batch goes in a transaction.
  [[nodiscard]] bool Takes(const spool::EntryView& entry);
  // The stream is the lane's from here on; everything below `at` is at the tier, durably noted, and
  // nothing from there on is in flight. What is left out is passed over.
  void Enter(spool::StreamId stream, std::string topic, int32_t partition, int64_t at,
             std::vector<LeftOut> left_out);
  // A local transaction is in the spool, durably.
  void Add(CommittedTransaction transaction);
  // How many partitions the local transactions have together that are not at the tier: each takes
  // memory, and its place in the spool's state.
  [[nodiscard]] size_t waiting_partitions() const { return waiting_partitions_; }
  // The local transaction whose records begin there in the stream, if there is one.
  [[nodiscard]] const CommittedTransaction* Find(spool::StreamId stream, int64_t begin) const;
  // The first one whose records begin there or later.
  [[nodiscard]] const CommittedTransaction* Next(spool::StreamId stream, int64_t from) const;
  // It is not to be delivered; the host hears when that is durable, and then moves its streams past
  // it, each when it comes to it. False: it is on its way to the tier, or was given up before.
  bool GiveUp(uint64_t number, DropCause cause);
  // The same as Find, of those that are to be passed over.
  [[nodiscard]] const CommittedTransaction* GivenUp(spool::StreamId stream, int64_t begin) const;
  // The host wants the stream back, and gets it by OnLeftLane. False: something of it is on its
  // way.
  bool Release(spool::StreamId stream);
  // Tries the stream now, whatever it is held back for, or as soon as it is back.
  void Retry(spool::StreamId stream);
  // See TransactionHost::OnLeftLane.
  [[nodiscard]] bool IsSettled(spool::StreamId stream) const;
  // Begins no round while it is held, but asks, and gives back what is not its own.
  void Hold(bool held);
  // Something may have changed: entries, nodes, leaders.
  void Wake();

 private:
  struct Member {
    spool::StreamId stream;
    std::string topic;
    int32_t partition = 0;
    int64_t at = 0;       // The first record that is not known to be at the tier.
    int64_t own_at = -1;  // What comes next there was seen to go here.
    bool asked = false;   // And the tier's own word on that was heard.
    bool troubled = false;
    bool parked = false;  // By the last thing that the tier said to it alone.
    bool released = false;
    bool setting_aside = false;
    std::vector<LeftOut> left_out;
    std::set<int64_t> cuts;
    uint32_t failures = 0;  // In a row, that were its own.
    bool unjudged = false;  // The last round that it was tried in failed for others.
    base::TimePoint not_before;
    // For others, or for a leader; or when that was last told.
    std::optional<base::TimePoint> waits_since;
    bool wait_told = false;
  };
  // What is kept of a member that has left, and may be back soon.
  struct Failed {
    uint32_t failures = 0;
    bool unjudged = false;
    base::TimePoint not_before;
    int64_t parked_at = -1;  // Where it was parked, if so.
  };
  // Whose round it is: theirs that have not failed of late, or of those that have, theirs that are
  // unjudged, or all.
  enum class Turn : uint8_t { kWell, kUnjudged, kFailed };
  // A round in the making.
  struct Round;

  void Work();
  [[nodiscard]] bool IsOut() const;
  void LearnName();
  void AskExpiration();
  bool AskProgress();
  void OnProgress(const std::vector<uint32_t>& asked,
                  const base::Result<std::vector<TierProgress>>& progress);
  void OnForeignProgress(Member& member, int64_t end);
  [[nodiscard]] static bool IsTried(const Member& member, Turn turn);
  [[nodiscard]] base::TimePoint NoneTriedBefore() const;
  [[nodiscard]] bool MayTry(Turn turn) const;
  void Gather(Round& round);
  void LookAgain(const Round& round);
  bool TellWait(const Round& round, Member& member);
  [[nodiscard]] std::string WaitOf(const Round& round, const Member& member) const;
  [[nodiscard]] std::string NameOf(spool::StreamId stream) const;
  bool Extend(Round& round, Member& member);
  bool IncludeReached(Round& round);
  bool IncludeAt(Round& round, const Member& member);
  bool Include(Round& round, const CommittedTransaction& transaction);
  [[nodiscard]] std::optional<size_t> Measure(const Round& round,
                                              const CommittedTransaction& transaction);
  void LetGo();
  void LetGoWhileHeld();
  [[nodiscard]] bool IsOwn(Member& member);
  void Leave(const std::vector<spool::StreamId>& streams);
  void Run(Round round);
  void Send(const std::vector<TransactionPart>& parts);
  void OnCommitted(const std::vector<TransactionPart>& parts, const TransactionResult& result);
  bool SetAside(Member& member, const RefusedBatch& batch);
  void OnFailed(const std::vector<TransactionPart>& parts, const TransactionResult& result);
  [[nodiscard]] size_t& BytesMax(Turn turn);
  void ShrinkRounds();
  void GrowRounds();
  void OnGuilty(Member& member, kafka::ErrorCode error, std::string_view doing);
  void HoldBackOn(int32_t node, const std::string& trouble);
  void HoldBack(Member& member, Outcome outcome, std::string trouble);
  void Advance(Member& member, int64_t end, int64_t tier_offset);
  void Finish();
  bool Finish(std::map<int64_t, uint64_t>& begins, spool::StreamId stream, int64_t end);
  void Backoff();
  void WakeAt(base::TimePoint when);
  void Trouble(Member& member, std::string text, uint32_t attempts);
  [[nodiscard]] int32_t NodeFor(const Member& member, const proxy::Cluster& cluster) const;

  const Context context_;
  const Options options_;
  base::Random random_;
  TransactionHost* host_ = nullptr;
  std::string name_;
  bool naming_ = false;
  std::unique_ptr<UpstreamTransactions> upstream_;  // Once the name is durable.

  std::map<uint32_t, Member> members_;             // By stream id.
  std::unordered_map<uint32_t, Failed> has_left_;  // The same.
  std::map<uint64_t, CommittedTransaction> transactions_;
  // Where a transaction's records begin, by stream.
  std::unordered_map<uint32_t, std::map<int64_t, uint64_t>> begins_;
  size_t waiting_partitions_ = 0;        // The sum of their ranges.
  std::vector<std::string> finished_;    // Keys of those of which nothing is left, to be forgotten.
  std::set<uint64_t> given_up_;          // Those of which that is durable.
  std::map<uint32_t, int64_t> running_;  // To where the round that is out takes each stream.
  Turn running_turn_ = Turn::kWell;
  size_t running_bytes_ = 0;
  // Of rounds of those that are well, and of the others'.
  size_t well_bytes_max_;
  size_t tried_bytes_max_;
  // Who was looked at first, of each.
  uint32_t first_ = 0;
  uint32_t tried_first_ = 0;

  TierTransactions tier_ = TierTransactions::kUnknown;
  uint64_t tier_version_ = 0;
  int64_t fresh_for_ms_;
  base::TimePoint ask_expiration_at_;
  bool left_open_ = false;  // By a round that failed, perhaps: the next question ends it.
  uint32_t attempts_ = 0;   // Rounds in a row that failed, and not for single streams.
  bool well_next_ = true;   // Whose turn it is first.
  base::TimePoint round_began_;
  base::TimePoint none_tried_before_;  // Of those that have failed of late.
  base::TimePoint not_before_;
  base::Timer timer_;
  bool posted_ = false;
  bool held_ = false;
  bool rests_ = false;
  base::Task rested_;  // None: it was told, or need not be.
  bool stopped_ = false;
  std::shared_ptr<TransactionLane*> self_;  // Null in it once this is gone.
};

}  // namespace holdfast::agent
