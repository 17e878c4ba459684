// When records may go to the tier, for links that cost or are shared at certain hours: windows of
// the week, each perhaps with a rate of its own. Outside of all windows nothing goes; without
// windows everything always does.
//
//   HF_ASSIGN_OR_RETURN(auto night, Schedule::ParseWindow("Mon-Fri 22:00-06:00"));
//   const Schedule schedule({night}, Schedule::Clock::kLocal);
//   if (schedule.At(loop.WallClockMs()).open) ...
//
// A window over midnight belongs to the day on which it begins. Of several that fit the first
// counts. A window is a minute at least; on the days when the clock is changed it is an hour longer
// or shorter, as the clock on the wall is.
//
// Ownership: a value. Threads: it does not change; any.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace holdfast::agent {

class Schedule {
 public:
  enum class Clock : uint8_t { kLocal, kUtc };
  struct Window {
    uint8_t days = 0x7f;                // Bit 0 is Sunday.
    int begin = 0;                      // Minutes of the day.
    int end = 24 * 60;                  // Not after `begin`: on the next day.
    uint64_t bytes_per_second_max = 0;  // 0: no limit of its own.
  };
  struct State {
    bool open = true;
    uint64_t bytes_per_second_max = 0;
    bool operator==(const State&) const = default;
  };

  // "22:00-06:00", "Sat,Sun", "Mon-Fri 18:00-24:00".
  static base::Result<Window> ParseWindow(std::string_view text);

  Schedule() = default;
  Schedule(std::vector<Window> windows, Clock clock)
      : windows_(std::move(windows)), clock_(clock) {}

  [[nodiscard]] State At(int64_t wall_clock_ms) const;
  // When At will be another after this time; none if it will not within eight days.
  [[nodiscard]] std::optional<int64_t> NextChange(int64_t wall_clock_ms) const;

 private:
  std::vector<Window> windows_;
  Clock clock_ = Clock::kLocal;
};

}  // namespace holdfast::agent
