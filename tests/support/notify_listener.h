// Stands for the service manager: the datagram socket that NOTIFY_SOCKET names.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/check.h"

namespace holdfast::test {

class NotifyListener {
 public:
  // `name` begins with a slash or, for the abstract space, with an `@`. Puts it, and
  // `watchdog_usec` if it is not empty, into the environment until the end of its life.
  explicit NotifyListener(const std::string& name, const std::string& watchdog_usec = "")
      : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), name_(name) {
    sockaddr_un address{.sun_family = AF_UNIX};
    name.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (name.front() == '@') address.sun_path[0] = '\0';
    HF_CHECK(bind(fd_, reinterpret_cast<const sockaddr*>(&address),
                  static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())) == 0);
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    if (!watchdog_usec.empty()) setenv("WATCHDOG_USEC", watchdog_usec.c_str(), 1);
  }
  ~NotifyListener() {
    for (const char* variable : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
      unsetenv(variable);
    if (name_.front() == '/') unlink(name_.c_str());
    close(fd_);
  }
  NotifyListener(const NotifyListener&) = delete;
  NotifyListener& operator=(const NotifyListener&) = delete;

  // What has come since the last call.
  std::vector<std::string> Take() {
    std::vector<std::string> messages;
    std::array<char, 4096> buffer{};
    for (ssize_t size; (size = recv(fd_, buffer.data(), buffer.size(), 0)) >= 0;)
      messages.emplace_back(buffer.data(), static_cast<size_t>(size));
    return messages;
  }

 private:
  const int fd_;
  const std::string name_;
};

}  // namespace holdfast::test
