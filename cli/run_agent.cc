// An agent as a part of a process: its loops and its admin server.
#include <atomic>
#include <chrono>
#include <utility>

#include "agent/agent.h"
#include "base/event.h"
#include "base/log.h"
#include "cli/agent_options.h"
#include "cli/loops.h"
#include "cli/role.h"
#include "cli/security.h"
#include "cli/status_page.h"
#include "config/holdfast.pb.h"
#include "config/value.h"
#include "metrics/catalogue.h"
#include "metrics/registry.h"
#include "net/admin_server.h"

namespace holdfast::cli {
namespace {

using std::chrono::milliseconds;

// As that of agent.drain_backlog_ms.
constexpr milliseconds kDeadlineMax = std::chrono::hours(24);

class AgentRole final : public Role {
 public:
  explicit AgentRole(Controls controls) : controls_(std::move(controls)), net_metrics_(registry_) {}

  base::Result<void> Start(const config::Agent& config) {
    HF_ASSIGN_OR_RETURN(agent::Agent::Options options, AgentOptionsOf(config));
    listens_in_tls_ = options.security.listener != nullptr;
    if (const std::string what = NoSecretsFromElsewhere(config, options.security); !what.empty())
      base::Log(base::Event::kNoSecretsFromElsewhere, "agent", "{}", what);
    TakeTimes(config);
    if (options.orphans) options.orphans->settings = controls_.settings;
    const size_t sources = options.outbox.size();
    HF_ASSIGN_OR_RETURN(loops_, Loops::Start(config.workers(), &net_metrics_,
                                             sources + (options.half_messages ? 1 : 0) +
                                                 (options.orphans ? 1 : 0)));
    std::vector<net::EventLoop*> blocking = loops_.blocking();
    net::EventLoop* const orphans = options.orphans ? blocking.back() : nullptr;
    net::EventLoop* const asking = options.half_messages ? blocking[sources] : nullptr;
    blocking.resize(sources);
    HF_ASSIGN_OR_RETURN(agent_, agent::Agent::Start(std::move(options),
                                                    {.workers = loops_.workers(),
                                                     .upstream = &loops_.upstream(),
                                                     .spool_writer = &loops_.writer(),
                                                     .spool_background = &loops_.background(),
                                                     .metrics = &net_metrics_,
                                                     .outbox = std::move(blocking),
                                                     .asking = asking,
                                                     .orphans = orphans},
                                                    registry_));
    HF_ASSIGN_OR_RETURN(admin_, ListenAdmin(loops_, config.admin(), Routes()));
    return {};
  }

  base::Result<void> Reload(const config::Config& config) override {
    HF_ASSIGN_OR_RETURN(const agent::Agent::Options options, AgentOptionsOf(config.agent()));
    if ((options.security.listener != nullptr) != listens_in_tls_) {
      return base::Unexpected(base::Code::kInvalid,
                              "setting or unsetting agent.tls needs a restart");
    }
    agent_->Reload(options);
    TakeTimes(config.agent());
    return {};
  }

  std::string_view name() const override { return "agent"; }
  std::vector<std::string> ListenAddresses() const override { return agent_->ListenAddresses(); }
  std::string AdminAddress() const override {
    return admin_ ? admin_->local_address().ToString() : "";
  }
  std::vector<base::Executor*> WatchedLoops() const override { return loops_.watched(); }
  std::string Summary() const override { return agent_->Summary(); }
  milliseconds drain_limit() const override {
    return 2 * drain_timeout_.load() + drain_backlog_.load();
  }
  void Drain() override {
    draining_ = true;
    agent_->Drain(drain_timeout_, drain_backlog_);  // Until its end /ready says that it drains.
    admin_.reset();
    agent_->Stop();
  }
  bool Blocked() const override { return agent_->Blocked(); }

 private:
  void TakeTimes(const config::Agent& config) {
    drain_timeout_ = milliseconds(config.drain_timeout_ms());
    drain_backlog_ = milliseconds(config.drain_backlog_ms());
  }

  std::vector<net::AdminRoute> Routes() {
    using net::AdminRequest;
    using net::AdminResponse;
    std::vector<net::AdminRoute> routes = agent_->AdminRoutes();
    routes.push_back(StatusPageRoute());
    routes.push_back(ConfigRoute(controls_));
    routes.push_back({net::HttpMethod::kPost, "/reload", "reads the configuration anew, as SIGHUP",
                      [this](const AdminRequest&) {
                        const auto done = controls_.reload();
                        if (done) return AdminResponse{.body = *done + "\n"};
                        return AdminResponse{.status = 409, .body = done.error().message + "\n"};
                      }});
    routes.push_back({net::HttpMethod::kPost, "/drain",
                      "takes no more, gives the tier until ?deadline=30s to take what waits, exits",
                      [this](const AdminRequest& request) { return BeginDrain(request); }});
    return routes;
  }

  net::AdminResponse BeginDrain(const net::AdminRequest& request) {
    milliseconds backlog = drain_backlog_;
    if (const auto deadline = request.query.find("deadline"); deadline != request.query.end()) {
      const auto ms = config::ParseNumber(deadline->second, config::Unit::kMilliseconds);
      if (!ms || *ms < 0 || milliseconds(*ms) > kDeadlineMax) {
        return {.status = 400, .body = "deadline must be a duration of at most 1d, such as 30s\n"};
      }
      backlog = milliseconds(*ms);
    }
    if (draining_.exchange(true))
      return {.status = 202, .body = "draining already, for as long as was said first\n"};
    drain_backlog_ = backlog;
    controls_.stop();
    return {.status = 202, .body = "draining; /status says what is left\n"};
  }

  Controls controls_;
  bool listens_in_tls_ = false;
  std::atomic<milliseconds> drain_timeout_{};
  std::atomic<milliseconds> drain_backlog_{};
  std::atomic<bool> draining_{false};
  // Destroyed from the bottom up: no scrape reaches an agent that is gone, and no agent a loop.
  metrics::Registry registry_;
  metrics::NetMetrics net_metrics_;
  Loops loops_;
  std::unique_ptr<agent::Agent> agent_;
  std::unique_ptr<net::AdminServer> admin_;
};

}  // namespace

base::Result<std::unique_ptr<Role>> StartAgent(const config::Agent& config, Controls controls) {
  auto role = std::make_unique<AgentRole>(std::move(controls));
  HF_RETURN_IF_ERROR(role->Start(config));
  return role;
}

}  // namespace holdfast::cli
