// The broker given other settings: a spool operation, as those of broker/topic_changes.h.
//
// Threads: made anywhere; everything else on the writer, where `done` runs, too. After it the
//   settings are published, and the topics that go by them.
#pragma once

#include <memory>
#include <vector>

#include "broker/broker_config.h"
#include "broker/log.h"
#include "broker/topic_changes.h"

namespace holdfast::broker {

struct BrokerAlteration {
  BrokerScope scope = BrokerScope::kThis;
  bool replaces = false;  // What was set before is forgotten.
  std::vector<ConfigChange> changes;
};

// Changes `config`; what it is after an error is of no use.
TopicOutcome ApplyChanges(const BrokerAlteration& alteration, BrokerConfig* config);

// One outcome for each alteration, in their order.
std::unique_ptr<spool::Operation> AlterBroker(Log& log, std::vector<BrokerAlteration> alterations,
                                              TopicsDone done);

}  // namespace holdfast::broker
