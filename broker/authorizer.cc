#include "broker/authorizer.h"

#include <algorithm>
#include <span>

namespace holdfast::broker {
namespace {

constexpr AclOperation kOfTopics[] = {AclOperation::kRead,
                                      AclOperation::kWrite,
                                      AclOperation::kCreate,
                                      AclOperation::kDelete,
                                      AclOperation::kAlter,
                                      AclOperation::kDescribe,
                                      AclOperation::kDescribeConfigs,
                                      AclOperation::kAlterConfigs};
constexpr AclOperation kOfGroups[] = {AclOperation::kRead, AclOperation::kDelete,
                                      AclOperation::kDescribe, AclOperation::kDescribeConfigs,
                                      AclOperation::kAlterConfigs};
constexpr AclOperation kOfTheCluster[] = {
    AclOperation::kCreate,         AclOperation::kAlter,           AclOperation::kDescribe,
    AclOperation::kClusterAction,  AclOperation::kDescribeConfigs, AclOperation::kAlterConfigs,
    AclOperation::kIdempotentWrite};

// What Kafka lists as operations on a resource.
std::span<const AclOperation> OperationsOf(ResourceType type) {
  switch (type) {
    case ResourceType::kTopic:
      return kOfTopics;
    case ResourceType::kGroup:
      return kOfGroups;
    case ResourceType::kCluster:
      return kOfTheCluster;
    default:
      return {};
  }
}

}  // namespace

bool Judge::IsSuperUser(std::string_view principal) const {
  return std::ranges::find(options_.super_users, principal) != options_.super_users.end();
}

bool Judge::Allows(const Subject& subject, AclOperation operation, ResourceType type,
                   std::string_view name) const {
  if (!options_.enabled || IsSuperUser(subject.principal)) return true;
  switch (acls_->Judge(subject, operation, type, name)) {
    case Acls::Verdict::kAllowed:
      return true;
    case Acls::Verdict::kDenied:
      return false;
    case Acls::Verdict::kNoRules:
      break;
  }
  return options_.allow_everyone_if_no_acl_found;
}

bool Judge::AllowsSome(const Subject& subject, AclOperation operation, ResourceType type) const {
  // A resource that nobody has ever named stands for those without rules, as in Kafka.
  return Allows(subject, operation, type, "hardcode") ||
         acls_->AllowsSome(subject, operation, type);
}

int32_t Judge::Operations(const Subject& subject, ResourceType type, std::string_view name) const {
  int32_t bits = 0;
  for (const AclOperation operation : OperationsOf(type)) {
    if (Allows(subject, operation, type, name)) bits |= 1 << static_cast<int>(operation);
  }
  return bits;
}

Authorizer::Authorizer(const Published<Acls>& acls, const AuthorizerOptions& options)
    : options_(options),
      acls_(acls),
      judge_(std::make_shared<const Judge>(acls_.shared(), options)) {}

void Authorizer::Refresh() {
  if (!acls_.Refresh()) return;
  Forget();
  judge_ = std::make_shared<const Judge>(acls_.shared(), options_);
}

bool Authorizer::Allows(const kafka::Caller& caller, AclOperation operation, ResourceType type,
                        std::string_view name) {
  if (!options_.enabled) return true;
  const Subject subject = SubjectOf(caller);
  question_.clear();
  question_.push_back(static_cast<char>(operation));
  question_.push_back(static_cast<char>(type));
  // The length keeps principal and host apart, and a zero stands in no address.
  question_.append(std::to_string(subject.principal.size())).push_back(' ');
  question_.append(subject.principal);
  question_.append(subject.host).push_back('\0');
  question_.append(name);
  const auto found = answers_.find(std::string_view(question_));
  if (found != answers_.end()) return found->second;
  const bool allowed = judge_->Allows(subject, operation, type, name);
  const size_t bytes = question_.size() + kAnswerBytes;
  if (remembered_bytes_ + bytes > kRememberedBytesMax) Forget();
  answers_.emplace(question_, allowed);
  remembered_bytes_ += bytes;
  return allowed;
}

void Authorizer::Forget() {
  answers_.clear();
  remembered_bytes_ = 0;
}

}  // namespace holdfast::broker
