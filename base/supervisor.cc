#include "base/supervisor.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

namespace holdfast::base {
namespace {

Result<uint64_t> Number(const char* variable, std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) return number;
  return Unexpected(Code::kInvalid, fmt::format("{}={} is no number", variable, text));
}

// WATCHDOG_PID, if it is set, says for which process WATCHDOG_USEC is meant.
Result<Duration> WatchdogFromEnvironment() {
  const char* const usec = std::getenv("WATCHDOG_USEC");
  if (usec == nullptr) return Duration::zero();
  if (const char* const pid = std::getenv("WATCHDOG_PID"); pid != nullptr) {
    HF_ASSIGN_OR_RETURN(const uint64_t meant, Number("WATCHDOG_PID", pid));
    if (meant != static_cast<uint64_t>(getpid())) return Duration::zero();
  }
  HF_ASSIGN_OR_RETURN(const uint64_t period, Number("WATCHDOG_USEC", usec));
  return Duration(std::chrono::microseconds(period));
}

std::string OneLine(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  return line;
}

}  // namespace

Result<Supervisor> Supervisor::FromEnvironment() {
  const char* const name = std::getenv("NOTIFY_SOCKET");
  if (name == nullptr) return Supervisor();
  sockaddr_un address{.sun_family = AF_UNIX};
  const size_t length = std::strlen(name);
  if ((name[0] != '/' && name[0] != '@') || length < 2 || length >= sizeof(address.sun_path)) {
    return Unexpected(Code::kInvalid, fmt::format("NOTIFY_SOCKET={} is no path of a socket", name));
  }
  HF_ASSIGN_OR_RETURN(const Duration watchdog, WatchdogFromEnvironment());
  std::memcpy(address.sun_path, name, length);
  if (name[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Unexpected(ErrnoError("cannot make a socket", errno));
  Supervisor made(fd, watchdog);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address),
              static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length)) != 0) {
    return Unexpected(ErrnoError(fmt::format("cannot reach NOTIFY_SOCKET={}", name), errno));
  }
  return made;
}

Supervisor::Supervisor(Supervisor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), watchdog_(other.watchdog_) {}

Supervisor::~Supervisor() {
  if (fd_ >= 0) close(fd_);
}

void Supervisor::Send(std::string_view message) const {
  if (fd_ < 0) return;
  [[maybe_unused]] const ssize_t sent = send(fd_, message.data(), message.size(), MSG_NOSIGNAL);
}

void Supervisor::Ready(std::string_view status) const {
  Send(fmt::format("READY=1\nSTATUS={}", OneLine(status)));
}

void Supervisor::Reloading() const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  Send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}",
                   int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000));
}

void Supervisor::Reloaded() const { Send("READY=1"); }

void Supervisor::Stopping(Duration limit) const {
  Send(fmt::format("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={}",
                   std::chrono::duration_cast<std::chrono::microseconds>(limit).count()));
}

void Supervisor::Status(std::string_view status) const {
  Send(fmt::format("STATUS={}", OneLine(status)));
}

void Supervisor::Beat() const { Send("WATCHDOG=1"); }

}  // namespace holdfast::base
