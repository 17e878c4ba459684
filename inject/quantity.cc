#include "inject/quantity.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

namespace holdfast::inject {
namespace {

struct Suffix {
  std::string_view text;
  double factor;
};

constexpr Suffix kSuffixes[] = {
    {"", 1},        {"n", 1e-9},    {"u", 1e-6},    {"m", 1e-3},    {"k", 1e3},     {"M", 1e6},
    {"G", 1e9},     {"T", 1e12},    {"P", 1e15},    {"E", 1e18},    {"Ki", 0x1p10}, {"Mi", 0x1p20},
    {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50}, {"Ei", 0x1p60},
};

// The exponent behind "e" or "E"; none if that is something else.
std::optional<double> ParseExponent(std::string_view text) {
  if (text.size() < 2 || (text[0] != 'e' && text[0] != 'E')) return std::nullopt;
  const bool plus = text[1] == '+';
  text.remove_prefix(plus ? 2 : 1);
  if (plus && text.starts_with('-')) return std::nullopt;
  int exponent = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, exponent);
  if (error != std::errc() || rest != end || std::abs(exponent) > 18) return std::nullopt;
  return std::pow(10.0, exponent);
}

}  // namespace

std::optional<double> ParseQuantity(std::string_view text) {
  if (text.empty() || (text[0] != '.' && (text[0] < '0' || text[0] > '9'))) return std::nullopt;
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc()) return std::nullopt;
  const std::string_view suffix(rest, static_cast<size_t>(end - rest));
  for (const Suffix& known : kSuffixes)
    if (suffix == known.text) return number * known.factor;
  if (const auto factor = ParseExponent(suffix)) return number * *factor;
  return std::nullopt;
}

std::string PrintMebibytes(double bytes) {
  constexpr double kMebibyte = 0x1p20;
  const double whole = std::min((bytes + (kMebibyte - 1)) / kMebibyte, 0x1p42);
  return std::to_string(static_cast<int64_t>(whole)) + "Mi";
}

std::string PrintMilli(double number) {
  // Nobody writes less than a thousandth of what is counted here; what is less is a rounding error.
  const double whole = std::min(number * 1000 + 0.999, 0x1p62);
  return std::to_string(static_cast<int64_t>(whole)) + "m";
}

}  // namespace holdfast::inject
