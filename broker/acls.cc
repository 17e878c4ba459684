#include "broker/acls.h"

#include <algorithm>

#include "net/address.h"

namespace holdfast::broker {

bool AclFilter::Fits(const Acl& acl) const {
  const auto fits = [](const std::optional<std::string>& wanted, const std::string& text) {
    return !wanted || *wanted == text;
  };
  if (resource != ResourceType::kAny && resource != acl.resource) return false;
  if (!fits(principal, acl.principal)) return false;
  if (!fits(host, acl.host) && net::CanonicalHost(*host) != net::CanonicalHost(acl.host))
    return false;
  if (operation != AclOperation::kAny && operation != acl.operation) return false;
  if (permission != Permission::kAny && permission != acl.permission) return false;
  if (pattern != PatternType::kMatch) {
    return (pattern == PatternType::kAny || pattern == acl.pattern) && fits(name, acl.name);
  }
  if (!name) return true;
  return acl.pattern == PatternType::kPrefixed ? name->starts_with(acl.name)
                                               : acl.name == *name || acl.name == kWildcard;
}

bool Implies(AclOperation allowed, AclOperation asked) {
  if (allowed == AclOperation::kAll || allowed == asked) return true;
  switch (asked) {
    case AclOperation::kDescribe:
      return allowed == AclOperation::kRead || allowed == AclOperation::kWrite ||
             allowed == AclOperation::kDelete || allowed == AclOperation::kAlter;
    case AclOperation::kDescribeConfigs:
      return allowed == AclOperation::kAlterConfigs;
    default:
      return false;
  }
}

struct Acls::Finding {
  bool any_rule = false;
  bool allowed = false;
  bool denied = false;
};

void Acls::Put(const Acl& acl) {
  if (!all_.insert(acl).second) return;
  OfType& of_type = types_.at(static_cast<size_t>(acl.resource));
  const bool prefixed = acl.pattern == PatternType::kPrefixed;
  Rules& rules = (prefixed ? of_type.prefixed : of_type.literal)[acl.name];
  rules[acl.principal].push_back({net::CanonicalHost(acl.host), acl.operation, acl.permission});
  if (prefixed) NoteLengths(&of_type);
}

void Acls::Erase(const Acl& acl) {
  if (all_.erase(acl) == 0) return;
  OfType& of_type = types_.at(static_cast<size_t>(acl.resource));
  const bool prefixed = acl.pattern == PatternType::kPrefixed;
  auto& patterns = prefixed ? of_type.prefixed : of_type.literal;
  Rules& rules = patterns[acl.name];
  std::vector<Entry>& entries = rules[acl.principal];
  // One alone: the same rule may be there with its host written another way.
  const Entry gone{net::CanonicalHost(acl.host), acl.operation, acl.permission};
  entries.erase(std::ranges::find(entries, gone));
  if (entries.empty()) rules.erase(acl.principal);
  if (rules.empty()) patterns.erase(acl.name);
  if (prefixed) NoteLengths(&of_type);
}

void Acls::NoteLengths(OfType* of_type) {
  std::set<size_t> lengths;
  for (const auto& [name, rules] : of_type->prefixed) lengths.insert(name.size());
  of_type->prefix_lengths.assign(lengths.begin(), lengths.end());
}

void Acls::Look(const Rules& rules, const Subject& subject, AclOperation operation,
                Finding* finding) {
  finding->any_rule = true;
  const auto look = [&](std::string_view principal) {
    const auto found = rules.find(principal);
    if (found == rules.end()) return;
    for (const Entry& entry : found->second) {
      if (entry.host != kWildcard && entry.host != subject.host) continue;
      if (entry.permission == Permission::kAllow) {
        finding->allowed |= Implies(entry.operation, operation);
      } else {
        finding->denied |= entry.operation == AclOperation::kAll || entry.operation == operation;
      }
    }
  };
  look(subject.principal);
  if (subject.principal != kAnyUser) look(kAnyUser);
}

Acls::Verdict Acls::Judge(const Subject& subject, AclOperation operation, ResourceType type,
                          std::string_view name) const {
  const OfType& of_type = types_.at(static_cast<size_t>(type));
  Finding finding;
  const auto look = [&](const ByText<Rules>& patterns, std::string_view pattern) {
    const auto found = patterns.find(pattern);
    if (found != patterns.end()) Look(found->second, subject, operation, &finding);
  };
  look(of_type.literal, name);
  if (name != kWildcard) look(of_type.literal, kWildcard);
  for (const size_t length : of_type.prefix_lengths) {
    if (length > name.size()) break;
    look(of_type.prefixed, name.substr(0, length));
  }
  if (finding.denied) return Verdict::kDenied;
  if (finding.allowed) return Verdict::kAllowed;
  return finding.any_rule ? Verdict::kDenied : Verdict::kNoRules;
}

// As Kafka looks at it: a rule that allows counts unless one that denies covers its whole pattern.
bool Acls::AllowsSome(const Subject& subject, AclOperation operation, ResourceType type) const {
  const OfType& of_type = types_.at(static_cast<size_t>(type));
  const auto has = [&](const ByText<Rules>& patterns, std::string_view pattern,
                       Permission permission) {
    const auto found = patterns.find(pattern);
    if (found == patterns.end()) return false;
    const auto speaks = [&](const Entry& entry) {
      return entry.permission == permission &&
             (entry.operation == operation || entry.operation == AclOperation::kAll) &&
             (entry.host == kWildcard || entry.host == subject.host);
    };
    for (const std::string_view principal : {subject.principal, kAnyUser}) {
      const auto rules = found->second.find(principal);
      if (rules != found->second.end() && std::ranges::any_of(rules->second, speaks)) return true;
    }
    return false;
  };
  if (has(of_type.literal, kWildcard, Permission::kDeny)) return false;
  if (has(of_type.literal, kWildcard, Permission::kAllow)) return true;
  const auto covered = [&](std::string_view pattern) {
    return std::ranges::any_of(of_type.prefix_lengths, [&](size_t length) {
      return length <= pattern.size() &&
             has(of_type.prefixed, pattern.substr(0, length), Permission::kDeny);
    });
  };
  for (const auto& [name, rules] : of_type.literal) {
    if (has(of_type.literal, name, Permission::kAllow) &&
        !has(of_type.literal, name, Permission::kDeny) && !covered(name)) {
      return true;
    }
  }
  return std::ranges::any_of(of_type.prefixed, [&](const auto& pattern) {
    return has(of_type.prefixed, pattern.first, Permission::kAllow) && !covered(pattern.first);
  });
}

}  // namespace holdfast::broker
