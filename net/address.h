// Where to connect or listen: names as people write them, addresses as sockets use them, and the
// way from one to the other.
//
// Threads: values; Resolver::Resolve may be called from any thread.
// Limits: a Resolver looks up four names at a time; addresses in figures do not wait for it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/result.h"
#include "base/unique_function.h"

struct sockaddr;

namespace holdfast::net {

struct HostPort {
  std::string host;  // A name, an IPv4 address or an IPv6 address without brackets.
  uint16_t port = 0;

  // "host:port", "10.0.0.1:9092" or "[::1]:9092". An error names the text and what is wrong.
  static base::Result<HostPort> Parse(std::string_view text);
  // The same with a comma between the addresses; at least one.
  static base::Result<std::vector<HostPort>> ParseList(std::string_view text);
  // With brackets where needed, so that Parse reads it again.
  [[nodiscard]] std::string ToString() const;

  bool operator==(const HostPort&) const = default;
};

// An IPv4 address mapped into IPv6 becomes the IPv4 address that it stands for: as such the peer of
// a listener for both is known in rules, quotas and logs.
class SocketAddress {
 public:
  SocketAddress();  // 0.0.0.0:0
  SocketAddress(const sockaddr* address, size_t size);
  // None if `host` is not an address in figures.
  static base::Result<SocketAddress> FromIp(const std::string& host, uint16_t port);

  [[nodiscard]] const sockaddr* get() const;
  [[nodiscard]] uint32_t size() const { return size_; }
  [[nodiscard]] int family() const;
  [[nodiscard]] uint16_t port() const;
  [[nodiscard]] std::string host() const;      // "127.0.0.1", "::1"
  [[nodiscard]] std::string ToString() const;  // "127.0.0.1:9092", "[::1]:9092"
  [[nodiscard]] bool IsLoopback() const;

 private:
  alignas(8) char storage_[28];  // Room for a sockaddr_in6.
  uint32_t size_;
};

// An address in figures as SocketAddress::host() has it, whichever way it is written; anything else
// as it is.
std::string CanonicalHost(std::string host);

// Asks the system (hosts file, DNS) and blocks meanwhile, for as long as DNS takes. For start-up.
base::Result<std::vector<SocketAddress>> ResolveBlocking(const HostPort& name);

// The same for loops, on threads of its own, which are made as names come that find none idle. Who
// asks for a host that is waited for already gets the answer to that question, at its own port. So
// a host whose look-up takes long, however often it is asked for, has one thread and leaves the
// others to the rest.
// Shutdown: answers that come after the destructor are dropped. It does not wait for a look-up.
class Resolver {
 public:
  using Answer = base::UniqueFunction<void(base::Result<std::vector<SocketAddress>>)>;
  // Blocks, on several threads at a time, and may be called still when the Resolver is gone.
  using LookUp = std::function<base::Result<std::vector<SocketAddress>>(const HostPort&)>;
  explicit Resolver(LookUp look_up = ResolveBlocking);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // `answer` runs on `executor`, later, also if the name is an address in figures, unless the
  // returned timer, which belongs to `executor`, goes first. What nobody waits for any more is not
  // looked up.
  [[nodiscard]] base::Timer Resolve(const HostPort& name, base::Executor& executor, Answer answer);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace holdfast::net
