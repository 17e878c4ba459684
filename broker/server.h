// Joins the broker to the net: each connection of a loop talks to the worker of that loop. A
// listener is an address with what it asks of its clients: TLS, a certificate, SASL.
//
// Where SASL is asked for, nothing but ApiVersions and the exchange itself is served before that is
// done, and after it a client is the user who logged in. Elsewhere it is whom its certificate
// names, or nobody (User:ANONYMOUS). Whoever fails to log in hears so after failed_login_delay, and
// is disconnected, as is whoever does not in server.login_timeout.
//
// Ownership: broker, loops, budget and metrics outlive the server.
// Threads, shutdown and limits: those of net::FramedServer. A request that cannot be understood
//   closes its own connection, after the answers before it have left.
#pragma once

#include <memory>
#include <string>

#include "auth/principal_mapping.h"
#include "auth/sasl_session.h"
#include "base/result.h"
#include "broker/broker.h"
#include "net/framed_server.h"

namespace holdfast::broker {

struct ListenerOptions {
  net::FramedServer::Options server;  // With TLS, if there is any.
  // What clients are told to connect to. Empty: the address that they did connect to.
  std::string advertised;
  // Which name a certificate gives. Null: its subject.
  std::shared_ptr<const auth::PrincipalMapping> certificate_names = nullptr;
  auth::SaslPolicy sasl;
  // Clients have to log in again after this long, and when their token ends; 0: only then.
  base::Duration session_lifetime{};
  base::Duration failed_login_delay = auth::kFailedLoginDelay;
};

// loops.workers are the broker's workers, in the same order.
base::Result<std::unique_ptr<net::FramedServer>> Listen(Broker& broker, ListenerOptions options,
                                                        net::FramedServer::Loops loops,
                                                        net::MemoryBudget& budget,
                                                        metrics::NetMetrics& metrics);

}  // namespace holdfast::broker
