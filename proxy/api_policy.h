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

#include "kafka/api/api_versions.h"
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

// What requests that pass through may have to be read for.
enum ReadFor : uint8_t {
  kForNothing = 0,
  kForRules = 1,         // proxy/access.h
  kForAgentState = 2,    // proxy/agent_state.h
  kForTransactions = 4,  // proxy/transaction_requests.h
};

struct ApiPolicy {
  int16_t key = 0;
  std::string_view name;
  Way way = Way::kPassed;
  Away away = Away::kCloses;
  // The newest version whose addresses are known, or that the agent itself answers or always reads.
  int16_t newest = kafka::kNever;
  // The oldest that the agent itself answers, or that passes.
  int16_t oldest = 0;
  // Of ReadFor, and the versions that can be read.
  uint8_t read_for = kForNothing;
  int16_t oldest_read = 0;
  int16_t newest_read = kafka::kNever;

  [[nodiscard]] constexpr bool Offers(int16_t version) const {
    return oldest <= version && version <= newest;
  }
};

// What brokers of Kafka 4.2 serve, by key. Requests beyond it pass through byte by byte.
std::span<const ApiPolicy> ApiPolicies();
ApiPolicy PolicyOf(int16_t api_key);

// Where requests are read for what is asked, a client is not offered versions that cannot be.
void KeepToRead(kafka::ApiVersionsResponse& versions, uint8_t read_for);

// The Markdown table for docs/protocol.md.
std::string RenderApiPolicies();

}  // namespace holdfast::proxy
