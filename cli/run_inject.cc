// The admission webhook as a process's only part: its loops, and what asks it to reload.
#include <functional>
#include <utility>

#include "cli/role.h"
#include "config/holdfast.pb.h"
#include "inject/injector.h"
#include "metrics/catalogue.h"
#include "metrics/registry.h"
#include "net/event_loop.h"

namespace holdfast::cli {
namespace {

class InjectRole final : public Role {
 public:
  InjectRole() : net_metrics_(registry_) {}

  base::Result<void> Start(const config::Inject& config, std::function<bool()> reload,
                           const std::string& config_file) {
    HF_ASSIGN_OR_RETURN(webhook_,
                        net::LoopThread::Start({.name = "webhook", .metrics = &net_metrics_}));
    HF_ASSIGN_OR_RETURN(admin_,
                        net::LoopThread::Start({.name = "admin", .metrics = &net_metrics_}));
    HF_ASSIGN_OR_RETURN(injector_, inject::Injector::Start(config, {.webhook = webhook_->loop(),
                                                                    .admin = admin_->loop(),
                                                                    .registry = registry_,
                                                                    .config_file = config_file,
                                                                    .reload = std::move(reload)}));
    return {};
  }

  std::string_view name() const override { return "inject"; }
  std::vector<std::string> ListenAddresses() const override { return {injector_->ListenAddress()}; }
  std::string AdminAddress() const override { return injector_->AdminAddress(); }
  std::vector<base::Executor*> WatchedLoops() const override {
    return {&webhook_->loop(), &admin_->loop()};
  }
  std::string Summary() const override { return "inject: serving"; }
  base::Result<void> Reload(const config::Config& config) override {
    return injector_->Reload(config.inject());
  }
  std::chrono::milliseconds drain_limit() const override { return inject::Injector::kFarewell; }
  void Drain() override { injector_->Drain(); }

 private:
  // Destroyed from the bottom up.
  metrics::Registry registry_;
  metrics::NetMetrics net_metrics_;
  std::unique_ptr<net::LoopThread> webhook_;
  std::unique_ptr<net::LoopThread> admin_;
  std::unique_ptr<inject::Injector> injector_;
};

}  // namespace

base::Result<std::unique_ptr<Role>> StartInject(const config::Inject& config,
                                                const std::string& config_file,
                                                std::function<bool()> reload) {
  auto role = std::make_unique<InjectRole>();
  HF_RETURN_IF_ERROR(role->Start(config, std::move(reload), config_file));
  return role;
}

}  // namespace holdfast::cli
