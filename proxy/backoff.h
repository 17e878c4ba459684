// How long to wait before trying again.
//
// Threads: any; pure but for the random numbers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/executor.h"
#include "base/random.h"

namespace holdfast::proxy {

// Doubled with each attempt in a row (the first is 0) up to `most`, and of that between half and
// all at random, so that many who lost the same broker do not come back together.
inline base::Duration Backoff(base::Duration least, base::Duration most, uint32_t attempt,
                              base::Random& random) {
  constexpr uint32_t kDoublingsMax = 20;
  const base::Duration whole =
      std::min(most, least * (int64_t{1} << std::min(attempt, kDoublingsMax)));
  const auto half = static_cast<uint64_t>(whole.count() / 2);
  return whole - base::Duration(static_cast<int64_t>(random.Below(half + 1)));
}

}  // namespace holdfast::proxy
