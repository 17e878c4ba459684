// Topics that the tier itself has shown to a client, on the connection on which the client speaks
// for itself there: of what the agent knows, no others are shown to it while the tier is silent.
//
// Threads: the connection's loop.
// Limits: kTopicsMax names; with more, those that were shown before are forgotten.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>

#include "kafka/api/metadata.h"

namespace holdfast::proxy {

class ShownTopics {
 public:
  static constexpr size_t kTopicsMax = 10000;

  // `all`: the answer is to a question about all topics, so others may not be seen any more.
  void Learn(const kafka::MetadataResponse& answer, bool all) {
    if (all || names_.size() > kTopicsMax) names_.clear();
    for (const auto& topic : answer.topics) {
      if (!topic.name) continue;
      if (topic.error_code == kafka::ErrorCode::kNone ||
          topic.error_code == kafka::ErrorCode::kLeaderNotAvailable) {
        names_.emplace(*topic.name);
      } else {
        names_.erase(std::string(*topic.name));
      }
    }
  }
  void Forget() { names_.clear(); }
  [[nodiscard]] bool Contains(std::string_view name) const {
    return names_.contains(std::string(name));
  }

 private:
  std::unordered_set<std::string> names_;
};

}  // namespace holdfast::proxy
