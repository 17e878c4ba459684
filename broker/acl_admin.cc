#include "broker/acl_admin.h"

#include <map>

#include "broker/topic_changes.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;

constexpr std::string_view kDisabled = "No Authorizer is configured.";

template <class Enum>
bool Within(Enum value, Enum first, Enum last) {
  return first <= value && value <= last;
}

Acl ReadRule(const kafka::CreateAclsRequest::AclCreation& creation) {
  return {.resource = static_cast<ResourceType>(creation.resource_type),
          .name = std::string(creation.resource_name),
          .pattern = static_cast<PatternType>(creation.resource_pattern_type),
          .principal = std::string(creation.principal),
          .host = std::string(creation.host),
          .operation = static_cast<AclOperation>(creation.operation),
          .permission = static_cast<Permission>(creation.permission_type)};
}

// Of a rule or a filter. What has the number of "unknown" Kafka cannot decode.
template <class Rule>
bool NamesUnknown(const Rule& rule) {
  return rule.resource == ResourceType::kUnknown || rule.pattern == PatternType::kUnknown ||
         rule.operation == AclOperation::kUnknown || rule.permission == Permission::kUnknown;
}

// What is meant for filters.
bool IsFilter(const Acl& acl) {
  return acl.resource == ResourceType::kAny || acl.pattern == PatternType::kAny ||
         acl.pattern == PatternType::kMatch || acl.operation == AclOperation::kAny ||
         acl.permission == Permission::kAny;
}

// In the order of Kafka's checks, and with its codes and messages.
TopicOutcome CheckRule(const Acl& acl) {
  const auto refuse = [](std::string message) {
    return TopicOutcome{ErrorCode::kInvalidRequest, std::move(message)};
  };
  if (acl.resource == ResourceType::kCluster && acl.name != kClusterResource) {
    return refuse("The only valid name for the CLUSTER resource is " +
                  std::string(kClusterResource));
  }
  if (acl.name.empty()) return refuse("Invalid empty resource name");
  if (!Within(acl.resource, ResourceType::kTopic, ResourceType::kUser)) {
    return refuse("Invalid resourceType UNKNOWN");
  }
  if (!Within(acl.pattern, PatternType::kLiteral, PatternType::kPrefixed)) {
    return refuse("Invalid patternType UNKNOWN");
  }
  if (!Within(acl.operation, AclOperation::kAll, AclOperation::kTwoPhaseCommit)) {
    return refuse("Invalid operation UNKNOWN");
  }
  if (!Within(acl.permission, Permission::kDeny, Permission::kAllow)) {
    return refuse("Invalid permissionType UNKNOWN");
  }
  if (acl.principal.find(':') == std::string::npos) {
    return refuse("Could not parse principal from `" + acl.principal +
                  "` (no colon is present separating the principal type from the principal name)");
  }
  if (acl.name.size() + acl.principal.size() + acl.host.size() > Acl::kTextBytesMax) {
    return refuse("The name of the resource, principal and host have more than " +
                  std::to_string(Acl::kTextBytesMax) + " bytes together");
  }
  return {};
}

template <class Filter>
AclFilter ReadFilter(const Filter& filter) {
  const auto text = [](std::optional<std::string_view> view) {
    return view ? std::optional<std::string>(*view) : std::nullopt;
  };
  return {.resource = static_cast<ResourceType>(filter.resource_type_filter),
          .name = text(filter.resource_name_filter),
          .pattern = static_cast<PatternType>(filter.pattern_type_filter),
          .principal = text(filter.principal_filter),
          .host = text(filter.host_filter),
          .operation = static_cast<AclOperation>(filter.operation),
          .permission = static_cast<Permission>(filter.permission_type)};
}

// Numbers that nobody knows fit no rule.
TopicOutcome CheckFilter(const AclFilter& filter) {
  if (!Within(filter.resource, ResourceType::kAny, ResourceType::kUser) ||
      !Within(filter.pattern, PatternType::kAny, PatternType::kPrefixed)) {
    return {ErrorCode::kInvalidRequest, "Unknown patternFilter."};
  }
  if (!Within(filter.operation, AclOperation::kAny, AclOperation::kTwoPhaseCommit) ||
      !Within(filter.permission, Permission::kAny, Permission::kAllow)) {
    return {ErrorCode::kInvalidRequest, "Unknown entryFilter."};
  }
  return {};
}

}  // namespace

void AclAdmin::Handle(Call<kafka::DescribeAclsRequest> call) {
  kafka::DescribeAclsResponse response;
  const AclFilter filter = ReadFilter(call.request);
  if (!enabled()) {
    response.error_code = ErrorCode::kSecurityDisabled;
    response.error_message = kDisabled;
    return call.Respond(response);
  }
  if (NamesUnknown(filter)) return call.Close("DescribeAcls with a filter of unknown elements");
  response.error_message = "";
  const auto acls = context_.acls.Get();
  using Pattern = std::tuple<ResourceType, std::string_view, PatternType>;
  std::map<Pattern, std::vector<const Acl*>> found;
  for (const Acl& acl : acls->all()) {
    if (filter.Fits(acl)) found[{acl.resource, acl.name, acl.pattern}].push_back(&acl);
  }
  for (const auto& [pattern, rules] : found) {
    auto& out = response.resources.emplace_back();
    out.resource_type = static_cast<int8_t>(std::get<0>(pattern));
    out.resource_name = std::get<1>(pattern);
    out.pattern_type = static_cast<int8_t>(std::get<2>(pattern));
    for (const Acl* acl : rules) {
      out.acls.push_back({acl->principal,
                          acl->host,
                          static_cast<int8_t>(acl->operation),
                          static_cast<int8_t>(acl->permission),
                          {}});
    }
  }
  call.Respond(response);
}

void AclAdmin::Handle(Call<kafka::CreateAclsRequest> call) {
  struct Creation {
    Call<kafka::CreateAclsRequest> call;
    kafka::CreateAclsResponse response;
    std::vector<Acl> wanted;
    std::vector<size_t> places;  // In the response, of each one wanted.
  };
  auto creation = std::make_shared<Creation>(Creation{std::move(call), {}, {}, {}});
  bool filters = false;  // Among the rules. Nothing is made then, as in Kafka.
  for (const auto& asked : creation->call.request.creations) {
    const Acl acl = ReadRule(asked);
    if (enabled() && NamesUnknown(acl))
      return creation->call.Close("CreateAcls with unknown elements");
    filters |= enabled() && IsFilter(acl);
  }
  for (const auto& asked : creation->call.request.creations) {
    auto& out = creation->response.results.emplace_back();
    if (filters) {
      out.error_code = ErrorCode::kUnknownServerError;
      continue;
    }
    if (!enabled()) {
      out.error_code = ErrorCode::kSecurityDisabled;
      out.error_message = kDisabled;
      continue;
    }
    Acl acl = ReadRule(asked);
    TopicOutcome outcome = CheckRule(acl);
    out.error_code = outcome.error;
    if (outcome.error != ErrorCode::kNone) {
      out.error_message = creation->response.strings.Keep(std::move(outcome.message));
      continue;
    }
    creation->places.push_back(creation->response.results.size() - 1);
    creation->wanted.push_back(std::move(acl));
  }
  if (creation->wanted.empty()) return creation->call.Respond(creation->response);
  submitter_.Submit(std::make_unique<StateChange>(
      [creation](spool::Transaction& transaction) {
        for (const Acl& acl : creation->wanted) transaction.Put(AclKey(acl), Encode(AclRecord{}));
      },
      [this, creation](const auto& result) {
        const ErrorCode error =
            result ? ErrorCode::kNone : kafka::ToPartitionError(result.error().code);
        if (result) {
          auto acls = std::make_shared<Acls>(*context_.acls.Get());
          for (const Acl& acl : creation->wanted) acls->Put(acl);
          context_.acls.Publish(std::move(acls));
        }
        for (const size_t place : creation->places) {
          auto& out = creation->response.results[place];
          out.error_code = error;
          if (error == ErrorCode::kNone) out.error_message = "";
        }
        loop_.Post([creation] { creation->call.Respond(creation->response); });
      }));
}

void AclAdmin::Handle(Call<kafka::DeleteAclsRequest> call) {
  struct Deletion {
    Call<kafka::DeleteAclsRequest> call;
    kafka::DeleteAclsResponse response;
    std::set<Acl> gone;
    std::shared_ptr<const Acls> acls;  // From which the response borrows.
  };
  auto deletion =
      std::make_shared<Deletion>(Deletion{std::move(call), {}, {}, context_.acls.Get()});
  auto& response = deletion->response;
  for (const auto& asked : deletion->call.request.filters) {
    auto& out = response.filter_results.emplace_back();
    if (!enabled()) {
      out.error_code = ErrorCode::kSecurityDisabled;
      out.error_message = kDisabled;
      continue;
    }
    const AclFilter filter = ReadFilter(asked);
    if (NamesUnknown(filter))
      return deletion->call.Close("DeleteAcls with a filter of unknown elements");
    if (TopicOutcome outcome = CheckFilter(filter); outcome.error != ErrorCode::kNone) {
      out.error_code = outcome.error;
      out.error_message = response.strings.Keep(std::move(outcome.message));
      continue;
    }
    for (const Acl& acl : deletion->acls->all()) {
      if (!filter.Fits(acl)) continue;
      deletion->gone.insert(acl);
      out.matching_acls.push_back({.error_code = ErrorCode::kNone,
                                   .error_message = std::nullopt,
                                   .resource_type = static_cast<int8_t>(acl.resource),
                                   .resource_name = acl.name,
                                   .pattern_type = static_cast<int8_t>(acl.pattern),
                                   .principal = acl.principal,
                                   .host = acl.host,
                                   .operation = static_cast<int8_t>(acl.operation),
                                   .permission_type = static_cast<int8_t>(acl.permission),
                                   .unknown_tags = {}});
    }
  }
  const auto fail = [](Deletion& whole, ErrorCode error, std::string_view message) {
    for (auto& out : whole.response.filter_results) {
      out = {};
      out.error_code = error;
      out.error_message = message;
    }
    whole.call.Respond(whole.response);
  };
  if (deletion->gone.size() > kDeletedMax) {
    return fail(*deletion, ErrorCode::kInvalidRequest,
                "Cannot remove more than 10000 acls in a single delete operation.");
  }
  if (deletion->gone.empty()) return deletion->call.Respond(response);
  submitter_.Submit(std::make_unique<StateChange>(
      [deletion](spool::Transaction& transaction) {
        for (const Acl& acl : deletion->gone) transaction.Erase(AclKey(acl));
      },
      [this, deletion, fail](const auto& result) {
        if (!result) {
          const ErrorCode error = kafka::ToPartitionError(result.error().code);
          loop_.Post([deletion, fail, error] { fail(*deletion, error, kafka::ErrorName(error)); });
          return;
        }
        auto acls = std::make_shared<Acls>(*context_.acls.Get());
        for (const Acl& acl : deletion->gone) acls->Erase(acl);
        context_.acls.Publish(std::move(acls));
        loop_.Post([deletion] { deletion->call.Respond(deletion->response); });
      }));
}

}  // namespace holdfast::broker
