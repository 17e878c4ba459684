// How a command reaches a tier as any Kafka client does, by librdkafka. The agent's delivery has
// nothing to do with it.
//
// Ownership: outlives the clients that are made with it.
// Threads: one makes the clients; their callbacks come on those threads that poll them.
#pragma once

#include <librdkafka/rdkafkacpp.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace holdfast::client {

class Connection {
 public:
  using Properties = std::map<std::string, std::string>;
  struct Options {
    Properties properties;  // By librdkafka's names.
    // Of OAUTHBEARER: the file with the token, read whenever a token is asked for. Empty: none.
    std::string token_file;
    std::map<std::string, std::string> token_extensions;
    std::chrono::milliseconds timeout = std::chrono::seconds(30);  // Of the tier's silence.
  };

  explicit Connection(Options options);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // `more` wins over the options' properties. kInvalid: librdkafka does not take one of them.
  base::Result<std::unique_ptr<RdKafka::KafkaConsumer>> MakeConsumer(
      const Properties& more, RdKafka::RebalanceCb* rebalances = nullptr) const;
  base::Result<std::unique_ptr<RdKafka::Producer>> MakeProducer(
      const Properties& more, RdKafka::DeliveryReportCb* deliveries) const;

  [[nodiscard]] std::chrono::milliseconds timeout() const { return options_.timeout; }
  [[nodiscard]] int timeout_ms() const { return static_cast<int>(options_.timeout.count()); }

  // That all brokers went away since the last call, and why. Empty: they did not.
  [[nodiscard]] std::string TakeOutage() const;
  // kUnavailable: what failed, how, and what the connection last said of trouble.
  [[nodiscard]] base::Error Failed(std::string_view what, std::string_view how) const;

 private:
  class Events;
  class Token;

  base::Result<std::unique_ptr<RdKafka::Conf>> Configure(const Properties& more) const;
  base::Result<> ServeToken(RdKafka::Handle& client) const;

  const Options options_;
  const std::unique_ptr<Events> events_;
  const std::unique_ptr<Token> token_;
};

}  // namespace holdfast::client
