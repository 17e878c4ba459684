// Who started this process and watches it: systemd, or another that speaks sd_notify(3)'s protocol,
// in which each message is one datagram of lines NAME=VALUE to the socket that NOTIFY_SOCKET names.
//
//   auto supervisor = base::Supervisor::FromEnvironment();
//   ... listen ...
//   supervisor->Ready("listening on 127.0.0.1:9092");
//
// The protocol is documented for others to implement and stable; libsystemd, which speaks it too,
// would bring two megabytes of libraries along.
//
// Ownership: the socket is its own. Threads: any.
// Limits: a message that cannot be delivered at once is lost: a service does not wait for who
//   watches it. The next one may arrive.
#pragma once

#include <string>
#include <string_view>

#include "base/executor.h"
#include "base/result.h"

namespace holdfast::base {

class Supervisor {
 public:
  // Nobody: every call does nothing.
  Supervisor() = default;
  // Nobody if NOTIFY_SOCKET is not set. kInvalid if it or WATCHDOG_USEC makes no sense.
  static Result<Supervisor> FromEnvironment();

  Supervisor(Supervisor&& other) noexcept;
  Supervisor& operator=(Supervisor&&) = delete;
  ~Supervisor();

  [[nodiscard]] bool present() const { return fd_ >= 0; }
  // It kills this process when no beat comes for this long; 0: it does not.
  [[nodiscard]] Duration watchdog() const { return watchdog_; }

  // The service serves. `status` is a line for people, here and below.
  void Ready(std::string_view status) const;
  void Reloading() const;
  // The end of Reloading, however that went.
  void Reloaded() const;
  // The service is about to end, and needs up to `limit` for that.
  void Stopping(Duration limit) const;
  void Status(std::string_view status) const;
  void Beat() const;

 private:
  Supervisor(int fd, Duration watchdog) : fd_(fd), watchdog_(watchdog) {}
  void Send(std::string_view message) const;

  int fd_ = -1;
  Duration watchdog_{};
};

}  // namespace holdfast::base
