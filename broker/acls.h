// Access rules (ACLs), and what follows from them, as Kafka's StandardAuthorizer has it:
//
// - A rule speaks of one resource by its whole name, of all whose names begin so, or of all (`*`).
// - One rule that denies outweighs all that allow. Where none fits, a resource that any rule speaks
//   of is closed; others are open only with allow_everyone_if_no_acl_found.
// - A host in figures is that address whichever way it is written: ::ffff:10.0.0.5 is 10.0.0.5.
// - Read, Write, Delete and Alter allow Describe as well; AlterConfigs allows DescribeConfigs.
//   Denying them denies nothing else.
//
// Threads: values; published ones are immutable.
// Limits: the name of a resource, principal and host have at most kTextBytesMax bytes together. A
//   question costs a few hash look-ups, one for each length that prefixes have, however many rules
//   there are for other resources and principals.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace holdfast::broker {

// All as the protocol numbers them.
enum class ResourceType : int8_t {
  kUnknown = 0,
  kAny = 1,  // In filters.
  kTopic = 2,
  kGroup = 3,
  kCluster = 4,
  kTransactionalId = 5,
  kDelegationToken = 6,
  kUser = 7,
};
enum class PatternType : int8_t {
  kUnknown = 0,
  kAny = 1,    // In filters.
  kMatch = 2,  // In filters: what holds for a resource of this name.
  kLiteral = 3,
  kPrefixed = 4,
};
enum class AclOperation : int8_t {
  kUnknown = 0,
  kAny = 1,  // In filters.
  kAll = 2,
  kRead = 3,
  kWrite = 4,
  kCreate = 5,
  kDelete = 6,
  kAlter = 7,
  kDescribe = 8,
  kClusterAction = 9,
  kDescribeConfigs = 10,
  kAlterConfigs = 11,
  kIdempotentWrite = 12,
  kCreateTokens = 13,
  kDescribeTokens = 14,
  kTwoPhaseCommit = 15,
};
enum class Permission : int8_t { kUnknown = 0, kAny = 1, kDeny = 2, kAllow = 3 };

// The cluster's name as a resource.
inline constexpr std::string_view kClusterResource = "kafka-cluster";
inline constexpr std::string_view kWildcard = "*";
inline constexpr std::string_view kAnyUser = "User:*";

struct Acl {
  // The spool's keys have at most 511 bytes.
  static constexpr size_t kTextBytesMax = 490;

  ResourceType resource = ResourceType::kTopic;
  std::string name;
  PatternType pattern = PatternType::kLiteral;
  std::string principal;  // "User:orders"
  std::string host;       // An address, or `*`; as it was written, whichever way that is.
  AclOperation operation = AclOperation::kAll;
  Permission permission = Permission::kAllow;

  auto operator<=>(const Acl&) const = default;
};

struct AclFilter {
  ResourceType resource = ResourceType::kAny;
  std::optional<std::string> name = {};  // None: every one; so in the others.
  PatternType pattern = PatternType::kAny;
  std::optional<std::string> principal = {};
  std::optional<std::string> host = {};
  AclOperation operation = AclOperation::kAny;
  Permission permission = Permission::kAny;

  [[nodiscard]] bool Fits(const Acl& acl) const;
};

// Who asks.
struct Subject {
  std::string_view principal;
  std::string_view host;
};

// Whether a rule with `allowed` in it, which allows, allows `asked`.
bool Implies(AclOperation allowed, AclOperation asked);

class Acls {
 public:
  enum class Verdict : uint8_t { kAllowed, kDenied, kNoRules };

  void Put(const Acl& acl);
  void Erase(const Acl& acl);

  [[nodiscard]] const std::set<Acl>& all() const { return all_; }
  // kNoRules: there is none for this resource.
  [[nodiscard]] Verdict Judge(const Subject& subject, AclOperation operation, ResourceType type,
                              std::string_view name) const;
  // Whether there may be a resource of this type, present or future, for which the rules allow it.
  [[nodiscard]] bool AllowsSome(const Subject& subject, AclOperation operation,
                                ResourceType type) const;

 private:
  struct Entry {
    std::string host;  // As net::CanonicalHost has it.
    AclOperation operation;
    Permission permission;

    bool operator==(const Entry&) const = default;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  template <class Value>
  using ByText = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;
  // The rules for one pattern, by principal.
  using Rules = ByText<std::vector<Entry>>;
  struct OfType {
    ByText<Rules> literal;
    ByText<Rules> prefixed;
    std::vector<size_t> prefix_lengths;  // Ascending.
  };
  struct Finding;

  static void Look(const Rules& rules, const Subject& subject, AclOperation operation,
                   Finding* finding);
  static void NoteLengths(OfType* of_type);

  std::set<Acl> all_;
  std::array<OfType, 8> types_;
};

}  // namespace holdfast::broker
