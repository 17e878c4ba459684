#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>

namespace holdfast::base {
namespace {

std::atomic<LogFormat> g_format{LogFormat::kText};

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

constexpr const char* kTextPattern = "%Y-%m-%dT%H:%M:%S.%e%z %-5l %v";
constexpr const char* kJournalPattern = "%v";
constexpr const char* kJsonPattern = R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})";

const char* Pattern(LogFormat format) {
  if (format == LogFormat::kJson) return kJsonPattern;
  return LogsToJournal() ? kJournalPattern : kTextPattern;
}

// Of syslog, as sd-daemon(3) names them.
constexpr std::string_view JournalLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "<7>";
    case LogLevel::kInfo:
      return "<6>";
    case LogLevel::kWarn:
      return "<4>";
    case LogLevel::kError:
      return "<3>";
  }
  return "<6>";
}

// Never destroyed: threads may log while the process ends.
spdlog::logger& Logger() {
  static auto* const logger = [] {
    auto* made = new spdlog::logger("holdfast", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern(Pattern(LogFormat::kText));
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *logger;
}

void AppendJsonString(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace

Result<LogLevel> ParseLogLevel(std::string_view text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warn") return LogLevel::kWarn;
  if (text == "error") return LogLevel::kError;
  return Unexpected(Code::kInvalid, "log level \"" + std::string(text) +
                                        "\" is not known; use debug, info, warn or error");
}

// JOURNAL_STREAM is the device and inode of the journal's socket, which may not be standard error.
bool LogsToJournal() {
  static const bool journal = [] {
    const char* const stream = std::getenv("JOURNAL_STREAM");
    struct stat where {};
    return stream != nullptr && fstat(STDERR_FILENO, &where) == 0 &&
           fmt::format("{}:{}", where.st_dev, where.st_ino) == stream;
  }();
  return journal;
}

void SetLogLevel(LogLevel level) { Logger().set_level(ToSpdlog(level)); }

void SetLogFormat(LogFormat format) {
  g_format = format;
  Logger().set_pattern(Pattern(format));
}

bool LogEnabled(LogLevel level) { return Logger().should_log(ToSpdlog(level)); }

void LogLine(LogLevel level, std::string_view part, std::string_view message) {
  std::string line;
  if (g_format.load() == LogFormat::kJson) {
    line = "\"part\":";
    AppendJsonString(line, part);
    line += ",\"message\":";
    AppendJsonString(line, message);
  } else {
    if (LogsToJournal()) line = JournalLevel(level);
    line.append(part).append(": ").append(message);
  }
  Logger().log(ToSpdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace holdfast::base
