// Delivers what the spool holds to the tier: each stream in order and once, all streams fairly.
//
// A stream goes through few states. It *sends* (up to kWindow batches in flight) until a batch is
// not confirmed; then it *drains*: nothing more is sent until the answers that are out have come.
// If it is certain that nothing of what failed was stored, the same bytes are sent again after a
// backoff; if it is not, the tier is asked first (agent/reconciler.h). What each answer means
// stands in agent/delivery_outcome.h. A stream's trouble delays that stream alone.
//
// Duplicates are kept away by the tier, which knows the last batches of a producer id by their
// sequence numbers; ours follow from a record's place in its stream (agent/forward_state.h), so a
// batch that is sent again is recognised, also after a restart of the agent.
//
// What goes in transactions goes through the lane (agent/transaction_lane.h), which takes a stream
// over while nothing of it is in flight.
//
// Ownership: everything in the context outlives it, but the tier's callbacks must not come after
//   its end: the tier goes first.
// Threads: the loop, but NoteDurable and GetStatus.
// Shutdown: Stop, then Flush, then destroy.
// Limits: Options names each.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/dead_letter.h"
#include "agent/delivery_journal.h"
#include "agent/delivery_outcome.h"
#include "agent/drain_order.h"
#include "agent/forward_log.h"
#include "agent/forward_state.h"
#include "agent/ledger.h"
#include "agent/left.h"
#include "agent/rate_limits.h"
#include "agent/reconciler.h"
#include "agent/record_log.h"
#include "agent/refused_batch.h"
#include "agent/schedule.h"
#include "agent/transaction_lane.h"
#include "agent/waiting_acks.h"
#include "base/mutex.h"
#include "base/random.h"
#include "proxy/metadata_cache.h"
#include "proxy/tier.h"

namespace holdfast::kafka {
struct ProduceResponse;
}

namespace holdfast::agent {

class Forwarder final : public proxy::TierObserver, public TransactionHost {
 public:
  struct Options {
    size_t request_bytes_max = size_t{1} << 20;
    size_t requests_in_flight_max = 5;  // Per broker.
    base::Duration produce_timeout = std::chrono::seconds(15);
    base::Duration backoff_min = std::chrono::milliseconds(100);
    base::Duration backoff_max = std::chrono::seconds(10);
    base::Duration park_retry = std::chrono::seconds(30);
    base::Duration record_interval = std::chrono::milliseconds(100);
    DeadLetterPolicy dead_letters = DeadLetterPolicy::kSpool;
    std::string dead_letter_topic;  // Of kTopic.
    // Nothing is delivered, nor given up, before the tier has said that it is this one (see
    // ClusterTag). None: it may be any.
    std::optional<uint32_t> cluster_tag;
    // Why nothing is delivered, nor given up, whatever the tier says. Empty: it is.
    std::string withheld;
    uint64_t bytes_per_second_max = 0;  // To the tier, on average; 0: no limit.
    Schedule schedule;                  // When anything goes there.
    bool high_priority_always = false;  // Whatever the schedule says.
    // The tier may forget the producer of records that are twice as old as this, or sooner if it
    // says so.
    std::chrono::milliseconds fresh_for = std::chrono::hours(12);
    size_t journal_bytes_max = size_t{256} << 10;  // See agent/delivery_journal.h.
  };
  struct Context {
    base::Executor& loop;
    spool::Spool& spool;
    proxy::Tier& tier;
    proxy::MetadataCache& cache;
    metrics::AgentMetrics& metrics;
    RecordLog* records = nullptr;     // Whose accounts are released.
    WaitingAcks* acks = nullptr;      // Who waits for the tier.
    TransactionLane* lane = nullptr;  // None: nothing goes in transactions.
  };
  // For people.
  struct StreamStatus {
    std::string name;
    int64_t backlog_records = 0;
    int64_t oldest_ms = 0;  // When its first undelivered record was spooled.
    std::string trouble;    // Empty if there is none.
  };
  struct Status {
    size_t streams = 0;
    int64_t backlog_records = 0;
    int64_t oldest_ms = 0;
    std::vector<StreamStatus> worst;  // With the oldest backlogs, at most kWorstShown.
    size_t parked_streams = 0;
    std::vector<StreamStatus>
        parked;  // Held until somebody changes something; at most kWorstShown.
    Schedule::State schedule;
    std::optional<int64_t> schedule_changes_ms;
  };
  static constexpr size_t kWorstShown = 20;
  // As many as a tier recognises when they are repeated.
  static constexpr size_t kWindow = 5;

  Forwarder(Context context, const Options& options, const KeptState& kept, uint64_t seed);
  ~Forwarder() override;

  // Takes up the streams that the spool holds.
  void Start();
  // These streams have new entries. From any thread.
  void NoteDurable(std::span<const spool::StreamId> streams);
  // Sends no more.
  void Stop();
  // Runs once nothing waits but what the schedule keeps here.
  void WhenSent(base::Task done);
  // Whether the tier is the one that it has to be, and this may deliver there.
  [[nodiscard]] bool KnowsTier() const {
    return options_.withheld.empty() && (!options_.cluster_tag || tier_is_known_);
  }
  // Records that wait.
  int64_t Backlog();
  // Of these, those that the schedule keeps here for now.
  int64_t HeldBacklog();
  // The streams that have some, and where these end.
  std::vector<StreamEnd> Waiting();
  // Those of them up to whose ends not all is delivered, or given up.
  std::vector<StreamEnd> Undelivered(std::vector<StreamEnd> ends);
  // The same with all that is known of them here: all but bytes.
  Left WhatIsLeft();
  // All that the journal has goes with the next Flush: the last one is near. So do the marks of
  // streams of which the tier has said what went in transactions.
  void CloseJournal();
  // Writes down how far delivery has come, then runs `done`.
  void Flush(base::Task done) override { log_.Flush(std::move(done)); }
  // Up to a second old. From any thread.
  [[nodiscard]] Status GetStatus();
  // Tries a parked stream now, or all of them if `name` is empty. False: none such was parked, as
  // of GetStatus. From any thread.
  bool Resume(const std::string& name);
  [[nodiscard]] std::shared_ptr<const Ledger> GetLedger();
  // Deliveries that are not in the spool yet, as a block of the journal. From any thread.
  [[nodiscard]] std::string UnwrittenDeliveries() const { return journal_.Unwritten(); }
  // From any thread.
  void SetPolicies(PoliciesPtr policies);
  void SetRate(uint64_t bytes_per_second_max);
  void SetSchedule(Schedule schedule, bool high_priority_always);
  // Gives up the oldest of a topic, or, with an empty name, of all topics that allow it. From any
  // thread.
  void DropOldest(std::string topic, uint64_t bytes);
  // Keeps a value in the spool's state, some time soon.
  void Keep(std::string key, std::string value) override {
    log_.Note(std::move(key), std::move(value));
  }
  void Forget(std::string key) override { log_.Note(std::move(key), std::nullopt); }

  void OnNodeReady(int32_t node) override;
  void OnNodeLost(int32_t node) override;
  void OnMetadata() override;

  void OnTransacted(spool::StreamId id, int64_t end, int64_t tier_offset) override;
  void OnLeftLane(spool::StreamId id, bool settled) override;
  void MarkInLane(const std::vector<spool::StreamId>& ids, base::Task done) override;
  void OnGivenUp(const CommittedTransaction& transaction) override;
  bool SetAsideRefused(spool::StreamId id, const RefusedBatch& batch, OnRemainder done) override;
  void OnLaneTrouble(spool::StreamId id, std::string trouble, bool parked) override;
  void OnExpiration(int64_t expiration_ms) override;

 private:
  // One batch on its way.
  struct Flight {
    int64_t base = 0;
    int64_t end = 0;
    size_t bytes = 0;
    OwnerId owner = 0;
    bool whole = false;  // An entry as it is, rather than a piece of one.
    int64_t commit_ms = 0;
    int64_t sent_ms = 0;
    int64_t max_timestamp_ms = -1;
    bool answered = false;
    Outcome outcome = Outcome::kDelivered;
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
    bool lost = false;  // There was no answer.
    int64_t tier_offset = -1;
    std::string message;           // With an error, if there is more to say.
    std::vector<int32_t> refused;  // Which records it is about, if the tier named some; ascending.
  };
  enum class Phase : uint8_t {
    kReady,
    kAwaitingRecord,
    kReconciling,
    kSettingAside,
    kBackoff,
    kParked,
    kInLane,  // Of transactions.
  };
  // A batch that the tier answered with UNKNOWN_SERVER_ERROR.
  struct Unexplained {
    int64_t begin = -1;
    int64_t end = -1;
    uint32_t refusals = 0;  // How often the tier said then that it does not have it.
    bool asked = false;     // Since the last answer it has not said yet.
  };
  struct Stream {
    spool::StreamId id;
    std::string topic;
    int32_t partition = 0;

    ForwardRecord record;
    int64_t end = 0;          // Of what is durable in the spool.
    int64_t next = 0;         // To be sent.
    int64_t rewind = 0;       // Where sending begins again after trouble.
    int64_t tried = 0;        // Batches below it may have been sent outside of transactions.
    int64_t recognised = -1;  // Batches below it are repeats: the tier said that it has them.
    int64_t late = 0;         // Such requests with batches below it may still be on their way.

    Phase phase = Phase::kReady;
    bool taken_up = false;        // With a backlog at the start, and nothing was sent since.
    bool queued = false;          // In its lane.
    bool doubt = false;           // Something from `rewind` on may be at the tier.
    bool read_back = false;       // The tier's memory does not help against the doubt.
    bool overtaken = false;       // It may be there without what came before it.
    bool new_epoch = false;       // The identity may not be used any more.
    bool epoch_refused = false;   // The tier said so.
    bool epoch_unusable = false;  // The tier refused it, or its sequence: not to go on with.
    bool no_leader = false;       // Why it is in kBackoff.
    bool failed = false;          // One of the flights: the rest is drained.
    bool gap = false;       // What was dropped right below the cursor may be missing at the tier.
    bool for_lane = false;  // So is what comes next, once the flights are answered.
    bool lane_parked = false;  // What comes next, while it is in the lane.
    // Under kInLanePrefix. If it is there, the lane is to ask the tier before anything else goes.
    std::optional<uint32_t> in_lane;
    int32_t node = proxy::kNoNode;  // Where the flights went.
    std::deque<Flight> flights;
    std::deque<Piece> pieces;  // Of a batch that was refused whole; from the confirmed end on.
    std::vector<LeftOut> left_out;
    int64_t at_leader = -1;  // The tier's leader has everything below, as it said.
    uint32_t attempts = 0;   // In a row, without progress.
    Unexplained unexplained;
    int64_t newest_ms = -1;  // Of the batch confirmed last, by its own time; -1: of none.
    std::string trouble;
    Delivery ahead;             // What went wrong since the last progress.
    std::string trouble_noted;  // In the spool's state.
    TopicPolicy policy;
    Drops drops;
    base::Timer timer;
    int64_t oldest_ms = 0;  // When the entry at `oldest_of` was spooled.
    int64_t oldest_of = -1;
    int64_t measured_backlog = -1;  // By Measure, the last time; -1: not yet.
    double drain_per_second = 0;    // Smoothed.
  };
  // What goes to one broker.
  struct Lane {
    DrainOrder<Stream> ready;
    size_t requests = 0;
    bool pump_posted = false;
    base::TimePoint throttled_until;
    base::Timer throttle;
  };
  // A batch that is about to be sent, and one that was.
  struct Outgoing {
    Stream* stream = nullptr;
    spool::Lease lease;
    int64_t base = 0;
    int64_t end = 0;
    std::string part = {};  // In place of the entry, if it is not all of it.

    [[nodiscard]] const spool::EntryView& entry() const { return lease.entries().front(); }
    [[nodiscard]] std::string_view bytes() const { return part.empty() ? entry().bytes : part; }
  };
  struct Sent {
    Stream* stream = nullptr;
    int64_t base = 0;
  };

  // forwarder.cc: what a stream does next.
  void Add(spool::StreamId id, std::string_view name);
  void AddNameless(spool::StreamId id, std::string_view name);
  void TakeNews();
  void Step(Stream& stream);
  void StepAll();
  [[nodiscard]] bool GoesInLane(const Stream& stream, const spool::EntryView& next) const;
  [[nodiscard]] bool IsMarkedInVain(const Stream& stream);
  void TellUnknowable(const Stream& stream);
  void DropMark(Stream& stream);
  void TakeBackMarked();
  void EnterLane(Stream& stream);
  [[nodiscard]] bool ToOtherCluster(const Stream& stream);
  [[nodiscard]] bool HaveProducer();
  void AskProducer();
  void AskProducerLater(std::string_view why);
  void TakeProducer(const UpstreamProducer& producer);
  // `flight`: the one that this confirms, if it was one.
  void Confirm(Stream& stream, int64_t end, int64_t tier_offset, const Flight* flight = nullptr);
  [[nodiscard]] bool IsFresh(int64_t timestamp_ms) const;
  [[nodiscard]] size_t Window(const Stream& stream) const;
  [[nodiscard]] const proxy::Cluster& CurrentCluster();

  // forward_requests.cc: requests and answers.
  void Enqueue(Stream& stream, int32_t node);
  void PostPump(int32_t node);
  void Pump(int32_t node);
  [[nodiscard]] base::Duration UplinkWait();
  [[nodiscard]] uint64_t Rate() const;
  [[nodiscard]] bool Held(const Stream& stream) const;
  [[nodiscard]] bool HeldInLane(const Stream& stream) const;
  void FollowSchedule();
  [[nodiscard]] size_t RequestBytesMax() const;
  bool SendOne(int32_t node, Lane& lane);
  std::vector<Outgoing> Gather(int32_t node, Lane& lane);
  [[nodiscard]] base::Result<base::Buffer> Encode(int16_t version,
                                                  const std::vector<Outgoing>& gathered) const;
  void OnAnswer(int32_t node, std::vector<Sent> sent, size_t bytes, base::TimePoint begun,
                const base::Result<kafka::ProduceResponse>& response);
  void Settle(Stream& stream, int64_t base, TierAnswer answer);
  [[nodiscard]] base::Result<Outgoing> TakeOne(Stream& stream);
  void OnUnreadable(Stream& stream, const base::Error& error);

  // forward_recovery.cc: what follows when a batch was not confirmed.
  void Recover(Stream& stream);
  [[nodiscard]] bool RepeatsBlindly(const Stream& stream);
  void Renew(Stream& stream);
  void BeginAtCursor(Stream& stream);
  void AwaitRecord(Stream& stream);
  void Backoff(Stream& stream, std::string trouble);
  void Park(Stream& stream, std::string trouble);
  void TellParked(Stream& stream);
  void NoteTrouble(Stream& stream, bool parked);
  void Reconcile(Stream& stream);
  void OnFinding(Stream& stream, const Finding& finding);
  void ResumeAt(Stream& stream, int64_t end);
  [[nodiscard]] Doubt DoubtOf(const Stream& stream);
  [[nodiscard]] bool MadeAnew(const Stream& stream);
  [[nodiscard]] kafka::Uuid TierId(const Stream& stream);
  void TakeTopicId(Stream& stream);

  // forward_refused.cc: what is refused for good.
  void Refuse(Stream& stream, const RefusedBatch& batch, const std::string& trouble);
  static void NoteUnexplained(Stream& stream, const Flight& flight);
  [[nodiscard]] static bool IsToBeJudged(Stream& stream, const Finding& finding);
  void JudgeUnexplained(Stream& stream);
  void SetAside(Stream& stream);
  void OnSetAside(Stream& stream, const Piece& piece, const ForwardRecord& after);
  struct Refusal;
  void SetAsideNext(Stream& stream, std::shared_ptr<Refusal> refusal);
  int64_t PassLeftOut(Stream& stream, int64_t end);
  [[nodiscard]] base::Result<ForwardLog::Aside> DeadLettersOf(const Stream& stream, int64_t begin,
                                                              const Piece& piece);
  [[nodiscard]] bool HoldsRefused(const Stream& stream) const;
  void CountDeadLetters(const Stream& stream, int64_t begin, const Piece& piece);
  [[nodiscard]] std::string DeadLetterStream(const Stream& stream);
  static void DropPieces(Stream& stream);

  // forward_drops.cc: what is given up.
  [[nodiscard]] static bool MayGiveUp(const Stream& stream);
  void MakeRoom(const std::string& topic, uint64_t bytes);
  void DropExpired();
  void DropExpired(Stream& stream);
  uint64_t GiveUpSome(Stream& stream, uint64_t bytes, int64_t before_ms, DropCause cause);
  bool GiveUpDamaged(Stream& stream);
  void GiveUp(Stream& stream, int64_t end, const Release& release, DropCause cause);
  uint64_t GiveUpTransactions(Stream& stream, uint64_t bytes, DropCause cause);
  [[nodiscard]] bool AllowsGivingUp(const CommittedTransaction& transaction, DropCause cause);
  void PassOver(Stream& stream);
  void CountDrop(DropCause cause, uint64_t records);
  void TellGone(const Stream& stream);
  void ReportDrops();

  // forward_status.cc: how far delivery has come.
  [[nodiscard]] static bool IsParked(const Stream& stream);
  // When the first record that waits was spooled; 0 if none does, or that cannot be read.
  [[nodiscard]] int64_t OldestOf(Stream& stream);
  // The same of the first that can be read.
  [[nodiscard]] int64_t OldestReadableOf(Stream& stream);
  void Measure();
  void ResumeParked(const std::string& name);
  void MeasureLedger();
  void WriteJournal(bool all);

  const Context context_;
  const Options options_;
  std::unordered_map<uint32_t, ForwardRecord> kept_;  // Of streams not taken up yet.
  std::unordered_map<uint32_t, Drops> kept_drops_;
  std::unordered_map<uint32_t, std::vector<LeftOut>> kept_left_out_;
  std::unordered_map<uint32_t, uint32_t> kept_in_lane_;
  PoliciesPtr policies_ = std::make_shared<const Policies>();
  std::set<std::string> making_room_;            // Topics whose drops are being written down.
  std::map<std::string, uint64_t> room_wanted_;  // Bytes of topics, when a stream leaves the lane.
  std::map<DropCause, uint64_t> unreported_drops_;
  int64_t drops_reported_ms_ = 0;
  uint64_t bytes_per_second_max_;
  Schedule schedule_;
  bool high_priority_always_;
  Schedule::State scheduled_;  // Now.
  std::optional<int64_t> schedule_changes_ms_;
  TokenBucket uplink_;
  int64_t expiration_ms_;  // So long after its newest batch the tier may forget a producer.
  UpstreamProducer producer_;
  bool asking_producer_ = false;
  uint32_t producer_attempts_ = 0;  // In a row, in vain.
  base::Random random_;
  ForwardLog log_;
  DeliveryJournal journal_;
  Reconciler reconciler_;
  bool stopped_ = false;
  bool tier_is_known_ = false;  // As that of Options::cluster_tag.
  std::string other_cluster_;   // What it is instead.

  std::unordered_map<uint32_t, std::unique_ptr<Stream>> streams_;  // By stream id.
  std::map<uint32_t, CommitPoint> nameless_;  // Streams that wait for a person; by stream id.
  std::map<int32_t, Lane> lanes_;
  proxy::ClusterPtr cluster_;
  uint64_t cluster_version_ = 0;
  base::Timer measure_timer_;
  base::Timer sent_timer_;
  base::Timer producer_timer_;

  base::Mutex mutex_;
  std::vector<spool::StreamId> news_ HF_GUARDED_BY(mutex_);
  Status status_ HF_GUARDED_BY(mutex_);
  std::shared_ptr<const Ledger> ledger_ HF_GUARDED_BY(mutex_) = std::make_shared<const Ledger>();
  std::shared_ptr<Forwarder*> self_;  // Null in it once this is gone.
};

}  // namespace holdfast::agent
