// The brokers of a tier, asked one question at a time: for commands that administer it. It speaks
// the protocol by itself (kafka/), so that it knows every request that the project knows, and logs
// in as the agent does.
//
//   HF_ASSIGN_OR_RETURN(const auto cluster, Cluster::Connect(options));
//   HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(cluster->controller(), request));
//   for (const auto& topic : answer->topics) ...
//
// Ownership: an answer owns the bytes that its message's views point to, and outlives the cluster.
// Threads: one; a call blocks it. The connections have a loop of their own.
// Shutdown: the destructor closes the connections.
// Limits: nothing is sent again: after kUnavailable nobody knows whether a request took effect.
//   Only the question for a group's coordinator is repeated, within the timeout, while there is
//   none yet.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/executor.h"
#include "base/random.h"
#include "base/result.h"
#include "kafka/api/metadata.h"
#include "kafka/codec.h"
#include "metrics/catalogue.h"
#include "metrics/registry.h"
#include "net/address.h"
#include "net/event_loop.h"
#include "proxy/link.h"
#include "proxy/tier_security.h"

namespace holdfast::client {

template <class Message>
class Answer {
 public:
  Answer(base::Buffer frame, Message message)
      : frame_(std::move(frame)), message_(std::move(message)) {}
  const Message* operator->() const { return &message_; }
  const Message& operator*() const { return message_; }

 private:
  base::Buffer frame_;
  Message message_;
};

class Cluster {
 public:
  struct Options {
    std::vector<net::HostPort> bootstrap;  // At least one; asked in turn until one answers.
    proxy::TierIdentity identity;
    base::Duration timeout = std::chrono::seconds(30);  // Of an answer.
  };
  struct Broker {
    int32_t id = 0;
    net::HostPort address;
  };

  // kUnavailable: no broker answers, or trusts this client, or is trusted; the message says of each
  // address why.
  static base::Result<std::unique_ptr<Cluster>> Connect(Options options);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // As when it was connected to.
  [[nodiscard]] const std::vector<Broker>& brokers() const { return brokers_; }
  // Takes what only one broker of a cluster may do, or passes it on to that.
  [[nodiscard]] int32_t controller() const { return controller_; }
  [[nodiscard]] int32_t timeout_ms() const;

  // Null for all topics. Nothing is created.
  base::Result<Answer<kafka::MetadataResponse>> AskMetadata(
      const std::optional<std::vector<std::string>>& topics);
  // kNotFound, with the tier's reason, if there is none.
  base::Result<int32_t> FindCoordinator(const std::string& group);

  // By the newest version that both sides know, not above `cap`. The message carries its own error
  // codes.
  template <class Request>
  base::Result<Answer<typename Request::Response>> Ask(int32_t broker, const Request& request,
                                                       int16_t cap = kafka::kNever) {
    HF_ASSIGN_OR_RETURN(const int16_t version, Version(broker, Request::kApi, cap));
    HF_ASSIGN_OR_RETURN(base::Buffer frame, kafka::EncodeRequest(request, version, 0, kClientId));
    HF_ASSIGN_OR_RETURN(base::Buffer answer, Exchange(broker, std::move(frame)));
    HF_ASSIGN_OR_RETURN(auto message,
                        kafka::DecodeResponse<typename Request::Response>(answer.view(), version));
    return Answer<typename Request::Response>(std::move(answer), std::move(message));
  }

 private:
  static constexpr std::string_view kClientId = "holdfast";
  class Peer;

  explicit Cluster(Options options, std::unique_ptr<net::LoopThread> thread);
  base::Result<> Bootstrap();
  // The connection to a broker, made if there is none.
  base::Result<Peer*> PeerOf(int32_t broker);
  base::Result<Peer*> Dial(int32_t broker, const net::HostPort& address);
  base::Result<int16_t> Version(int32_t broker, const kafka::Api& api, int16_t cap);
  base::Result<base::Buffer> Exchange(int32_t broker, base::Buffer frame);
  void Pause(base::Duration duration);

  const Options options_;
  metrics::Registry registry_;  // The connections count; nobody looks.
  metrics::NetMetrics net_metrics_;
  metrics::AgentMetrics link_metrics_;
  proxy::TierSecurity security_;
  base::Random random_;
  const std::unique_ptr<net::LoopThread> thread_;
  std::unique_ptr<net::Resolver> resolver_;
  std::map<int32_t, std::unique_ptr<Peer>> peers_;  // Made and destroyed on the loop.
  base::Timer pause_;                               // Of the loop, too.
  std::vector<Broker> brokers_;
  int32_t controller_ = proxy::kAnyNode;
};

}  // namespace holdfast::client
