// A small HTTP server for people, probes and Prometheus: a table of routes on one loop.
//
//   auto admin = net::AdminServer::Listen(loop, {.listen = address}, {
//       {net::HttpMethod::kGet, "/live", "200 while the process runs", [](const auto&) {
//          return net::AdminResponse{.body = "ok\n"}; }},
//   });
//
// GET /help lists the routes; an unknown path gets the same list with 404, a known path with the
// wrong method 405. What changes something is POST and answered to loopback peers only (403 for
// others).
//
// Ownership: the loop outlives it; handlers are kept until the destructor.
// Threads: handlers run on the loop and must not block it; a reply may come from any thread.
//   Listen, local_address and the destructor from any thread that the loop does not wait for.
// Shutdown: the destructor closes all connections.
// Limits: requests of at most 16 KiB of headers and body_bytes_max of body; a peer that stalls for
//   30 s is closed.
#pragma once

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

namespace holdfast::net {

enum class HttpMethod : uint8_t { kGet, kPost };

struct AdminRequest {
  HttpMethod method;
  std::string path;
  std::map<std::string, std::string> query;  // Decoded; of a repeated name the last value.
  std::string body;
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
};

class AdminServer {
 public:
  struct Options {
    HostPort listen = {};  // Port 0: any free one.
    size_t body_bytes_max = 65536;
  };
  static base::Result<std::unique_ptr<AdminServer>> Listen(EventLoop& loop, Options options,
                                                           std::vector<AdminRoute> routes);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  [[nodiscard]] const SocketAddress& local_address() const;

 private:
  class Core;
  explicit AdminServer(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace holdfast::net
