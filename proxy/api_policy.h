// What the agent does with each request of the Kafka protocol: one table, by which versions are
// offered (proxy/api_versions.h), requests are sorted (proxy/session.h) and docs/protocol.md is
// printed.
//
// Threads: any; constant.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kafka/message.h"

namespace holdfast::proxy {

// While the tier answers.
enum class Way : uint8_t {
  kHere,       // Answered by the agent. What belongs to a transaction passes through.
  kRewritten,  // Passes through; the answer's addresses become the agent's.
  kPassed,     // Passes through byte by byte.
};

// While it does not.
enum class Away : uint8_t {
  kServed,  // As ever.
  kCache,   // From what is known of the tier.
  kRetry,   // With an error on which clients ask again later.
  kCloses,  // The client's connection closes, as if it were the tier's.
};

struct ApiPolicy {
  int16_t key = 0;
  std::string_view name;
  Way way = Way::kPassed;
  Away away = Away::kCloses;
  // The newest version whose addresses are known, or that the agent itself answers.
  int16_t newest = kafka::kNever;
  // The oldest that the agent itself answers.
  int16_t oldest = 0;

  [[nodiscard]] constexpr bool Offers(int16_t version) const {
    return oldest <= version && version <= newest;
  }
};

// What brokers of Kafka 4.2 serve, by key. Requests beyond it pass through byte by byte.
std::span<const ApiPolicy> ApiPolicies();
ApiPolicy PolicyOf(int16_t api_key);

// The Markdown table for docs/protocol.md.
std::string RenderApiPolicies();

}  // namespace holdfast::proxy
