// Rules against a plain model that looks at every one of them for every question.
#include "broker/acls.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/random.h"
#include "broker/authorizer.h"
#include "broker/records.h"

namespace holdfast::broker {
namespace {

using Verdict = Acls::Verdict;

Acl Rule(Permission permission, AclOperation operation, std::string name,
         PatternType pattern = PatternType::kLiteral, std::string principal = "User:a",
         std::string host = "*") {
  return {.resource = ResourceType::kTopic,
          .name = std::move(name),
          .pattern = pattern,
          .principal = std::move(principal),
          .host = std::move(host),
          .operation = operation,
          .permission = permission};
}

bool Covers(const Acl& acl, ResourceType type, std::string_view name) {
  if (acl.resource != type) return false;
  if (acl.pattern == PatternType::kPrefixed) return name.starts_with(acl.name);
  return acl.name == name || acl.name == "*";
}

bool SpeaksOf(const Acl& acl, const Subject& who) {
  return (acl.principal == who.principal || acl.principal == "User:*") &&
         (acl.host == who.host || acl.host == "*");
}

// What the rules say, from their definition.
Verdict PlainJudge(const std::vector<Acl>& rules, const Subject& who, AclOperation operation,
                   ResourceType type, std::string_view name) {
  bool any = false;
  bool allowed = false;
  for (const Acl& acl : rules) {
    if (!Covers(acl, type, name)) continue;
    any = true;
    if (!SpeaksOf(acl, who)) continue;
    const bool same = acl.operation == AclOperation::kAll || acl.operation == operation;
    if (acl.permission == Permission::kDeny) {
      if (same) return Verdict::kDenied;
      continue;
    }
    allowed |= same;
    const auto by = [&](AclOperation other) { return acl.operation == other; };
    if (operation == AclOperation::kDescribe) {
      allowed |= by(AclOperation::kRead) || by(AclOperation::kWrite) || by(AclOperation::kDelete) ||
                 by(AclOperation::kAlter);
    }
    if (operation == AclOperation::kDescribeConfigs) allowed |= by(AclOperation::kAlterConfigs);
  }
  if (allowed) return Verdict::kAllowed;
  return any ? Verdict::kDenied : Verdict::kNoRules;
}

// Kafka's authorizeByResourceType, step by step.
bool PlainAllowsSome(const std::vector<Acl>& rules, const Subject& who, AclOperation operation,
                     ResourceType type) {
  std::vector<const Acl*> allow;
  std::vector<const Acl*> deny;
  for (const Acl& acl : rules) {
    if (acl.resource != type || !SpeaksOf(acl, who)) continue;
    if (acl.operation != operation && acl.operation != AclOperation::kAll) continue;
    (acl.permission == Permission::kDeny ? deny : allow).push_back(&acl);
  }
  const auto any_all = [](const Acl* acl) {
    return acl->pattern == PatternType::kLiteral && acl->name == "*";
  };
  if (std::ranges::any_of(deny, any_all)) return false;
  if (std::ranges::any_of(allow, any_all)) return true;
  return std::ranges::any_of(allow, [&](const Acl* one) {
    return std::ranges::none_of(deny, [&](const Acl* other) {
      if (other->pattern == PatternType::kPrefixed) return one->name.starts_with(other->name);
      return one->pattern == PatternType::kLiteral && one->name == other->name;
    });
  });
}

class Chance {
 public:
  explicit Chance(uint64_t seed) : random_(seed) {}
  size_t Below(size_t count) { return random_.Below(count); }
  template <class T, size_t N>
  T Of(const T (&items)[N]) {
    return items[Below(N)];
  }

 private:
  base::Random random_;
};

constexpr const char* kNames[] = {"*", "a", "ab", "abc", "abd", "b", "orders", "orders-eu", "o"};
constexpr const char* kPrincipals[] = {"User:a", "User:b", "User:*", "User:ANONYMOUS"};
constexpr const char* kHosts[] = {"*", "10.0.0.1", "10.0.0.2"};
constexpr ResourceType kTypes[] = {ResourceType::kTopic, ResourceType::kGroup,
                                   ResourceType::kTransactionalId};

AclOperation AnyOperation(Chance& chance) {
  return static_cast<AclOperation>(
      chance.Below(static_cast<size_t>(AclOperation::kIdempotentWrite) - 1) + 2);
}

Acl AnyRule(Chance& chance) {
  return {.resource = chance.Of(kTypes),
          .name = chance.Of(kNames),
          .pattern = chance.Below(2) == 0 ? PatternType::kLiteral : PatternType::kPrefixed,
          .principal = chance.Of(kPrincipals),
          .host = chance.Of(kHosts),
          .operation = AnyOperation(chance),
          .permission = chance.Below(3) == 0 ? Permission::kDeny : Permission::kAllow};
}

TEST(AclsTest, VerdictsAreThoseOfAPlainModel) {
  size_t verdicts[3] = {};
  size_t some[2] = {};
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Chance chance(seed);
    Acls acls;
    std::vector<Acl> plain;
    const size_t size = chance.Below(25);
    for (size_t step = 0; step < 60; ++step) {
      if (plain.size() > size || (!plain.empty() && chance.Below(4) == 0)) {
        const size_t at = chance.Below(plain.size());
        acls.Erase(plain[at]);
        plain.erase(plain.begin() + static_cast<ptrdiff_t>(at));
      } else {
        const Acl acl = AnyRule(chance);
        acls.Put(acl);
        if (std::ranges::find(plain, acl) == plain.end()) plain.push_back(acl);
      }
      ASSERT_EQ(acls.all().size(), plain.size());
      for (int question = 0; question < 10; ++question) {
        const Subject who{chance.Of(kPrincipals), chance.Of(kHosts)};
        const AclOperation operation = AnyOperation(chance);
        const ResourceType type = chance.Of(kTypes);
        const char* name = chance.Of(kNames);
        const Verdict verdict = acls.Judge(who, operation, type, name);
        ASSERT_EQ(verdict, PlainJudge(plain, who, operation, type, name))
            << "seed " << seed << ", step " << step << ": " << who.principal << " at " << who.host
            << ", operation " << static_cast<int>(operation) << " on " << name;
        ++verdicts[static_cast<size_t>(verdict)];
        const bool any = acls.AllowsSome(who, operation, type);
        ASSERT_EQ(any, PlainAllowsSome(plain, who, operation, type))
            << "seed " << seed << ", step " << step << ": " << who.principal;
        ++some[any ? 1 : 0];
      }
    }
  }
  for (const size_t count : verdicts) EXPECT_GT(count, 1000u) << "every verdict must be met often";
  for (const size_t count : some) EXPECT_GT(count, 1000u);
}

TEST(AclsTest, DenyingAnOperationDeniesNotWhatItImplies) {
  Acls acls;
  acls.Put(Rule(Permission::kAllow, AclOperation::kDescribe, "t"));
  acls.Put(Rule(Permission::kDeny, AclOperation::kRead, "t"));
  const Subject who{"User:a", "10.0.0.1"};
  EXPECT_EQ(acls.Judge(who, AclOperation::kRead, ResourceType::kTopic, "t"), Verdict::kDenied);
  EXPECT_EQ(acls.Judge(who, AclOperation::kDescribe, ResourceType::kTopic, "t"), Verdict::kAllowed);
}

TEST(AclsTest, ARuleForSomebodyElseClosesTheResource) {
  Acls acls;
  acls.Put(Rule(Permission::kAllow, AclOperation::kRead, "orders", PatternType::kPrefixed));
  const Subject other{"User:b", "10.0.0.1"};
  EXPECT_EQ(acls.Judge(other, AclOperation::kRead, ResourceType::kTopic, "orders-eu"),
            Verdict::kDenied);
  EXPECT_EQ(acls.Judge(other, AclOperation::kRead, ResourceType::kTopic, "payments"),
            Verdict::kNoRules);
}

// As rules were kept while a peer of a listener for both families was known by such an address.
TEST(AclsTest, AHostIsTheSameHoweverItIsWritten) {
  const auto rule = [](Permission permission, std::string host) {
    return Rule(permission, AclOperation::kRead, "t", PatternType::kLiteral, "User:a",
                std::move(host));
  };
  Acls acls;
  acls.Put(rule(Permission::kAllow, "*"));
  acls.Put(rule(Permission::kDeny, "::ffff:10.0.0.5"));
  acls.Put(rule(Permission::kDeny, "10.0.0.5"));
  acls.Put(rule(Permission::kDeny, "2001:DB8:0::1"));
  acls.Put(rule(Permission::kDeny, "no figures"));
  EXPECT_EQ(acls.all().size(), 5u) << "shown as they were given";
  const auto judge = [&](std::string_view host) {
    return acls.Judge({"User:a", host}, AclOperation::kRead, ResourceType::kTopic, "t");
  };
  EXPECT_EQ(judge("10.0.0.5"), Verdict::kDenied);
  EXPECT_EQ(judge("2001:db8::1"), Verdict::kDenied);
  EXPECT_EQ(judge("no figures"), Verdict::kDenied);
  EXPECT_EQ(judge("10.0.0.6"), Verdict::kAllowed);
  acls.Erase(rule(Permission::kDeny, "10.0.0.5"));
  EXPECT_EQ(judge("10.0.0.5"), Verdict::kDenied) << "the other one is left";
  EXPECT_FALSE(acls.AllowsSome({"User:a", "10.0.0.5"}, AclOperation::kRead, ResourceType::kTopic));
  acls.Erase(rule(Permission::kDeny, "::ffff:10.0.0.5"));
  EXPECT_EQ(judge("10.0.0.5"), Verdict::kAllowed);

  AclFilter filter;
  filter.host = "10.0.0.5";
  EXPECT_TRUE(filter.Fits(rule(Permission::kDeny, "::FFFF:10.0.0.5")));
  EXPECT_FALSE(filter.Fits(rule(Permission::kDeny, "10.0.0.6")));
  EXPECT_FALSE(filter.Fits(rule(Permission::kDeny, "*")));
}

TEST(AclsTest, FiltersFitAsKafkasDo) {
  const Acl whole = Rule(Permission::kAllow, AclOperation::kRead, "orders");
  const Acl all = Rule(Permission::kAllow, AclOperation::kRead, "*");
  const Acl prefix = Rule(Permission::kAllow, AclOperation::kRead, "ord", PatternType::kPrefixed);
  const auto fits = [](const AclFilter& filter, const Acl& acl) { return filter.Fits(acl); };

  AclFilter filter;
  EXPECT_TRUE(fits(filter, whole) && fits(filter, all) && fits(filter, prefix));
  filter.name = "orders";
  EXPECT_TRUE(fits(filter, whole));
  EXPECT_FALSE(fits(filter, all) || fits(filter, prefix)) << "names are compared as they are";
  filter.pattern = PatternType::kMatch;
  EXPECT_TRUE(fits(filter, whole) && fits(filter, all) && fits(filter, prefix));
  filter.name = "or";
  EXPECT_TRUE(fits(filter, all));
  EXPECT_FALSE(fits(filter, whole) || fits(filter, prefix));
  filter = {.name = "ord", .pattern = PatternType::kPrefixed};
  EXPECT_TRUE(fits(filter, prefix));
  EXPECT_FALSE(fits(filter, whole));
  filter = {.principal = "User:b"};
  EXPECT_FALSE(fits(filter, whole));
  filter = {.host = "10.0.0.1"};
  EXPECT_FALSE(fits(filter, whole)) << "a host is compared as it is, too";
  filter = {.operation = AclOperation::kDescribe};
  EXPECT_FALSE(fits(filter, whole)) << "what is implied is no rule";
  filter = {.permission = Permission::kDeny};
  EXPECT_FALSE(fits(filter, whole));
  filter = {.resource = ResourceType::kGroup};
  EXPECT_FALSE(fits(filter, whole));
}

TEST(AclsTest, KeysHoldTheWholeRule) {
  Chance chance(7);
  for (int i = 0; i < 1000; ++i) {
    Acl acl = AnyRule(chance);
    acl.name += std::string(chance.Below(240), 'x');
    const auto parsed = ParseAclKey(AclKey(acl));
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(*parsed, acl);
  }
  EXPECT_FALSE(ParseAclKey("r").has_value());
  EXPECT_FALSE(ParseAclKey(std::string("r\x09\x03\x03\x03\0\1a\0\1b*", 12)).has_value())
      << "there is no resource of type 9";
}

TEST(AuthorizerTest, RemembersNoMoreThanItsBytes) {
  Published<Acls> published;
  const AuthorizerOptions options{.enabled = true, .super_users = {}};
  Authorizer authorizer(published, options);
  const kafka::Caller caller{std::make_shared<const kafka::Peer>(
                                 kafka::Peer{.address = "10.0.0.1", .principal = "User:a"}),
                             "", 0};
  const auto ask = [&](const std::string& name) {
    EXPECT_FALSE(authorizer.Allows(caller, AclOperation::kDescribe, ResourceType::kGroup, name));
  };
  ask("g");
  const size_t one = authorizer.remembered_bytes();
  EXPECT_GT(one, 0u);
  ask("g");
  EXPECT_EQ(authorizer.remembered_bytes(), one);
  for (int i = 0; i < 1000; ++i) {
    ask(std::string(30'000, 'x') + std::to_string(i));
    ASSERT_LE(authorizer.remembered_bytes(), Authorizer::kRememberedBytesMax);
  }
  EXPECT_GT(authorizer.remembered_bytes(), 30'000u);
}

TEST(AuthorizerTest, RemembersOnlyUntilTheRulesChange) {
  Published<Acls> published;
  const AuthorizerOptions options{.enabled = true, .super_users = {"User:admin"}};
  Authorizer authorizer(published, options);
  authorizer.Refresh();
  const auto caller = [](std::string principal, std::string host) {
    return kafka::Caller{std::make_shared<const kafka::Peer>(kafka::Peer{
                             .address = std::move(host), .principal = std::move(principal)}),
                         "", 0};
  };
  const auto may = [&](const kafka::Caller& who) {
    return authorizer.Allows(who, AclOperation::kRead, ResourceType::kTopic, "t");
  };
  EXPECT_TRUE(may(caller("User:admin", "10.0.0.1")));
  EXPECT_FALSE(may(caller("User:a", "10.0.0.1")));

  auto acls = std::make_shared<Acls>();
  acls->Put(Rule(Permission::kAllow, AclOperation::kRead, "t", PatternType::kLiteral, "User:a",
                 "10.0.0.1"));
  acls->Put(Rule(Permission::kDeny, AclOperation::kAll, "t", PatternType::kLiteral, "User:*",
                 "10.0.0.9"));
  published.Publish(acls);
  authorizer.Refresh();
  EXPECT_TRUE(may(caller("User:a", "10.0.0.1")));
  EXPECT_FALSE(may(caller("User:a", "10.0.0.2"))) << "another host is another question";
  EXPECT_FALSE(may(caller("User:b", "10.0.0.1")));
  EXPECT_TRUE(may(caller("User:admin", "10.0.0.9"))) << "nothing holds for super users";

  published.Publish(std::make_shared<Acls>());
  authorizer.Refresh();
  EXPECT_FALSE(may(caller("User:a", "10.0.0.1")));
}

}  // namespace
}  // namespace holdfast::broker
