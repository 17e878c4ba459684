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
bool IsUtf8(std::string_view bytes);        // Whole and well-formed.
// Of the well-formed character that `bytes` begins with, or 0.
size_t Utf8Length(std::string_view bytes);
inline constexpr size_t kUtf8LengthMax = 4;
// For one line of text: \t, \n, \r, \\ and \xNN; nothing is "\N".
std::string Escaped(const std::optional<std::string_view>& bytes);

}  // namespace holdfast::agent
