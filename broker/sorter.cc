#include "broker/sorter.h"

#include "base/event.h"
#include "base/log.h"

namespace holdfast::broker {

void Sorter::Start() { RunAfter(context_.options.compaction.interval); }

void Sorter::Stop() {
  Interrupt();
  timer_.Cancel();
}

void Sorter::RunAfter(base::Duration delay) {
  if (!stop_.IsSet()) timer_ = executor_.After(delay, [this] { Run(); });
}

void Sorter::Run() {
  Pacer pacer(context_.options.compaction.bytes_per_second_max, stop_);
  const auto report =
      context_.log->spool().Sort(executor_.Now(), [&pacer](size_t bytes) { return pacer(bytes); });
  if (report) {
    context_.metrics.sorted_segments.Add(report->written_segments);
    return RunAfter(report->done ? context_.options.compaction.interval : base::Duration{});
  }
  if (report.error().code == base::Code::kClosed) return;
  // Without space the spool itself makes room of what is trimmed, and says when it is full.
  if (report.error().code != base::Code::kFull) {
    base::Log(base::Event::kNotSorted, "broker",
              "cannot order a segment by partition, and will try again: {}",
              report.error().message);
  }
  RunAfter(context_.options.compaction.interval);
}

}  // namespace holdfast::broker
