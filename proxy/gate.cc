#include "proxy/gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "base/event.h"
#include "base/log.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "proxy/agent_state.h"
#include "proxy/api_policy.h"
#include "proxy/intercepted.h"
#include "proxy/local_answers.h"
#include "proxy/tier.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using kafka::RequestHeader;
using kafka::SaslAuthenticateRequest;
using kafka::SaslAuthenticateResponse;
using kafka::SaslHandshakeRequest;
using kafka::SaslHandshakeResponse;

// The first version that can ask what is allowed.
constexpr int16_t kRightsVersion = 8;
constexpr int32_t kRightsCorrelationId = 0x7ffffff0;
// AclOperation.WRITE, as a bit of what Metadata answers.
constexpr int32_t kMayWrite = 1 << 4;
constexpr const char* kLoginLost = "the connection on which the tier had let in the client is lost";

// "authzid NUL user NUL password", or "n,,n=user,r=..." with what else SCRAM allows before that.
std::string UserIn(std::string_view mechanism, std::string_view first) {
  const auto behind = [&first](char mark) {
    const size_t at = first.find(mark);
    first = at == std::string_view::npos ? std::string_view() : first.substr(at + 1);
  };
  const bool plain = mechanism == "PLAIN";
  if (!plain && !mechanism.starts_with("SCRAM-")) return {};
  behind(plain ? '\0' : ',');
  if (plain) return std::string(first.substr(0, first.find('\0')));
  behind(',');
  if (first.starts_with("m=")) behind(',');
  if (!first.starts_with("n=")) return {};
  return std::string(first.substr(2, first.find(',') - 2));
}

}  // namespace

Gate::Gate(FrontDoor& front, net::Connection& connection, PassThrough& tier)
    : front_(front),
      connection_(connection),
      tier_(tier),
      policy_(std::make_shared<const LocalPolicy>()),
      principal_(kAnonymous),
      self_(std::make_shared<Gate*>(this)) {
  TakePolicy();
  if (const auto subject = connection.peer_subject()) {
    const auto name =
        policy_->certificate_names ? policy_->certificate_names->NameOf(*subject) : subject;
    if (name) principal_ = "User:" + *name;
    nameless_ = !name;
  }
  AwaitLogin();
}

Gate::~Gate() {
  *self_ = nullptr;
  for (Waiting& waiting : waiting_) waiting.reply.Close("the client is gone");
}

// Version first: a change in between is then seen next time.
void Gate::TakePolicy() {
  const LocalPolicies* const policies = front_.options.local_policies;
  if (policies == nullptr) return;
  policy_version_ = policies->version();
  policy_ = policies->policy();
  tier_.KeepToShown(policy_->tier_decides);
}

// Whoever may not do anything yet gets no memory for large requests, and no place for long.
void Gate::AwaitLogin() {
  const bool before_login =
      (!policy_->sasl.mechanisms.empty() && !sasl_.authenticated()) ||
      (policy_->tier_decides && policy_->tier_wants_sasl && tier_connection_ == 0);
  connection_.AwaitLogin(before_login ? std::optional(auth::kLoginBytesMax) : std::nullopt);
}

bool Gate::Admit(base::Buffer& frame, const RequestHeader& header, const Cluster& cluster,
                 net::Reply& reply) {
  if (front_.options.local_policies != nullptr &&
      front_.options.local_policies->version() != policy_version_) {
    TakePolicy();
    AwaitLogin();
  }
  if (nameless_ && policy_->sasl.mechanisms.empty()) {
    reply.Close("no rule names the client's certificate");
    return false;
  }
  if (refused_) {
    reply.Close("a request after a login that failed");
    return false;
  }
  if (header.api_key == kafka::ApiVersionsRequest::kApi.key) return true;
  if (header.api_key == SaslHandshakeRequest::kApi.key ||
      header.api_key == SaslAuthenticateRequest::kApi.key) {
    if (!policy_->sasl.mechanisms.empty() || policy_->passes_as_agent)
      return ServeSasl(frame, header, reply);
    return WatchSasl(frame, header, reply);
  }
  if (!policy_->sasl.mechanisms.empty() && !sasl_.authenticated()) {
    reply.Close("a request before SASL authentication");
    return false;
  }
  if (policy_->tier_decides && policy_->tier_wants_sasl && !SpeaksForItself(header, reply))
    return false;
  if (policy_->lends_agent_rights && !SparesAgentState(frame.view(), header, reply)) return false;
  if (policy_->rules.empty()) return true;
  if (header.api_key == kafka::MetadataRequest::kApi.key)
    return FilterMetadata(frame, header, reply);
  return MayPass(policy_->rules, principal_, cluster, frame, header, reply);
}

void Gate::Announce(kafka::ApiVersionsResponse& versions) const {
  KeepToRead(versions, static_cast<uint8_t>(
                           (policy_->rules.empty() ? kForNothing : kForRules) |
                           (policy_->lends_agent_rights ? kForAgentState : kForNothing) |
                           (front_.transactions() == nullptr ? kForNothing : kForTransactions)));
  if (policy_->sasl.mechanisms.empty()) return;
  for (const kafka::Api& api : {SaslHandshakeRequest::kApi, SaslAuthenticateRequest::kApi}) {
    std::erase_if(versions.api_keys, [&](const auto& range) { return range.api_key == api.key; });
    versions.api_keys.push_back(
        {.api_key = api.key, .min_version = api.oldest, .max_version = api.newest});
  }
}

bool Gate::ServeSasl(const base::Buffer& frame, const RequestHeader& header, net::Reply& reply) {
  if (header.api_key == SaslHandshakeRequest::kApi.key) {
    Handshake(frame, header, reply);
  } else {
    Authenticate(frame, header, reply);
  }
  return false;
}

void Gate::Handshake(const base::Buffer& frame, const RequestHeader& header, net::Reply& reply) {
  // Version 0 goes on without frames of Kafka's.
  if (header.api_version != SaslHandshakeRequest::kApi.newest)
    return reply.Close("a SaslHandshake of a version that is not served");
  const auto request = kafka::DecodeRequest<SaslHandshakeRequest>(frame.view(), header);
  if (!request) return reply.Close(request.error().message);
  const SaslHandshakeResponse response = sasl_.Handshake(policy_->sasl, request->mechanism);
  reply.Send(kafka::EncodeResponse(response, header.api_version, header.correlation_id));
}

void Gate::Authenticate(const base::Buffer& frame, const RequestHeader& header, net::Reply& reply) {
  if (!SaslAuthenticateRequest::kApi.Knows(header.api_version))
    return reply.Close("a SaslAuthenticate of a version that was not offered");
  const auto request = kafka::DecodeRequest<SaslAuthenticateRequest>(frame.view(), header);
  if (!request) return reply.Close(request.error().message);
  SaslAuthenticateResponse response;
  const auto outcome = sasl_.Authenticate(request->auth_bytes, &response);
  AwaitLogin();
  base::Buffer answer = kafka::EncodeResponse(response, header.api_version, header.correlation_id);
  if (outcome == auth::SaslSession::Outcome::kAuthenticated) principal_ = sasl_.principal();
  if (outcome != auth::SaslSession::Outcome::kRefused) return reply.Send(std::move(answer));
  front_.metrics.local_login_failures.Add();
  base::Log(base::Event::kLoginRefused, {"proxy", connection_.peer().host()},
            "SASL authentication failed: {}", response.error_message.value_or(""));
  refused_ = true;
  refusal_ = connection_.loop().After(
      auth::kFailedLoginDelay, [answer = std::move(answer), reply = std::move(reply)]() mutable {
        reply.SendLast(std::move(answer));
      });
}

// Whether others than the tier and this host could read the secret itself.
bool Gate::ShowsSecret(std::string_view mechanism) const {
  const net::SocketAddress& peer = connection_.peer();
  const bool here = peer.IsLoopback() || peer.host() == connection_.local().host();
  return policy_->secrets_stay_here && !here &&
         (mechanism == "PLAIN" || mechanism == "OAUTHBEARER");
}

// The tier serves the exchange.
bool Gate::WatchSasl(const base::Buffer& frame, const RequestHeader& header, net::Reply& reply) {
  if (header.api_key == SaslHandshakeRequest::kApi.key) {
    if (header.api_version != SaslHandshakeRequest::kApi.newest) {
      reply.Close("a SaslHandshake of a version that does not pass through");
      return false;
    }
    const auto request = kafka::DecodeRequest<SaslHandshakeRequest>(frame.view(), header);
    if (!request) {
      reply.Close(request.error().message);
      return false;
    }
    if (ShowsSecret(request->mechanism)) {
      base::Log(base::Event::kLoginRefused, {"proxy", connection_.peer().host()},
                "{} would show a secret to who listens in: set agent.tls", request->mechanism);
      reply.Send(kafka::EncodeResponse(
          SaslHandshakeResponse{.error_code = ErrorCode::kUnsupportedSaslMechanism},
          header.api_version, header.correlation_id));
      return false;
    }
    tier_exchange_ = std::make_shared<TierExchange>();
    tier_exchange_->mechanism = request->mechanism;
    return true;
  }
  if (!SaslAuthenticateRequest::kApi.Knows(header.api_version)) {
    reply.Close("a SaslAuthenticate of a version that was not offered");
    return false;
  }
  if (!tier_exchange_->user) {
    const auto request = kafka::DecodeRequest<SaslAuthenticateRequest>(frame.view(), header);
    if (!request) {
      reply.Close(request.error().message);
      return false;
    }
    tier_exchange_->user = UserIn(tier_exchange_->mechanism, request->auth_bytes);
  }
  reply = Intercepted::Make(std::move(reply), [self = self_, exchange = tier_exchange_,
                                               version = header.api_version](base::Buffer answer) {
    if (*self != nullptr) (*self)->OnTierSaslAnswer(*exchange, answer.view(), version);
    return answer;
  });
  return true;
}

void Gate::OnTierSaslAnswer(TierExchange& exchange, std::string_view frame, int16_t version) {
  const auto response = frame.empty()
                            ? base::Result<SaslAuthenticateResponse>(base::Unexpected(
                                  base::Code::kUnavailable, "no answer that can be read"))
                            : kafka::DecodeResponse<SaslAuthenticateResponse>(frame, version);
  // Of OAUTHBEARER an answer with content says why the token is refused.
  const bool accepted = response && response->error_code == ErrorCode::kNone &&
                        !(exchange.mechanism == "OAUTHBEARER" && !response->auth_bytes.empty());
  if (!accepted) {
    tier_connection_ = 0;
    rights_.clear();
    tier_.ForgetShown();
    return AwaitLogin();
  }
  const int rounds = exchange.mechanism.starts_with("SCRAM-") ? 2 : 1;
  if (++exchange.rounds >= rounds) {
    tier_connection_ = tier_.connects();
    const std::string user = exchange.user.value_or("");
    tier_principal_ = user.empty() ? "" : "User:" + user;
  }
  AwaitLogin();
}

// Whether the tier has let in this client, and still knows it. Records it may produce by what was
// known, and metadata it gets from the cache, as long as the tier is away.
bool Gate::SpeaksForItself(const RequestHeader& header, net::Reply& reply) {
  if (tier_connection_ == 0) {
    reply.Close("a request before SASL authentication at the tier");
    return false;
  }
  if (IsLoggedIn()) return true;
  if (header.api_key == kafka::ProduceRequest::kApi.key) return true;
  if (front_.cache.tier_away() && PolicyOf(header.api_key).away != Away::kCloses) return true;
  reply.Close(kLoginLost);
  return false;
}

bool Gate::IsLoggedIn() const { return tier_.open() && tier_.connects() == tier_connection_; }

// Topics that the client may not see do not reach the tier, which could make them.
bool Gate::FilterMetadata(base::Buffer& frame, const RequestHeader& header, net::Reply& reply) {
  auto request = kafka::DecodeRequest<kafka::MetadataRequest>(frame.view(), header);
  if (!request) {
    reply.Close(request.error().message);
    return false;
  }
  std::vector<std::string> hidden;
  const AccessRules& rules = policy_->rules;
  if (!AsksForAll(*request, header.api_version)) {
    std::erase_if(*request->topics, [&](const auto& topic) {
      if (!topic.name || rules.ShowsTopic(principal_, *topic.name)) return false;
      hidden.emplace_back(*topic.name);
      return true;
    });
    if (!hidden.empty() && header.api_version == 0 && request->topics->empty()) {
      reply.Close("none of the topics in a Metadata request may be seen");
      return false;
    }
    // Who only reads makes no topics by asking for them.
    const bool may_create = std::ranges::all_of(*request->topics, [&](const auto& topic) {
      return !topic.name || rules.AllowsTopic(principal_, Operation::kProduce, *topic.name) ||
             rules.AllowsTopic(principal_, Operation::kAdmin, *topic.name);
    });
    constexpr int16_t kAutoCreationSince = 4;
    const bool creates =
        header.api_version < kAutoCreationSince || request->allow_auto_topic_creation;
    if (creates && !may_create && header.api_version < kAutoCreationSince) {
      reply.Close("a Metadata request that could make topics, of a client that may not");
      return false;
    }
    if (!hidden.empty() || (creates && !may_create)) {
      request->allow_auto_topic_creation = request->allow_auto_topic_creation && may_create;
      auto changed = kafka::EncodeRequest(*request, header.api_version, header.correlation_id,
                                          header.client_id);
      if (!changed) {
        reply.Close(changed.error().message);
        return false;
      }
      frame = WithoutLength(*changed);
    }
  }
  reply = Intercepted::Make(
      std::move(reply),
      [policy = policy_, principal = principal_, hidden = std::move(hidden),
       version = header.api_version, correlation_id = header.correlation_id](base::Buffer answer) {
        if (answer.empty()) return answer;
        auto response = kafka::DecodeResponse<kafka::MetadataResponse>(answer.view(), version);
        if (!response) return base::Buffer();
        HideTopics(policy->rules, principal, *response);
        for (const std::string& name : hidden) {
          auto& topic = response->topics.emplace_back();
          topic.name = name;
          topic.error_code = ErrorCode::kTopicAuthorizationFailed;
        }
        return WithoutLength(kafka::EncodeResponse(*response, version, correlation_id));
      });
  return true;
}

void Gate::BeforeProduce(const std::vector<std::string_view>& topics, net::Reply reply,
                         Produce then) {
  Waiting waiting{.deadline = connection_.loop().Now() + kRightsWait,
                  .reply = std::move(reply),
                  .then = std::move(then)};
  std::vector<std::string> aging;
  // A request may name very many topics, and each of them often.
  std::unordered_set<std::string_view> named;
  for (const std::string_view topic : topics) {
    if (!named.insert(topic).second) continue;
    const std::string name(topic);
    if (IsFresh(name, front_.options.rights_for / 2)) continue;
    aging.push_back(name);
    if (!IsFresh(name, front_.options.rights_for)) waiting.topics.push_back(name);
  }
  if (!aging.empty() && !asking_) AskRights(aging);
  waiting_.push_back(std::move(waiting));
  GoOn();
}

bool Gate::IsFresh(const std::string& topic, base::Duration age_max) const {
  const auto found = rights_.find(topic);
  return found != rights_.end() && connection_.loop().Now() - found->second.learned < age_max;
}

bool Gate::MayUseTransaction(std::string_view transactional_id) const {
  return !policy_->lends_agent_rights || !IsAgentName(transactional_id);
}

ErrorCode Gate::MayProduce(std::string_view topic) const {
  if (!RulesAllowProduce(topic)) return ErrorCode::kTopicAuthorizationFailed;
  if (!policy_->tier_decides) return ErrorCode::kNone;
  const auto found = rights_.find(std::string(topic));
  return found == rights_.end() ? ErrorCode::kLeaderNotAvailable : found->second.error;
}

void Gate::AskRights(const std::vector<std::string>& topics) {
  if (front_.cache.tier_away() && !tier_.answers_while_away()) return;
  login_lost_ |= policy_->tier_wants_sasl && !IsLoggedIn();
  if (login_lost_) return;
  kafka::MetadataRequest request{.allow_auto_topic_creation = false,
                                 .include_topic_authorized_operations = true};
  request.topics.emplace();
  for (const std::string& topic : topics) request.topics->push_back({.name = topic});
  const auto frame = kafka::EncodeRequest(request, kRightsVersion, kRightsCorrelationId, kClientId);
  HF_CHECK(frame);
  asking_ = true;
  const RequestHeader header{.api_key = kafka::MetadataRequest::kApi.key,
                             .api_version = kRightsVersion,
                             .correlation_id = kRightsCorrelationId};
  tier_.Forward(WithoutLength(*frame), header,
                Intercepted::Make({}, [self = self_, topics](base::Buffer answer) {
                  if (*self != nullptr) (*self)->OnRights(topics, answer.view());
                  return base::Buffer();
                }));
}

void Gate::OnRights(const std::vector<std::string>& asked, std::string_view frame) {
  asking_ = false;
  if (rights_.size() > kTopicsMax) rights_.clear();
  const base::TimePoint now = connection_.loop().Now();
  if (!frame.empty()) {
    const auto response = kafka::DecodeResponse<kafka::MetadataResponse>(frame, kRightsVersion);
    if (response) {
      for (const auto& topic : response->topics) {
        Right right{.learned = now};
        const int32_t allowed = topic.topic_authorized_operations;
        // Kafka tells what is allowed of topics that are not there, too.
        if (topic.error_code == ErrorCode::kTopicAuthorizationFailed ||
            (allowed >= 0 && (allowed & kMayWrite) == 0)) {
          right.error = ErrorCode::kTopicAuthorizationFailed;
        } else if (topic.error_code != ErrorCode::kNone || allowed < 0) {
          // It is not there, or has no leader, or is shown from the configuration: not known yet.
          continue;
        }
        rights_[std::string(topic.name.value_or(""))] = right;
      }
    }
  }
  // What was not learned is not waited for any longer: MayProduce says that it is not known.
  const std::unordered_set<std::string_view> told(asked.begin(), asked.end());
  for (Waiting& waiting : waiting_) {
    std::erase_if(waiting.topics, [&](const std::string& topic) {
      return told.contains(topic) || IsFresh(topic, front_.options.rights_for);
    });
  }
  std::vector<std::string> more;
  for (const Waiting& waiting : waiting_)
    more.insert(more.end(), waiting.topics.begin(), waiting.topics.end());
  if (!more.empty()) AskRights(more);
  GoOn();
}

bool Gate::Known(const Waiting& waiting) const {
  return waiting.topics.empty() || !asking_ || waiting.deadline <= connection_.loop().Now();
}

void Gate::GoOn() {
  while (!waiting_.empty() && Known(waiting_.front())) {
    Waiting first = std::move(waiting_.front());
    waiting_.pop_front();
    if (login_lost_) {
      first.reply.Close(kLoginLost);
    } else {
      first.then(std::move(first.reply));
    }
  }
  if (waiting_.empty()) return rights_limit_.Cancel();
  rights_limit_ = connection_.loop().After(waiting_.front().deadline - connection_.loop().Now(),
                                           [this] { GoOn(); });
}

}  // namespace holdfast::proxy
