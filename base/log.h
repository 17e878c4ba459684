// The log: one line per event worth a human's time, on standard error, as text or JSON.
//
//   base::Log(base::LogLevel::kWarn, "upstream", "lost the connection to {}: {}", address, reason);
//
// The second argument names the part of the program. Messages never hold secrets or record
// payloads. Text that goes to systemd's journal begins with its level as sd-daemon(3) writes it, in
// place of the time, which the journal has already. The newest kRecentLines of level info or above
// are kept in memory as well, for the status page.
//
// Threads: any. Shutdown: lines are flushed as they are written.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::base {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };
enum class LogFormat : uint8_t { kText, kJson };

// "debug", "info", "warn" or "error".
Result<LogLevel> ParseLogLevel(std::string_view text);

// Whether standard error is the journal's (JOURNAL_STREAM), as of the first call.
[[nodiscard]] bool LogsToJournal();

void SetLogLevel(LogLevel level);
void SetLogFormat(LogFormat format);
[[nodiscard]] bool LogEnabled(LogLevel level);

[[nodiscard]] std::string_view LogLevelName(LogLevel level);

struct RecentLine {
  int64_t time_ms = 0;
  LogLevel level = LogLevel::kInfo;
  std::string part;
  std::string message;  // Cut where it is very long.
};
inline constexpr size_t kRecentLines = 64;
// What this process wrote last, oldest first.
[[nodiscard]] std::vector<RecentLine> RecentLines();

// One line, already formatted.
void LogLine(LogLevel level, std::string_view part, std::string_view message);

template <class... Args>
void Log(LogLevel level, std::string_view part, fmt::format_string<Args...> format,
         Args&&... args) {
  if (LogEnabled(level)) LogLine(level, part, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace holdfast::base
