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

ProgressBar::ProgressBar(std::string what, Unit unit)
    : what_(std::move(what)), unit_(unit), on_(isatty(STDERR_FILENO) == 1), begun_(Clock::now()) {}

ProgressBar::~ProgressBar() {
  if (visible_) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::Show(uint64_t done, uint64_t total, uint64_t records) {
  if (!on_) return;
  const Clock::time_point now = Clock::now();
  if (now - begun_ < kPatience || now - shown_ < kInterval) return;
  shown_ = now;
  visible_ = true;
  const auto amount = [this](uint64_t count) {
    return unit_ == Unit::kBytes ? agent::BytesText(count) : agent::CountText(count) + " records";
  };
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  const double rate = static_cast<double>(done) / seconds;
  std::string text = "\r\x1b[K" + what_;
  if (total == 0) {
    text += " " + amount(done);
  } else {
    const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    const auto filled = static_cast<size_t>(share * kWidth);
    text += fmt::format(" [{}{}] {:3.0f} % of {}", std::string(filled, '#'),
                        std::string(kWidth - filled, ' '), share * 100, amount(total));
  }
  if (records != 0) text += ", " + agent::CountText(records) + " records";
  text += fmt::format(", {}/s", amount(static_cast<uint64_t>(rate)));
  if (total > done && done > 0) {
    const double left = static_cast<double>(total - done) / rate;
    text += fmt::format(", {} left", agent::AgeText(static_cast<int64_t>(left * 1000)));
  }
  std::fputs(text.c_str(), stderr);
}

Answer Ask(const std::string& question) {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) return Answer::kNobodyThere;
  std::fputs((question + " [y/N] ").c_str(), stderr);
  std::string line;
  std::getline(std::cin, line);
  return line == "y" || line == "Y" || line == "yes" ? Answer::kYes : Answer::kNo;
}

}  // namespace holdfast::cli
