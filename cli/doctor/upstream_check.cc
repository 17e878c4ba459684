#include "cli/doctor/upstream_check.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "agent/spool_text.h"
#include "cli/doctor/broker_client.h"
#include "cli/doctor/flush_probe.h"
#include "cli/doctor/topic_check.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_producers.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "proxy/agent_state.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;
using Clock = std::chrono::steady_clock;
using kafka::ErrorCode;

constexpr std::chrono::seconds kPatience{2};
constexpr int kAskAgainMs = 100;
constexpr int64_t kSecondsOfDay = 24 * 3600;
constexpr int64_t kCertificateDays = 14;
constexpr int16_t kRightsSince = 8;  // Of Metadata.
constexpr int32_t kMayCreate = 1 << 5;
constexpr int8_t kTopicResource = 2;
constexpr int8_t kBrokerResource = 4;
constexpr int8_t kTransactionKey = 1;
constexpr size_t kTopicsPerQuestion = 100;
constexpr std::string_view kProducerExpiration = "producer.id.expiration.ms";
// What delivery goes by, see docs/delivery.md.
constexpr int64_t kProducerExpirationMs = 86'400'000;

struct Need {
  const kafka::Api& api;
  Event without;
};
constexpr std::array kNeeds{Need{kafka::ProduceRequest::kApi, Event::kApiMissing},
                            Need{kafka::MetadataRequest::kApi, Event::kApiMissing},
                            Need{kafka::InitProducerIdRequest::kApi, Event::kApiMissing},
                            Need{kafka::DescribeProducersRequest::kApi, Event::kApiForDoubtMissing},
                            Need{kafka::ListOffsetsRequest::kApi, Event::kApiForDoubtMissing},
                            Need{kafka::FetchRequest::kApi, Event::kApiForDoubtMissing}};
constexpr std::array kTransactionNeeds{
    Need{kafka::FindCoordinatorRequest::kApi, Event::kApiMissing},
    Need{kafka::AddPartitionsToTxnRequest::kApi, Event::kApiMissing},
    Need{kafka::EndTxnRequest::kApi, Event::kApiMissing}};

std::string DayText(double seconds) {
  return agent::TimeText(static_cast<int64_t>(seconds) * 1000).substr(0, 10);
}

class UpstreamCheck {
 public:
  explicit UpstreamCheck(const UpstreamQuestion& question)
      : question_(question), end_(Clock::now() + UpstreamQuestion::kMost) {}

  Findings Run() {
    CheckOwnCertificate();
    const std::vector<Reached> reached = Reach(question_.bootstrap);
    const bool any = std::ranges::any_of(reached, &Reached::ready);
    for (const Reached& one : reached) {
      for (const auto& [problem, what] : one.troubles) {
        // Another one of the list does, for now.
        findings_.Trouble(problem, any ? Severity::kWarning : SeverityOf(problem), what);
      }
      if (one.ready) findings_.Good(one.summary);
      CheckPeerCertificate(one);
    }
    const auto first = std::ranges::find_if(reached, &Reached::ready);
    if (first == reached.end()) return std::move(findings_);
    CheckVersions(*first);
    CheckCluster(*first);
    return std::move(findings_);
  }

 private:
  struct Reached {
    net::HostPort name;
    bool ready = false;
    std::string summary;
    std::vector<std::pair<Event, std::string>> troubles;
    std::shared_ptr<BrokerClient> client = nullptr;
  };

  [[nodiscard]] Deadline Soon() const { return std::min(Clock::now() + question_.kStep, end_); }

  void CheckOwnCertificate() {
    if (!question_.identity.tls) return;
    const double end = question_.identity.tls->context()->expires_at();
    if (std::isinf(end)) return;
    const auto seconds = static_cast<int64_t>(end) - question_.now_ms / 1000;
    const std::string what = fmt::format(
        "the certificate that the agent shows to the tier {} at {}", seconds < 0 ? "ended" : "ends",
        agent::TimeText(static_cast<int64_t>(end) * 1000));
    if (seconds < 0) {
      findings_.Trouble(Event::kOwnCertificateEnds, Severity::kError, what);
    } else if (seconds < kCertificateDays * kSecondsOfDay) {
      findings_.Trouble(Event::kOwnCertificateEnds, what);
    } else {
      findings_.Good(what);
    }
  }

  void CheckPeerCertificate(const Reached& reached) {
    if (!reached.client) return;
    const double end = reached.client->peer_expires_at();
    if (std::isinf(end)) return;
    const auto seconds = static_cast<int64_t>(end) - question_.now_ms / 1000;
    if (seconds < kCertificateDays * kSecondsOfDay)
      findings_.Trouble(Event::kPeerCertificateEnds,
                        fmt::format("{}: its certificate ends at {}", reached.name.ToString(),
                                    agent::TimeText(static_cast<int64_t>(end) * 1000)));
  }

  // Names, then connections to all addresses at once; the steps after that one by one.
  std::vector<Reached> Reach(const std::vector<net::HostPort>& names) {
    const Clock::time_point begun = Clock::now();
    const auto resolved = ResolveAll(names, Soon());
    const auto looked_up = Clock::now() - begun;
    std::vector<Reached> all;
    std::vector<net::SocketAddress> addresses;
    std::vector<size_t> whose;
    for (size_t i = 0; i < names.size(); ++i) {
      Reached& one = all.emplace_back(Reached{.name = names[i]});
      if (!resolved[i]) {
        one.troubles.emplace_back(
            Event::kNameNotResolved,
            fmt::format("{}: {}", names[i].ToString(), resolved[i].error().message));
        continue;
      }
      addresses.insert(addresses.end(), resolved[i]->begin(), resolved[i]->end());
      whose.resize(addresses.size(), i);
      one.summary = names[i].ToString();
      if (!net::SocketAddress::FromIp(names[i].host, names[i].port))
        one.summary +=
            fmt::format(": {} in {}", AddressesText(*resolved[i]), DurationText(looked_up));
    }
    auto sockets = ConnectAll(addresses, Soon());
    for (size_t i = 0; i < sockets.size(); ++i) {
      if (Reached& one = all[whose[i]]; sockets[i] && !one.client)
        one.client = std::make_shared<BrokerClient>(*std::move(sockets[i]));
    }
    for (size_t i = 0; i < sockets.size(); ++i) {
      Reached& one = all[whose[i]];
      // That localhost is two addresses, of which one serves, is no trouble.
      if (!sockets[i] && !(one.client && addresses[i].IsLoopback())) {
        one.troubles.emplace_back(
            Event::kBrokerUnreachable,
            addresses[i].ToString() == one.name.ToString()
                ? fmt::format("{}: {}", one.name.ToString(), sockets[i].error().message)
                : fmt::format("{} ({}): {}", one.name.ToString(), addresses[i].ToString(),
                              sockets[i].error().message));
      }
    }
    for (Reached& one : all) {
      if (one.client) Introduce(one);
    }
    return all;
  }

  static std::string AddressesText(const std::vector<net::SocketAddress>& addresses) {
    std::vector<std::string> hosts;
    for (const net::SocketAddress& address : addresses) hosts.push_back(address.host());
    return fmt::format("{}", fmt::join(hosts, ", "));
  }

  void Introduce(Reached& one) {
    const std::string name = one.name.ToString();
    const auto fail = [&](Event problem, const base::Error& error) {
      one.troubles.emplace_back(problem, fmt::format("{}: {}", name, error.message));
    };
    const proxy::TierIdentity& identity = question_.identity;
    one.summary += one.summary == name ? ": connected" : "; connected";
    if (identity.tls) {
      if (const auto done = one.client->Secure(identity.tls->context(), one.name.host, Soon());
          !done)
        return fail(Event::kTlsFailed, done.error());
      one.summary +=
          fmt::format("; TLS, certificate until {}", DayText(one.client->peer_expires_at()));
    }
    if (identity.sasl) {
      if (const auto done = one.client->LogIn(*identity.sasl, Soon()); !done) {
        const bool odd = done.error().code == base::Code::kCorrupt;
        return fail(odd ? Event::kNotABroker : Event::kLoginFailed, done.error());
      }
      one.summary += fmt::format("; logged in by {}", net::SaslName(identity.sasl->mechanism));
    }
    if (const auto done = one.client->AskVersions(Soon()); !done) {
      base::Error error = done.error();
      if (error.code == base::Code::kClosed && !identity.tls)
        error.message += " upon the first request: does this port want TLS?";
      return fail(Event::kNotABroker, error);
    }
    one.ready = true;
  }

  void CheckVersions(const Reached& reached) {
    const auto check = [&](const Need& need) {
      if (!reached.client->Version(need.api))
        findings_.Trouble(
            need.without,
            fmt::format("{} serves no version of {} that is known here ({} to {})",
                        reached.name.ToString(), need.api.name, need.api.oldest, need.api.newest));
    };
    for (const Need& need : kNeeds) check(need);
    if (question_.transactional) {
      for (const Need& need : kTransactionNeeds) check(need);
    }
  }

  // --- The cluster.

  void CheckCluster(const Reached& reached) {
    BrokerClient& client = *reached.client;
    std::map<std::string, TopicQuestion> topics = TopicsToAsk();
    kafka::MetadataRequest request{.allow_auto_topic_creation = false};
    request.include_topic_authorized_operations =
        client.Version(kafka::MetadataRequest::kApi).value_or(0) >= kRightsSince;
    auto& named = request.topics.emplace();
    for (const auto& [name, topic] : topics) named.push_back({.name = name});
    const auto metadata = client.Call(request, Soon());
    if (!metadata) {
      std::string what = fmt::format("{}: {}", reached.name.ToString(), metadata.error().message);
      if (!question_.identity.sasl && metadata.error().code == base::Code::kClosed)
        return findings_.Trouble(Event::kLoginFailed,
                                 what +
                                     " upon the first question: it may ask for SASL, which "
                                     "security.protocol does not offer");
      return findings_.Trouble(Event::kMetadataNotTold, what);
    }
    if (metadata->error_code != ErrorCode::kNone)
      return findings_.Trouble(
          Event::kMetadataNotTold,
          fmt::format("{}: {}", reached.name.ToString(), kafka::ErrorName(metadata->error_code)));
    CheckIdentity(*metadata);
    CheckAdvertised(*metadata);
    CheckProducerRights(client);
    if (question_.transactional) CheckTransactionRights(client);
    CheckBrokerSettings(reached, *metadata);
    CheckTopics(client, *metadata, std::move(topics));
  }

  void CheckIdentity(const kafka::MetadataResponse& metadata) {
    const std::string cluster(metadata.cluster_id.value_or(""));
    findings_.Good(fmt::format("cluster {} has {} broker{}, of which {} is the controller",
                               cluster.empty() ? "without a name" : cluster,
                               metadata.brokers.size(), metadata.brokers.size() == 1 ? "" : "s",
                               metadata.controller_id));
    if (question_.spool && !question_.spool->cluster_id.empty() && !cluster.empty() &&
        question_.spool->cluster_id != cluster)
      findings_.Trouble(Event::kSpoolOfOtherCluster,
                        fmt::format("the spool was delivered to cluster {} until now, and this is "
                                    "{}",
                                    question_.spool->cluster_id, cluster));
  }

  void CheckAdvertised(const kafka::MetadataResponse& metadata) {
    std::vector<net::HostPort> others;
    for (const auto& broker : metadata.brokers) {
      net::HostPort address{.host = std::string(broker.host),
                            .port = static_cast<uint16_t>(broker.port)};
      if (std::ranges::find(question_.bootstrap, address) == question_.bootstrap.end())
        others.push_back(std::move(address));
    }
    if (others.size() > question_.kBrokersMax) {
      findings_.Note(
          fmt::format("of {} brokers, {} are looked at", others.size(), question_.kBrokersMax));
      others.resize(question_.kBrokersMax);
    }
    for (const Reached& one : Reach(others)) {
      for (const auto& [problem, what] : one.troubles)
        findings_.Trouble(Event::kAdvertisedUnreachable, "a broker is to be reached at " + what);
      if (one.ready) findings_.Good(one.summary);
      CheckPeerCertificate(one);
    }
  }

  void CheckProducerRights(BrokerClient& client) {
    if (!client.Version(kafka::InitProducerIdRequest::kApi)) return;
    auto answer = client.Call(kafka::InitProducerIdRequest{}, Soon());
    // A broker that was just started has none at first.
    for (const Deadline end = Clock::now() + kPatience;
         answer && kafka::Retriable(answer->error_code) && Clock::now() < end;) {
      poll(nullptr, 0, kAskAgainMs);
      answer = client.Call(kafka::InitProducerIdRequest{}, Soon());
    }
    if (!answer) {
      findings_.Trouble(Event::kMayNotProduceIdempotently,
                        "no producer id: " + answer.error().message);
    } else if (answer->error_code == ErrorCode::kClusterAuthorizationFailed) {
      findings_.Trouble(Event::kMayNotProduceIdempotently,
                        fmt::format("no producer id: {}", kafka::ErrorName(answer->error_code)));
    } else if (answer->error_code != ErrorCode::kNone) {
      findings_.Note(
          fmt::format("no producer id at the moment: {}", kafka::ErrorName(answer->error_code)));
    } else {
      findings_.Good("the agent may produce idempotently");
    }
  }

  // To take an id would end what the agent has under way in it; the coordinator tells as much.
  void CheckTransactionRights(BrokerClient& client) {
    const auto version = client.Version(kafka::FindCoordinatorRequest::kApi);
    if (!version) return;
    const std::string id = std::string(proxy::kAgentNames) + "doctor";
    kafka::FindCoordinatorRequest request{.key_type = kTransactionKey};
    if (*version >= 4) {
      request.coordinator_keys.push_back(id);
    } else {
      request.key = id;
    }
    const auto answer = client.Call(request, Soon());
    if (!answer) {
      findings_.Trouble(Event::kMayNotUseTransactions,
                        "no coordinator of transactions: " + answer.error().message);
      return;
    }
    const ErrorCode error =
        answer->coordinators.empty() ? answer->error_code : answer->coordinators.front().error_code;
    if (error == ErrorCode::kTransactionalIdAuthorizationFailed) {
      findings_.Trouble(Event::kMayNotUseTransactions,
                        fmt::format("transactional ids that begin with {}: {}", proxy::kAgentNames,
                                    kafka::ErrorName(error)));
    } else if (error == ErrorCode::kNone) {
      findings_.Good("the agent may look for the coordinator of its transactions");
    } else {
      findings_.Note(
          fmt::format("no coordinator of transactions at the moment: {}", kafka::ErrorName(error)));
    }
  }

  // A broker tells of itself alone, and only to who may ask.
  void CheckBrokerSettings(const Reached& reached, const kafka::MetadataResponse& metadata) {
    const auto self = std::ranges::find_if(metadata.brokers, [&](const auto& broker) {
      return broker.host == reached.name.host && broker.port == reached.name.port;
    });
    if (self == metadata.brokers.end() ||
        !reached.client->Version(kafka::DescribeConfigsRequest::kApi))
      return;
    kafka::DescribeConfigsRequest request;
    request.resources.push_back(
        {.resource_type = kBrokerResource,
         .resource_name = request.strings.Keep(std::to_string(self->node_id)),
         .configuration_keys = std::vector{kProducerExpiration}});
    const auto answer = reached.client->Call(request, Soon());
    if (!answer) return;
    for (const auto& result : answer->results) {
      for (const auto& config : result.configs) {
        if (config.name != kProducerExpiration || !config.value) continue;
        int64_t ms = 0;
        std::from_chars(config.value->data(), config.value->data() + config.value->size(), ms);
        if (ms > 0 && ms < kProducerExpirationMs)
          findings_.Trouble(Event::kProducersForgottenEarly,
                            fmt::format("broker {} forgets producers after {} ({})", self->node_id,
                                        agent::AgeText(ms), kProducerExpiration));
      }
    }
  }

  // --- Topics.

  std::map<std::string, TopicQuestion> TopicsToAsk() {
    std::map<std::string, TopicQuestion> topics;
    const auto add = [&](const std::string& name) -> TopicQuestion& {
      return topics
          .try_emplace(name, TopicQuestion{.name = name,
                                           .batch_bytes_max = question_.batch_bytes_max,
                                           .now_ms = question_.now_ms})
          .first->second;
    };
    if (question_.spool) {
      for (const auto& [name, waiting] : question_.spool->waiting) add(name).waiting = waiting;
    }
    for (const UpstreamQuestion::Topic& topic : question_.topics)
      add(topic.name).declared |= topic.declared;
    if (topics.size() > question_.kTopicsMax) {
      findings_.Note(fmt::format("of {} topics, the first {} are looked at", topics.size(),
                                 question_.kTopicsMax));
      topics.erase(std::next(topics.begin(), question_.kTopicsMax), topics.end());
    }
    return topics;
  }

  std::optional<bool> MayCreate(BrokerClient& client) {
    if (!client.Version(kafka::DescribeClusterRequest::kApi)) return std::nullopt;
    const auto answer = client.Call(
        kafka::DescribeClusterRequest{.include_cluster_authorized_operations = true}, Soon());
    if (!answer || answer->error_code != ErrorCode::kNone) return std::nullopt;
    const int32_t rights = answer->cluster_authorized_operations;
    // None at all: it does not tell.
    if (rights == std::numeric_limits<int32_t>::min() || rights == 0) return std::nullopt;
    return (rights & kMayCreate) != 0;
  }

  void CheckTopics(BrokerClient& client, const kafka::MetadataResponse& metadata,
                   std::map<std::string, TopicQuestion> questions) {
    if (questions.empty())
      findings_.Note(
          "no topics are declared (agent.topics), and no records wait: rights and "
          "settings of topics were not looked at");
    std::vector<std::string_view> there;
    bool missing = false;
    for (const auto& topic : metadata.topics) {
      if (!topic.name) continue;
      if (topic.error_code == ErrorCode::kNone) there.push_back(*topic.name);
      missing |= topic.error_code == ErrorCode::kUnknownTopicOrPartition;
    }
    std::optional<bool> may_create;
    if (missing) may_create = MayCreate(client);
    // Settings by topic; they borrow from the client.
    std::vector<kafka::DescribeConfigsResponse> answers;
    if (!AskSettings(client, there, answers)) return;
    std::map<std::string_view, const kafka::DescribeConfigsResponse::DescribeConfigsResult*>
        settings;
    for (const auto& answer : answers) {
      for (const auto& result : answer.results) settings[result.resource_name] = &result;
    }
    for (const auto& topic : metadata.topics) {
      const auto question = topic.name ? questions.find(std::string(*topic.name)) : questions.end();
      if (question == questions.end()) continue;
      question->second.may_create = may_create;
      const auto told = settings.find(*topic.name);
      findings_.Add(
          CheckTopic(question->second, topic, told == settings.end() ? nullptr : told->second));
    }
  }

  bool AskSettings(BrokerClient& client, std::span<const std::string_view> topics,
                   std::vector<kafka::DescribeConfigsResponse>& answers) {
    if (!topics.empty() && !client.Version(kafka::DescribeConfigsRequest::kApi)) {
      findings_.Trouble(Event::kSettingsNotTold, "the tier does not serve DescribeConfigs");
      return true;
    }
    const auto names = SettingsToAsk();
    while (!topics.empty()) {
      kafka::DescribeConfigsRequest request;
      for (const std::string_view topic : topics.first(std::min(topics.size(), kTopicsPerQuestion)))
        request.resources.push_back(
            {.resource_type = kTopicResource,
             .resource_name = topic,
             .configuration_keys = std::vector<std::string_view>(names.begin(), names.end())});
      topics = topics.subspan(request.resources.size());
      auto answer = client.Call(request, Soon());
      if (!answer) {
        findings_.Trouble(Clock::now() >= end_ ? Event::kOutOfTime : Event::kSettingsNotTold,
                          "settings of topics: " + answer.error().message);
        return Clock::now() < end_;
      }
      answers.push_back(*std::move(answer));
    }
    return true;
  }

  const UpstreamQuestion& question_;
  const Deadline end_;
  Findings findings_{Area::kUpstream};
};

}  // namespace

Findings CheckUpstream(const UpstreamQuestion& question) { return UpstreamCheck(question).Run(); }

}  // namespace holdfast::cli::doctor
