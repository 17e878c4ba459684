// One Produce request of a local client: checked as a broker would check it, handed to the sink,
// answered when the sink has made it durable.
//
// Threads: Begin on the connection's loop; the answer leaves from there, too.
#pragma once

#include <memory>

#include "base/buffer.h"
#include "kafka/api/produce.h"
#include "kafka/codec.h"
#include "net/event_loop.h"
#include "net/reply.h"
#include "proxy/front_door.h"
#include "proxy/gate.h"

namespace holdfast::proxy {

// Takes the request over and answers it, now or later. `cluster` says which partitions there are,
// `gate` what the client may produce. Returns for how long the client's connection should not be
// read, since it is over its rate.
base::Duration BeginProduce(FrontDoor& front, net::EventLoop& loop, const Cluster& cluster,
                            const Gate& gate, base::Buffer frame,
                            const kafka::RequestHeader& header, kafka::ProduceRequest request,
                            net::Reply reply);

}  // namespace holdfast::proxy
