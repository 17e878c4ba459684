// What agents keep for themselves at the tier, under transactional ids and groups of their own: how
// far their records have come there (agent/transaction_lane.h). Where requests of clients go with
// the agent's rights no client reaches it, whatever rules say: with a position that is not the
// agent's, records that it has acknowledged would count as delivered.
//
//   if (!SparesAgentState(frame.view(), header, reply)) return;   // It was answered.
//
// Threads: any; pure.
#pragma once

#include <string_view>

#include "kafka/codec.h"
#include "net/reply.h"

namespace holdfast::proxy {

// What the names of all agents begin with.
inline constexpr std::string_view kAgentNames = "holdfast-agent-";

inline bool IsAgentName(std::string_view name) { return name.starts_with(kAgentNames); }

// Whether the request may go on. If not, it is answered with GROUP_ or
// TRANSACTIONAL_ID_AUTHORIZATION_FAILED, or its connection is closed where the API is not known
// here. Of lists of groups and of transactions the answer passes without what is the agents': the
// reply is replaced. Produce is not judged: who has read it asks IsAgentName.
[[nodiscard]] bool SparesAgentState(std::string_view frame, const kafka::RequestHeader& header,
                                    net::Reply& reply);

}  // namespace holdfast::proxy
