#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "base/event.h"
#include "base/log_limit.h"
#include "base/mutex.h"
#include "base/utf8.h"

namespace holdfast::base {
namespace {

std::atomic<LogFormat> g_format{LogFormat::kText};

constexpr std::array<std::string_view, 18> kParts{
    "agent",  "broker", "config", "forward",  "groups",      "half",
    "inject", "ledger", "main",   "metadata", "net",         "orphans",
    "outbox", "proxy",  "sasl",   "spool",    "transaction", "upstream"};

class Levels {
 public:
  Levels() { Set(LogLevel::kInfo); }

  void Set(LogLevel level) {
    const MutexLock lock(mutex_);
    for (std::atomic<LogLevel>& one : of_part_) one = level;
    lowest_ = level;
  }
  void Set(size_t part, LogLevel level) {
    const MutexLock lock(mutex_);
    of_part_[part] = level;
    lowest_ =
        std::ranges::min_element(of_part_, {}, [](const auto& one) { return one.load(); })->load();
  }
  [[nodiscard]] LogLevel Of(std::string_view part) const {
    const auto found = std::ranges::find(kParts, part);
    return of_part_[static_cast<size_t>(found - kParts.begin())];
  }
  // What is below the lowest is refused without a look for its part.
  [[nodiscard]] bool Allow(LogLevel level, std::string_view part) const {
    return level >= lowest_.load(std::memory_order_relaxed) && level >= Of(part);
  }

 private:
  std::array<std::atomic<LogLevel>, kParts.size() + 1> of_part_;  // The last: of any other.
  std::atomic<LogLevel> lowest_;
  Mutex mutex_;  // Of those who set them; it keeps lowest_ right.
};

// Never destroyed, as the logger.
Levels& LevelsOfParts() {
  static auto* const levels = new Levels;
  return *levels;
}

LogLimit& Limit() {
  static auto* const limit = new LogLimit;
  return *limit;
}

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
  void Add(LogLevel level, Event event, std::string_view part, std::string_view message) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    RecentLine line{.time_ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count(),
                    .level = level,
                    .event = event,
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

// The level is in the line already: spdlog has other names for them.
constexpr const char* kTextPattern = "%Y-%m-%dT%H:%M:%S.%e%z %v";
constexpr const char* kJournalPattern = "%v";
constexpr const char* kJsonPattern = R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z",%v})";

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
    made->set_level(spdlog::level::debug);  // Levels has said yes.
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *logger;
}

void AppendJsonString(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    const std::string_view character = text.substr(0, std::max<size_t>(length, 1));
    text.remove_prefix(character.size());
    if (length == 0) {
      out += "\\ufffd";
    } else if (IsControl(character)) {
      out += fmt::format("\\u{:04x}", static_cast<uint8_t>(character.back()));
    } else {
      if (character == "\"" || character == "\\") out += '\\';
      out += character;
    }
  }
  out += '"';
}

void Write(LogLevel level, Event event, LogSource source, std::string_view message,
           uint64_t left_out) {
  std::string said(source.subject);
  if (!said.empty()) said += ": ";
  said += message;
  if (level >= LogLevel::kInfo) RecentRing().Add(level, event, source.part, said);
  std::string line;
  if (g_format.load() == LogFormat::kJson) {
    line = fmt::format(R"("level":"{}",)", LogLevelName(level));
    if (event != Event::kNone) line += fmt::format(R"("code":"{}",)", EventCode(event));
    line += "\"part\":";
    AppendJsonString(line, source.part);
    if (!source.subject.empty()) {
      line += ",\"subject\":";
      AppendJsonString(line, source.subject);
    }
    line += ",\"message\":";
    AppendJsonString(line, message);
    if (left_out > 0) line += fmt::format(R"(,"left_out":{})", left_out);
  } else {
    line = LogsToJournal() ? std::string(JournalLevel(level))
                           : fmt::format("{:<5} ", LogLevelName(level));
    if (event != Event::kNone) line.append(EventCode(event)).append(" ");
    line.append(source.part).append(": ");
    line += Printable(said);  // Peers choose some of it.
    if (left_out > 0)
      line += fmt::format(" ({} more lines of {} were left out)", left_out, EventCode(event));
  }
  Logger().log(ToSpdlog(level), spdlog::string_view_t(line.data(), line.size()));
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

void SetLogFormat(LogFormat format) {
  g_format = format;
  Logger().set_pattern(Pattern(format));
}

std::span<const std::string_view> LogParts() { return kParts; }

void SetLogLevel(LogLevel level) { LevelsOfParts().Set(level); }

Result<void> SetLogLevel(std::string_view part, LogLevel level) {
  const auto found = std::ranges::find(kParts, part);
  if (found == kParts.end())
    return Unexpected(Code::kNotFound, fmt::format("no part is called \"{}\"; there are {}", part,
                                                   fmt::join(kParts, ", ")));
  LevelsOfParts().Set(static_cast<size_t>(found - kParts.begin()), level);
  return {};
}

LogLevel LogLevelOf(std::string_view part) { return LevelsOfParts().Of(part); }

bool LogEnabled(LogLevel level, std::string_view part) {
  return LevelsOfParts().Allow(level, part);
}

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

void LogLine(LogLevel level, LogSource source, std::string_view message) {
  Write(level, Event::kNone, source, message, 0);
}

void LogLine(Event event, LogSource source, std::string_view message, uint64_t left_out) {
  Write(InfoOf(event).level, event, source, message, left_out);
}

std::optional<uint64_t> AdmitLogLine(Event event, LogSource source) {
  if (!LogEnabled(InfoOf(event).level, source.part)) return std::nullopt;
  return Limit().Admit(event, source.subject,
                       std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now()));
}

void ResetLogLimit() { Limit().Reset(); }

}  // namespace holdfast::base
