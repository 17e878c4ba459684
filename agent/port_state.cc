#include "agent/port_state.h"

#include "base/endian.h"

namespace holdfast::agent {
namespace {

constexpr size_t kPairSize = 4 + 2;

}  // namespace

std::string SerializePorts(const proxy::BrokerPorts::Ports& ports) {
  std::string bytes(ports.size() * kPairSize, '\0');
  char* at = bytes.data();
  for (const auto& [node, port] : ports) {
    base::StoreLittle(at, node);
    base::StoreLittle(at + 4, port);
    at += kPairSize;
  }
  return bytes;
}

std::optional<proxy::BrokerPorts::Ports> ParsePorts(std::string_view bytes) {
  if (bytes.empty() || bytes.size() % kPairSize != 0) return std::nullopt;
  proxy::BrokerPorts::Ports ports;
  for (; !bytes.empty(); bytes.remove_prefix(kPairSize)) {
    ports[base::LoadLittle<int32_t>(bytes.data())] = base::LoadLittle<uint16_t>(bytes.data() + 4);
  }
  return ports;
}

}  // namespace holdfast::agent
