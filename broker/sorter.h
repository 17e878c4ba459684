// Has old segments of the log written anew, ordered by partition: so that a consumer that comes
// from far back reads the disk in long stretches, and the space of deleted topics and expired
// records comes back although others with longer retention lie beside them. How that is done is the
// spool's (Spool::Sort); this says when, and how fast.
//
// Every compaction interval it takes one segment after the other, as long as there is something to
// do, at the rate of compaction, and between two of them the thread is free for that.
//
// Ownership: the context outlives it.
// Threads: made on any; the executor's own, which it may keep for a minute, but for Interrupt.
// Shutdown: Interrupt, at which it ends at its next step, and then Stop.
#pragma once

#include "base/executor.h"
#include "broker/context.h"
#include "broker/pacer.h"

namespace holdfast::broker {

class Sorter {
 public:
  Sorter(Context& context, base::Executor& executor) : context_(context), executor_(executor) {}

  void Start();
  void Interrupt() { stop_.Set(); }
  void Stop();

 private:
  void Run();
  void RunAfter(base::Duration delay);

  Context& context_;
  base::Executor& executor_;
  StopSignal stop_;
  base::Timer timer_;
};

}  // namespace holdfast::broker
