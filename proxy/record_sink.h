// Where accepted records go. The proxy checks what clients send and hands it over; the agent
// implements this on its spool.
//
// Ownership: a request belongs to the sink from Append until it is given back through Complete.
// Threads: all calls from any thread; Complete and `done` run on a thread of the sink's choice, and
//   may not block it.
// Shutdown: requests that cannot be served any more are completed with errors.
// Limits: the sink bounds what it holds and refuses the rest with a code that clients retry.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "kafka/error_code.h"

namespace holdfast::proxy {

// When a record is acknowledged; each is stricter than the one before it.
enum class Acks : uint8_t {
  kLocal,     // This host's disk has the record.
  kUpstream,  // The tier has it.
  kBoth,      // The tier has it, and this disk knows that.
};

// One record batch for one partition, and what became of it.
struct SinkEntry {
  std::string_view topic;
  int32_t partition = 0;
  std::string_view batch;  // Passed kafka::CheckProduced.

  // The answer. The base offset is the ordinal of the batch's first record among all records that
  // this agent took for the partition: it grows like a log's offsets, but it is not the tier's
  // offset, which does not exist yet.
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  int64_t base_offset = -1;
  std::string message = {};  // With an error.
};

// The batches of one produce request: all are made durable together, but each may be refused for
// itself.
class SinkRequest {
 public:
  virtual ~SinkRequest() = default;
  // All entries have their answers, and what was accepted is durable.
  virtual void Complete(std::unique_ptr<SinkRequest> self) = 0;
  // The answer may be long in coming; the sink has a limit of its own for what waits so, and counts
  // `memory` against it. Perhaps more than once; as Complete, on a thread of the sink's choice.
  virtual void OnWait() {}

  std::vector<SinkEntry> entries;  // Views into what the request itself owns.
  // Whose limits count: the user that the client has authenticated itself as, or its client.id.
  std::string_view client;
  base::Duration timeout = std::chrono::seconds(30);  // How long the client waits.
  Acks acks = Acks::kLocal;                           // At least; a topic may ask for more.
  size_t memory = 0;  // What it holds, if that is more than its batches.
};

class RecordSink {
 public:
  virtual ~RecordSink() = default;
  virtual void Append(std::unique_ptr<SinkRequest> request) = 0;

  // Counts the request against the rates that its topics and its client may have. As with Kafka's
  // quotas the request is served, and its connection is not read for the time returned.
  virtual base::Duration Charge(const SinkRequest& /*request*/, base::TimePoint /*now*/) {
    return {};
  }

  // An id that no local producer has had before, for idempotent producers without transactions.
  using ProducerIdDone = base::UniqueFunction<void(base::Result<int64_t>)>;
  virtual void NewProducerId(ProducerIdDone done) = 0;
};

}  // namespace holdfast::proxy
