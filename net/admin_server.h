// A small HTTP server for people, probes, Prometheus and the API server of a cluster: a table of
// routes on one loop, in the clear or over TLS.
//
//   auto admin = net::AdminServer::Listen(loop, {.listen = address}, {
//       {net::HttpMethod::kGet, "/live", "200 while the process runs", [](const auto&) {
//          return net::AdminResponse{.body = "ok\n"}; }},
//   });
//
// GET /help lists the routes; an unknown path gets the same list with 404, a known path with the
// wrong method 405. What changes something is POST and answered on loopback only (403 elsewhere),
// unless its route is for everybody. Both ends count: what a mesh's proxy hands on from other hosts
// comes from a loopback address, but to the one that they called.
//
// A browser on this host is a loopback peer, whatever page it shows. So these POSTs are refused
// (403) to pages of other sites, which Origin and Sec-Fetch-Site tell. In the clear, so is what a
// loopback peer asks of a name that is neither localhost nor this host's nor Options::listen's: it
// may be a page's own that was made to lead here. A GET is only where the server is on loopback.
//
// Ownership: the loop outlives it; handlers are kept until the destructor.
// Threads: handlers run on the loop and must not block it; a reply may come from any thread.
//   Listen, local_address and the destructor from any thread that the loop does not wait for.
// Shutdown: LetGo has clients leave with their next answer; the destructor closes all connections.
// Limits: requests of at most 16 KiB of headers and body_bytes_max of body; a peer that stalls, or
//   asks nothing, for idle_timeout is closed. When more come than connections_max, the one that
//   asked longest ago is closed, of those that do not wait for an answer if there are any: whoever
//   keeps connections for nothing keeps no probe out.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_function.h"
#include "net/address.h"
#include "net/event_loop.h"
#include "net/tls.h"

namespace holdfast::net {

enum class HttpMethod : uint8_t { kGet, kPost };

struct AdminRequest {
  HttpMethod method;
  std::string path;
  std::map<std::string, std::string> query;  // Decoded; of a repeated name the last value.
  std::string body;
  std::string content_type = {};
};

struct AdminResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};  // More of them.
};

// Answers one request, once; does nothing if the peer is gone.
using AdminReply = base::UniqueFunction<void(AdminResponse)>;

struct AdminRoute {
  HttpMethod method;
  std::string path;  // "/status"; compared whole.
  std::string help;  // One line.
  std::function<AdminResponse(const AdminRequest&)> handler;
  // In place of `handler`, for what has to wait.
  std::function<void(const AdminRequest&, AdminReply)> deferred = {};
  bool for_everybody = false;  // POST is answered to other hosts, too.
};

class AdminServer {
 public:
  static constexpr size_t kConnectionsMax = 128;

  struct Options {
    HostPort listen = {};  // Port 0: any free one.
    size_t body_bytes_max = 65536;
    std::chrono::seconds idle_timeout = std::chrono::seconds(30);
    size_t connections_max = kConnectionsMax;
    // For each connection the newest. Null: in the clear.
    std::shared_ptr<const TlsCredentials> tls = nullptr;
  };
  static base::Result<std::unique_ptr<AdminServer>> Listen(EventLoop& loop, Options options,
                                                           std::vector<AdminRoute> routes);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  [[nodiscard]] const SocketAddress& local_address() const;

  // From now on a connection is closed behind its next answer, so that its client goes elsewhere.
  void LetGo();

 private:
  class Core;
  explicit AdminServer(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace holdfast::net
