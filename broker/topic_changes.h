// Topics made, deleted, grown and given other settings: spool operations, so that each is durable
// before anybody hears of it, and two that contradict each other are put in order.
//
// Threads: made anywhere; everything else on the writer, where `done` runs, too. After it the
//   catalog shows the change.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_function.h"
#include "broker/admin_change.h"
#include "broker/log.h"
#include "spool/spool.h"

namespace holdfast::broker {

// A state change made of two functions; it appends nothing, so it works when the spool is full.
class StateChange final : public spool::Operation {
 public:
  using ApplyFunction = base::UniqueFunction<void(spool::Transaction&)>;
  using DoneFunction = base::UniqueFunction<void(const base::Result<spool::CommitNumber>&)>;

  StateChange(ApplyFunction apply, DoneFunction done)
      : apply_(std::move(apply)), done_(std::move(done)) {}

  [[nodiscard]] size_t Bytes() const override { return 0; }
  void Apply(spool::Transaction& transaction) override { apply_(transaction); }
  void Done(const base::Result<spool::CommitNumber>& result) override { done_(result); }

 private:
  ApplyFunction apply_;
  DoneFunction done_;
};

struct NewTopic {
  std::string name;  // Valid.
  kafka::Uuid id;
  int32_t partitions = 1;
  TopicConfig config;
};

struct Growth {
  kafka::Uuid topic;
  int32_t partitions = 0;  // How many there are to be.
};

struct Alteration {
  kafka::Uuid topic;
  bool replaces = false;  // What was set before is forgotten.
  std::vector<ConfigChange> changes;
};

// What the alteration makes of a topic's settings.
base::Result<TopicConfig> Altered(const TopicConfig& config, const Alteration& alteration);

std::unique_ptr<spool::Operation> CreateTopics(Log& log, std::vector<NewTopic> topics,
                                               TopicsDone done);
std::unique_ptr<spool::Operation> DeleteTopics(Log& log, std::vector<kafka::Uuid> topics,
                                               TopicsDone done);
std::unique_ptr<spool::Operation> GrowTopics(Log& log, std::vector<Growth> growths,
                                             TopicsDone done);
std::unique_ptr<spool::Operation> AlterTopics(Log& log, std::vector<Alteration> alterations,
                                              TopicsDone done);

}  // namespace holdfast::broker
