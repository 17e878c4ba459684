#include "config/value.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <span>
#include <vector>

namespace holdfast::config {
namespace {

struct Suffix {
  std::string_view text;
  int64_t factor;
};

// In the order in which PrintNumber tries them: the largest first, powers of two before those of
// ten.
constexpr Suffix kSizes[] = {
    {"TiB", int64_t{1} << 40},
    {"GiB", int64_t{1} << 30},
    {"MiB", int64_t{1} << 20},
    {"KiB", int64_t{1} << 10},
    {"TB", 1'000'000'000'000},
    {"GB", 1'000'000'000},
    {"MB", 1'000'000},
    {"kB", 1'000},
    {"KB", 1'000},  // As MB has it; never printed.
    {"B", 1},
};
constexpr Suffix kDurations[] = {
    {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1},
};

std::span<const Suffix> SuffixesOf(Unit unit) {
  switch (unit) {
    case Unit::kBytes:
      return kSizes;
    case Unit::kMilliseconds:
      return kDurations;
    case Unit::kNone:
      break;
  }
  return {};
}

}  // namespace

Unit UnitOf(std::string_view field_name) {
  if (field_name.ends_with("_ms")) return Unit::kMilliseconds;
  const bool bytes =
      field_name.find("_bytes") != std::string_view::npos || field_name.starts_with("bytes_");
  return bytes ? Unit::kBytes : Unit::kNone;
}

std::optional<int64_t> ParseNumber(std::string_view text, Unit unit) {
  int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view suffix(rest, static_cast<size_t>(end - rest));
  if (suffix.empty()) return number;
  for (const Suffix& known : SuffixesOf(unit)) {
    if (suffix != known.text) continue;
    int64_t product = 0;
    if (__builtin_mul_overflow(number, known.factor, &product)) return std::nullopt;
    return product;
  }
  return std::nullopt;
}

std::string PrintNumber(int64_t number, Unit unit) {
  if (number != 0) {
    for (const Suffix& known : SuffixesOf(unit)) {
      if (known.factor >= 1000 && number % known.factor == 0)
        return std::to_string(number / known.factor) + std::string(known.text);
    }
    if (unit == Unit::kMilliseconds) return std::to_string(number) + "ms";
  }
  return std::to_string(number);
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace holdfast::config
