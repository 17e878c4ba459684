// The coordinator of local transactions: what the tier's does for others, done here, so that a
// transaction is committed with the tier away, and delivered whole later.
//
// The batches of an open transaction are kept in memory. A commit is one operation of the spool: it
// appends them to their streams together with a record of which ranges belong together
// (agent/transaction_state.h), which the lane then delivers in one transaction at the tier. So an
// aborted transaction leaves nothing, and a committed one is there whole or not at all. That a
// transaction was begun is durable before the first of it is acknowledged: after a restart the
// agent knows that it has lost one, and refuses to commit what comes behind.
//
// Rules and error codes are those of Apache Kafka's coordinator, for both forms of the protocol:
// InitProducerId fences the producers before it, a transaction that is open for longer than its
// timeout is aborted and its producer fenced, an end or a renewal of an epoch (KIP-360) that is
// asked for again gets the same answer.
//
// The limits of topics and clients, and the spool's own, are looked at when a batch comes, by the
// rules of all other batches (agent/waiting_appends.h): room is kept for it until the end of the
// transaction, so that a commit is refused only if others have filled the disk meanwhile.
//
// Ownership: what the context names outlives it.
// Threads: the loop, on which the work is done, but for the calls of proxy::LocalTransactions.
// Shutdown: destroyed on the loop; what waits then is answered with errors or, if the loop stops,
//   not at all.
// Limits: Options names each. Past transaction_bytes_max, or what the spool can take in one piece,
//   a batch is refused for good (RECORD_LIST_TOO_LARGE), past memory_max for now. A transactional
//   id that was not used for kForgetAfterMs is forgotten at a start, and past kProducersMax no new
//   one is taken. One that no producer was made for is kept only while it is asked about.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/record_log.h"
#include "agent/transaction_lane.h"
#include "agent/transaction_state.h"
#include "base/executor.h"
#include "kafka/producer_state.h"
#include "metrics/catalogue.h"
#include "proxy/local_transactions.h"
#include "proxy/metadata_cache.h"
#include "spool/spool.h"

namespace holdfast::agent {

class LocalTransactions final : public proxy::LocalTransactions {
 public:
  static constexpr size_t kProducersMax = 10'000;
  static constexpr int64_t kForgetAfterMs = int64_t{7} * 24 * 3600 * 1000;
  // Kafka's transaction.max.timeout.ms.
  static constexpr int32_t kTimeoutMaxMs = 15 * 60 * 1000;

  struct Rule {
    std::string pattern;  // A transactional id, or the beginning of ids and '*'.
    bool local = false;
  };
  struct Options {
    std::vector<Rule> rules;  // The first that fits counts; none: not local.
    size_t transaction_bytes_max = size_t{16} << 20;
    size_t memory_max = size_t{64} << 20;  // Of all open transactions together.
    // Partitions of those that are committed and not at the tier: past it none is begun, which
    // clients try again. Each takes some 500 bytes of memory, and 100 at the beginning of each
    // segment.
    size_t waiting_max = 100'000;
  };
  struct Context {
    base::Executor& loop;
    spool::Spool& spool;
    proxy::MetadataCache& cache;
    RecordLog& records;  // Gives producer ids out, and counts what streams hold.
    TransactionLane& lane;
    TransactionHost& host;  // Forgets what nobody uses.
    metrics::AgentMetrics& metrics;
  };

  LocalTransactions(const Context& context, Options options,
                    const std::map<std::string, LocalProducerRecord>& kept);
  ~LocalTransactions() override;

  [[nodiscard]] bool Owns(std::string_view transactional_id) const override;
  void InitProducer(Target target, int32_t timeout_ms, Producer known, OnProducer done) override;
  void AddPartitions(Target target, Producer producer, Partitions partitions, Done done) override;
  void Append(Target target, Protocol protocol,
              std::unique_ptr<proxy::SinkRequest> request) override;
  void End(Target target, Producer producer, bool commit, Protocol protocol,
           OnProducer done) override;

 private:
  struct Batch;
  struct Coordinated;  // One transactional id.
  class WriteOperation;
  using Step = base::UniqueFunction<void(Coordinated&)>;

  // Runs the step on the loop, when nothing of this id is being written, with whether it is another
  // principal's.
  void Post(Target target, base::UniqueFunction<void(Coordinated&, bool)> step);
  void Enqueue(Coordinated& producer, Step step);
  // An id for which no producer was made, if it was only asked about.
  void ForgetUnknown(const std::string& transactional_id);
  void RunWaiting(Coordinated& producer);
  // Writes `next`, and the batches as a committed transaction if `commit`; `then` runs with whether
  // it is durable. Only then is `next` in force.
  void Write(Coordinated& producer, const LocalProducerRecord& next, bool commit,
             base::UniqueFunction<void(bool)> then);
  void Written(Coordinated& producer, bool ok);

  void DoInit(Coordinated& producer, std::string principal, int32_t timeout_ms, Producer known,
              OnProducer done);
  void NewProducer(Coordinated& producer, LocalProducerRecord next,
                   base::UniqueFunction<void(kafka::ErrorCode)> done);
  // Makes sure that the transaction is begun, then goes on.
  void Begin(Coordinated& producer, base::UniqueFunction<void(kafka::ErrorCode)> then);
  void DoAppend(Coordinated& producer, Protocol protocol,
                std::unique_ptr<proxy::SinkRequest> request);
  void KeepRoom(Coordinated& producer, Protocol protocol,
                std::unique_ptr<proxy::SinkRequest> request);
  // False: the entry has its answer.
  bool Admit(Coordinated& producer, Protocol protocol, proxy::SinkEntry& entry);
  void TakeIn(Coordinated& producer, Protocol protocol, std::unique_ptr<AppendJob> job,
              const std::vector<size_t>& admitted);
  void DoEnd(Coordinated& producer, const Producer& who, bool commit, Protocol protocol,
             OnProducer done);
  void TimeOut(Coordinated& producer);
  // Forgets the batches.
  void Drop(Coordinated& producer, std::string_view outcome);
  [[nodiscard]] kafka::ErrorCode Check(const Coordinated& producer, const Producer& who) const;

  const Context context_;
  const Options options_;
  std::map<std::string, std::unique_ptr<Coordinated>, std::less<>> producers_;
  size_t bytes_ = 0;
  std::shared_ptr<LocalTransactions*> self_;  // Null in it once this is gone.
};

}  // namespace holdfast::agent
