// Sizes and durations as people write them.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace holdfast::config {

// How the number of a field is written: its name says so (spool.bytes_max, timeout_ms).
enum class Unit : uint8_t { kNone, kBytes, kMilliseconds };
Unit UnitOf(std::string_view field_name);

// "4096", and with kBytes "256MiB", "10MB" or "50kB", with kMilliseconds "500ms", "30s", "5m",
// "2h", "7d".
std::optional<int64_t> ParseNumber(std::string_view text, Unit unit);

// The shortest text that ParseNumber reads back as the same number.
std::string PrintNumber(int64_t number, Unit unit);

// The least number of characters to insert, delete, replace or swap with their neighbours.
size_t EditDistance(std::string_view a, std::string_view b);

}  // namespace holdfast::config
