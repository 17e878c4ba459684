// The threads of one role, and what agent and broker share in getting from configuration to
// options.
//
// Ownership: a Loops outlives everything that runs on it.
// Threads: main. Shutdown: the destructor stops and joins all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/admin_server.h"
#include "net/event_loop.h"
#include "spool/spool.h"

namespace holdfast::config {
class Storage;
}
namespace holdfast::metrics {
struct NetMetrics;
}

namespace holdfast::cli {

class Loops {
 public:
  // `workers` 0: one per core, at most 8. `blocking`: loops for what blocks each by itself.
  static base::Result<Loops> Start(uint32_t workers, metrics::NetMetrics* metrics,
                                   size_t blocking = 0);

  [[nodiscard]] std::vector<net::EventLoop*> workers() const;
  [[nodiscard]] std::vector<net::EventLoop*> blocking() const;
  // All but the blocking and the background ones.
  [[nodiscard]] std::vector<base::Executor*> watched() const;
  [[nodiscard]] net::EventLoop& upstream() const { return upstream_->loop(); }
  [[nodiscard]] net::EventLoop& writer() const { return writer_->loop(); }
  [[nodiscard]] net::EventLoop& background() const { return background_->loop(); }
  [[nodiscard]] net::EventLoop& admin() const { return admin_->loop(); }

 private:
  std::vector<std::unique_ptr<net::LoopThread>> workers_;
  std::vector<std::unique_ptr<net::LoopThread>> blocking_;
  std::unique_ptr<net::LoopThread> upstream_;
  std::unique_ptr<net::LoopThread> writer_;
  std::unique_ptr<net::LoopThread> background_;
  std::unique_ptr<net::LoopThread> admin_;
};

// kInvalid if an encryption key is none, or the limit too small. `where` names the settings, for
// errors.
base::Result<spool::Options> SpoolOptionsOf(const config::Storage& config, std::string_view where);

// Null if `address` is empty.
base::Result<std::unique_ptr<net::AdminServer>> ListenAdmin(const Loops& loops,
                                                            const std::string& address,
                                                            std::vector<net::AdminRoute> routes);

}  // namespace holdfast::cli
