// The transaction coordinator: turns requests about transactions into operations of the spool,
// within which broker/transactions.h decides, and ends those that are open for too long.
//
// An answer leaves when what it says is durable, and after the groups know the offsets that a
// transaction has committed.
//
// Ownership: context, groups, submitter and loop outlive it, and it lives until the spool has
//   completed all operations.
// Threads: the loop's; calls from other loops are posted by the workers.
// Limits: a transaction's time may exceed its timeout by kAbortInterval.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/unique_function.h"
#include "broker/catalog.h"
#include "broker/context.h"
#include "broker/coordinator.h"
#include "broker/submitter.h"
#include "broker/transactions.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/describe_transactions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_transactions.h"
#include "kafka/api/write_txn_markers.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class TransactionCoordinator {
 public:
  static constexpr base::Duration kAbortInterval = std::chrono::seconds(10);
  static constexpr base::Duration kExpiryInterval = std::chrono::hours(1);

  TransactionCoordinator(Context& context, Coordinator& groups, Submitter& submitter,
                         base::Executor& loop);

  void Start();
  void Stop();

  // With a transactional id.
  void Handle(kafka::Call<kafka::InitProducerIdRequest> call);
  void Handle(kafka::Call<kafka::AddPartitionsToTxnRequest> call);
  void Handle(kafka::Call<kafka::AddOffsetsToTxnRequest> call);
  void Handle(kafka::Call<kafka::EndTxnRequest> call);
  void Handle(kafka::Call<kafka::WriteTxnMarkersRequest> call);
  void Handle(kafka::Call<kafka::DescribeTransactionsRequest> call);
  void Handle(kafka::Call<kafka::ListTransactionsRequest> call);

 private:
  using Outcome = Transactions::Outcome;
  using Work = Transactions::Work;
  // On the writer.
  using Decide = base::UniqueFunction<Outcome(Work&)>;
  // On the loop, when it is durable.
  using Answer = base::UniqueFunction<void(const Outcome&)>;
  class Decision;
  struct Addition;
  struct Marking;

  // Runs it in a commit, with as many entry bytes as it turns out to need.
  void Submit(Decide decide, size_t bytes, Answer answer);
  void AbortOverdueLater();
  void AbortOverdue();
  void ExpireLater();

  [[nodiscard]] Transactions& transactions() { return context_.log->transactions(); }

  Context& context_;
  Coordinator& groups_;
  Submitter& submitter_;
  base::Executor& loop_;
  CatalogReader catalog_;
  base::Timer abort_timer_;
  base::Timer expiry_timer_;
};

}  // namespace holdfast::broker
