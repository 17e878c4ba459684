// The front half of the agent's work on the spool: what local producers send is appended to one
// stream per partition, each request in one operation, and a producer's retry is recognised.
//
// The memory of the last batches of each local producer is not written down: it follows from the
// entries' tags (producer id, epoch, sequence), and only a segment's beginning has a copy. So a
// retry is recognised after a crash as it is before, and answered with the offset of the original.
//
// Limits of topics and clients (agent/spool_usage.h) are decided in the same operation: what finds
// no room is refused or waits for it (agent/waiting_appends.h), and what must be at the tier before
// it is acknowledged is handed on once it is durable here (agent/waiting_acks.h).
//
//   RecordLog log(metrics, [&](auto streams) { forwarder.NoteDurable(streams); });
//   auto spool = spool::Spool::Open(options, log, writer, background);
//   log.Bind(**spool, writer, waiting, {});
//
// Ownership: outlives the spool, for which it is the owner; the spool outlives all calls of Append
//   and NewProducerId; `waiting` outlives both.
// Threads: Append, AppendNoted, KeepRoom, GiveBack, Charge, NewProducerId, SetPolicies and Close
//   from any thread; the Owner's calls, usage() and OnCommit... on the spool's writer.
// Shutdown: Close, then close the spool: requests are refused from then on.
// Limits: those of the spool. A request that it does not take is refused with NOT_ENOUGH_REPLICAS,
//   the code on which Java's client and librdkafka both wait and send again without asking first.
//   Producers that were silent for kProducerExpiry are forgotten when a segment begins.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/append_job.h"
#include "agent/forward_state.h"
#include "agent/ledger.h"
#include "agent/rate_limits.h"
#include "agent/spool_usage.h"
#include "agent/transaction_state.h"
#include "agent/waiting_appends.h"
#include "base/mutex.h"
#include "kafka/producer_state.h"
#include "metrics/catalogue.h"
#include "proxy/record_sink.h"
#include "spool/spool.h"

namespace holdfast::spool {
class OfflineView;
}

namespace holdfast::agent {

// What a run finds in the spool when it starts.
struct KeptState {
  std::string cluster;                                    // MetadataCache::Serialize, or empty.
  std::map<std::string, std::string, std::less<>> ports;  // By their keys in the state.
  UpstreamProducer upstream;
  std::unordered_map<uint32_t, ForwardRecord> forward;          // By stream id.
  std::unordered_map<uint32_t, Drops> drops;                    // By stream id.
  std::unordered_map<uint32_t, std::vector<LeftOut>> left_out;  // By stream id.
  std::unordered_map<uint32_t, uint32_t> in_lane;               // Cluster tags by stream id.
  std::map<std::string, std::string, std::less<>> outbox;       // Notes by their keys in the state.
  std::map<std::string, std::string, std::less<>> half;         // Half messages, likewise.
  std::map<std::string, size_t, std::less<>> journal;           // Sizes of its blocks, likewise.
  KeptTransactions transactions;
  std::optional<Destination> destination;  // None: of a spool of an older version.
};

// A batch that the agent made itself.
struct NewBatch {
  std::string topic;
  int32_t partition = 0;
  std::string bytes;
};

// Batches, and a note of what they were made from or what is left when they are there.
struct NotedAppend {
  std::vector<NewBatch> batches;
  std::string client;               // Whose limits count.
  std::string key;                  // Under which the note stands in the state.
  std::optional<std::string> note;  // None: the key is erased.
};

// Where what was appended to a stream ends.
struct StreamEnd {
  spool::StreamId stream;
  int64_t end = 0;
};

// What became of it: all of it is in one commit, or nothing is.
struct NotedOutcome {
  base::Result<> result = {};  // kFull: a topic, the client or the spool has no room for it now.
  // Of each of its topics, and of the client, that has too little for it.
  std::map<std::string, Headroom, std::less<>> topics = {};
  std::optional<Headroom> client = {};
  // Of each batch, if all is well.
  std::vector<StreamEnd> ends = {};
};

// When the last batch of a producer came that may send it again, and is told from a new one only by
// this spool. None: there is no such producer.
base::Result<std::optional<int64_t>> LastProducedMs(const spool::OfflineView& view);

// Who wrote an entry, and for whom its bytes are counted, so that replay need not look into it.
spool::Tag TagOf(const kafka::Producer& producer, OwnerId owner = 0);

class RecordLog final : public spool::Owner, public proxy::RecordSink {
 public:
  static constexpr int64_t kProducerExpiryMs = 24 * 3600 * 1000;
  static constexpr int64_t kIdsPerBlock = 1000;
  using DurableObserver = std::function<void(std::span<const spool::StreamId>)>;

  struct Sinks {
    // Takes over requests that are durable here and wait for the tier. None: they do not wait.
    std::function<void(std::unique_ptr<AppendJob>)> wait_for_tier;
    // See WaitingAppends::Context::drop_oldest. On the writer.
    std::function<void(std::string topic, uint64_t bytes)> drop_oldest;
  };

  RecordLog(metrics::AgentMetrics& metrics, DurableObserver on_durable);
  ~RecordLog() override;

  // Before the first Append.
  void Bind(spool::Spool& spool, base::Executor& writer, WaitingBytes& waiting, Sinks sinks);
  void SetPolicies(PoliciesPtr policies);
  // Answers what waits for room.
  void Close();
  // Notes where the spool's agent delivers, and as whom: in the spool before what is appended after
  // this call.
  void NoteDestination(const Destination& destination);
  // For the operations that write cursors.
  [[nodiscard]] SpoolUsage& usage() { return usage_; }
  // Such an operation has released something.
  void OnRoom() { waiting_appends_->OnRoom(); }
  // What waits in all streams that are delivered. From a thread that is none of the loops: it waits
  // for the writer.
  [[nodiscard]] uint64_t HeldBytes();
  // The same for the metrics, some time soon. From any thread.
  void ReportHeldBytes();
  // As of the spool's opening.
  [[nodiscard]] const KeptState& kept() const { return kept_; }
  // The part of it that may be large, for who holds it from then on.
  [[nodiscard]] KeptTransactions TakeTransactions() {
    return std::exchange(kept_.transactions, {});
  }

  void Append(std::unique_ptr<proxy::SinkRequest> request) override;
  // `done` runs on the writer, or here if the spool takes nothing at all.
  using NotedDone = base::UniqueFunction<void(NotedOutcome)>;
  void AppendNoted(NotedAppend append, NotedDone done);
  // Judges a job with on_room by all limits, as if it were appended.
  void KeepRoom(std::unique_ptr<AppendJob> job) { Submit(std::move(job)); }
  void GiveBack(std::vector<SpoolUsage::Room> rooms);
  // There was no room in the spool for a transaction: within the bounds of all drops for the spool,
  // the oldest of topics that allow it are dropped. And when it was stored. On the writer.
  void OnCommitRefused(uint64_t bytes);
  void OnCommitStored(uint64_t bytes, bool was_refused);
  base::Duration Charge(const proxy::SinkRequest& request, base::TimePoint now) override {
    return rates_.Charge(request, now);
  }
  void NewProducerId(ProducerIdDone done) override;

  base::Result<> Load(const spool::StateView& state) override;
  void Replay(const spool::EntryInfo& entry) override;
  void Checkpoint(spool::Transaction& transaction) override;
  void OnDurable(std::span<const spool::StreamId> streams) override;

 private:
  class AppendOperation;
  class NotedOperation;
  class ReserveOperation;
  class EmptyOperation;
  class DestinationOperation;

  base::Result<> LoadKept(const spool::StateView& state);
  void Submit(std::unique_ptr<AppendJob> job);
  void ApplyEntry(spool::Transaction& transaction, AppendJob& job, size_t at);
  void ApplyRoom(AppendJob& job, size_t at);
  NotedOutcome LookForRoom(const NotedAppend& append);
  StreamEnd AppendOwn(spool::Transaction& transaction, std::string_view client_name,
                      const NewBatch& batch);
  // False: it has its answer, or waits.
  bool HasRoom(AppendJob& job, size_t at, const SpoolUsage::Account& topic,
               const SpoolUsage::Account* client);
  void Finish(std::unique_ptr<AppendJob> job, const base::Result<spool::CommitNumber>& result);
  // Nothing of it is left to try: it waits for room, then for the tier, then has its answer.
  void Settle(std::unique_ptr<AppendJob> job);
  void Reserve();
  void Reserved(base::Result<int64_t> first);

  metrics::AgentMetrics& metrics_;
  const DurableObserver on_durable_;
  spool::Spool* spool_ = nullptr;
  base::Executor* writer_ = nullptr;
  Sinks sinks_;
  RateLimits rates_;
  KeptState kept_;
  bool opened_ = false;

  // Of the writer.
  std::unordered_map<uint32_t, kafka::ProducerTable> producers_;  // By stream id.
  SpoolUsage usage_;
  std::optional<Destination> destination_;
  std::unique_ptr<WaitingAppends> waiting_appends_;  // From Bind on.
  WaitingBytes* waiting_bytes_ = nullptr;

  base::Mutex mutex_;
  int64_t next_id_ HF_GUARDED_BY(mutex_) = 0;
  int64_t ids_left_ HF_GUARDED_BY(mutex_) = 0;
  bool reserving_ HF_GUARDED_BY(mutex_) = false;
  std::vector<ProducerIdDone> waiting_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::agent
