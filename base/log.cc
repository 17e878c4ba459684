#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "base/mutex.h"

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

// A ring of the newest lines; written on the paths that log anyway, which are no hot ones.
class Recent {
 public:
  void Add(LogLevel level, std::string_view part, std::string_view message) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    RecentLine line{.time_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count(),
                    .level = level,
                    .part = std::string(part),
                    .message = std::string(message.substr(0, kMessageBytesMax))};
    const MutexLock lock(mutex_);
    if (lines_.size() < kRecentLines) {
      lines_.push_back(std::move(line));
    } else {
      lines_[oldest_] = std::move(line);
      oldest_ = (oldest_ + 1) % kRecentLines;
    }
  }

  std::vector<RecentLine> Get() {
    const MutexLock lock(mutex_);
    std::vector<RecentLine> lines;
    lines.reserve(lines_.size());
    for (size_t i = 0; i < lines_.size(); ++i)
      lines.push_back(lines_[(oldest_ + i) % lines_.size()]);
    return lines;
  }

 private:
  static constexpr size_t kMessageBytesMax = 512;

  Mutex mutex_;
  std::vector<RecentLine> lines_ HF_GUARDED_BY(mutex_);
  size_t oldest_ HF_GUARDED_BY(mutex_) = 0;  // Once it is full.
};

// Never destroyed, as the logger.
Recent& RecentRing() {
  static auto* const ring = new Recent;
  return *ring;
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

std::string_view LogLevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warn";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

std::vector<RecentLine> RecentLines() { return RecentRing().Get(); }

void LogLine(LogLevel level, std::string_view part, std::string_view message) {
  if (level >= LogLevel::kInfo) RecentRing().Add(level, part, message);
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
