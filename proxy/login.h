// One SASL exchange with a broker, in Kafka's frames: SaslHandshake, then SaslAuthenticate until
// the mechanism is content.
//
//   HF_ASSIGN_OR_RETURN(base::Buffer frame, login.Begin(credentials, correlation_id));
//   ...                                            // Sent; the broker's answer comes.
//   auto next = login.OnAnswer(answer, correlation_id);  // Null: authenticated.
//
// Threads: one at a time. Limits: needs a broker of Kafka 2.2 or newer (SaslAuthenticate 1).
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "base/buffer.h"
#include "base/executor.h"
#include "base/result.h"
#include "net/sasl.h"

namespace holdfast::proxy {

class Login {
 public:
  // The first frame to send, its length included.
  base::Result<base::Buffer> Begin(const net::SaslCredentials& credentials, int32_t correlation_id);
  // `answer` without its length. The next frame, or null when the broker is content. A token is
  // read from its file when the broker has agreed to the mechanism, which may take long if it is at
  // work for others: what was read before might have ended by then.
  base::Result<std::optional<base::Buffer>> OnAnswer(std::string_view answer,
                                                     int32_t correlation_id);

  // Once done: after this long the broker wants to see the credentials again; 0: never.
  [[nodiscard]] base::Duration session_lifetime() const { return session_lifetime_; }

 private:
  base::Result<base::Buffer> Authenticate(std::string_view message, int32_t correlation_id);

  net::SaslCredentials credentials_;
  std::unique_ptr<net::SaslClient> client_;
  bool agreed_ = false;  // On the mechanism.
  base::Duration session_lifetime_{};
};

}  // namespace holdfast::proxy
