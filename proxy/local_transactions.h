// The coordinator of transactions that the agent serves itself, with the tier away as with it
// there. The proxy reads the requests and writes the answers; the agent implements this.
//
// Error codes are those of the newest versions; what an older client is told instead is the
// proxy's business (proxy/transaction_requests.h).
//
// Threads: all calls from any thread; `done` runs on a thread of the coordinator's choice, and may
//   not block it. Ownership: outlives the sessions.
// Shutdown: requests that cannot be served any more are answered with errors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_function.h"
#include "kafka/error_code.h"
#include "kafka/record_batch.h"
#include "proxy/record_sink.h"

namespace holdfast::proxy {

class LocalTransactions {
 public:
  struct Producer {
    int64_t id = kafka::kNoProducerId;
    int16_t epoch = kafka::kNoProducerEpoch;

    bool operator==(const Producer&) const = default;
  };
  // In which form the client speaks of transactions. In the second (KIP-890) it does not name
  // partitions beforehand, and each transaction has an epoch of its own.
  enum class Protocol : uint8_t { kFirst, kSecond };
  // Whose transaction a request is about, and who asks, as a principal; nobody in particular if
  // that is empty. An id is of who was the first to take it by name: others are answered
  // TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
  struct Target {
    std::string transactional_id;
    std::string principal = {};
  };
  using Partitions = std::vector<std::pair<std::string, int32_t>>;
  using Done = base::UniqueFunction<void(kafka::ErrorCode)>;
  // With the id and epoch to be used from now on.
  using OnProducer = base::UniqueFunction<void(kafka::ErrorCode, Producer)>;

  virtual ~LocalTransactions() = default;

  // Whether transactions of this id are local ones.
  [[nodiscard]] virtual bool Owns(std::string_view transactional_id) const = 0;

  // Fences all producers that had the id before, and gives up what they had open. `known` is set if
  // a producer renews its own epoch.
  virtual void InitProducer(Target target, int32_t timeout_ms, Producer known, OnProducer done) = 0;
  virtual void AddPartitions(Target target, Producer producer, Partitions partitions,
                             Done done) = 0;
  // The batches become part of the open transaction, and are answered without offsets.
  virtual void Append(Target target, Protocol protocol, std::unique_ptr<SinkRequest> request) = 0;
  // A commit is answered when it is durable.
  virtual void End(Target target, Producer producer, bool commit, Protocol protocol,
                   OnProducer done) = 0;
};

}  // namespace holdfast::proxy
