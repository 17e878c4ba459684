#include "agent/topic_policy.h"

#include <algorithm>
#include <utility>

namespace holdfast::agent {
namespace {

constexpr TopicPolicy kDefaultPolicy;

bool Fits(std::string_view pattern, std::string_view name) {
  if (!pattern.ends_with('*')) return pattern == name;
  pattern.remove_suffix(1);
  return name.starts_with(pattern);
}

template <class Rule>
const Rule* Find(const std::vector<Rule>& rules, std::string_view name) {
  const auto found =
      std::ranges::find_if(rules, [&](const Rule& rule) { return Fits(rule.pattern, name); });
  return found == rules.end() ? nullptr : &*found;
}

}  // namespace

Policies::Policies(std::vector<TopicRule> topics, std::vector<ClientRule> clients)
    : topics_(std::move(topics)), clients_(std::move(clients)) {
  const auto limited = [](const auto& rule) { return rule.policy.bytes_per_second_max > 0; };
  limits_rates_ = std::ranges::any_of(topics_, limited) || std::ranges::any_of(clients_, limited);
}

const TopicPolicy& Policies::ForTopic(std::string_view topic) const {
  const TopicRule* rule = Find(topics_, topic);
  return rule == nullptr ? kDefaultPolicy : rule->policy;
}

const ClientPolicy* Policies::ForClient(std::string_view client) const {
  const ClientRule* rule = Find(clients_, client);
  return rule == nullptr ? nullptr : &rule->policy;
}

}  // namespace holdfast::agent
