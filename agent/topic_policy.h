// What the configuration says about topics and clients: one resolved, immutable table. It is looked
// up when a stream, a topic or a client is met, never per record; a reload makes a new one.
//
//   Policies policies({{.pattern = "orders.*", .policy = {.ttl_ms = 60000}}}, {});
//   policies.ForTopic("orders.eu").ttl_ms;
//
// Threads: any; constant after it is made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/record_sink.h"

namespace holdfast::agent {

enum class WhenFull : uint8_t { kRefuse, kWait, kDropOldest };

struct TopicPolicy {
  using Acks = proxy::Acks;
  enum class Priority : uint8_t { kLow, kNormal, kHigh };

  Acks acks = Acks::kLocal;
  Priority priority = Priority::kNormal;
  int64_t ttl_ms = 0;                 // 0: for ever.
  uint64_t bytes_max = 0;             // 0: no limit.
  uint64_t bytes_per_second_max = 0;  // 0: no limit.
  WhenFull when_full = WhenFull::kRefuse;

  bool operator==(const TopicPolicy&) const = default;
};

struct ClientPolicy {
  uint64_t bytes_max = 0;             // 0: no limit.
  uint64_t bytes_per_second_max = 0;  // 0: no limit.
  WhenFull when_full = WhenFull::kRefuse;

  bool operator==(const ClientPolicy&) const = default;
};

class Policies {
 public:
  // A pattern is a whole name, or the beginning of names and '*'.
  struct TopicRule {
    std::string pattern;
    TopicPolicy policy;
  };
  struct ClientRule {
    std::string pattern;
    ClientPolicy policy;
  };

  Policies() = default;
  Policies(std::vector<TopicRule> topics, std::vector<ClientRule> clients);

  // Of the first rule that fits, or the defaults.
  [[nodiscard]] const TopicPolicy& ForTopic(std::string_view topic) const;
  // Null if no rule fits: such clients are neither limited nor counted.
  [[nodiscard]] const ClientPolicy* ForClient(std::string_view client) const;
  // Whether there is any rate to be kept.
  [[nodiscard]] bool limits_rates() const { return limits_rates_; }

 private:
  std::vector<TopicRule> topics_;
  std::vector<ClientRule> clients_;
  bool limits_rates_ = false;
};

using PoliciesPtr = std::shared_ptr<const Policies>;

}  // namespace holdfast::agent
