// What the status page shows of a broker: a small JSON document, made when somebody asks, whose
// size does not depend on how many partitions and groups there are.
//
//   GET /overview?filter=TEXT&sort=topic|records|start|end&groups_filter=TEXT&groups_sort=lag ...
//
// `transactions` says how many there are in each state, and which have been open for longest; it is
// as of the last sample, since they are the writer's, who may be busy with a slow disk.
//
// Ownership: what it is given outlives it, and the writer runs what it was given.
// Threads: made and destroyed on the loop, on which it also takes its samples; Get from any but the
//   coordinator's loop, for whose answer it waits.
// Limits: net::TableQuery::kLimitMax rows of each table, kTransactionsShown transactions. One
//   answer costs a pass over all partitions, and one over the offsets of all groups on the
//   coordinator's loop; a sample, one over all transactions on the writer.
#pragma once

#include <atomic>
#include <memory>

#include "base/executor.h"
#include "base/mutex.h"
#include "broker/context.h"
#include "broker/coordinator.h"
#include "broker/transactions.h"
#include "metrics/history.h"
#include "net/admin_server.h"

namespace holdfast::broker {

class Overview {
 public:
  static constexpr size_t kTransactionsShown = 20;

  // `loop`: the coordinator's; `writer`: the transactions'.
  Overview(Context& context, const Coordinator& coordinator, base::Executor& loop,
           base::Executor& writer);

  [[nodiscard]] net::AdminResponse Get(const net::AdminRequest& request);

 private:
  // What the writer has told; it may do so after this is gone.
  struct Told {
    base::Mutex mutex;
    Transactions::Summary transactions HF_GUARDED_BY(mutex);
    std::atomic<bool> asked{false};
  };

  void Sample();

  Context& context_;
  const Coordinator& coordinator_;
  base::Executor& loop_;
  base::Executor& writer_;
  const std::shared_ptr<Told> told_ = std::make_shared<Told>();
  metrics::History history_;
  base::Timer timer_;
};

}  // namespace holdfast::broker
