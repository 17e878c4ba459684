#include "tests/power_cut/plan.h"

#include <array>
#include <charconv>

namespace holdfast::power_cut {
namespace {

constexpr std::array<std::string_view, 5> kPatterns = {"killed", "dropped", "kept", "torn",
                                                       "reordered"};
constexpr std::array<std::string_view, kFaultKinds> kFaults = {
    "no_space",      "quota",       "no_files",   "error",
    "error_written", "short_write", "flush_lost", "flush_forgotten"};

std::vector<std::string_view> Split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t at = text.find(by);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

template <class T>
bool Number(std::string_view text, T* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

template <class T, size_t kSize>
bool Word(std::string_view text, const std::array<std::string_view, kSize>& words, T* value) {
  for (size_t i = 0; i < kSize; ++i) {
    if (words[i] != text) continue;
    *value = static_cast<T>(i);
    return true;
  }
  return false;
}

}  // namespace

std::string_view NameOf(FaultKind kind) { return kFaults[static_cast<size_t>(kind)]; }

std::string Format(const Case& test_case) {
  std::string text = test_case.workload + ":" + std::to_string(test_case.seed);
  for (size_t i = 0; i < test_case.lives.size(); ++i) {
    const auto& [fault, cut] = test_case.lives[i];
    if (i != 0) text += "/next";
    if (fault.call != 0)
      text += "/fault:" + std::to_string(fault.call) + ":" + std::string(NameOf(fault.kind)) + ":" +
              std::to_string(fault.count);
    if (cut.call != 0)
      text += "/cut:" + std::to_string(cut.call) + ":" +
              std::string(kPatterns[static_cast<size_t>(cut.pattern)]) + ":" +
              std::to_string(cut.seed);
  }
  return text;
}

base::Result<Case> ParseCase(std::string_view text) {
  Case parsed;
  parsed.lives.emplace_back();
  const std::vector<std::string_view> parts = Split(text, '/');
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::vector<std::string_view> fields = Split(parts[i], ':');
    Life& life = parsed.lives.back();
    bool good = false;
    if (i == 0) {
      parsed.workload = std::string(fields[0]);
      good = fields.size() == 2 && Number(fields[1], &parsed.seed);
    } else if (fields[0] == "next") {
      parsed.lives.emplace_back();
      good = true;
    } else if (fields[0] == "fault") {
      good = fields.size() == 4 && Number(fields[1], &life.fault.call) &&
             Word(fields[2], kFaults, &life.fault.kind) && Number(fields[3], &life.fault.count);
    } else if (fields[0] == "cut") {
      good = fields.size() == 4 && Number(fields[1], &life.cut.call) &&
             Word(fields[2], kPatterns, &life.cut.pattern) && Number(fields[3], &life.cut.seed);
    }
    if (!good)
      return base::Unexpected(base::Code::kInvalid, "HOLDFAST_CUT: cannot read \"" +
                                                        std::string(parts[i]) +
                                                        "\"; tests/power_cut/plan.h has examples");
  }
  return parsed;
}

}  // namespace holdfast::power_cut
