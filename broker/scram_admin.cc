#include "broker/scram_admin.h"

#include <algorithm>
#include <set>

#include "broker/topic_changes.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;

constexpr int32_t kIterationsMin = 4096;
constexpr int32_t kIterationsMax = 16384;

net::SaslMechanism ToSasl(ScramMechanism mechanism) {
  return mechanism == ScramMechanism::kSha512 ? net::SaslMechanism::kScramSha512
                                              : net::SaslMechanism::kScramSha256;
}

TopicOutcome CheckUser(std::string_view name, int8_t mechanism) {
  if (name.empty()) return {ErrorCode::kUnacceptableCredential, "Username must not be empty"};
  if (mechanism != static_cast<int8_t>(ScramMechanism::kSha256) &&
      mechanism != static_cast<int8_t>(ScramMechanism::kSha512)) {
    return {ErrorCode::kUnsupportedSaslMechanism, "Unknown SCRAM mechanism"};
  }
  if (name.size() > ScramKey::kNameBytesMax) {
    return {ErrorCode::kUnacceptableCredential,
            "Username has more than " + std::to_string(ScramKey::kNameBytesMax) + " bytes"};
  }
  return {};
}

TopicOutcome CheckIterations(int32_t iterations) {
  if (iterations < kIterationsMin) {
    return {ErrorCode::kUnacceptableCredential, "Too few iterations"};
  }
  if (iterations > kIterationsMax) {
    return {ErrorCode::kUnacceptableCredential, "Too many iterations"};
  }
  return {};
}

}  // namespace

kafka::DescribeUserScramCredentialsResponse ScramAdmin::Answer(
    const kafka::DescribeUserScramCredentialsRequest& request) const {
  kafka::DescribeUserScramCredentialsResponse response;
  response.error_message = "";
  const auto credentials = context_.scram.Get();
  std::map<std::string_view, int> asked;
  if (request.users) {
    for (const auto& user : *request.users) ++asked[user.name];
  }
  if (asked.empty()) {
    for (const auto& [key, secret] : *credentials) asked[response.strings.Keep(key.user)] = 1;
  }
  for (const auto& [name, times] : asked) {
    auto& out = response.results.emplace_back();
    out.user = name;
    out.error_message = "";
    if (times > 1) {
      out.error_code = ErrorCode::kDuplicateResource;
      out.error_message = response.strings.Keep(
          "Cannot describe SCRAM credentials for the same user twice in a single request: " +
          std::string(name));
      continue;
    }
    for (auto at = credentials->lower_bound({std::string(name), ScramMechanism{}});
         at != credentials->end() && at->first.user == name; ++at) {
      out.credential_infos.push_back(
          {static_cast<int8_t>(at->first.mechanism), at->second.iterations, {}});
    }
    if (out.credential_infos.empty()) {
      out.error_code = ErrorCode::kResourceNotFound;
      out.error_message = response.strings.Keep(
          "Attempt to describe a user credential that does not exist: " + std::string(name));
    }
  }
  return response;
}

void ScramAdmin::Handle(Call<kafka::AlterUserScramCredentialsRequest> call) {
  struct Change {
    Call<kafka::AlterUserScramCredentialsRequest> call;
    kafka::AlterUserScramCredentialsResponse response;
    std::map<std::string_view, TopicOutcome> users;  // One outcome for each.
    std::map<ScramKey, std::optional<net::ScramSecret>> wanted;
  };
  auto change = std::make_shared<Change>(Change{std::move(call), {}, {}, {}});
  const auto& request = change->call.request;
  const auto credentials = context_.scram.Get();
  std::set<std::string_view> named;
  const auto begin = [&](std::string_view name, int8_t mechanism) {
    TopicOutcome outcome = CheckUser(name, mechanism);
    if (outcome.error == ErrorCode::kNone && !named.insert(name).second) {
      outcome = {ErrorCode::kDuplicateResource,
                 "A user credential cannot be altered twice in the same request"};
    }
    return outcome;
  };
  const auto note = [&](std::string_view name, TopicOutcome outcome) {
    auto& noted = change->users[name];
    if (noted.error == ErrorCode::kNone) noted = std::move(outcome);
  };
  for (const auto& one : request.deletions) {
    TopicOutcome outcome = begin(one.name, one.mechanism);
    const ScramKey key{std::string(one.name), static_cast<ScramMechanism>(one.mechanism)};
    if (outcome.error == ErrorCode::kNone && !credentials->contains(key)) {
      outcome = {ErrorCode::kResourceNotFound,
                 "Attempt to delete a user credential that does not exist"};
    }
    note(one.name, std::move(outcome));
    change->wanted[key] = std::nullopt;
  }
  for (const auto& one : request.upsertions) {
    TopicOutcome outcome = begin(one.name, one.mechanism);
    if (outcome.error == ErrorCode::kNone) outcome = CheckIterations(one.iterations);
    const bool good = outcome.error == ErrorCode::kNone;
    note(one.name, std::move(outcome));
    if (!good) continue;
    const auto mechanism = static_cast<ScramMechanism>(one.mechanism);
    change->wanted[{std::string(one.name), mechanism}] = net::ScramSecretOf(
        ToSasl(mechanism), one.salted_password, std::string(one.salt), one.iterations);
  }
  std::erase_if(change->wanted, [&](const auto& one) {
    return change->users[one.first.user].error != ErrorCode::kNone;
  });
  const auto respond = [](Change& done, ErrorCode failed) {
    for (const auto& [name, outcome] : done.users) {
      auto& out = done.response.results.emplace_back();
      out.user = name;
      out.error_code = outcome.error != ErrorCode::kNone ? outcome.error : failed;
      if (outcome.error != ErrorCode::kNone) out.error_message = outcome.message;
    }
    done.call.Respond(done.response);
  };
  if (change->wanted.empty()) return respond(*change, ErrorCode::kNone);
  submitter_.Submit(std::make_unique<StateChange>(
      [change](spool::Transaction& transaction) {
        for (const auto& [key, secret] : change->wanted) {
          if (secret) {
            transaction.Put(StoredScramKey(key),
                            Encode(ScramRecord{.salt = secret->salt,
                                               .stored_key = secret->stored_key,
                                               .server_key = secret->server_key,
                                               .iterations = secret->iterations,
                                               .unknown_tags = {}}));
          } else {
            transaction.Erase(StoredScramKey(key));
          }
        }
      },
      [this, change, respond](const auto& result) {
        if (result) {
          auto credentials_now = std::make_shared<ScramCredentials>(*context_.scram.Get());
          for (const auto& [key, secret] : change->wanted) {
            if (secret) {
              (*credentials_now)[key] = *secret;
            } else {
              credentials_now->erase(key);
            }
          }
          context_.scram.Publish(std::move(credentials_now));
        }
        const ErrorCode failed =
            result ? ErrorCode::kNone : kafka::ToPartitionError(result.error().code);
        loop_.Post([change, respond, failed] { respond(*change, failed); });
      }));
}

}  // namespace holdfast::broker
