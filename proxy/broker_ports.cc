#include "proxy/broker_ports.h"

#include <algorithm>

#include "base/event.h"
#include "base/log.h"

namespace holdfast::proxy {

BrokerPorts::BrokerPorts(base::Executor& loop, Callbacks callbacks)
    : loop_(loop), callbacks_(std::move(callbacks)), ports_(std::make_shared<const Ports>()) {}

std::shared_ptr<const BrokerPorts::Ports> BrokerPorts::Snapshot() const {
  base::MutexLock lock(mutex_);
  return ports_;
}

int32_t BrokerPorts::BootstrapNode() const {
  const auto ports = Snapshot();
  for (const auto& [node, port] : *ports) {
    if (port == 0) return node;
  }
  return -1;
}

void BrokerPorts::Restore(const Ports& kept) {
  for (const auto& [node, port] : kept) {
    if (port == 0) {
      base::MutexLock lock(mutex_);
      Ports next = *ports_;
      next[node] = 0;
      ports_ = std::make_shared<const Ports>(std::move(next));
    } else {
      Add(node, port);
    }
  }
}

void BrokerPorts::Request(std::vector<int32_t> nodes, base::Task done) {
  loop_.Post([this, nodes = std::move(nodes), done = std::move(done)]() mutable {
    const auto before = Snapshot();
    for (const int32_t node : nodes) {
      if (node >= 0 && !Snapshot()->contains(node)) Add(node, /*wanted=*/0);
    }
    if (const auto after = Snapshot(); after != before) callbacks_.changed(*after);
    done();
  });
}

void BrokerPorts::Add(int32_t node, uint16_t wanted) {
  const auto before = Snapshot();
  Ports next = *before;
  if (BootstrapNode() < 0 && wanted == 0) {
    next[node] = 0;
  } else {
    auto left = next.end();
    if (next.size() >= kBrokersMax) {
      left = std::ranges::find_if(next, [this](const auto& mapped) {
        return mapped.second != 0 && callbacks_.has_left(mapped.first);
      });
      if (left == next.end()) {
        base::Log(base::Event::kBrokersTooMany, "proxy",
                  "the tier has more than {} brokers: broker {} cannot be reached through this "
                  "agent",
                  kBrokersMax, node);
        return;
      }
    }
    const base::Result<uint16_t> port = callbacks_.open(node, wanted);
    if (!port) {
      base::Log(base::Event::kNoBrokerPort, "proxy", "no listener for broker {} of the tier: {}",
                node, port.error().message);
      return;
    }
    if (left != next.end()) {
      callbacks_.close(left->first);
      next.erase(left);
    }
    next[node] = *port;
  }
  base::MutexLock lock(mutex_);
  ports_ = std::make_shared<const Ports>(std::move(next));
}

}  // namespace holdfast::proxy
