// What an agent with these settings would meet at its tier: every address of every name, TLS,
// login, versions, the cluster and the addresses it tells, rights, and topics.
//
// It is asked as the agent itself, and asked only: the one trace it leaves at the tier is a
// producer id that nobody uses.
//
// Threads: one; it blocks. Limits: kMost for all of it, kStep for each step; kTopicsMax topics and
//   kBrokersMax brokers are looked at.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/doctor/finding.h"
#include "cli/doctor/spool_facts.h"
#include "net/address.h"
#include "proxy/tier_security.h"

namespace holdfast::cli::doctor {

struct UpstreamQuestion {
  static constexpr std::chrono::seconds kMost{30};
  static constexpr std::chrono::seconds kStep{5};
  static constexpr size_t kTopicsMax = 1000;
  static constexpr size_t kBrokersMax = 20;

  struct Topic {
    std::string name;
    bool declared = true;  // In agent.topics.
  };

  std::vector<net::HostPort> bootstrap;
  proxy::TierIdentity identity;
  std::vector<Topic> topics;  // Those with records that wait are added.
  bool transactional = false;
  uint64_t batch_bytes_max = 0;
  std::optional<SpoolFacts> spool;
  int64_t now_ms = 0;
};

Findings CheckUpstream(const UpstreamQuestion& question);

}  // namespace holdfast::cli::doctor
