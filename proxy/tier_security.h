// How the agent shows itself to the tier and what it demands of it: TLS and SASL towards the tier,
// replaceable while the agent runs.
//
//   TierSecurity security({.tls = credentials, .sasl = {{.mechanism = ..., .username = ...}}});
//   security.Replace(...);   // From the next connection on; those that stand stay.
//
// Threads: any.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "net/sasl.h"
#include "net/tls.h"

namespace holdfast::proxy {

struct TierIdentity {
  std::shared_ptr<net::TlsCredentials> tls = nullptr;  // None: in the clear.
  std::optional<net::SaslCredentials> sasl = {};       // None: not authenticated by SASL.
};

// As whom the tier knows who comes with it, so far as can be told here: "nobody", "SCRAM-SHA-512
// orders", "certificate CN=orders,O=Example", its URIs first: "certificate 12:spiffe://a/b C=US".
// A new password, certificate or token for the same name changes nothing. Empty: it cannot be told,
// and nobody is the same. Reads the token's file.
std::string PrincipalOf(const TierIdentity& identity);

class TierSecurity {
 public:
  explicit TierSecurity(TierIdentity identity)
      : identity_(std::make_shared<const TierIdentity>(std::move(identity))) {}

  [[nodiscard]] std::shared_ptr<const TierIdentity> identity() const {
    const base::MutexLock lock(mutex_);
    return identity_;
  }
  void Replace(TierIdentity identity) {
    auto made = std::make_shared<const TierIdentity>(std::move(identity));
    const base::MutexLock lock(mutex_);
    identity_.swap(made);
  }

 private:
  mutable base::Mutex mutex_;
  std::shared_ptr<const TierIdentity> identity_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::proxy
