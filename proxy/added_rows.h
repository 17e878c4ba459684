// The answer of the tier to a Fetch from which topics were left out that the client may not read,
// with what he is told of them. It passes as it comes, in parts and through pipes.
//
// Threads: the connection's loop.
#pragma once

#include "kafka/fetch_rows.h"
#include "net/reply.h"

namespace holdfast::proxy {

// For the tier's answer, in place of `reply`.
net::Reply WithRows(net::Reply reply, kafka::FetchRows rows);

}  // namespace holdfast::proxy
