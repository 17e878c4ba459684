// The agent's own transactional producer at the tier: writes batches of several streams in one
// transaction, together with how far each stream has come, so that both are there or neither is.
//
//   transactions.Run(parts, [](const TransactionResult& result) { ... });
//   transactions.Ask(partitions, [](base::Result<std::vector<TierProgress>> progress) { ... });
//
// A stream's progress is an offset of a consumer group of the agent's own: the ordinal behind the
// last record delivered, with the tier's offset behind that record as metadata, or -1: one without
// was not committed by an agent. After a failure,
// or a restart, nobody knows whether the last transaction was committed; the next job first takes
// a new epoch, at which the tier ends what was open and fences what is still on its way, and Ask
// then says for certain.
//
// What is wrong with single partitions names them, so that the next job can do without.
//
// Both protocols are spoken: the first, where partitions and groups are added beforehand, and the
// second (KIP-890), where the epoch rises with each transaction and sequences begin at 0.
//
// Ownership: what the context names outlives it, but for the tier, which goes first.
// Threads: the loop. Shutdown: Stop, or the destructor, drops callbacks uncalled.
// Limits: one job at a time. One that gets no further for Options::job_timeout fails, for the parts
//   that are not written if it is at that.
//   Up to kWindow requests of a partition are in flight.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/delivery_outcome.h"
#include "agent/forward_state.h"
#include "agent/refused_batch.h"
#include "base/executor.h"
#include "base/random.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "kafka/error_code.h"
#include "kafka/record_batch.h"
#include "proxy/metadata_cache.h"
#include "proxy/tier.h"
#include "spool/spool.h"

namespace holdfast::kafka {
struct ProduceResponse;
struct TxnOffsetCommitResponse;
}  // namespace holdfast::kafka

namespace holdfast::agent {

// A stream's batches from `begin` to `end`, both at the edges of batches.
struct TransactionPart {
  spool::StreamId stream;
  std::string topic;
  int32_t partition = 0;
  int32_t node = proxy::kNoNode;  // The partition's leader.
  int64_t begin = 0;
  int64_t end = 0;
  std::vector<LeftOut> left_out;  // Of that, what is not sent.
  std::set<int64_t> cuts;         // Ordinals at which batches are cut.
};

struct TransactionResult {
  bool committed = false;
  std::vector<int64_t> tier_offsets;  // Behind each part's last record. If committed.
  // If not, or if nobody knows:
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  std::string trouble;
  struct Guilty {
    size_t part = 0;
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
    std::optional<RefusedBatch> refused = {};  // Its batch that is refused for good, if one is.
  };
  // The parts it failed for; none: all of it failed. If the answer of a node is lost
  // (kNetworkException), all that it was still to write.
  std::vector<Guilty> guilty;
};

struct TierProgress {
  int64_t end = -1;          // Records below this ordinal were delivered; -1: none in this way.
  int64_t tier_offset = -1;  // Behind the last of them, if known.
  bool foreign = false;      // The tier has it of somebody else.
  // Why the tier does not say it of this one.
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
};

class UpstreamTransactions {
 public:
  // As many as a tier recognises when they are repeated.
  static constexpr size_t kWindow = 5;

  struct Options {
    std::string transactional_id;
    std::string group;  // Where progress is kept.
    // That the tier is asked for; if it allows no more, half of it, and so on.
    std::chrono::milliseconds transaction_timeout = std::chrono::seconds(60);
    // More than a node has to answer in, so that one that does not is known before.
    base::Duration job_timeout = std::chrono::seconds(38);
    base::Duration produce_timeout = std::chrono::seconds(15);
    base::Duration backoff_min = std::chrono::milliseconds(20);
    base::Duration backoff_max = std::chrono::seconds(1);
    size_t request_bytes_max = size_t{1} << 20;
  };
  struct Context {
    base::Executor& loop;
    spool::Spool& spool;
    proxy::Tier& tier;
    proxy::MetadataCache& cache;
  };
  using Partition = std::pair<std::string, int32_t>;
  using Done = base::UniqueFunction<void(const TransactionResult&)>;
  using Asked = base::UniqueFunction<void(base::Result<std::vector<TierProgress>>)>;

  UpstreamTransactions(const Context& context, Options options, uint64_t seed);
  ~UpstreamTransactions();
  UpstreamTransactions(const UpstreamTransactions&) = delete;
  UpstreamTransactions& operator=(const UpstreamTransactions&) = delete;

  [[nodiscard]] bool busy() const { return job_ != nullptr; }
  // Neither while busy; both sorted by topic and partition.
  void Run(std::vector<TransactionPart> parts, Done done);
  // In the order of the partitions.
  void Ask(std::vector<Partition> partitions, Asked done);
  // A node may have become ready.
  void Wake();
  // The job fails now.
  void Abort();
  // Drops the job, and asks nothing more of the tier.
  void Stop();

 private:
  struct Part;
  struct Job;
  using Guilty = TransactionResult::Guilty;
  enum class Coordinator : int8_t { kGroup = 0, kTransaction = 1 };

  void Begin(std::unique_ptr<Job> job);
  void NoteProgress();
  void Advance();
  [[nodiscard]] bool LearnProtocol();
  void Retry();
  // The job is over. The producer's epoch is not used again.
  void Fail(kafka::ErrorCode error, std::string trouble, std::vector<Guilty> guilty = {});
  // Sends a request and runs `then` with the answer, unless the job is over by then.
  template <class Request, class Then>
  void Call(int32_t node, const Request& request, int16_t cap, Then then);
  // True if the answer says to try again, and that was arranged.
  bool TryAgain(kafka::ErrorCode error, int32_t* coordinator);
  void NoteError(std::string_view topic, int32_t partition, kafka::ErrorCode error,
                 std::vector<Guilty>& errors) const;
  [[nodiscard]] std::vector<Guilty> NotDone(std::optional<int32_t> node,
                                            kafka::ErrorCode error) const;
  // The job fails for these, or its step is tried again, if there is a coordinator to ask.
  void TakeErrors(std::vector<Guilty> errors, std::string trouble, int32_t* coordinator);

  void FindCoordinator(Coordinator kind, const std::string& key, int32_t* node);
  [[nodiscard]] bool IsThere(int32_t& coordinator);
  void InitProducer();
  void FetchProgress();
  void AddPartitions();
  void Produce();
  bool ProduceTo(int32_t node);
  void OnProduced(const std::vector<size_t>& sent,
                  const base::Result<kafka::ProduceResponse>& response);
  bool TakeProduced(size_t index, const TierAnswer& answer, std::vector<Guilty>& errors);
  void AddGroup();
  void CommitProgress();
  void OnProgress(const kafka::TxnOffsetCommitResponse& response);
  void End();
  void Commit(int64_t producer_id, int16_t epoch);

  const Context context_;
  const Options options_;
  base::Random random_;
  std::chrono::milliseconds transaction_timeout_;

  int32_t coordinator_ = proxy::kNoNode;
  int32_t group_coordinator_ = proxy::kNoNode;
  kafka::Producer producer_;  // Its base_sequence is not used.
  bool second_protocol_ = false;
  // What each partition is written with next in the producer's epoch; absent: 0.
  std::map<Partition, int32_t> sequences_;

  std::unique_ptr<Job> job_;
  uint64_t job_number_ = 0;
  bool waiting_ = false;  // For an answer or the timer.
  uint32_t attempts_ = 0;
  base::Timer timer_;
  base::Timer deadline_;
};

}  // namespace holdfast::agent
