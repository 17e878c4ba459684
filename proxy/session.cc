#include "proxy/session.h"

#include <fmt/format.h>

#include <algorithm>

#include "kafka/api/init_producer_id.h"
#include "kafka/api/metadata.h"
#include "kafka/error_map.h"
#include "proxy/api_policy.h"
#include "proxy/api_versions.h"
#include "proxy/produce.h"
#include "proxy/transaction_requests.h"

namespace holdfast::proxy {
namespace {

using kafka::RequestHeader;

constexpr base::Duration kVersionsPoll = std::chrono::milliseconds(20);
constexpr base::Duration kSettingsPoll = std::chrono::milliseconds(5);
constexpr base::Duration kEndPoll = std::chrono::milliseconds(5);
// An answer may have told nothing: that of a broker that did not know the topic yet.
constexpr base::Duration kSettingsAskAgain = std::chrono::milliseconds(200);
// For a topic that it has waited for in vain a connection does not wait again for this long.
constexpr base::Duration kSettingsGiveUp = std::chrono::seconds(30);

kafka::Reply ToKafkaReply(net::Reply reply) {
  return [reply = std::move(reply)](kafka::Answer answer) mutable {
    switch (answer.kind) {
      case kafka::Answer::Kind::kFrame:
        return reply.Send(std::move(answer.frame), std::move(answer.rest));
      case kafka::Answer::Kind::kNothing:
        return reply.SendNothing();
      case kafka::Answer::Kind::kClose:
        return reply.Close(std::move(answer.reason));
    }
  };
}

// What the agent may have to answer itself it must be able to read. ApiVersions has an answer for
// versions that nobody knows.
bool IsServed(const RequestHeader& header) {
  const ApiPolicy policy = PolicyOf(header.api_key);
  return policy.away == Away::kCloses || policy.Offers(header.api_version) ||
         header.api_key == kafka::ApiVersionsRequest::kApi.key;
}

}  // namespace

Session::Session(FrontDoor& front, net::Connection& connection, int32_t node)
    : front_(front),
      connection_(connection),
      node_(node),
      tier_(front, connection, node),
      gate_(front, connection, tier_),
      peer_(std::make_shared<const kafka::Peer>(kafka::Peer{
          .address = connection.peer().ToString(), .listener = connection.local().ToString()})) {}

Session::~Session() {
  for (HeldProduce& held : held_) held.reply.Close("the client is gone");
}

const Cluster& Session::CurrentCluster() {
  // Version first: a change in between is then seen next time.
  if (const uint64_t version = front_.cache.version(); version != cluster_version_) {
    cluster_version_ = version;
    cluster_ = front_.cache.cluster();
  }
  return *cluster_;
}

void Session::OnFrame(base::Buffer frame, net::Reply reply) {
  base::Result<RequestHeader> header = kafka::ReadRequestHeader(frame.view());
  if (!header) return reply.Close(header.error().message);
  front_.CountRequest(header->api_key);
  if (!IsServed(*header)) {
    return reply.Close(fmt::format("a request of API {} of version {}, which was not offered",
                                   header->api_key, header->api_version));
  }
  if (!gate_.Admit(frame, *header, CurrentCluster(), reply)) return;
  header = kafka::ReadRequestHeader(frame.view());  // The frame may be another one.
  HF_CHECK(header);
  if (front_.transactions() != nullptr && AboutTransactions(header->api_key) &&
      TakeTransactional(front_, connection_, node_, gate_.transactions_principal(), frame, *header,
                        reply)) {
    return;
  }
  switch (header->api_key) {
    case kafka::ProduceRequest::kApi.key:
      return OnProduce(std::move(frame), *header, std::move(reply));
    case kafka::MetadataRequest::kApi.key:
      return OnMetadata(std::move(frame), *header, std::move(reply));
    case kafka::InitProducerIdRequest::kApi.key:
      return OnInitProducerId(std::move(frame), *header, std::move(reply));
    case kafka::ApiVersionsRequest::kApi.key:
      return OnApiVersions(std::move(frame), *header, std::move(reply));
    default:
      break;
  }
  if (PolicyOf(header->api_key).away == Away::kCloses) {
    return tier_.Forward(std::move(frame), *header, std::move(reply));
  }
  if (TierIsAway()) {
    return tier_.AnswerLocally(frame.view(), *header, std::move(reply));
  }
  tier_.ForwardOrAnswer(std::move(frame), *header, std::move(reply));
}

void Session::OnProduce(base::Buffer frame, const RequestHeader& header, net::Reply reply) {
  auto request = kafka::DecodeRequest<kafka::ProduceRequest>(frame.view(), header);
  if (!request) return reply.Close(request.error().message);
  const bool local = request->transactional_id && front_.transactions() != nullptr &&
                     front_.transactions()->Owns(*request->transactional_id);
  if (!request->transactional_id || local) {
    const std::vector<std::string> missing = MissingSettings(*request, header.api_version);
    for (const std::string& topic : missing) front_.want_settings(topic);
    if (!missing.empty() || !held_.empty()) {
      const base::TimePoint now = connection_.loop().Now();
      held_.push_back({std::move(frame), header, *std::move(request), std::move(reply),
                       now + front_.options.settings_wait, now});
      return ReleaseHeld();
    }
    return Produce(std::move(frame), header, *std::move(request), std::move(reply));
  }
  if (!gate_.MayUseTransaction(*request->transactional_id))
    return reply.Close("records in a transaction of the agent's own");
  // The tier is not asked: it judges what passes through.
  for (const auto& topic : request->topic_data) {
    const std::string_view name =
        topic.topic_id.IsZero() ? topic.name : CurrentCluster().NameOf(topic.topic_id);
    if (!gate_.RulesAllowProduce(name))
      return reply.Close("a transaction with a topic that the client may not produce to");
    const Topic* known = CurrentCluster().FindTopic(name);
    if (known == nullptr ? gate_.lends_agent_rights() : known->internal)
      return reply.Close("a transaction with a topic that is, or may be, the tier's own");
  }
  if (request->acks == 0)
    return tier_.ForwardUnanswered(std::move(frame), header, std::move(reply));
  tier_.Forward(std::move(frame), header, std::move(reply));
}

// The topics of the tier that are produced to, whose settings are not known, and worth waiting for.
std::vector<std::string> Session::MissingSettings(const kafka::ProduceRequest& request,
                                                  int16_t version) {
  std::vector<std::string> missing;
  if (front_.cache.tier_away()) return missing;
  const Cluster& cluster = CurrentCluster();
  for (const auto& produced : request.topic_data) {
    const std::string_view named =
        version < kafka::kProduceByIdSince ? produced.name : cluster.NameOf(produced.topic_id);
    const Topic* topic = cluster.FindTopic(named);
    if (topic == nullptr || !topic->at_tier || topic->settings) continue;
    std::string name(named);
    const auto given_up = settings_given_up_until_.find(name);
    if (given_up != settings_given_up_until_.end() && given_up->second > connection_.loop().Now())
      continue;
    missing.push_back(std::move(name));
  }
  return missing;
}

void Session::BeginProduceNow(base::Buffer frame, const RequestHeader& header,
                              kafka::ProduceRequest request, net::Reply reply) {
  const base::Duration throttle =
      BeginProduce(front_, connection_.loop(), CurrentCluster(), gate_, std::move(frame), header,
                   std::move(request), std::move(reply));
  if (throttle == base::Duration::zero()) return;
  front_.metrics.throttle_seconds.Observe(throttle);
  connection_.Throttle(throttle);
}

void Session::ReleaseHeld() {
  while (!held_.empty()) {
    HeldProduce& first = held_.front();
    const base::TimePoint now = connection_.loop().Now();
    const std::vector<std::string> missing =
        MissingSettings(first.request, first.header.api_version);
    if (!missing.empty() && first.deadline > now) {
      if (now - first.asked >= kSettingsAskAgain) {
        first.asked = now;
        for (const std::string& topic : missing) front_.want_settings(topic);
      }
      held_timer_ = connection_.loop().After(kSettingsPoll, [this] { ReleaseHeld(); });
      return;
    }
    if (!missing.empty())
      std::erase_if(settings_given_up_until_, [now](const auto& old) { return old.second <= now; });
    for (const std::string& topic : missing)
      settings_given_up_until_[topic] = now + kSettingsGiveUp;
    HeldProduce released = std::move(first);
    held_.pop_front();
    Produce(std::move(released.frame), released.header, std::move(released.request),
            std::move(released.reply));
  }
}

void Session::Produce(base::Buffer frame, const RequestHeader& header,
                      kafka::ProduceRequest request, net::Reply reply) {
  if (!gate_.asks_tier()) {
    return BeginProduceNow(std::move(frame), header, std::move(request), std::move(reply));
  }
  // Of which the names borrow: one for all of them.
  const Cluster& cluster = CurrentCluster();
  std::vector<std::string_view> topics;
  for (const auto& topic : request.topic_data)
    topics.push_back(topic.topic_id.IsZero() ? topic.name : cluster.NameOf(topic.topic_id));
  // The header borrows from the frame, whose bytes stay where they are.
  gate_.BeforeProduce(topics, std::move(reply),
                      [this, frame = std::move(frame), header = header,
                       request = std::move(request)](net::Reply admitted) mutable {
                        BeginProduceNow(std::move(frame), header, std::move(request),
                                        std::move(admitted));
                      });
}

bool Session::TierIsAway() const { return front_.cache.tier_away() && !tier_.answers_while_away(); }

bool Session::HasToHandOn() const { return !held_.empty() || gate_.holds() || tier_.opening(); }

bool Session::OutlivesPeer() {
  if (!HasToHandOn()) return false;
  EndOnceHandedOn();
  return true;
}

void Session::EndOnceHandedOn() {
  end_timer_ = connection_.loop().After(kEndPoll, [this] {
    if (HasToHandOn()) return EndOnceHandedOn();
    connection_.Close("the client is gone");
  });
}

void Session::OnMetadata(base::Buffer frame, const RequestHeader& header, net::Reply reply) {
  if (TierIsAway()) {
    return tier_.AnswerLocally(frame.view(), header, std::move(reply));
  }
  auto request = kafka::DecodeRequest<kafka::MetadataRequest>(frame.view(), header);
  if (!request) return reply.Close(request.error().message);
  // Declared topics are made with the declared number of partitions, not as the tier would.
  const Cluster& cluster = CurrentCluster();
  const bool undelivered =
      request->topics && std::ranges::any_of(*request->topics, [&](const auto& asked) {
        if (!asked.name || front_.cache.Declared(*asked.name) == 0) return false;
        const Topic* topic = cluster.FindTopic(*asked.name);
        return topic == nullptr || !topic->at_tier;
      });
  if (undelivered && request->allow_auto_topic_creation) {
    constexpr int16_t kAutoCreationSince = 4;
    front_.refresh_topic({});
    if (header.api_version < kAutoCreationSince) {
      return tier_.AnswerLocally(frame.view(), header, std::move(reply));
    }
    request->allow_auto_topic_creation = false;
    auto changed =
        kafka::EncodeRequest(*request, header.api_version, header.correlation_id, header.client_id);
    if (!changed) return reply.Close(changed.error().message);
    base::Buffer body = base::Buffer::Copy(changed->view().substr(kafka::kLengthPrefixBytes));
    return tier_.ForwardOrAnswer(std::move(body), header, std::move(reply));
  }
  tier_.ForwardOrAnswer(std::move(frame), header, std::move(reply));
}

void Session::OnInitProducerId(base::Buffer frame, const RequestHeader& header, net::Reply reply) {
  const auto request = kafka::DecodeRequest<kafka::InitProducerIdRequest>(frame.view(), header);
  if (!request) return reply.Close(request.error().message);
  if (request->transactional_id) {
    if (TierIsAway()) {
      return tier_.AnswerLocally(frame.view(), header, std::move(reply));
    }
    return tier_.ForwardOrAnswer(std::move(frame), header, std::move(reply));
  }
  front_.sink.NewProducerId([version = header.api_version, correlation_id = header.correlation_id,
                             reply = std::move(reply)](base::Result<int64_t> id) mutable {
    kafka::InitProducerIdResponse response;
    if (id) {
      response.producer_id = *id;
    } else {
      response.error_code = kafka::ToCoordinatorError(id.error().code);
      response.producer_epoch = -1;
    }
    reply.Send(kafka::EncodeResponse(response, version, correlation_id));
  });
}

void Session::OnApiVersions(base::Buffer frame, const RequestHeader& header, net::Reply reply) {
  kafka::Exchange exchange(std::move(frame), header, peer_, ToKafkaReply(std::move(reply)));
  const base::Result<bool> wanted = kafka::ReadApiVersions(exchange, peer_);
  if (!wanted) return connection_.Close(wanted.error().message);
  if (!*wanted) return;
  waiting_versions_.push_back(
      {std::move(exchange), connection_.loop().Now() + front_.options.versions_wait});
  AnswerVersions();
}

// A tier that is being connected to for the first time is worth a moment: what it says decides what
// the client may use for the life of its connection.
void Session::AnswerVersions() {
  while (!waiting_versions_.empty()) {
    const Cluster& cluster = CurrentCluster();
    WaitingVersions& first = waiting_versions_.front();
    if (cluster.api_versions.empty() && !front_.cache.tier_away() &&
        first.deadline > connection_.loop().Now()) {
      versions_timer_ = connection_.loop().After(kVersionsPoll, [this] { AnswerVersions(); });
      return;
    }
    kafka::ApiVersionsResponse versions = LocalApiVersions(cluster);
    gate_.Announce(versions);
    kafka::SendApiVersions(first.exchange, std::move(versions));
    waiting_versions_.pop_front();
  }
}

}  // namespace holdfast::proxy
