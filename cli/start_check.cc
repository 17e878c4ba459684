#include "cli/start_check.h"

#include <string>
#include <string_view>
#include <utility>

#include "cli/agent_options.h"
#include "cli/broker_options.h"
#include "config/config.h"
#include "config/holdfast.pb.h"
#include "inject/injector.h"
#include "net/address.h"

namespace holdfast::cli {
namespace {

base::Result<> CheckAddress(std::string_view key, const std::string& address) {
  auto parsed = net::HostPort::Parse(address);
  if (!parsed) return base::Unexpected(std::move(parsed).error().Within(key));
  return {};
}

base::Result<> CheckIfSet(std::string_view key, const std::string& address) {
  return address.empty() ? base::Result<>() : CheckAddress(key, address);
}

template <class Listeners>
base::Result<> CheckListeners(const std::string& key, const Listeners& listeners) {
  for (const auto& listener : listeners)
    HF_RETURN_IF_ERROR(CheckAddress(key + ": " + listener.name(), listener.listen()));
  return {};
}

}  // namespace

base::Result<> CheckAgent(const config::Agent& config) {
  for (const std::string& address : config.listen())
    HF_RETURN_IF_ERROR(CheckAddress("agent.listen", address));
  HF_RETURN_IF_ERROR(CheckListeners("agent.listeners", config.listeners()));
  for (const std::string& address : config.upstream().bootstrap())
    HF_RETURN_IF_ERROR(CheckAddress("agent.upstream.bootstrap", address));
  HF_RETURN_IF_ERROR(CheckIfSet("agent.admin", config.admin()));
  HF_RETURN_IF_ERROR(AgentOptionsOf(config));
  return {};
}

base::Result<> CheckBroker(const config::Broker& config) {
  HF_RETURN_IF_ERROR(CheckIfSet("broker.listen", config.listen()));
  HF_RETURN_IF_ERROR(CheckListeners("broker.listeners", config.listeners()));
  HF_RETURN_IF_ERROR(CheckIfSet("broker.admin", config.admin()));
  HF_RETURN_IF_ERROR(BrokerOptionsOf(config));
  HF_RETURN_IF_ERROR(BrokerListenersOf(config));
  return {};
}

base::Result<> CheckInject(const config::Config& config) {
  if (!config::CheckComplete(config, "inject")) return {};
  HF_RETURN_IF_ERROR(CheckIfSet("inject.listen", config.inject().listen()));
  HF_RETURN_IF_ERROR(CheckIfSet("inject.admin", config.inject().admin()));
  return inject::Injector::Check(config.inject());
}

}  // namespace holdfast::cli
