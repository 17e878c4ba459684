// One connection's SASL in Kafka's frames, from the server's side: SaslHandshake, then
// SaslAuthenticate until the mechanism is content. For local clients of the agent and for clients
// of the broker; when that is asked for, and how an answer leaves, is theirs.
//
// A connection may authenticate itself again, as who it was and by the same mechanism (KIP-368).
//
// Threads: one at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "net/sasl.h"

namespace holdfast::auth {

// Of requests before a login, as Kafka's sasl.server.max.receive.size: enough for any token.
inline constexpr size_t kLoginBytesMax = 524288;
// Who fails hears of it so late, as with Kafka's connection.failed.authentication.delay.ms, so that
// guessing is slow.
inline constexpr base::Duration kFailedLoginDelay = std::chrono::milliseconds(100);

// Tokens may be good until the year 9999, which a base::TimePoint does not reach.
inline constexpr std::chrono::milliseconds kSessionLifetimeMax = std::chrono::hours(24 * 36500);

struct SaslPolicy {
  std::vector<net::SaslMechanism> mechanisms = {};  // None: SASL is not asked for.
  std::shared_ptr<const net::SaslUsers> users = nullptr;
  std::shared_ptr<const net::SaslTokens> tokens = nullptr;  // Of OAUTHBEARER.
};

class SaslSession {
 public:
  enum class Outcome : uint8_t { kGoesOn, kAuthenticated, kRefused };

  // Names what is offered; anything else is refused with UNSUPPORTED_SASL_MECHANISM.
  kafka::SaslHandshakeResponse Handshake(const SaslPolicy& policy, std::string_view mechanism);
  // The response borrows from the session, until the next call. Once refused, the connection is
  // nobody's.
  Outcome Authenticate(std::string_view message, kafka::SaslAuthenticateResponse* response);

  // A mechanism was agreed on, and is not content yet.
  [[nodiscard]] bool under_way() const { return exchange_ != nullptr || !wrong_mechanism_.empty(); }
  [[nodiscard]] bool authenticated() const { return !principal_.empty(); }
  // "User:orders"; empty before.
  [[nodiscard]] const std::string& principal() const { return principal_; }
  // When what the client has shown ends, in milliseconds since the Unix epoch. None: never.
  [[nodiscard]] std::optional<int64_t> expires_at_ms() const { return expires_at_ms_; }
  // How long that is from `now_ms` on, kSessionLifetimeMax at most, and `limit` unless that is 0.
  // None: for ever.
  [[nodiscard]] std::optional<std::chrono::milliseconds> Lifetime(int64_t now_ms,
                                                                  base::Duration limit) const;

 private:
  std::unique_ptr<net::SaslServer> exchange_;
  net::SaslMechanism mechanism_ = {};  // Of the exchange, or of the last one.
  std::string wrong_mechanism_;        // What is wrong with the one that was asked for, if it is.
  std::string principal_;
  std::string answer_;
  std::optional<int64_t> expires_at_ms_;
};

}  // namespace holdfast::auth
