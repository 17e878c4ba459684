// How long a request that passes through may rightly take: some ask the tier to wait for records or
// for other members of a group.
//
// Threads: any; pure.
#pragma once

#include <string_view>

#include "base/executor.h"
#include "kafka/codec.h"

namespace holdfast::proxy {

// A group's members may take that long to join again, if the request does not tell.
inline constexpr base::Duration kRebalanceWait = std::chrono::minutes(5);
// No request is waited for longer, whatever it asks for.
inline constexpr base::Duration kOwnWaitMax = std::chrono::hours(1);

// What `frame` (without its length) allows the tier beyond the time that any answer takes; zero for
// most requests, and for those that are not readable.
base::Duration WaitOf(std::string_view frame, const kafka::RequestHeader& header);

}  // namespace holdfast::proxy
