// What a command shows of its progress, and asks, when a person sits at the terminal.
//
// Threads: one.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace holdfast::cli {

// A line on standard error that fills up; nothing at all if that is no terminal, or if the work is
// done sooner than anybody would wonder.
class ProgressBar {
 public:
  enum class Unit : uint8_t { kBytes, kRecords };

  explicit ProgressBar(std::string what, Unit unit = Unit::kBytes);
  ~ProgressBar();  // Removes the line.
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `total` 0: it is not known. `records`: what the bytes are; 0 if that does not matter.
  void Show(uint64_t done, uint64_t total, uint64_t records = 0);

 private:
  using Clock = std::chrono::steady_clock;

  const std::string what_;
  const Unit unit_;
  const bool on_;
  const Clock::time_point begun_;
  Clock::time_point shown_;
  bool visible_ = false;
};

enum class Answer : uint8_t { kYes, kNo, kNobodyThere };
// Asks on standard error and reads a line from standard input, if both are a terminal.
Answer Ask(const std::string& question);

}  // namespace holdfast::cli
