// Who a local client is, and what it may do: stands before everything else that a session does
// with a request.
//
// Where the agent asks for SASL, the exchange is served here, and nothing but ApiVersions passes
// before it is done; who fails is told after auth::kFailedLoginDelay, and disconnected. Where
// clients speak for themselves at the tier, their SASL passes through, and the gate watches whether
// the tier let them in, and as whom: what of it cannot be read does not pass. Mechanisms that would
// show a secret on the way from another host are refused (LocalPolicy::secrets_stay_here). Rules
// are applied either way. Before a login that is asked for, here or there, a request has at most
// auth::kLoginBytesMax bytes, and a client the time that the server allows for it
// (net::Connection::AwaitLogin).
//
// What a client may produce there is asked of the tier over the client's own connection (Metadata
// with include_topic_authorized_operations): before the first record for a topic, and again once
// an answer is half as old as FrontDoorOptions::rights_for, while records go on by the old one, or
// that old, while they wait. With the tier away, or not answering, the last answer counts; without
// one, records are refused with LEADER_NOT_AVAILABLE, on which clients try again. Where the
// connection on which the tier had let in the client is lost by then, it has to log in again: the
// client's ends, behind the answers that are due, and what waits to be judged is not taken.
//
// Ownership: belongs to a session, beside the connection to the tier that it asks over.
// Threads: the connection's loop.
// Limits: kTopicsMax topics are remembered per connection; an answer is waited for kRightsWait.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "auth/sasl_session.h"
#include "base/buffer.h"
#include "base/executor.h"
#include "base/unique_function.h"
#include "kafka/api/api_versions.h"
#include "kafka/codec.h"
#include "kafka/error_code.h"
#include "net/framed_server.h"
#include "net/reply.h"
#include "proxy/access.h"
#include "proxy/front_door.h"
#include "proxy/local_policy.h"
#include "proxy/pass_through.h"

namespace holdfast::proxy {

class Gate {
 public:
  static constexpr size_t kTopicsMax = 10000;
  static constexpr base::Duration kRightsWait = std::chrono::seconds(5);

  Gate(FrontDoor& front, net::Connection& connection, PassThrough& tier);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // "User:ANONYMOUS" as long as the client has not said who it is.
  [[nodiscard]] const std::string& principal() const { return principal_; }
  // Whose local transactions are: who said here who he is, or to the tier, which let him in, as far
  // as its SASL shows a name. Empty: nobody in particular.
  [[nodiscard]] const std::string& transactions_principal() const {
    return principal_ == kAnonymous ? tier_principal_ : principal_;
  }
  // The same one's name alone, as limits know it.
  [[nodiscard]] std::string_view user() const {
    constexpr std::string_view kUser = "User:";
    const std::string_view name = transactions_principal();
    return name.starts_with(kUser) ? name.substr(kUser.size()) : "";
  }

  // False: the request was answered. Otherwise frame and reply may have been replaced, so that
  // the answer comes by here.
  [[nodiscard]] bool Admit(base::Buffer& frame, const kafka::RequestHeader& header,
                           const Cluster& cluster, net::Reply& reply);

  // Offers the versions of SASL that are served here, and of what has to be read those that can be.
  void Announce(kafka::ApiVersionsResponse& versions) const;

  // Whether MayProduce has to be prepared by BeforeProduce.
  [[nodiscard]] bool asks_tier() const { return policy_->tier_decides; }
  // Runs `then`, with the reply, when it is known what the client may produce to the topics, at
  // once if it is already, unless the request ends the connection. In the order of the calls.
  using Produce = base::UniqueFunction<void(net::Reply reply)>;
  void BeforeProduce(const std::vector<std::string_view>& topics, net::Reply reply, Produce then);
  // Whether some of those calls have not run.
  [[nodiscard]] bool holds() const { return !waiting_.empty(); }
  [[nodiscard]] kafka::ErrorCode MayProduce(std::string_view topic) const;
  // Whether what passes through has the agent's rights at the tier.
  [[nodiscard]] bool lends_agent_rights() const { return policy_->lends_agent_rights; }
  // Not if it is the agent's own.
  [[nodiscard]] bool MayUseTransaction(std::string_view transactional_id) const;
  // By the rules alone, for what the tier judges by itself.
  [[nodiscard]] bool RulesAllowProduce(std::string_view topic) const {
    return policy_->rules.AllowsTopic(principal_, Operation::kProduce, topic);
  }

 private:
  struct Right {
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
    base::TimePoint learned;
  };
  struct Waiting {
    std::vector<std::string> topics;
    base::TimePoint deadline;
    net::Reply reply;
    Produce then;
  };
  // SASL that passes through, from one SaslHandshake that the tier sees to the next, which a client
  // may send before it has its answers.
  struct TierExchange {
    std::string mechanism;
    std::optional<std::string> user;  // As the first message says it; empty if it does not.
    int rounds = 0;                   // Messages that the tier has accepted.
  };

  bool ServeSasl(const base::Buffer& frame, const kafka::RequestHeader& header, net::Reply& reply);
  void Handshake(const base::Buffer& frame, const kafka::RequestHeader& header, net::Reply& reply);
  void Authenticate(const base::Buffer& frame, const kafka::RequestHeader& header,
                    net::Reply& reply);
  bool WatchSasl(const base::Buffer& frame, const kafka::RequestHeader& header, net::Reply& reply);
  [[nodiscard]] bool ShowsSecret(std::string_view mechanism) const;
  void OnTierSaslAnswer(TierExchange& exchange, std::string_view frame, int16_t version);
  void TakePolicy();
  void AwaitLogin();
  [[nodiscard]] bool SpeaksForItself(const kafka::RequestHeader& header, net::Reply& reply);
  bool FilterMetadata(base::Buffer& frame, const kafka::RequestHeader& header, net::Reply& reply);

  [[nodiscard]] bool IsLoggedIn() const;
  void AskRights(const std::vector<std::string>& topics);
  void OnRights(const std::vector<std::string>& asked, std::string_view frame);
  [[nodiscard]] bool IsFresh(const std::string& topic, base::Duration age_max) const;
  [[nodiscard]] bool Known(const Waiting& waiting) const;
  void GoOn();

  FrontDoor& front_;
  net::Connection& connection_;
  PassThrough& tier_;
  uint64_t policy_version_ = 0;
  std::shared_ptr<const LocalPolicy> policy_;
  std::string principal_;
  bool nameless_ = false;  // It has shown a certificate that no rule names.

  // SASL served here.
  auth::SaslSession sasl_;
  bool refused_ = false;
  base::Timer refusal_;

  // SASL that passes through.
  std::shared_ptr<TierExchange> tier_exchange_ = std::make_shared<TierExchange>();
  size_t tier_connection_ = 0;  // The one on which it let the client in; 0: none.
  std::string tier_principal_;  // As whom, if that was to be seen.

  std::unordered_map<std::string, Right> rights_;
  std::deque<Waiting> waiting_;
  bool asking_ = false;
  bool login_lost_ = false;  // It was to be asked, and could not be: the connection ends.
  base::Timer rights_limit_;
  std::shared_ptr<Gate*> self_;
};

}  // namespace holdfast::proxy
