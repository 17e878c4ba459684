#include "net/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/check.h"

namespace holdfast::net {
namespace {

base::Result<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    return base::Unexpected(base::Code::kInvalid, "the port must be a number from 0 to 65535");
  return port;
}

base::Result<HostPort> ParseParts(std::string_view text) {
  HostPort parsed;
  std::string_view rest;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos)
      return base::Unexpected(base::Code::kInvalid, "the closing ']' is missing");
    parsed.host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
    in6_addr ignored;
    if (inet_pton(AF_INET6, parsed.host.c_str(), &ignored) != 1)
      return base::Unexpected(base::Code::kInvalid, "there is no IPv6 address between '[' and ']'");
  } else {
    const size_t colon = text.find(':');
    if (colon != text.rfind(':'))
      return base::Unexpected(base::Code::kInvalid,
                              "an IPv6 address goes in brackets, as in [::1]:9092");
    parsed.host = text.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon);
    if (parsed.host.empty())
      return base::Unexpected(base::Code::kInvalid, "the host before the ':' is missing");
    if (parsed.host.find_first_of(" \t/@") != std::string::npos)
      return base::Unexpected(base::Code::kInvalid, "a host has no blanks, '/' or '@'");
  }
  if (!rest.starts_with(':'))
    return base::Unexpected(base::Code::kInvalid, "the ':' and port after the host are missing");
  HF_ASSIGN_OR_RETURN(parsed.port, ParsePort(rest.substr(1)));
  return parsed;
}

std::string Join(const std::string& host, uint16_t port) {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

SocketAddress AtPort(const SocketAddress& address, uint16_t port) {
  return *SocketAddress::FromIp(address.host(), port);
}

}  // namespace

base::Result<HostPort> HostPort::Parse(std::string_view text) {
  auto parsed = ParseParts(text);
  if (!parsed) {
    return base::Unexpected(
        std::move(parsed).error().Within("'" + std::string(text) + "' is not HOST:PORT"));
  }
  return parsed;
}

base::Result<std::vector<HostPort>> HostPort::ParseList(std::string_view text) {
  std::vector<HostPort> list;
  while (true) {
    const size_t comma = text.find(',');
    HF_ASSIGN_OR_RETURN(HostPort next, Parse(text.substr(0, comma)));
    list.push_back(std::move(next));
    if (comma == std::string_view::npos) return list;
    text.remove_prefix(comma + 1);
  }
}

std::string HostPort::ToString() const { return Join(host, port); }

SocketAddress::SocketAddress() : storage_{}, size_(sizeof(sockaddr_in)) {
  const sockaddr_in any{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {}, .sin_zero = {}};
  std::memcpy(storage_, &any, sizeof(any));
}

SocketAddress::SocketAddress(const sockaddr* address, size_t size)
    : storage_{}, size_(static_cast<uint32_t>(size)) {
  static_assert(sizeof(storage_) >= sizeof(sockaddr_in6));
  HF_CHECK(size <= sizeof(storage_));
  std::memcpy(storage_, address, size);
  if (size != sizeof(sockaddr_in6) || family() != AF_INET6) return;
  sockaddr_in6 v6;
  std::memcpy(&v6, storage_, sizeof(v6));
  if (!IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) return;
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = v6.sin6_port;
  std::memcpy(&v4.sin_addr, &v6.sin6_addr.s6_addr[12], sizeof(v4.sin_addr));
  *this = SocketAddress(reinterpret_cast<const sockaddr*>(&v4), sizeof(v4));
}

base::Result<SocketAddress> SocketAddress::FromIp(const std::string& host, uint16_t port) {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1)
    return SocketAddress(reinterpret_cast<const sockaddr*>(&v4), sizeof(v4));
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1)
    return SocketAddress(reinterpret_cast<const sockaddr*>(&v6), sizeof(v6));
  return base::Unexpected(base::Code::kInvalid, "'" + host + "' is not an IP address");
}

const sockaddr* SocketAddress::get() const { return reinterpret_cast<const sockaddr*>(storage_); }

int SocketAddress::family() const { return get()->sa_family; }

uint16_t SocketAddress::port() const {
  // The port stands at the same place in both families.
  sockaddr_in v4;
  std::memcpy(&v4, storage_, sizeof(v4));
  return ntohs(v4.sin_port);
}

std::string SocketAddress::host() const {
  char text[INET6_ADDRSTRLEN] = "?";
  if (family() == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, storage_, sizeof(v6));
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
  } else {
    sockaddr_in v4;
    std::memcpy(&v4, storage_, sizeof(v4));
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
  }
  return text;
}

std::string SocketAddress::ToString() const { return Join(host(), port()); }

bool SocketAddress::IsLoopback() const {
  if (family() == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, storage_, sizeof(v4));
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  sockaddr_in6 v6;
  std::memcpy(&v6, storage_, sizeof(v6));
  return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

std::string CanonicalHost(std::string host) {
  const auto address = SocketAddress::FromIp(host, 0);
  return address ? address->host() : std::move(host);
}

base::Result<std::vector<SocketAddress>> ResolveBlocking(const HostPort& name) {
  if (auto address = SocketAddress::FromIp(name.host, name.port))
    return std::vector<SocketAddress>{*address};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(name.host.c_str(), nullptr, &hints, &found);
  if (error != 0) {
    return base::Unexpected(base::Code::kUnavailable,
                            "cannot resolve '" + name.host + "': " + gai_strerror(error));
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family != AF_INET && entry->ai_family != AF_INET6) continue;
    addresses.push_back(AtPort(SocketAddress(entry->ai_addr, entry->ai_addrlen), name.port));
  }
  freeaddrinfo(found);
  if (addresses.empty())
    return base::Unexpected(base::Code::kUnavailable, "'" + name.host + "' has no address");
  return addresses;
}

// Shared with the threads, which may sit in slow look-ups when the Resolver goes, and are left to
// finish them alone.
struct Resolver::State : std::enable_shared_from_this<State> {
  struct Question {
    const HostPort name;
    base::Executor* const executor;
    Answer answer;  // Of the executor's thread; none once it ran, or its asker has gone.
  };
  static constexpr size_t kThreadsMax = 4;

  explicit State(LookUp blocking) : look_up(std::move(blocking)) {}

  const LookUp look_up;
  std::mutex mutex;
  std::condition_variable changed;
  // By host: who waits for it. Nobody does if all went away during the look-up.
  std::map<std::string, std::vector<std::shared_ptr<Question>>> askers;
  std::deque<std::string> queue;  // Those of the hosts that are not being looked up yet.
  size_t threads = 0;
  size_t idle = 0;  // Of the threads; one that was made just now is.
  bool closed = false;

  void Ask(std::shared_ptr<Question> question) {
    const std::lock_guard lock(mutex);
    const auto [entry, fresh] = askers.try_emplace(question->name.host);
    if (fresh) queue.push_back(question->name.host);
    entry->second.push_back(std::move(question));
    if (queue.size() > idle && threads < kThreadsMax) StartThread();
    changed.notify_one();
  }

  void StartThread() {
    try {
      std::thread([self = shared_from_this()] { self->Run(); }).detach();
      ++threads;
      ++idle;
    } catch (const std::system_error&) {
      // As many as the system lets this process have. The next question tries again.
    }
  }

  void Forget(const std::shared_ptr<Question>& question) {
    const std::lock_guard lock(mutex);
    const auto entry = askers.find(question->name.host);
    if (entry == askers.end()) return;
    std::erase(entry->second, question);
    if (entry->second.empty() && std::erase(queue, entry->first) > 0) askers.erase(entry);
  }

  void Run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return closed || !queue.empty(); });
      --idle;
      if (closed) return;
      const std::string host = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      const auto addresses = look_up({host, 0});
      lock.lock();
      if (closed) return;
      ++idle;
      // Under the lock, since the executors are there only as long as the Resolver is.
      const auto waited = askers.extract(host);
      for (const auto& question : waited.mapped()) Post(question, addresses);
    }
  }

  static void Post(std::shared_ptr<Question> question,
                   base::Result<std::vector<SocketAddress>> addresses) {
    if (addresses) {
      for (SocketAddress& address : *addresses) address = AtPort(address, question->name.port);
    }
    base::Executor& executor = *question->executor;
    executor.Post([question = std::move(question), addresses = std::move(addresses)]() mutable {
      if (Answer answer = std::move(question->answer)) answer(std::move(addresses));
    });
  }
};

Resolver::Resolver(LookUp look_up) : state_(std::make_shared<State>(std::move(look_up))) {}

Resolver::~Resolver() {
  decltype(State::askers) unanswered;
  const std::lock_guard lock(state_->mutex);
  state_->closed = true;
  unanswered.swap(state_->askers);
  state_->changed.notify_all();
}

base::Timer Resolver::Resolve(const HostPort& name, base::Executor& executor, Answer answer) {
  const auto question =
      std::make_shared<State::Question>(State::Question{name, &executor, std::move(answer)});
  if (auto address = SocketAddress::FromIp(name.host, name.port)) {
    State::Post(question, std::vector<SocketAddress>{*address});
  } else {
    state_->Ask(question);
  }
  return base::Timer([weak = std::weak_ptr(state_), question] {
    question->answer = {};
    if (const auto state = weak.lock()) state->Forget(question);
  });
}

}  // namespace holdfast::net
