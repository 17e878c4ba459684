// `holdfast acl VERB`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cctype>
#include <set>

#include "broker/acls.h"
#include "cli/client_verb.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/spool_verbs.h"
#include "kafka/api/create_acls.h"
#include "kafka/api/delete_acls.h"
#include "kafka/api/describe_acls.h"

namespace holdfast::cli {
namespace {

using base::Code;
using broker::Acl;
using broker::AclFilter;
using broker::AclOperation;
using broker::PatternType;
using broker::Permission;
using broker::ResourceType;
using kafka::ErrorCode;
using Json = nlohmann::ordered_json;

constexpr const char* kCreateFooter =
    R"(A rule for each principal, operation and resource that are named. A principal is User:NAME,
or User:* for everybody; of several rules that fit, one that denies outweighs all that allow.
Operations: all, read, write, create, delete, alter, describe, cluster-action, describe-configs,
alter-configs, idempotent-write, create-tokens, describe-tokens, two-phase-commit.

Example:
  holdfast acl create --allow-principal User:orders --operation write --topic orders
  holdfast acl create --allow-principal User:billing --operation read --topic orders- \
      --group billing --resource-pattern-type prefixed)";

constexpr const char* kListFooter =
    R"(What is not named may be anything. --resource-pattern-type match shows all rules that hold
for a resource of that name.

Example:
  holdfast acl list
  holdfast acl list --topic orders --resource-pattern-type match)";

constexpr const char* kDeleteFooter =
    R"(Deletes all rules that `holdfast acl list` shows for the same options. Shows them and asks
first; without a terminal it wants --yes.

Example:
  holdfast acl delete --allow-principal User:orders --topic orders --yes)";

template <class Value>
using Names = std::vector<std::pair<std::string_view, Value>>;

const Names<AclOperation>& OperationNames() {
  static const Names<AclOperation> names{{"any", AclOperation::kAny},
                                         {"all", AclOperation::kAll},
                                         {"read", AclOperation::kRead},
                                         {"write", AclOperation::kWrite},
                                         {"create", AclOperation::kCreate},
                                         {"delete", AclOperation::kDelete},
                                         {"alter", AclOperation::kAlter},
                                         {"describe", AclOperation::kDescribe},
                                         {"cluster-action", AclOperation::kClusterAction},
                                         {"describe-configs", AclOperation::kDescribeConfigs},
                                         {"alter-configs", AclOperation::kAlterConfigs},
                                         {"idempotent-write", AclOperation::kIdempotentWrite},
                                         {"create-tokens", AclOperation::kCreateTokens},
                                         {"describe-tokens", AclOperation::kDescribeTokens},
                                         {"two-phase-commit", AclOperation::kTwoPhaseCommit}};
  return names;
}

const Names<ResourceType>& ResourceNames() {
  static const Names<ResourceType> names{{"topic", ResourceType::kTopic},
                                         {"group", ResourceType::kGroup},
                                         {"cluster", ResourceType::kCluster},
                                         {"transactional-id", ResourceType::kTransactionalId},
                                         {"delegation-token", ResourceType::kDelegationToken},
                                         {"user", ResourceType::kUser}};
  return names;
}

const Names<PatternType>& PatternNames() {
  static const Names<PatternType> names{{"any", PatternType::kAny},
                                        {"match", PatternType::kMatch},
                                        {"literal", PatternType::kLiteral},
                                        {"prefixed", PatternType::kPrefixed}};
  return names;
}

template <class Value>
std::string NameOf(const Names<Value>& names, Value value) {
  for (const auto& [name, one] : names) {
    if (one == value) return std::string(name);
  }
  return std::to_string(static_cast<int>(value));
}

// Kafka's tools write DescribeConfigs or DESCRIBE_CONFIGS.
std::string Plain(std::string_view text) {
  std::string plain;
  for (const char c : text) {
    if (c != '-' && c != '_')
      plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return plain;
}

template <class Value>
base::Result<Value> Parsed(std::string_view option, const Names<Value>& names,
                           const std::string& text) {
  std::string known;
  for (const auto& [name, value] : names) {
    if (Plain(name) == Plain(text)) return value;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
  }
  return base::Unexpected(Code::kInvalid,
                          fmt::format("{} {}: it is one of {}", option, text, known));
}

struct Options {
  std::vector<std::string> allow;
  std::vector<std::string> deny;
  std::string host;
  std::vector<std::string> operations;
  std::vector<std::string> topics;
  std::vector<std::string> groups;
  std::vector<std::string> transactional_ids;
  bool cluster = false;
  std::string pattern;
  bool json = false;
  bool yes = false;
};

struct Resource {
  ResourceType type = ResourceType::kAny;
  std::optional<std::string> name = {};
};

std::vector<Resource> ResourcesOf(const Options& options) {
  std::vector<Resource> resources;
  for (const auto& [type, names] :
       {std::pair(ResourceType::kTopic, &options.topics),
        std::pair(ResourceType::kGroup, &options.groups),
        std::pair(ResourceType::kTransactionalId, &options.transactional_ids)}) {
    for (const std::string& name : *names) resources.push_back({type, name});
  }
  if (options.cluster)
    resources.push_back({ResourceType::kCluster, std::string(broker::kClusterResource)});
  return resources;
}

base::Result<std::vector<AclOperation>> OperationsOf(const Options& options) {
  std::vector<AclOperation> operations;
  for (const std::string& text : options.operations) {
    HF_ASSIGN_OR_RETURN(operations.emplace_back(), Parsed("--operation", OperationNames(), text));
  }
  return operations;
}

std::vector<std::pair<Permission, std::string>> PrincipalsOf(const Options& options) {
  std::vector<std::pair<Permission, std::string>> principals;
  for (const std::string& name : options.allow) principals.emplace_back(Permission::kAllow, name);
  for (const std::string& name : options.deny) principals.emplace_back(Permission::kDeny, name);
  return principals;
}

base::Result<std::vector<Acl>> RulesOf(const Options& options) {
  const auto principals = PrincipalsOf(options);
  const std::vector<Resource> resources = ResourcesOf(options);
  HF_ASSIGN_OR_RETURN(const auto operations, OperationsOf(options));
  PatternType pattern = PatternType::kLiteral;
  if (!options.pattern.empty()) {
    HF_ASSIGN_OR_RETURN(pattern,
                        Parsed("--resource-pattern-type", PatternNames(), options.pattern));
  }
  if (principals.empty())
    return base::Unexpected(Code::kInvalid, "for whom? Give --allow-principal or --deny-principal");
  if (operations.empty()) return base::Unexpected(Code::kInvalid, "for what? Give --operation");
  if (resources.empty())
    return base::Unexpected(Code::kInvalid,
                            "on what? Give --topic, --group, --transactional-id or --cluster");
  if (pattern != PatternType::kLiteral && pattern != PatternType::kPrefixed)
    return base::Unexpected(Code::kInvalid,
                            "--resource-pattern-type: a rule is literal or prefixed");
  std::vector<Acl> rules;
  for (const auto& [permission, principal] : principals) {
    if (principal.find(':') == std::string::npos)
      return base::Unexpected(
          Code::kInvalid, fmt::format("{} is no principal: write User:{}", principal, principal));
    for (const Resource& resource : resources) {
      for (const AclOperation operation : operations) {
        if (operation == AclOperation::kAny)
          return base::Unexpected(Code::kInvalid, "--operation any is for `list` and `delete`");
        rules.push_back(
            {.resource = resource.type,
             .name = resource.name.value_or(""),
             .pattern = resource.type == ResourceType::kCluster ? PatternType::kLiteral : pattern,
             .principal = principal,
             .host = options.host.empty() ? "*" : options.host,
             .operation = operation,
             .permission = permission});
      }
    }
  }
  return rules;
}

// One for each combination of what was named.
base::Result<std::vector<AclFilter>> FiltersOf(const Options& options) {
  auto principals = PrincipalsOf(options);
  std::vector<Resource> resources = ResourcesOf(options);
  HF_ASSIGN_OR_RETURN(auto operations, OperationsOf(options));
  AclFilter base;
  if (!options.pattern.empty()) {
    HF_ASSIGN_OR_RETURN(base.pattern,
                        Parsed("--resource-pattern-type", PatternNames(), options.pattern));
  }
  if (!options.host.empty()) base.host = options.host;
  if (resources.empty()) resources.emplace_back();
  if (operations.empty()) operations.push_back(AclOperation::kAny);
  if (principals.empty()) principals.emplace_back(Permission::kAny, "");
  std::vector<AclFilter> filters;
  for (const auto& [permission, principal] : principals) {
    for (const Resource& resource : resources) {
      for (const AclOperation operation : operations) {
        AclFilter& filter = filters.emplace_back(base);
        filter.resource = resource.type;
        filter.name = resource.name;
        filter.operation = operation;
        filter.permission = permission;
        if (!principal.empty()) filter.principal = principal;
      }
    }
  }
  return filters;
}

Json RowOf(const Acl& acl) {
  return {{"principal", acl.principal},
          {"permission", acl.permission == Permission::kAllow ? "allow" : "deny"},
          {"operation", NameOf(OperationNames(), acl.operation)},
          {"resource", NameOf(ResourceNames(), acl.resource)},
          {"name", acl.name},
          {"pattern", NameOf(PatternNames(), acl.pattern)},
          {"host", acl.host}};
}

std::string RulesText(const std::set<Acl>& rules) {
  std::vector<Json> rows;
  for (const Acl& rule : rules) rows.push_back(RowOf(rule));
  std::ranges::sort(rows, {}, [](const Json& row) { return row.value("principal", ""); });
  return TableOf({{"principal", "PRINCIPAL"},
                  {"permission", "PERMISSION"},
                  {"operation", "OPERATION"},
                  {"resource", "RESOURCE"},
                  {"name", "NAME"},
                  {"pattern", "PATTERN"},
                  {"host", "HOST"}},
                 rows);
}

int RefuseAcl(std::string subject, ErrorCode code, std::optional<std::string_view> message,
              std::string_view operation) {
  return Refuse({.subject = std::move(subject),
                 .code = code,
                 .message = message,
                 .needs = fmt::format("--operation {} --cluster", operation)});
}

base::Result<int> Create(const Options& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const std::vector<Acl> rules, RulesOf(options));
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  kafka::CreateAclsRequest request;
  for (const Acl& rule : rules) {
    request.creations.push_back({.resource_type = static_cast<int8_t>(rule.resource),
                                 .resource_name = rule.name,
                                 .resource_pattern_type = static_cast<int8_t>(rule.pattern),
                                 .principal = rule.principal,
                                 .host = rule.host,
                                 .operation = static_cast<int8_t>(rule.operation),
                                 .permission_type = static_cast<int8_t>(rule.permission)});
  }
  HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(cluster->controller(), request));
  int code = kExitFine;
  std::set<Acl> made;
  for (size_t i = 0; i < answer->results.size() && i < rules.size(); ++i) {
    const auto& result = answer->results[i];
    if (result.error_code == ErrorCode::kNone) {
      made.insert(rules[i]);
    } else {
      code = RefuseAcl("a rule for " + rules[i].principal, result.error_code, result.error_message,
                       "alter");
    }
  }
  if (!made.empty()) PrintText(RulesText(made));
  return code;
}

base::Result<std::optional<std::set<Acl>>> Find(client::Cluster& cluster,
                                                const std::vector<AclFilter>& filters) {
  std::set<Acl> rules;
  for (const AclFilter& filter : filters) {
    kafka::DescribeAclsRequest request{.resource_type_filter = static_cast<int8_t>(filter.resource),
                                       .resource_name_filter = filter.name,
                                       .pattern_type_filter = static_cast<int8_t>(filter.pattern),
                                       .principal_filter = filter.principal,
                                       .host_filter = filter.host,
                                       .operation = static_cast<int8_t>(filter.operation),
                                       .permission_type = static_cast<int8_t>(filter.permission)};
    HF_ASSIGN_OR_RETURN(const auto answer, cluster.Ask(cluster.controller(), request));
    if (answer->error_code != ErrorCode::kNone) {
      RefuseAcl("access rules", answer->error_code, answer->error_message, "describe");
      return std::nullopt;
    }
    for (const auto& resource : answer->resources) {
      for (const auto& acl : resource.acls) {
        rules.insert({.resource = static_cast<ResourceType>(resource.resource_type),
                      .name = std::string(resource.resource_name),
                      .pattern = static_cast<PatternType>(resource.pattern_type),
                      .principal = std::string(acl.principal),
                      .host = std::string(acl.host),
                      .operation = static_cast<AclOperation>(acl.operation),
                      .permission = static_cast<Permission>(acl.permission_type)});
      }
    }
  }
  return rules;
}

base::Result<int> List(const Options& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto filters, FiltersOf(options));
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(const auto rules, Find(*cluster, filters));
  if (!rules) return kExitFailed;
  if (options.json) {
    Json rows = Json::array();
    for (const Acl& rule : *rules) rows.push_back(RowOf(rule));
    PrintJson(rows);
  } else {
    PrintText(RulesText(*rules));
  }
  return kExitFine;
}

base::Result<int> Delete(const Options& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto filters, FiltersOf(options));
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(const auto rules, Find(*cluster, filters));
  if (!rules) return kExitFailed;
  if (rules->empty()) return base::Unexpected(Code::kNotFound, "there are no such rules");
  PrintText(RulesText(*rules));
  FlushOutput();
  const std::string question = fmt::format("Delete these {} rules?", rules->size());
  if (const int code = Confirm(options.yes, question); code != kExitFine) return code;
  // Those that were shown, and no others.
  kafka::DeleteAclsRequest request;
  for (const Acl& rule : *rules) {
    request.filters.push_back({.resource_type_filter = static_cast<int8_t>(rule.resource),
                               .resource_name_filter = rule.name,
                               .pattern_type_filter = static_cast<int8_t>(rule.pattern),
                               .principal_filter = rule.principal,
                               .host_filter = rule.host,
                               .operation = static_cast<int8_t>(rule.operation),
                               .permission_type = static_cast<int8_t>(rule.permission)});
  }
  HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(cluster->controller(), request));
  size_t deleted = 0;
  int code = kExitFine;
  for (const auto& result : answer->filter_results) {
    if (result.error_code != ErrorCode::kNone)
      code = RefuseAcl("a rule", result.error_code, result.error_message, "alter");
    for (const auto& acl : result.matching_acls) {
      if (acl.error_code == ErrorCode::kNone) {
        ++deleted;
      } else {
        code = RefuseAcl(fmt::format("a rule for {}", acl.principal), acl.error_code,
                         acl.error_message, "alter");
      }
    }
  }
  PrintText(fmt::format("deleted {} rules\n", deleted));
  return code;
}

using Run = base::Result<int> (*)(const Options&, const TierAccess&);

std::shared_ptr<Options> AddVerb(CLI::App& acl, ClientCommand* command, const char* name,
                                 const char* description, const char* footer, Run run) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb =
      AddClientVerb(acl, command, name, description, footer,
                    [options, run](const TierAccess& tier) { return run(*options, tier); });
  const auto list = [verb](const char* option, std::vector<std::string>* values, const char* help,
                           const char* type) {
    return verb->add_option(option, *values, help)->allow_extra_args(false)->type_name(type);
  };
  list("--allow-principal", &options->allow, "Who may; may be repeated", "User:NAME");
  list("--deny-principal", &options->deny, "Who may not; may be repeated", "User:NAME");
  verb->add_option("--host", options->host, "From this address alone")->type_name("ADDRESS");
  list("--operation", &options->operations, "What; may be repeated", "OPERATION[,...]")
      ->delimiter(',');
  list("--topic", &options->topics, "On this topic, * for all; may be repeated", "NAME");
  list("--group", &options->groups, "On this group, * for all; may be repeated", "NAME");
  list("--transactional-id", &options->transactional_ids,
       "On this transactional id, * for all; may be repeated", "ID");
  verb->add_flag("--cluster", options->cluster, "On the cluster itself");
  verb->add_option("--resource-pattern-type", options->pattern,
                   "literal, or prefixed: all names that begin so")
      ->type_name("TYPE");
  return options;
}

}  // namespace

void AddAclVerbs(CLI::App& acl, ClientCommand* command) {
  acl.require_subcommand(0, 1);
  AddVerb(acl, command, "create", "Add access rules", kCreateFooter, Create);
  const auto listed =
      AddVerb(acl, command, "list", "Which access rules there are", kListFooter, List);
  AddOutputFormat(*acl.get_subcommand("list"), &listed->json);
  acl.get_subcommand("list")->alias("ls");
  const auto deleted =
      AddVerb(acl, command, "delete", "Delete access rules", kDeleteFooter, Delete);
  acl.get_subcommand("delete")->add_flag("--yes", deleted->yes, "Do not ask");
}

}  // namespace holdfast::cli
