#include "agent/schedule.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <ctime>
#include <string>

namespace holdfast::agent {
namespace {

constexpr int kDay = 24 * 60;
constexpr int64_t kMinuteMs = 60'000;
constexpr std::array<std::string_view, 7> kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

std::optional<int> ParseDay(std::string_view text) {
  for (size_t day = 0; day < kDays.size(); ++day) {
    if (text == kDays[day]) return static_cast<int>(day);
  }
  return std::nullopt;
}

// "Mon", "Mon-Fri" or "Sat-Mon".
std::optional<uint8_t> ParseDayRange(std::string_view text) {
  const size_t dash = text.find('-');
  const auto first = ParseDay(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : ParseDay(text.substr(dash + 1));
  if (!first || !last) return std::nullopt;
  unsigned days = 0;
  for (int day = *first;; day = (day + 1) % 7) {
    days |= 1U << day;
    if (day == *last) return static_cast<uint8_t>(days);
  }
}

std::optional<uint8_t> ParseDays(std::string_view text) {
  unsigned days = 0;
  while (true) {
    const size_t comma = text.find(',');
    const auto range = ParseDayRange(text.substr(0, comma));
    if (!range) return std::nullopt;
    days |= *range;
    if (comma == std::string_view::npos) return static_cast<uint8_t>(days);
    text.remove_prefix(comma + 1);
  }
}

// "00:00" to "24:00".
std::optional<int> ParseTime(std::string_view text) {
  const auto number = [](std::string_view digits) {
    int value = -1;
    const char* const end = digits.data() + digits.size();
    const bool good = digits.size() == 2 && digits[0] != '-' &&
                      std::from_chars(digits.data(), end, value).ptr == end;
    return good ? value : -1;
  };
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  const int hour = number(text.substr(0, 2));
  const int minute = number(text.substr(3));
  if (hour < 0 || minute < 0 || minute > 59 || hour * 60 + minute > kDay) return std::nullopt;
  return hour * 60 + minute;
}

}  // namespace

base::Result<Schedule::Window> Schedule::ParseWindow(std::string_view text) {
  const auto wrong = [&](std::string_view why) {
    return base::Unexpected(
        base::Code::kInvalid,
        fmt::format("\"{}\" {}; write it like \"22:00-06:00\", \"Sat,Sun\" or \"Mon-Fri "
                    "18:00-24:00\"",
                    text, why));
  };
  Window window;
  std::string_view times = text;
  if (const size_t blank = text.find(' ');
      text.find(':') == std::string_view::npos || blank != std::string_view::npos) {
    const auto days = ParseDays(text.substr(0, blank));
    if (!days) return wrong("is no window of the week");
    window.days = *days;
    if (blank == std::string_view::npos) return window;
    times = text.substr(blank + 1);
  }
  const size_t dash = times.find('-');
  if (dash == std::string_view::npos) return wrong("has no time at which it ends");
  const auto begin = ParseTime(times.substr(0, dash));
  const auto end = ParseTime(times.substr(dash + 1));
  if (!begin || !end || *begin == kDay) return wrong("has times that no clock shows");
  if (*begin == *end) return wrong("ends when it begins");
  window.begin = *begin;
  window.end = *end;
  return window;
}

Schedule::State Schedule::At(int64_t wall_clock_ms) const {
  if (windows_.empty()) return {};
  const auto seconds = static_cast<std::time_t>(wall_clock_ms / 1000);
  std::tm now{};
  if (clock_ == Clock::kUtc) {
    gmtime_r(&seconds, &now);
  } else {
    localtime_r(&seconds, &now);
  }
  const int minute = now.tm_hour * 60 + now.tm_min;
  const auto on = [](const Window& window, int day) { return (window.days >> day & 1) != 0; };
  for (const Window& window : windows_) {
    const bool overnight = window.end <= window.begin;
    const bool today =
        on(window, now.tm_wday) && minute >= window.begin && (overnight || minute < window.end);
    const bool since_yesterday =
        overnight && on(window, (now.tm_wday + 6) % 7) && minute < window.end;
    if (today || since_yesterday)
      return {.open = true, .bytes_per_second_max = window.bytes_per_second_max};
  }
  return {.open = false};
}

std::optional<int64_t> Schedule::NextChange(int64_t wall_clock_ms) const {
  if (windows_.empty()) return std::nullopt;
  const State now = At(wall_clock_ms);
  int64_t at = wall_clock_ms / kMinuteMs * kMinuteMs;
  for (int minutes = 0; minutes < 8 * kDay; ++minutes) {
    at += kMinuteMs;
    if (At(at) != now) return at;
  }
  return std::nullopt;
}

}  // namespace holdfast::agent
