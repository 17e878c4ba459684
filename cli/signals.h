// The signals that people and supervisors send to a process.
//
// Ownership: one per process, for its life. Made before the first thread, so that all threads
//   inherit the blocked signals and only the main thread takes them.
// Threads: main.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string_view>

namespace holdfast::cli {

class Signals {
 public:
  // What SIGHUP says: in a role it is a person's, in a command it comes when the terminal is gone;
  // there it says nothing if it was ignored at the start, as nohup has it.
  enum class Hangup : uint8_t { kReload, kStop };
  explicit Signals(Hangup hangup);

  enum class Wish : uint8_t { kStop, kReload };
  // SIGTERM, SIGINT and RequestStop say stop, SIGHUP what was said above.
  Wish Wait();
  // The same, or nothing after `most`.
  std::optional<Wish> WaitFor(std::chrono::milliseconds most);
  // From any thread; at any time, for it never ends the process at once.
  static void RequestStop();

  // From now on a further SIGTERM or SIGINT ends the process at once, and so does the end of
  // `limit`. If the stop was requested, the first of them says no more than that did: it is the
  // supervisor's, which follows the request. `overdue`: the line that the end of `limit` prints.
  void ExitOnNext(std::chrono::milliseconds limit, std::string_view overdue);

 private:
  Wish WishOf(int signal);

  const Hangup hangup_;
  sigset_t watched_;
  bool requested_ = false;
};

}  // namespace holdfast::cli
