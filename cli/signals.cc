#include "cli/signals.h"

#include <sys/time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "cli/command_line.h"

namespace holdfast::cli {
namespace {

std::string_view overdue_line;  // Set before the alarm that shows it.

// Async-signal-safe: nothing but write and _exit.
void OnOverdue(int) {
  [[maybe_unused]] const ssize_t written =
      write(STDERR_FILENO, overdue_line.data(), overdue_line.size());
  _exit(kExitFailed);
}

// Other than what a supervisor sends, so that neither is taken for the other.
constexpr int kRequest = SIGUSR1;

bool IsIgnored(int signal) {
  struct sigaction action {};
  HF_CHECK(sigaction(signal, nullptr, &action) == 0);
  return action.sa_handler == SIG_IGN;
}

// Async-signal-safe.
void OnFollowing(int) {
  for (const int signal : {SIGTERM, SIGINT}) std::signal(signal, SIG_DFL);
}

}  // namespace

Signals::Signals(Hangup hangup) : hangup_(hangup) {
  sigemptyset(&watched_);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, kRequest}) sigaddset(&watched_, signal);
  // One that is blocked would come all the same.
  if (hangup == Hangup::kStop && IsIgnored(SIGHUP)) sigdelset(&watched_, SIGHUP);
  HF_CHECK(pthread_sigmask(SIG_BLOCK, &watched_, nullptr) == 0);
}

Signals::Wish Signals::Wait() {
  int signal = 0;
  HF_CHECK(sigwait(&watched_, &signal) == 0);
  return WishOf(signal);
}

std::optional<Signals::Wish> Signals::WaitFor(std::chrono::milliseconds most) {
  const timespec limit{.tv_sec = most.count() / 1000, .tv_nsec = most.count() % 1000 * 1'000'000};
  const int signal = sigtimedwait(&watched_, nullptr, &limit);
  if (signal < 0) return std::nullopt;
  return WishOf(signal);
}

Signals::Wish Signals::WishOf(int signal) {
  if (signal == SIGHUP && hangup_ == Hangup::kReload) return Wish::kReload;
  if (signal == kRequest) {
    requested_ = true;
    base::Log(base::LogLevel::kInfo, "main",
              "told to drain: draining; the next signal to stop changes nothing, one more exits at "
              "once");
    return Wish::kStop;
  }
  base::Log(base::LogLevel::kInfo, "main", "{}: draining; a second signal exits at once",
            signal == SIGTERM  ? "SIGTERM"
            : signal == SIGINT ? "SIGINT"
                               : "SIGHUP");
  return Wish::kStop;
}

void Signals::RequestStop() { HF_CHECK(kill(getpid(), kRequest) == 0); }

void Signals::ExitOnNext(std::chrono::milliseconds limit, std::string_view overdue) {
  overdue_line = overdue;
  std::signal(SIGALRM, OnOverdue);
  const itimerval timer{
      .it_value = {.tv_sec = limit.count() / 1000, .tv_usec = limit.count() % 1000 * 1000 + 1}};
  HF_CHECK(setitimer(ITIMER_REAL, &timer, nullptr) == 0);
  sigset_t deadly;
  sigemptyset(&deadly);
  for (const int signal : {SIGTERM, SIGINT}) {
    if (requested_) std::signal(signal, OnFollowing);
    sigaddset(&deadly, signal);
  }
  if (hangup_ == Hangup::kStop && sigismember(&watched_, SIGHUP) == 1) sigaddset(&deadly, SIGHUP);
  HF_CHECK(pthread_sigmask(SIG_UNBLOCK, &deadly, nullptr) == 0);
}

}  // namespace holdfast::cli
