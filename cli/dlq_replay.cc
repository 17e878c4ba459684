// `holdfast dlq replay`: the spool of an agent that is stopped, opened as the agent does it.
#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/dead_letter.h"
#include "agent/dead_letter_replay.h"
#include "agent/record_log.h"
#include "agent/waiting_bytes.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/spool_verbs.h"
#include "kafka/record_batch.h"
#include "metrics/catalogue.h"
#include "metrics/registry.h"
#include "net/event_loop.h"
#include "spool/directory.h"

namespace holdfast::cli {
namespace {

using Replayed = agent::DeadLetterReplay::Replayed;

base::Result<Replayed> Replay(spool::Spool& spool, agent::RecordLog& log, base::Executor& loop,
                              const std::string& name) {
  auto promise = std::make_shared<std::promise<base::Result<Replayed>>>();
  auto replayed = promise->get_future();
  agent::DeadLetterReplay::Start(spool, log, loop, name, [promise](base::Result<Replayed> result) {
    promise->set_value(std::move(result));
  });
  return replayed.get();
}

std::vector<std::string> Origins(const spool::Spool& spool) {
  std::vector<std::string> origins;
  for (const auto& [name, id] : spool.Streams()) {
    const auto origin = agent::ParseDeadLetterStreamName(name);
    const spool::OffsetRange range = spool.Range(id);
    if (origin && range.start != range.end) origins.emplace_back(*origin);
  }
  return origins;
}

// As large as the agent makes them: one larger than its share of bytes_max would be filled beyond
// that.
base::Result<uint64_t> SegmentBytesIn(const std::string& directory) {
  HF_ASSIGN_OR_RETURN(const auto segments, spool::Directory::ListSegments(directory));
  if (segments.empty()) return spool::Options().segment_bytes;
  return std::ranges::max(segments, {}, &spool::Directory::File::bytes).bytes;
}

}  // namespace

base::Result<int> ReplayDeadLetters(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const auto view, spool::Directory::Look(command.directory));
  // Opened, the rest of it would go.
  if (view.being_removed)
    return base::Unexpected(
        base::Code::kInvalid,
        fmt::format("{0}: is being removed, so there is nothing to deliver again. If that was cut "
                    "off, finish it: holdfast spool drop --all {0}",
                    command.directory));
  if (const auto idle = CheckIdle(command.directory); !idle) {
    return base::Unexpected(
        base::Code::kUnavailable,
        idle.error().message +
            ", or ask the agent on its admin port: "
            "curl -X POST 'http://ADMIN/dead-letters/replay?stream=TOPIC/PARTITION'");
  }
  HF_ASSIGN_OR_RETURN(const spool::KeyRing keys, ReadKeys(command));
  HF_ASSIGN_OR_RETURN(const uint64_t segment_bytes, SegmentBytesIn(command.directory));
  metrics::Registry registry;
  metrics::AgentMetrics metrics(registry);
  metrics::NetMetrics net_metrics(registry);
  const auto start = [&net_metrics](std::string name) {
    return net::LoopThread::Start({.name = std::move(name), .metrics = &net_metrics});
  };
  HF_ASSIGN_OR_RETURN(const auto writer, start("writer"));
  HF_ASSIGN_OR_RETURN(const auto background, start("background"));
  agent::WaitingBytes waiting(0);  // Nobody produces.
  agent::RecordLog log(metrics, [](std::span<const spool::StreamId>) {});
  HF_ASSIGN_OR_RETURN(const auto spool,
                      spool::Spool::Open({.directory = command.directory,
                                          .segment_bytes = segment_bytes,
                                          .encryption_keys = keys,
                                          .check_entry = kafka::CheckStored},
                                         log, writer->loop(), background->loop()));
  log.Bind(*spool, writer->loop(), waiting, {});
  const std::vector<std::string> names =
      command.streams.empty() ? Origins(*spool) : command.streams;
  uint64_t lost = 0;
  for (const std::string& name : names) {
    HF_ASSIGN_OR_RETURN(const Replayed replayed, Replay(*spool, log, writer->loop(), name));
    PrintText(fmt::format("{}: {} records are to be delivered again\n", name, replayed.records));
    lost += replayed.lost;
  }
  spool->Close();
  if (names.empty()) Complain("there are no dead letters");
  // The log has said of which partitions.
  return lost == 0 ? kExitFine : kExitFailed;
}

}  // namespace holdfast::cli
