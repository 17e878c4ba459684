// From the configuration to a broker's options.
//
// Threads: any. Reads certificate files.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "auth/access_tokens.h"
#include "auth/published_keys.h"
#include "base/event.h"
#include "base/result.h"
#include "broker/broker.h"
#include "broker/server.h"
#include "net/tls.h"

namespace holdfast::config {
class Broker;
}

namespace holdfast::cli {

// Which tokens a listener takes.
struct ConfiguredTokens {
  auth::AccessTokenPolicy policy;
  std::optional<auth::PublishedKeys::Options> keys;  // None: unsecured ones.
};

struct ConfiguredListener {
  std::string listen;                                  // HOST:PORT
  broker::ListenerOptions options = {};                // Without address, users and tokens.
  std::shared_ptr<net::TlsCredentials> tls = nullptr;  // Those of the options, to be read anew.
  std::optional<ConfiguredTokens> tokens = std::nullopt;
  // What is allowed, and to be said when it starts.
  std::vector<std::pair<base::Event, std::string>> warnings = {};
};

// kInvalid, with the key, if a value is none.
base::Result<broker::Options> BrokerOptionsOf(const config::Broker& config);
// The address `listen` itself, and each of `listeners`.
base::Result<std::vector<ConfiguredListener>> BrokerListenersOf(const config::Broker& config);

}  // namespace holdfast::cli
