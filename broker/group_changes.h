// Groups given other settings: a spool operation, as those of broker/topic_changes.h.
//
// Threads: made anywhere; everything else on the writer, where `done` runs, too. After it the
//   settings are published.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "broker/group_config.h"
#include "broker/log.h"
#include "broker/topic_changes.h"

namespace holdfast::broker {

struct GroupAlteration {
  std::string group;
  bool replaces = false;  // What was set before is forgotten.
  std::vector<ConfigChange> changes;
};

// What the alteration makes of a group's settings.
base::Result<GroupConfig> Altered(const GroupConfig& config, const GroupAlteration& alteration,
                                  const ConsumerGroupOptions& bounds);

// One outcome for each alteration, in their order.
std::unique_ptr<spool::Operation> AlterGroups(Log& log, const ConsumerGroupOptions& bounds,
                                              std::vector<GroupAlteration> alterations,
                                              TopicsDone done);

}  // namespace holdfast::broker
