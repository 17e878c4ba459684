// Reads records of topics: from given offsets, or as a member of a consumer group.
//
//   HF_ASSIGN_OR_RETURN(const auto consumer, Consumer::Assign(connection, starts, options));
//   while (!consumer->at_end()) {
//     HF_ASSIGN_OR_RETURN(const auto message, consumer->Next(wait));
//     if (message) ... View(*message) ...
//   }
//
// Ownership: the connection outlives it, and it outlives its messages.
// Threads: one. Shutdown: the destructor leaves the group without committing anything. librdkafka
//   waits in it for as long as a tier does not answer what was asked: a process limits its end.
// Limits: when it is to come to the end, kUnavailable if the tier is silent for the connection's
//   timeout; else it waits for ever, but none of these calls does.
#pragma once

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafkacpp.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "client/connection.h"
#include "client/message.h"

namespace holdfast::client {

class Consumer {
 public:
  struct Start {
    std::string topic;
    int32_t partition = 0;
    int64_t offset = 0;
  };
  struct Options {
    bool committed_only = true;
    bool to_end = false;
    Connection::Properties properties = {};  // By librdkafka's names; they win.
    // Of a group: what was given out is processed, whatever happens. Called before a commit, and
    // before partitions go to another member. False: it could not be; nothing is committed.
    std::function<bool()> processed = [] { return true; };
  };

  // No right on any group is needed.
  static base::Result<std::unique_ptr<Consumer>> Assign(const Connection& connection,
                                                        const std::vector<Start>& starts,
                                                        Options options);
  // `from_start`: where the group has no offset yet; else from the end.
  static base::Result<std::unique_ptr<Consumer>> Subscribe(const Connection& connection,
                                                           const std::string& group,
                                                           const std::vector<std::string>& topics,
                                                           bool from_start, Options options);
  ~Consumer();
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;

  // Null: nothing within `wait`. After an error `refusal` says more.
  base::Result<std::unique_ptr<RdKafka::Message>> Next(std::chrono::milliseconds wait);
  // Every partition that this member has was read to its end.
  [[nodiscard]] bool at_end() const { return assigned_ && open_.empty(); }
  struct Refusal {
    int16_t code = 0;   // Kafka's. 0: it was not the tier that refused.
    std::string topic;  // Empty: not of one topic.
  };
  [[nodiscard]] const Refusal& refusal() const { return refusal_; }
  // Of a group: what was given out is done. Waits for nobody: an error is that of an earlier call.
  // None if the tier took this member for gone: it joins again, and what was not committed is given
  // out again, by whoever has the partition then.
  base::Result<> BeginCommit();
  // The same, until it is done. kUnavailable: it was not within `limit`.
  base::Result<> Commit(std::chrono::milliseconds limit);

 private:
  using Partition = std::pair<std::string, int32_t>;
  class Rebalances;
  using Clock = std::chrono::steady_clock;

  Consumer(const Connection& connection, Options options);
  base::Result<> Make(Connection::Properties properties);
  base::Result<> SendCommit();
  RdKafka::ErrorCode TakeAnswer(std::chrono::milliseconds wait);
  [[nodiscard]] base::Result<> ResultOf(RdKafka::ErrorCode committed) const;
  void Forget(const Partition& partition);

  const Connection& connection_;
  const Options options_;
  const std::unique_ptr<Rebalances> rebalances_;
  bool in_group_ = false;
  bool assigned_ = false;
  std::set<Partition> open_;           // Whose end was not seen.
  std::map<Partition, int64_t> next_;  // Given out up to here, and not committed.
  bool committing_ = false;            // Up to here; the tier has not answered:
  std::map<Partition, int64_t> committed_to_;
  bool closing_ = false;
  std::string rebalance_error_;  // Empty: none.
  Clock::time_point heard_ = Clock::now();
  Refusal refusal_;
  std::unique_ptr<RdKafka::KafkaConsumer> consumer_;
  std::unique_ptr<rd_kafka_queue_t, decltype(&rd_kafka_queue_destroy)> answers_{
      nullptr, &rd_kafka_queue_destroy};  // To commits. Goes before the consumer.
};

}  // namespace holdfast::client
