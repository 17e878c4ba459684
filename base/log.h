// The log: one line per event worth a human's time, on standard error, as text or JSON.
//
//   base::Log(base::Event::kTierUnreachable, {"upstream", address}, "lost: {}", reason);
//   base::Log(base::LogLevel::kInfo, "upstream", "connected to {}", address);
//
// What went wrong is an event of the catalogue (base/event.h), which has its level, and the code
// that is in the line; base/log_limit.h says how many lines there may be of one event, and the next
// one tells how many were left out. Lines of level info and debug have no limit.
//
// The second argument names the part of the program, one of LogParts(), and what the line is
// about: a stream, a peer, a group. Messages never hold secrets or record payloads. Text that goes
// to systemd's journal begins with its level as sd-daemon(3) writes it, in place of the time, which
// the journal has. The newest kRecentLines of level info or above are kept in memory as well, for
// the status page. Control characters, and bytes that are not UTF-8, are written as escapes.
//
// Threads: any. Shutdown: lines are flushed as they are written.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace holdfast::base {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };
enum class LogFormat : uint8_t { kText, kJson };

// "debug", "info", "warn" or "error".
Result<LogLevel> ParseLogLevel(std::string_view text);
[[nodiscard]] std::string_view LogLevelName(LogLevel level);

// Whether standard error is the journal's (JOURNAL_STREAM), as of the first call.
[[nodiscard]] bool LogsToJournal();

void SetLogFormat(LogFormat format);

[[nodiscard]] std::span<const std::string_view> LogParts();
void SetLogLevel(LogLevel level);  // Of all parts.
Result<void> SetLogLevel(std::string_view part, LogLevel level);
[[nodiscard]] LogLevel LogLevelOf(std::string_view part);
[[nodiscard]] bool LogEnabled(LogLevel level, std::string_view part);

// What a line comes from: "forward", or {"forward", "orders/3"}. Views of what outlives the call.
struct LogSource {
  LogSource(const char* in_part) : part(in_part) {}
  LogSource(std::string_view in_part) : part(in_part) {}
  LogSource(std::string_view in_part, std::string_view about) : part(in_part), subject(about) {}

  std::string_view part;
  std::string_view subject;
};

struct RecentLine {
  int64_t time_ms = 0;
  LogLevel level = LogLevel::kInfo;
  Event event = {};
  std::string part;
  std::string message;  // With its subject before it; cut where it is very long.
};
inline constexpr size_t kRecentLines = 64;
// What this process wrote last, oldest first.
[[nodiscard]] std::vector<RecentLine> RecentLines();

// One line, already formatted.
void LogLine(LogLevel level, LogSource source, std::string_view message);
void LogLine(Event event, LogSource source, std::string_view message, uint64_t left_out);
// Nothing if the event's line is not to be written, else how many were left out before it.
[[nodiscard]] std::optional<uint64_t> AdmitLogLine(Event event, LogSource source);

template <class... Args>
void Log(LogLevel level, LogSource source, fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(level, source.part))
    LogLine(level, source, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void Log(Event event, LogSource source, fmt::format_string<Args...> format, Args&&... args) {
  if (const auto left_out = AdmitLogLine(event, source))
    LogLine(event, source, fmt::format(format, std::forward<Args>(args)...), *left_out);
}

}  // namespace holdfast::base
