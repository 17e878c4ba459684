// The transactions of this broker's producers, and the rules by which they begin, grow and end:
// those of Apache Kafka 4.2's coordinator, for both forms of the protocol.
//
// All of it is decided on the writer, within operations of the spool, beside the batches that it is
// about. So a partition joins a transaction in the commit of its first batch, and a transaction
// ends whole in one commit: the markers of all its partitions, the offsets that it committed and
// its own new state. Nobody ever sees it half ended, and CONCURRENT_TRANSACTIONS has no cause.
//
// Everything is explicit state (broker/records.h); what is here is the same in memory.
//
// Ownership: the log, which outlives it.
// Threads: the writer's, but for ongoing().
// Limits: transactional ids of at most kTransactionalIdBytesMax bytes.
#pragma once

#include <atomic>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "broker/catalog.h"
#include "broker/records.h"
#include "kafka/error_code.h"
#include "kafka/record_batch_builder.h"
#include "spool/spool.h"

namespace holdfast::broker {

class Log;

// Of a producer: its epoch tells it from those that had its id, or its transactional id, before.
struct ProducerIdentity {
  int64_t id = kafka::kNoProducerId;
  int16_t epoch = kafka::kNoProducerEpoch;

  bool operator==(const ProducerIdentity&) const = default;
};

struct CommittedOffset {
  int64_t offset = -1;
  int32_t leader_epoch = -1;
  std::string metadata;
  int64_t commit_ms = 0;
};
using CommittedOffsets = std::map<TopicPartition, CommittedOffset>;

enum class TransactionState : int8_t {  // Kafka's numbers.
  kEmpty = 0,
  kOngoing = 1,
  kCompleteCommit = 4,
  kCompleteAbort = 5,
};
// As Kafka's tools print it, "CompleteCommit".
std::string_view TransactionStateName(TransactionState state);

struct Transaction {
  std::string id;  // The transactional one.
  ProducerIdentity producer;
  int64_t previous_producer_id = kafka::kNoProducerId;
  // The epoch before, of whom a retry may still come; none if that was somebody else.
  int16_t last_epoch = kafka::kNoProducerEpoch;
  int32_t timeout_ms = 0;
  TransactionState state = TransactionState::kEmpty;
  int64_t start_ms = -1;
  int64_t update_ms = 0;

  // While it is ongoing.
  std::map<TopicPartition, Partition*> partitions;  // Null: its topic was deleted.
  std::set<std::string, std::less<>> groups;
  std::map<std::string, CommittedOffsets, std::less<>> offsets;  // By group.
};

// The error under the name that clients know by this version of their request: before
// `fenced_since` PRODUCER_FENCED is INVALID_PRODUCER_EPOCH, and before `abortable_since`
// TRANSACTION_ABORTABLE is INVALID_TXN_STATE.
inline constexpr int16_t kInNoVersion = std::numeric_limits<int16_t>::max();
kafka::ErrorCode ForVersion(kafka::ErrorCode error, int16_t version, int16_t fenced_since,
                            int16_t abortable_since = 0);

// The offsets of a transaction that has ended, for who answers for groups.
struct EndedTransaction {
  int64_t producer_id = kafka::kNoProducerId;
  bool committed = false;
  // Of all groups that took part.
  std::map<std::string, CommittedOffsets, std::less<>> offsets;
};

class Transactions {
 public:
  // An operation's part in a commit, and what it brings away from it.
  class Work {
   public:
    Work(spool::Transaction& transaction, size_t bytes)
        : transaction_(transaction), bytes_(bytes) {}

    [[nodiscard]] spool::Transaction& transaction() { return transaction_; }
    // Room for a marker's bytes, until TakeMarkers.
    [[nodiscard]] std::string* NewMarker() { return &markers_.emplace_back(); }
    // Entry bytes that the operation lacks. If not 0 nothing was done: it is to be submitted again
    // with as many.
    [[nodiscard]] size_t bytes_missing() const { return bytes_missing_; }
    [[nodiscard]] std::vector<EndedTransaction> TakeEnded() { return std::move(ended_); }
    // What was appended, to be kept until the commit is done.
    [[nodiscard]] std::deque<std::string> TakeMarkers() { return std::move(markers_); }

   private:
    friend class Transactions;
    [[nodiscard]] bool HasRoomFor(size_t markers);

    spool::Transaction& transaction_;
    const size_t bytes_;
    size_t bytes_missing_ = 0;
    std::deque<std::string> markers_;
    std::vector<EndedTransaction> ended_;
  };

  // What a call answers: an identity if there is no error.
  struct Outcome {
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
    ProducerIdentity producer;
  };

  explicit Transactions(Log& log) : log_(log) {}

  base::Result<> Load(const spool::StateView& state);

  // InitProducerId: a producer begins, or comes back. Whoever had the id before is fenced, and its
  // transaction aborted.
  Outcome Begin(Work& work, std::string_view id, int32_t timeout_ms,
                std::optional<ProducerIdentity> known);
  // EndTxn; `bump`: by the newer protocol, under which each transaction has an epoch of its own.
  Outcome End(Work& work, std::string_view id, ProducerIdentity producer, bool commit, bool bump);

  // May this producer take part in a transaction?
  [[nodiscard]] kafka::ErrorCode Check(std::string_view id, ProducerIdentity producer) const;
  // Adds to the transaction, which begins if it has not yet.
  kafka::ErrorCode AddPartition(spool::Transaction& transaction, std::string_view id,
                                ProducerIdentity producer, Partition& partition);
  kafka::ErrorCode AddGroup(spool::Transaction& transaction, std::string_view id,
                            ProducerIdentity producer, std::string_view group);
  // TRANSACTION_ABORTABLE if that was not added.
  [[nodiscard]] kafka::ErrorCode CheckPartition(std::string_view id, ProducerIdentity producer,
                                                const TopicPartition& partition) const;
  [[nodiscard]] kafka::ErrorCode CheckGroup(std::string_view id, ProducerIdentity producer,
                                            std::string_view group) const;
  // The group was added.
  void AddOffsets(spool::Transaction& transaction, std::string_view id, const std::string& group,
                  const CommittedOffsets& offsets);
  // Somebody committed another offset outside of transactions: those of open ones come too late.
  void ForgetOffset(spool::Transaction& transaction, std::string_view group,
                    const TopicPartition& partition);
  // A group is deleted, and with it what transactions would commit for it.
  void ForgetGroup(spool::Transaction& transaction, std::string_view group);

  // Those that are open for longer than they may be.
  struct Overdue {
    std::string id;
    ProducerIdentity producer;
  };
  [[nodiscard]] std::vector<Overdue> FindOverdue(int64_t now_ms) const;
  // Aborts it if it is still the same, and fences its producer. Says whether it did.
  bool AbortOverdue(Work& work, const Overdue& overdue);
  // Forgets ids without a transaction that nobody has used since.
  void Expire(spool::Transaction& transaction, int64_t unused_since_ms);

  // Null if there is none.
  [[nodiscard]] const Transaction* Find(std::string_view id) const;
  [[nodiscard]] const std::map<std::string, Transaction, std::less<>>& all() const { return all_; }
  // For people: how many there are in each state, and the `most` that have been open for longest.
  struct Summary {
    struct Open {
      std::string id;
      ProducerIdentity producer;
      int64_t start_ms = 0;
      int32_t timeout_ms = 0;
      std::vector<TopicPartition> partitions;  // At most kPartitionsNamed of them.
      size_t partition_count = 0;
      size_t group_count = 0;
    };
    static constexpr size_t kPartitionsNamed = 5;
    std::map<TransactionState, size_t> states;
    std::vector<Open> oldest;  // First.
  };
  [[nodiscard]] Summary Summarize(size_t most) const;
  // How many are. From any thread.
  [[nodiscard]] size_t ongoing() const { return ongoing_.load(std::memory_order_relaxed); }

 private:
  base::Result<> LoadParts(const spool::StateView& state);
  base::Result<Transaction> MakeTransaction(std::string_view id, std::string_view record) const;
  Transaction* FindMutable(std::string_view id);
  kafka::ErrorCode MakeOngoing(spool::Transaction& transaction, Transaction& one);
  void Fence(Work& work, Transaction& one);
  void Finish(Work& work, Transaction& one, bool commit, int16_t marker_epoch);
  Outcome NextEpoch(Work& work, Transaction& one, int32_t timeout_ms,
                    std::optional<ProducerIdentity> known);
  static void Save(spool::Transaction& transaction, Transaction& one);
  void CountOngoing();

  Log& log_;
  std::map<std::string, Transaction, std::less<>> all_;  // By transactional id.
  std::atomic<size_t> ongoing_{0};
};

}  // namespace holdfast::broker
