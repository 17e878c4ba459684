// The topics that Kafka keeps the state of groups and transactions in. Here that is in the spool's
// state, and these topics are shown and empty: tools and clients look for them. They come to be
// when a coordinator is first asked for, as in Kafka, and clients cannot produce to them.
//
// Threads: plain functions on values.
#pragma once

#include <string_view>

#include "broker/topic_changes.h"

namespace holdfast::broker {

inline constexpr std::string_view kOffsetsTopic = "__consumer_offsets";
inline constexpr std::string_view kTransactionsTopic = "__transaction_state";
// The client id of Kafka's own tools, which may produce to them.
inline constexpr std::string_view kAdminClientId = "__admin_client";

bool IsInternalTopic(std::string_view name);
// As Kafka makes it: 50 partitions, compacted.
NewTopic MakeInternalTopic(std::string_view name);

}  // namespace holdfast::broker
