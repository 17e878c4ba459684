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

namespace holdfast::cli {

class Signals {
 public:
  Signals();

  enum class Wish : uint8_t { kStop, kReload };
  // SIGTERM and SIGINT say stop, SIGHUP says reload.
  Wish Wait();
  // The same, or nothing after `most`.
  std::optional<Wish> WaitFor(std::chrono::milliseconds most);
  // As SIGTERM from outside. From any thread.
  static void RequestStop();

  // From now on a further signal ends the process at once, and so does the end of `limit`.
  void ExitOnNext(std::chrono::milliseconds limit);

 private:
  static Wish WishOf(int signal);

  sigset_t watched_;
};

}  // namespace holdfast::cli
