#include "client/position.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <limits>
#include <optional>

namespace holdfast::client {
namespace {

using Kind = Position::Kind;

constexpr int64_t kMillisecondsAtLeast = 100'000'000'000;  // Fewer are seconds: 1973 or 5138.

// Digits alone.
std::optional<int64_t> Number(std::string_view text) {
  int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (text.empty() || text.front() == '-' || error != std::errc() || rest != end)
    return std::nullopt;
  return number;
}

std::optional<int64_t> DurationMs(std::string_view text) {
  if (text.empty()) return std::nullopt;
  int64_t unit = 0;
  switch (text.back()) {
    case 's':
      unit = 1000;
      break;
    case 'm':
      unit = 60'000;
      break;
    case 'h':
      unit = 3'600'000;
      break;
    case 'd':
      unit = 86'400'000;
      break;
    default:
      return std::nullopt;
  }
  const auto number = Number(text.substr(0, text.size() - 1));
  if (!number || *number > 100'000'000) return std::nullopt;
  return *number * unit;
}

// Takes `digits` digits and what follows them off the text.
std::optional<int> Part(std::string_view& text, size_t digits, std::string_view then) {
  if (text.size() < digits + then.size() || text.substr(digits, then.size()) != then)
    return std::nullopt;
  const auto number = Number(text.substr(0, digits));
  if (!number) return std::nullopt;
  text.remove_prefix(digits + then.size());
  return static_cast<int>(*number);
}

// 2026-01-01 or 2026-01-01T12:00:00Z, in UTC.
std::optional<int64_t> DateMs(std::string_view text) {
  const auto year = Part(text, 4, "-");
  if (!year) return std::nullopt;
  const auto month = Part(text, 2, "-");
  if (!month) return std::nullopt;
  const auto day = Part(text, 2, "");
  if (!day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  const std::chrono::milliseconds midnight = std::chrono::sys_days(date).time_since_epoch();
  if (text.empty()) return midnight.count();
  if (text.front() != 'T') return std::nullopt;
  text.remove_prefix(1);
  const auto hours = Part(text, 2, ":");
  if (!hours) return std::nullopt;
  const auto minutes = Part(text, 2, ":");
  if (!minutes) return std::nullopt;
  const auto seconds = Part(text, 2, "Z");
  if (!seconds || !text.empty() || *hours > 23 || *minutes > 59 || *seconds > 59)
    return std::nullopt;
  return midnight.count() + ((int64_t{*hours} * 60 + *minutes) * 60 + *seconds) * 1000;
}

std::optional<int64_t> TimeMs(std::string_view text, int64_t now_ms) {
  if (const auto number = Number(text))
    return *number < kMillisecondsAtLeast ? *number * 1000 : *number;
  if (text.starts_with('-')) {
    const auto ago = DurationMs(text.substr(1));
    return ago ? std::optional(now_ms - *ago) : std::nullopt;
  }
  return DateMs(text);
}

}  // namespace

base::Result<Position> ParsePosition(std::string_view text, int64_t now_ms) {
  if (text == "start" || text == "beginning") return Position{Kind::kStart, 0};
  if (text == "end") return Position{Kind::kEnd, 0};
  std::optional<int64_t> value;
  Kind kind = Kind::kOffset;
  if (text.starts_with('@')) {
    kind = Kind::kTime;
    value = TimeMs(text.substr(1), now_ms);
  } else if (text.starts_with('+') || text.starts_with('-')) {
    kind = Kind::kShift;
    value = Number(text.substr(1));
    if (value && text.front() == '-') value = -*value;
  } else {
    value = Number(text);
  }
  if (value) return Position{kind, *value};
  return base::Unexpected(
      base::Code::kInvalid,
      fmt::format("\"{}\" is no position: write start, end, an offset, +N, -N, or @ and a time "
                  "(milliseconds, seconds, 2026-01-31, 2026-01-31T12:00:00Z, or -90m for so long "
                  "ago)",
                  text));
}

int64_t Shifted(int64_t base, int64_t records, int64_t start, int64_t end) {
  using Limits = std::numeric_limits<int64_t>;
  if (records > 0) base = std::min(base, Limits::max() - records);
  if (records < 0) base = std::max(base, Limits::min() - records);
  return std::clamp(base + records, start, std::max(start, end));
}

}  // namespace holdfast::client
