// What local clients may do: rules over principals, topics and groups, and their application to
// requests. They bound what a client may do through the agent where the tier sees the agent's
// credentials instead of the client's.
//
//   AccessRules rules({{.principal = "User:orders", .topics = {"orders-*"}, .produce = true}});
//   rules.AllowsTopic("User:orders", Operation::kProduce, "orders-eu");   // true
//
// Ownership: values. Threads: any; immutable.
// Limits: none of their own; a request is looked at as often as it names topics.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "kafka/codec.h"
#include "net/reply.h"

namespace holdfast::kafka {
struct MetadataResponse;
}

namespace holdfast::proxy {

struct Cluster;

inline constexpr std::string_view kAnonymous = "User:ANONYMOUS";

enum class Operation : uint8_t { kProduce, kConsume, kAdmin };

// Names are whole, or beginnings with a star behind them.
struct AccessRule {
  std::string principal = {};  // "User:NAME"; "User:*" for all.
  std::vector<std::string> topics = {};
  std::vector<std::string> groups = {};
  bool produce = false;
  bool consume = false;
  bool admin = false;

  [[nodiscard]] bool Has(Operation operation) const;
};

class AccessRules {
 public:
  // Without a rule everything is allowed.
  AccessRules() = default;
  explicit AccessRules(std::vector<AccessRule> rules) : rules_(std::move(rules)) {}

  [[nodiscard]] bool empty() const { return rules_.empty(); }
  [[nodiscard]] bool AllowsTopic(std::string_view principal, Operation operation,
                                 std::string_view topic) const;
  // Any operation: the topic may be seen.
  [[nodiscard]] bool ShowsTopic(std::string_view principal, std::string_view topic) const;
  // On some topic.
  [[nodiscard]] bool AllowsSome(std::string_view principal, Operation operation) const;
  // On all topics.
  [[nodiscard]] bool AllowsAll(std::string_view principal, Operation operation) const;
  [[nodiscard]] bool AllowsGroup(std::string_view principal, std::string_view group) const;

 private:
  template <class Matches>
  [[nodiscard]] bool Any(std::string_view principal, Matches matches) const;

  std::vector<AccessRule> rules_;
};

// Whether the request may go on. If not, it is answered as Kafka answers it, with the error of the
// API where that is known here, by closing the connection where it is not. Produce requests are
// judged where their topics are looked up, Metadata's answers by HideTopics; both pass. Frame and
// reply may have been replaced: a Fetch begins no session, unless all topics may be read, and goes
// on without those that may not; its answer tells of them as well. So do OffsetCommit,
// TxnOffsetCommit and OffsetFetch.
[[nodiscard]] bool MayPass(const AccessRules& rules, std::string_view principal,
                           const Cluster& cluster, base::Buffer& frame,
                           const kafka::RequestHeader& header, net::Reply& reply);

// Takes topics that the principal may not see out of an answer.
void HideTopics(const AccessRules& rules, std::string_view principal,
                kafka::MetadataResponse& response);

}  // namespace holdfast::proxy
