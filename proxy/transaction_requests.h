// The transactional requests of local clients whose transactions the agent serves itself: read,
// handed to proxy::LocalTransactions, answered in the client's version.
//
// Threads: the connection's loop; answers may leave from any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/buffer.h"
#include "kafka/codec.h"
#include "net/framed_server.h"
#include "net/reply.h"
#include "proxy/front_door.h"

namespace holdfast::proxy {

// Whether requests of this kind may be about a local transaction. Produce is seen to by
// proxy/produce.h.
[[nodiscard]] bool AboutTransactions(int16_t api_key);

// Takes frame and reply, and returns true, if the request is about a local transaction. `node` is
// the broker for which the client takes this listener; `principal`: of LocalTransactions::Target.
bool TakeTransactional(FrontDoor& front, net::Connection& connection, int32_t node,
                       std::string principal, base::Buffer& frame,
                       const kafka::RequestHeader& header, net::Reply& reply);

}  // namespace holdfast::proxy
