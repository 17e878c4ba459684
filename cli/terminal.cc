#include "cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <utility>

#include "agent/spool_text.h"

namespace holdfast::cli {
namespace {

constexpr auto kPatience = std::chrono::milliseconds(500);
constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr size_t kWidth = 30;

}  // namespace

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)), on_(isatty(STDERR_FILENO) == 1), begun_(Clock::now()) {}

ProgressBar::~ProgressBar() {
  if (visible_) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::Show(uint64_t done_bytes, uint64_t total_bytes) {
  if (!on_) return;
  const Clock::time_point now = Clock::now();
  if (now - begun_ < kPatience || now - shown_ < kInterval) return;
  shown_ = now;
  visible_ = true;
  const double share =
      total_bytes == 0
          ? 0.0
          : std::min(1.0, static_cast<double>(done_bytes) / static_cast<double>(total_bytes));
  const auto filled = static_cast<size_t>(share * kWidth);
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  const double rate = static_cast<double>(done_bytes) / seconds;
  const std::string amount =
      total_bytes == 0 ? agent::BytesText(done_bytes)
                       : fmt::format("{:3.0f} % of {}", share * 100, agent::BytesText(total_bytes));
  std::fputs(fmt::format("\r\x1b[K{} [{}{}] {}, {}/s", what_, std::string(filled, '#'),
                         std::string(kWidth - filled, ' '), amount,
                         agent::BytesText(static_cast<uint64_t>(rate)))
                 .c_str(),
             stderr);
}

Answer Ask(const std::string& question) {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) return Answer::kNobodyThere;
  std::fputs((question + " [y/N] ").c_str(), stderr);
  std::string line;
  std::getline(std::cin, line);
  return line == "y" || line == "Y" || line == "yes" ? Answer::kYes : Answer::kNo;
}

}  // namespace holdfast::cli
