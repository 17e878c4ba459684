#include "net/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
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
    const auto host = SocketAddress(entry->ai_addr, entry->ai_addrlen).host();
    if (auto address = SocketAddress::FromIp(host, name.port)) addresses.push_back(*address);
  }
  freeaddrinfo(found);
  if (addresses.empty())
    return base::Unexpected(base::Code::kUnavailable, "'" + name.host + "' has no address");
  return addresses;
}

// Shared with the thread, which may sit in a slow look-up when the Resolver goes, and is left to
// finish it alone.
struct Resolver::State {
  struct Question {
    HostPort name;
    base::Executor* executor;
    Answer answer;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Question> questions;
  bool started = false;
  bool closed = false;

  void Run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return closed || !questions.empty(); });
      if (closed) return;
      Question question = std::move(questions.front());
      questions.pop_front();
      lock.unlock();
      auto addresses = ResolveBlocking(question.name);
      lock.lock();
      // Under the lock, since the executor is there only as long as the Resolver is.
      if (!closed) PostAnswer(std::move(question), std::move(addresses));
    }
  }

  static void PostAnswer(Question question, base::Result<std::vector<SocketAddress>> addresses) {
    question.executor->Post(
        [answer = std::move(question.answer), addresses = std::move(addresses)]() mutable {
          answer(std::move(addresses));
        });
  }
};

Resolver::Resolver() : state_(std::make_shared<State>()) {}

Resolver::~Resolver() {
  std::deque<State::Question> unanswered;
  const std::lock_guard lock(state_->mutex);
  state_->closed = true;
  unanswered.swap(state_->questions);
  state_->changed.notify_one();
}

void Resolver::Resolve(HostPort name, base::Executor& executor, Answer answer) {
  State::Question question{std::move(name), &executor, std::move(answer)};
  if (auto address = SocketAddress::FromIp(question.name.host, question.name.port))
    return State::PostAnswer(std::move(question), std::vector<SocketAddress>{*address});
  const std::lock_guard lock(state_->mutex);
  state_->questions.push_back(std::move(question));
  if (!std::exchange(state_->started, true))
    std::thread([state = state_] { state->Run(); }).detach();
  state_->changed.notify_one();
}

}  // namespace holdfast::net
