// The mapping of brokers to local ports as it is kept over restarts. Threads: any; pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "proxy/broker_ports.h"

namespace holdfast::agent {

std::string SerializePorts(const proxy::BrokerPorts::Ports& ports);
// None if it is damaged or empty: then the mapping begins anew.
std::optional<proxy::BrokerPorts::Ports> ParsePorts(std::string_view bytes);

}  // namespace holdfast::agent
