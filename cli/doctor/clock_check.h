// Whether this host's clock is kept right.
//
// Threads: any; plain functions.
#pragma once

#include <cstdint>
#include <optional>

#include "cli/doctor/finding.h"

namespace holdfast::cli::doctor {

// What the kernel knows of its clock (adjtimex).
struct ClockState {
  bool synchronised = false;
  int64_t error_us_max = 0;  // As whoever disciplines it has said.
};
// None: the kernel does not tell.
std::optional<ClockState> ReadClock();

// `newest_ms`: when the newest of what waits was taken, by this host's clock then.
Findings CheckClock(const std::optional<ClockState>& clock, int64_t now_ms,
                    std::optional<int64_t> newest_ms);

}  // namespace holdfast::cli::doctor
