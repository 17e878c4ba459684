// What the status page shows of a broker: a small JSON document, made when somebody asks, whose
// size does not depend on how many partitions and groups there are.
//
//   GET /overview?filter=TEXT&sort=topic|records|start|end&groups_filter=TEXT&groups_sort=lag ...
//
// Ownership: what it is given outlives it.
// Threads: made and destroyed on the loop, on which it also takes its samples; Get from any but the
//   coordinator's loop, for whose answer it waits.
// Limits: net::TableQuery::kLimitMax rows of each table. One answer costs a pass over all
//   partitions, and one over the offsets of all groups on the coordinator's loop.
#pragma once

#include "base/executor.h"
#include "broker/context.h"
#include "broker/coordinator.h"
#include "metrics/history.h"
#include "net/admin_server.h"

namespace holdfast::broker {

class Overview {
 public:
  // `loop`: the coordinator's.
  Overview(Context& context, const Coordinator& coordinator, base::Executor& loop);

  [[nodiscard]] net::AdminResponse Get(const net::AdminRequest& request);

 private:
  void Sample();

  Context& context_;
  const Coordinator& coordinator_;
  base::Executor& loop_;
  metrics::History history_;
  base::Timer timer_;
};

}  // namespace holdfast::broker
