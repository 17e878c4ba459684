// One connection's SASL in Kafka's frames, from the server's side: SaslHandshake, then
// SaslAuthenticate until the mechanism is content. For local clients of the agent and for clients
// of the broker; when that is asked for, and how an answer leaves, is theirs.
//
// A connection may authenticate itself again, as who it was.
//
// Threads: one at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "net/sasl.h"

namespace holdfast::auth {

struct SaslPolicy {
  std::vector<net::SaslMechanism> mechanisms = {};  // None: SASL is not asked for.
  std::shared_ptr<const net::SaslUsers> users = nullptr;
};

class SaslSession {
 public:
  enum class Outcome : uint8_t { kGoesOn, kAuthenticated, kRefused };

  // Names what is offered; anything else is refused with UNSUPPORTED_SASL_MECHANISM.
  kafka::SaslHandshakeResponse Handshake(const SaslPolicy& policy, std::string_view mechanism);
  // The response borrows from the session, until the next call. Once refused, the connection is
  // nobody's.
  Outcome Authenticate(std::string_view message, kafka::SaslAuthenticateResponse* response);

  [[nodiscard]] bool authenticated() const { return !principal_.empty(); }
  // "User:orders"; empty before.
  [[nodiscard]] const std::string& principal() const { return principal_; }

 private:
  std::unique_ptr<net::SaslServer> exchange_;
  std::string principal_;
  std::string answer_;
};

}  // namespace holdfast::auth
