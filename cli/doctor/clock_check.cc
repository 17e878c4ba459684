#include "cli/doctor/clock_check.h"

#include <fmt/format.h>
#include <sys/timex.h>

#include "agent/spool_text.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;
// What a clock may step when it is set right.
constexpr int64_t kStepMs = 1000;
// Kafka takes records from an hour ahead, by default.
constexpr int64_t kErrorUsMax = 60'000'000;

}  // namespace

std::optional<ClockState> ReadClock() {
  timex state{};
  const int rc = adjtimex(&state);
  if (rc < 0) return std::nullopt;
  return ClockState{.synchronised = rc != TIME_ERROR && (state.status & STA_UNSYNC) == 0,
                    .error_us_max = state.maxerror};
}

Findings CheckClock(const std::optional<ClockState>& clock, int64_t now_ms,
                    std::optional<int64_t> newest_ms) {
  Findings findings(Area::kClock);
  if (!clock) {
    findings.Note("the kernel does not tell whether the clock is synchronised");
  } else if (!clock->synchronised) {
    findings.Trouble(Event::kClockUnsynchronised,
                     "nobody keeps the clock: the kernel calls it unsynchronised");
  } else if (clock->error_us_max > kErrorUsMax) {
    findings.Trouble(
        Event::kClockUnsynchronised,
        fmt::format("the clock may be wrong by {}", agent::AgeText(clock->error_us_max / 1000)));
  } else {
    findings.Good(fmt::format("the clock is synchronised, and wrong by {:.1f} ms at most",
                              static_cast<double>(clock->error_us_max) / 1000));
  }
  if (newest_ms && *newest_ms > now_ms + kStepMs) {
    findings.Trouble(Event::kClockBehindSpool,
                     fmt::format("it is {}, and the newest record in the spool was taken at {}, {} "
                                 "later",
                                 agent::TimeText(now_ms), agent::TimeText(*newest_ms),
                                 agent::AgeText(*newest_ms - now_ms)));
  }
  return findings;
}

}  // namespace holdfast::cli::doctor
