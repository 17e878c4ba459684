#include "cli/own_listener.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/event.h"
#include "config/holdfast.pb.h"
#include "net/address.h"

namespace holdfast::cli {
namespace {

using net::HostPort;
using net::SocketAddress;

// A host as a configuration may name it, without brackets.
using HostNames = std::vector<std::string>;

constexpr std::string_view kAnyV4 = "0.0.0.0";
constexpr std::string_view kAnyV6 = "::";

bool SameName(const std::string& a, const std::string& b) {
  return strcasecmp(a.c_str(), b.c_str()) == 0;
}

// In figures, as far as they are known.
std::vector<SocketAddress> AddressesOf(const HostPort& at) {
  std::vector<SocketAddress> addresses;
  const HostNames names =
      SameName(at.host, "localhost") ? HostNames{"127.0.0.1", "::1"} : HostNames{at.host};
  for (const std::string& name : names)
    if (const auto address = SocketAddress::FromIp(name, at.port)) addresses.push_back(*address);
  return addresses;
}

bool IsAny(const HostPort& listener) { return listener.host == kAnyV4 || listener.host == kAnyV6; }

// Wherever the agent runs.
bool LeadsTo(const HostPort& tier, const HostPort& listener) {
  if (tier.port != listener.port) return false;
  if (SameName(tier.host, listener.host)) return true;
  const bool any_v6 = listener.host == kAnyV6;
  for (const SocketAddress& to : AddressesOf(tier)) {
    // Who connects to no address in particular gets the loopback one.
    const bool v6 = to.family() == AF_INET6;
    const bool nowhere = to.host() == kAnyV4 || to.host() == kAnyV6;
    const std::string reached = nowhere ? (v6 ? "::1" : "127.0.0.1") : to.host();
    if (IsAny(listener) && (nowhere || to.IsLoopback()) && (any_v6 || !v6)) return true;
    for (const SocketAddress& at : AddressesOf(listener))
      if (at.host() == reached) return true;
  }
  return false;
}

// The name and the addresses of this host.
HostNames ThisHost() {
  HostNames host;
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) == 0) host.emplace_back(name.data());
  ifaddrs* interfaces = nullptr;
  if (getifaddrs(&interfaces) != 0) return host;
  for (const ifaddrs* one = interfaces; one != nullptr; one = one->ifa_next) {
    const int family = one->ifa_addr == nullptr ? AF_UNSPEC : one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const size_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    host.push_back(SocketAddress(one->ifa_addr, size).host());
  }
  freeifaddrs(interfaces);
  return host;
}

bool MayLeadTo(const HostPort& tier, const HostPort& listener, const HostNames& host) {
  if (tier.port != listener.port || !IsAny(listener) || LeadsTo(tier, listener)) return false;
  if (listener.host == kAnyV4 && tier.host.find(':') != tier.host.npos) return false;
  return std::ranges::any_of(host,
                             [&](const std::string& name) { return SameName(name, tier.host); });
}

struct Meeting {
  std::string bootstrap;
  std::string key;  // Of the listener's setting.
  std::string listen;
};

// One at most for each address of the tier.
template <class Leads>
std::vector<Meeting> MeetingsOf(const config::Agent& agent, const Leads& leads) {
  std::vector<std::pair<std::string, std::string>> listeners;
  for (const std::string& listen : agent.listen()) listeners.emplace_back("agent.listen", listen);
  for (const config::Listener& listener : agent.listeners())
    listeners.emplace_back("agent.listeners " + listener.name(), listener.listen());
  std::vector<Meeting> meetings;
  for (const std::string& bootstrap : agent.upstream().bootstrap()) {
    const auto tier = HostPort::Parse(bootstrap);
    if (!tier) continue;
    for (const auto& [key, listen] : listeners) {
      const auto listener = HostPort::Parse(listen);
      if (!listener || !leads(*tier, *listener)) continue;
      meetings.push_back({bootstrap, key, listen});
      break;
    }
  }
  return meetings;
}

}  // namespace

base::Result<> CheckTierIsAnother(const config::Agent& agent) {
  const std::vector<Meeting> meetings = MeetingsOf(agent, LeadsTo);
  if (meetings.empty()) return {};
  const auto& [bootstrap, key, listen] = meetings.front();
  return base::Unexpected(
      base::Code::kInvalid,
      fmt::format("agent.upstream.bootstrap has {}, where the agent itself listens ({} is {}): "
                  "it would be its own tier; name the tier's brokers, or let the agent listen "
                  "on another port",
                  bootstrap, key, listen),
      base::Event::kBadConfiguration);
}

std::vector<std::string> TiersThatMayBeOwn(const config::Agent& agent) {
  const auto may_lead = [host = ThisHost()](const HostPort& tier, const HostPort& listener) {
    return MayLeadTo(tier, listener, host);
  };
  std::vector<std::string> texts;
  for (const auto& [bootstrap, key, listen] : MeetingsOf(agent, may_lead)) {
    texts.push_back(
        fmt::format("agent.upstream.bootstrap has {}, which is this host, where the agent listens "
                    "on all addresses ({} is {}): unless something leads it elsewhere, the agent "
                    "is its own tier",
                    bootstrap, key, listen));
  }
  return texts;
}

}  // namespace holdfast::cli
