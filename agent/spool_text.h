// Numbers, times and bytes as people read them.
//
// Threads: any; values only, but for NowMs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace holdfast::agent {

int64_t NowMs();                            // Wall clock.
std::string CountText(uint64_t count);      // "1,234,567"
std::string BytesText(uint64_t bytes);      // "1.2 GiB"
std::string TimeText(int64_t time_ms);      // "2026-01-01T00:00:00.123Z"
std::string AgeText(int64_t milliseconds);  // "3 h 12 min"
// For one line of text: \t, \n, \r, \\ and \xNN; nothing is "\N".
std::string Escaped(const std::optional<std::string_view>& bytes);

}  // namespace holdfast::agent
