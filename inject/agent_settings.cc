#include "inject/agent_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "config/config.h"
#include "config/value.h"

namespace holdfast::inject {
namespace {

using config::PrintNumber;
using config::Unit;

constexpr size_t kSettingsBytesMax = 8192;
constexpr int64_t kMegabyte = 1 << 20;

// The injector gives these options itself, and options win over settings.
constexpr std::array<std::string_view, 3> kOwn{"listen", "admin", "spool.directory"};

// Within the volume, with room for a segment that is written anew before its old file goes.
int64_t BytesMaxOf(double spool_bytes, const config::Storage& spool) {
  const auto bytes = static_cast<int64_t>(std::min(spool_bytes, 0x1p62));
  const int64_t room = std::min(static_cast<int64_t>(spool.segment_bytes()), bytes / 5);
  int64_t most = (bytes - room) / kMegabyte * kMegabyte;
  if (spool.bytes_max() > 0) most = std::min(most, static_cast<int64_t>(spool.bytes_max()));
  return most;
}

// "$(NAME)" and "$$" mean something to Kubernetes in arguments.
std::string Literal(std::string_view text) {
  std::string literal;
  for (const char c : text) literal += c == '$' ? "$$" : std::string(1, c);
  return literal;
}

void AddLines(const std::string& message, std::vector<std::string>* reasons) {
  for (size_t at = 0; at < message.size();) {
    const size_t end = std::min(message.find('\n', at), message.size());
    reasons->push_back(message.substr(at, end - at));
    at = end + 1;
  }
}

}  // namespace

std::vector<std::string> AgentSettingsOf(const Policy& policy, const PodFacts& pod,
                                         std::vector<std::string>* reasons) {
  size_t bytes = 0;
  for (const auto& [key, value] : pod.settings) bytes += key.size() + value.size();
  if (bytes > kSettingsBytesMax) {
    reasons->push_back(
        fmt::format("annotations {}* are larger than 8KiB; put what all pods have "
                    "into the agents' configuration",
                    kConfigPrefix));
    return {};
  }
  const int64_t drain_ms = std::max<int64_t>(
      0, pod.grace_period_ms - static_cast<int64_t>(policy.sidecar().drain_reserve_ms()));
  const int64_t bytes_max = BytesMaxOf(pod.spool_bytes, policy.agent()->agent().spool());
  std::vector<config::Setting> derived = {
      {"agent.drain_backlog_ms", PrintNumber(drain_ms, Unit::kMilliseconds), "inject"},
      {"agent.spool.bytes_max", PrintNumber(bytes_max, Unit::kBytes), "inject"},
  };

  std::vector<config::Setting> annotated;
  for (const auto& [key, value] : pod.settings) {
    if (std::ranges::find(kOwn, key) != kOwn.end()) {
      reasons->push_back(
          fmt::format("annotation {}{}: the injector sets this itself", kConfigPrefix, key));
      continue;
    }
    annotated.push_back(
        {"agent." + key, value, fmt::format("annotation {}{}", kConfigPrefix, key)});
  }
  config::Sources sources{
      .base = policy.agent(), .references = config::References::kKeep, .sets = derived};
  sources.sets.insert(sources.sets.end(), annotated.begin(), annotated.end());
  for (const std::string_view own : kOwn)
    sources.sets.push_back({fmt::format("agent.{}", own), "localhost:1", "inject"});
  const auto loaded = config::Load(sources);
  if (!loaded) {
    AddLines(loaded.error().message, reasons);
    return {};
  }
  if (const auto complete = config::CheckComplete(**loaded, "agent"); !complete) {
    reasons->push_back("the agents' configuration is not complete: " + complete.error().message);
    return {};
  }
  const config::Agent& agent = (*loaded)->agent();
  if (agent.drain_backlog_ms() > static_cast<uint64_t>(pod.grace_period_ms)) {
    reasons->push_back(fmt::format(
        "annotation {}drain_backlog_ms is {}, and the pod is killed after {}: raise its "
        "terminationGracePeriodSeconds",
        kConfigPrefix,
        PrintNumber(static_cast<int64_t>(agent.drain_backlog_ms()), Unit::kMilliseconds),
        PrintNumber(pod.grace_period_ms, Unit::kMilliseconds)));
  }
  if (agent.spool().bytes_max() == 0 ||
      agent.spool().bytes_max() > static_cast<uint64_t>(bytes_max)) {
    reasons->push_back(
        fmt::format("annotation {}spool.bytes_max: the spool's volume leaves {}; raise "
                    "inject.holdfast.io/spool-size",
                    kConfigPrefix, PrintNumber(bytes_max, Unit::kBytes)));
  }

  std::vector<std::string> arguments;
  for (const auto* settings : {&derived, &annotated}) {
    for (const config::Setting& setting : *settings) {
      arguments.emplace_back("--set");
      arguments.push_back(setting.key + "=" + Literal(setting.value));
    }
  }
  return arguments;
}

}  // namespace holdfast::inject
