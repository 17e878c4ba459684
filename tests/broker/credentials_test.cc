// SCRAM credentials made by clients, and what a cluster of one node answers to requests about
// voters, features, directories and tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "broker/records.h"
#include "broker/scram_credentials.h"
#include "kafka/api/add_raft_voter.h"
#include "kafka/api/alter_replica_log_dirs.h"
#include "kafka/api/alter_user_scram_credentials.h"
#include "kafka/api/create_delegation_token.h"
#include "kafka/api/describe_delegation_token.h"
#include "kafka/api/describe_user_scram_credentials.h"
#include "kafka/api/remove_raft_voter.h"
#include "kafka/api/unregister_broker.h"
#include "kafka/api/update_features.h"
#include "tests/broker/broker_fixture.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using testing::HasSubstr;
using Alter = kafka::AlterUserScramCredentialsRequest;

constexpr int8_t kSha256 = 1;
constexpr int8_t kSha512 = 2;

class ScramAdminTest : public testing::Test {
 protected:
  // One user each.
  ErrorCode Change(const Alter& request) {
    const auto pending = broker_.Ask(request, 0);
    EXPECT_EQ(pending.Get().results.size(), 1u);
    return pending.Get().results.at(0).error_code;
  }
  ErrorCode Set(std::string_view user, int8_t mechanism, int32_t iterations = 4096) {
    Alter request;
    request.upsertions.push_back({user, mechanism, iterations, "salt", "salted", {}});
    return Change(request);
  }
  ErrorCode Remove(std::string_view user, int8_t mechanism) {
    Alter request;
    request.deletions.push_back({user, mechanism, {}});
    return Change(request);
  }
  // "user: mechanism/iterations ..."
  std::vector<std::string> Describe(std::optional<std::vector<std::string_view>> users = {}) {
    kafka::DescribeUserScramCredentialsRequest request;
    if (users) {
      request.users.emplace();
      for (const std::string_view user : *users) request.users->push_back({user, {}});
    }
    const auto pending = broker_.Ask(request, 0);
    const auto response = pending.Get();
    std::vector<std::string> all;
    for (const auto& result : response.results) {
      std::string& text = all.emplace_back(std::string(result.user) + ":");
      if (result.error_code != ErrorCode::kNone) text += kafka::ErrorName(result.error_code);
      for (const auto& info : result.credential_infos) {
        text += " " + std::to_string(info.mechanism) + "/" + std::to_string(info.iterations);
      }
    }
    return all;
  }

  BrokerFixture broker_;
};

TEST_F(ScramAdminTest, CredentialsAreKeptAndShownWithoutTheirSecrets) {
  using testing::ElementsAre;
  EXPECT_EQ(Set("orders", kSha256), ErrorCode::kNone);
  EXPECT_EQ(Set("orders", kSha512, 8192), ErrorCode::kNone);
  EXPECT_EQ(Set("billing", kSha512), ErrorCode::kNone);
  broker_.CrashAndRestart();
  EXPECT_THAT(Describe(), ElementsAre("billing: 2/4096", "orders: 1/4096 2/8192"));
  EXPECT_THAT(Describe({{"orders", "nobody"}}),
              ElementsAre("nobody:RESOURCE_NOT_FOUND", "orders: 1/4096 2/8192"));
  EXPECT_THAT(Describe({{"orders", "orders"}}), ElementsAre("orders:DUPLICATE_RESOURCE"));
  EXPECT_EQ(Remove("orders", kSha256), ErrorCode::kNone);
  EXPECT_EQ(Remove("orders", kSha256), ErrorCode::kResourceNotFound);
  broker_.CrashAndRestart();
  EXPECT_THAT(Describe(), ElementsAre("billing: 2/4096", "orders: 2/8192"));
}

TEST_F(ScramAdminTest, BadCredentialsAndUsersNamedTwiceAreRefused) {
  EXPECT_EQ(Set("", kSha256), ErrorCode::kUnacceptableCredential);
  EXPECT_EQ(Set("u", 3), ErrorCode::kUnsupportedSaslMechanism);
  EXPECT_EQ(Set("u", kSha256, 4095), ErrorCode::kUnacceptableCredential);
  EXPECT_EQ(Set("u", kSha256, 16385), ErrorCode::kUnacceptableCredential);
  EXPECT_EQ(Remove("u", kSha256), ErrorCode::kResourceNotFound);
  Alter request;
  request.upsertions.push_back({"u", kSha256, 4096, "salt", "salted", {}});
  request.upsertions.push_back({"u", kSha256, 4097, "salt", "salted", {}});
  EXPECT_EQ(Change(request), ErrorCode::kDuplicateResource);
  request.upsertions[1].mechanism = kSha512;
  EXPECT_EQ(Change(request), ErrorCode::kDuplicateResource) << "a user may be named once";
  request.upsertions[0].iterations = 1;
  EXPECT_EQ(Change(request), ErrorCode::kUnacceptableCredential);
  EXPECT_THAT(Describe(), testing::IsEmpty());
}

TEST(LoginUsersTest, CredentialsOfClientsComeBeforeThoseOfTheConfiguration) {
  Published<ScramCredentials> made;
  const LoginUsers users({{"admin", "secret"}}, net::SaslUsers::NewSaltKey(), made);
  EXPECT_TRUE(users.IsPassword("admin", "secret"));
  const std::string configured = users.SecretOf("admin", net::SaslMechanism::kScramSha256).salt;
  const std::string unknown = users.SecretOf("orders", net::SaslMechanism::kScramSha512).salt;
  EXPECT_EQ(users.SecretOf("orders", net::SaslMechanism::kScramSha512).salt, unknown)
      << "a name that is not there looks like one that is";
  auto credentials = std::make_shared<ScramCredentials>();
  (*credentials)[{"orders", ScramMechanism::kSha512}] = {.salt = "made", .iterations = 4096};
  made.Publish(credentials);
  EXPECT_EQ(users.SecretOf("orders", net::SaslMechanism::kScramSha512).salt, "made");
  EXPECT_NE(users.SecretOf("orders", net::SaslMechanism::kScramSha256).salt, "made");
  EXPECT_EQ(users.SecretOf("admin", net::SaslMechanism::kScramSha256).salt, configured);
}

TEST(LoginUsersTest, AfterARestartSaltsTellNobodyWhoExists) {
  Options options;
  options.users = {{"admin", "secret"}};
  BrokerFixture broker(std::move(options));
  const auto salts = [&] {
    std::vector<std::string> all;
    for (const std::string_view user : {"admin", "nobody"}) {
      for (const auto mechanism :
           {net::SaslMechanism::kScramSha256, net::SaslMechanism::kScramSha512})
        all.push_back(broker.broker().users()->SecretOf(user, mechanism).salt);
    }
    return all;
  };
  const auto before = salts();
  EXPECT_EQ(std::set(before.begin(), before.end()).size(), before.size());
  broker.CrashAndRestart();
  EXPECT_EQ(salts(), before);

  // Of an older version, or damaged: all salts are others, and stay so.
  for (const std::string_view left : {"", "short"}) {
    const std::string cluster = broker.broker().cluster_id();
    const auto old = salts();
    broker.Amend([&](spool::Transaction& transaction) {
      left.empty() ? transaction.Erase(kSaltKeyKey) : transaction.Put(kSaltKeyKey, left);
    });
    const auto made = salts();
    for (size_t i = 0; i < made.size(); ++i) EXPECT_NE(made[i], old[i]);
    broker.CrashAndRestart();
    EXPECT_EQ(salts(), made);
    EXPECT_EQ(broker.broker().cluster_id(), cluster);
  }
}

TEST(ClusterAdminTest, OneNodeAnswersAsKafkaWould) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  kafka::UpdateFeaturesRequest features;
  features.feature_updates.push_back({.feature = "transaction.version", .max_version_level = 2});
  EXPECT_EQ(broker.Ask(features, 2).Get().error_code, ErrorCode::kNone);
  features.feature_updates[0].max_version_level = 3;
  EXPECT_EQ(broker.Ask(features, 2).Get().error_code, ErrorCode::kInvalidUpdateVersion);
  features.feature_updates[0] = {.feature = "no.such", .max_version_level = 1};
  EXPECT_EQ(broker.Ask(features, 2).Get().error_code, ErrorCode::kInvalidUpdateVersion);

  EXPECT_EQ(broker.Ask(kafka::UnregisterBrokerRequest{.broker_id = 7}, 0).Get().error_code,
            ErrorCode::kBrokerIdNotRegistered);
  EXPECT_EQ(broker.Ask(kafka::UnregisterBrokerRequest{.broker_id = 0}, 0).Get().error_code,
            ErrorCode::kInvalidRequest);
  kafka::AlterReplicaLogDirsRequest dirs;
  dirs.dirs.push_back({.path = "/nowhere", .topics = {{"t", {0}, {}}}});
  EXPECT_EQ(broker.Ask(dirs, 2).Get().results.at(0).partitions.at(0).error_code,
            ErrorCode::kLogDirNotFound);

  kafka::AddRaftVoterRequest add;
  add.cluster_id = "other";
  EXPECT_EQ(broker.Ask(add, 0).Get().error_code, ErrorCode::kInconsistentClusterId);
  add.cluster_id = broker.broker().cluster_id();
  EXPECT_EQ(broker.Ask(add, 0).Get().error_code, ErrorCode::kInvalidRequest);
  add.voter_directory_id.bytes[0] = 1;
  add.listeners.push_back({"CONTROLLER", "host", 9, {}});
  const auto added = broker.Ask(add, 0);
  EXPECT_EQ(added.Get().error_code, ErrorCode::kUnsupportedVersion);
  EXPECT_THAT(*added.Get().error_message, HasSubstr("kraft.version"));
  kafka::RemoveRaftVoterRequest remove;
  remove.voter_directory_id.bytes[0] = 1;
  EXPECT_EQ(broker.Ask(remove, 0).Get().error_code, ErrorCode::kUnsupportedVersion);

  EXPECT_EQ(broker.Ask(kafka::CreateDelegationTokenRequest(), 3).Get().error_code,
            ErrorCode::kDelegationTokenRequestNotAllowed);
  broker.ActAs("User:a");
  const auto token = broker.Ask(kafka::CreateDelegationTokenRequest(), 3);
  EXPECT_EQ(token.Get().error_code, ErrorCode::kDelegationTokenAuthDisabled);
  EXPECT_EQ(token.Get().principal_name, "a");
  EXPECT_EQ(broker.Ask(kafka::DescribeDelegationTokenRequest(), 3).Get().error_code,
            ErrorCode::kDelegationTokenAuthDisabled);
}

}  // namespace
}  // namespace holdfast::broker
