#include "cli/top/line.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <tuple>
#include <utility>

#include "base/utf8.h"

namespace holdfast::top {
namespace {

// From and to, both included, in ascending order.
struct Range {
  char32_t first;
  char32_t last;
};

// Not shown as they are: they have no column of their own, or move others.
constexpr Range kWithoutPlace[] = {
    {0x0000, 0x001f},   {0x007f, 0x009f},    {0x00ad, 0x00ad}, {0x0300, 0x036f}, {0x0483, 0x0489},
    {0x0591, 0x05c7},   {0x0600, 0x0605},    {0x0610, 0x061c}, {0x064b, 0x065f}, {0x0670, 0x0670},
    {0x06d6, 0x06ed},   {0x070f, 0x070f},    {0x0711, 0x0711}, {0x0730, 0x074a}, {0x07a6, 0x07b0},
    {0x0816, 0x082d},   {0x0859, 0x085b},    {0x08d3, 0x0903}, {0x093a, 0x094f}, {0x0951, 0x0957},
    {0x0962, 0x0963},   {0x0981, 0x0983},    {0x09bc, 0x09d7}, {0x0a01, 0x0a03}, {0x0a3c, 0x0a51},
    {0x0a81, 0x0a83},   {0x0abc, 0x0acd},    {0x0b01, 0x0b03}, {0x0b3c, 0x0b57}, {0x0bbe, 0x0bd7},
    {0x0c00, 0x0c04},   {0x0c3e, 0x0c56},    {0x0cbc, 0x0cd6}, {0x0d00, 0x0d03}, {0x0d3b, 0x0d57},
    {0x0dca, 0x0ddf},   {0x0e31, 0x0e31},    {0x0e34, 0x0e3a}, {0x0e47, 0x0e4e}, {0x0eb1, 0x0eb1},
    {0x0eb4, 0x0ebc},   {0x0ec8, 0x0ecd},    {0x0f18, 0x0f19}, {0x0f35, 0x0f3f}, {0x0f71, 0x0f87},
    {0x0f8d, 0x0fc6},   {0x102b, 0x103e},    {0x1056, 0x1059}, {0x135d, 0x135f}, {0x1160, 0x11ff},
    {0x1712, 0x1714},   {0x17b4, 0x17d3},    {0x180b, 0x180e}, {0x1920, 0x193b}, {0x1ab0, 0x1aff},
    {0x1dc0, 0x1dff},   {0x200b, 0x200f},    {0x2028, 0x202e}, {0x2060, 0x206f}, {0x20d0, 0x20ff},
    {0x302a, 0x302f},   {0x3099, 0x309a},    {0xa66f, 0xa67d}, {0xd800, 0xf8ff}, {0xfe00, 0xfe0f},
    {0xfe20, 0xfe2f},   {0xfeff, 0xfeff},    {0xfff0, 0xfffb}, {0xfffe, 0xffff}, {0x1d165, 0x1d1ad},
    {0x1f3fb, 0x1f3ff}, {0xe0000, 0x10ffff},
};

constexpr Range kWide[] = {
    {0x1100, 0x115f},   {0x231a, 0x231b},   {0x2329, 0x232a},   {0x23e9, 0x23ec},
    {0x25fd, 0x25fe},   {0x2614, 0x2615},   {0x2648, 0x2653},   {0x26a1, 0x26a1},
    {0x26aa, 0x26ab},   {0x26bd, 0x26be},   {0x26c4, 0x26c5},   {0x26ce, 0x26ce},
    {0x26d4, 0x26d4},   {0x26ea, 0x26ea},   {0x26f2, 0x26f5},   {0x26fa, 0x26fd},
    {0x2705, 0x2705},   {0x270a, 0x270b},   {0x2728, 0x2728},   {0x274c, 0x274e},
    {0x2753, 0x2757},   {0x2795, 0x2797},   {0x27b0, 0x27bf},   {0x2b1b, 0x2b1c},
    {0x2b50, 0x2b55},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xa960, 0xa97f},
    {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe10, 0xfe19},   {0xfe30, 0xfe6f},
    {0xff00, 0xff60},   {0xffe0, 0xffe6},   {0x16fe0, 0x18cff}, {0x1b000, 0x1b2ff},
    {0x1f004, 0x1f004}, {0x1f0cf, 0x1f0cf}, {0x1f18e, 0x1f19a}, {0x1f1e6, 0x1f320},
    {0x1f32d, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f7e0, 0x1f7ff}, {0x1f900, 0x1faff},
    {0x20000, 0x3fffd},
};

template <size_t kCount>
bool In(const Range (&ranges)[kCount], char32_t c) {
  const auto* const found =
      std::lower_bound(std::begin(ranges), std::end(ranges), c,
                       [](const Range& range, char32_t value) { return range.last < value; });
  return found != std::end(ranges) && found->first <= c;
}

// What Holdfast's own texts have beyond ASCII, and what stands for it.
struct Spelling {
  char32_t of;
  std::string_view ascii;
};
constexpr Spelling kSpellings[] = {
    {U'…', "..."}, {U'–', "-"}, {U'●', "*"}, {U'▲', "^"}, {U'▼', "v"}, {U'·', "-"},
};

// The code point that `rest` begins with, taken off it; 0xfffd if the bytes are none.
char32_t TakeCodePoint(std::string_view& rest) {
  const size_t length = base::Utf8Length(rest);
  if (length == 0) {
    rest.remove_prefix(1);
    return 0xfffd;
  }
  const std::string_view bytes = rest.substr(0, length);
  rest.remove_prefix(length);
  const auto first = static_cast<uint8_t>(bytes.front());
  if (length == 1) return first;
  char32_t c = first & (0x7fU >> length);
  for (const char byte : bytes.substr(1)) c = c << 6 | (static_cast<uint8_t>(byte) & 0x3fU);
  return c;
}

struct Glyph {
  std::string_view bytes;
  size_t width;
};

constexpr Glyph kReplacement[] = {{"?", 1}, {"\xef\xbf\xbd", 1}};  // By charset.

Glyph TakeGlyph(std::string_view& rest, Charset charset) {
  const std::string_view before = rest;
  const char32_t c = TakeCodePoint(rest);
  const std::string_view bytes = before.substr(0, before.size() - rest.size());
  if (In(kWithoutPlace, c) || c == 0xfffd) return kReplacement[static_cast<size_t>(charset)];
  if (c < 0x80) return {bytes, 1};
  if (charset == Charset::kUtf8) return {bytes, In(kWide, c) ? size_t{2} : size_t{1}};
  for (const Spelling& spelling : kSpellings) {
    if (spelling.of == c) return {spelling.ascii, spelling.ascii.size()};
  }
  return kReplacement[static_cast<size_t>(Charset::kAscii)];
}

// What of the text fits into `width`, and the columns that it takes.
std::pair<std::string, size_t> Fit(std::string_view& rest, size_t width, Charset charset) {
  std::string shown;
  size_t columns = 0;
  while (!rest.empty()) {
    std::string_view behind = rest;
    const Glyph glyph = TakeGlyph(behind, charset);
    if (columns + glyph.width > width) break;
    shown += glyph.bytes;
    columns += glyph.width;
    rest = behind;
  }
  return {std::move(shown), columns};
}

std::string Sgr(Style style, Colors colors) {
  std::string codes;
  if (style.bold) codes += ";1";
  if (style.reverse) codes += ";7";
  if (colors == Colors::kSixteen) {
    constexpr std::array kOfTone = {"", ";2", ";32", ";36", ";33", ";31"};
    codes += kOfTone[static_cast<size_t>(style.tone)];
  }
  return codes.empty() ? codes : "\x1b[0" + codes + "m";
}

}  // namespace

Charset CharsetOf(std::string_view lc_all, std::string_view lc_ctype, std::string_view lang) {
  for (const std::string_view locale : {lc_all, lc_ctype, lang}) {
    if (locale.empty()) continue;
    std::string codeset(locale.substr(std::min(locale.size(), locale.find('.'))));
    std::ranges::transform(codeset, codeset.begin(), [](unsigned char c) { return tolower(c); });
    const bool utf8 = codeset.starts_with(".utf-8") || codeset.starts_with(".utf8");
    return utf8 ? Charset::kUtf8 : Charset::kAscii;
  }
  return Charset::kAscii;
}

std::string Shown(std::string_view text, Charset charset) {
  return Fit(text, std::string::npos, charset).first;
}

size_t WidthOf(std::string_view text, Charset charset) {
  return Fit(text, std::string::npos, charset).second;
}

std::vector<std::string> Wrap(std::string_view text, size_t width, Charset charset) {
  width = std::max<size_t>(width, 2);  // The widest glyph, so that each line takes something.
  const std::string shown = Shown(text, charset);
  std::vector<std::string> lines;
  std::string_view rest = shown;
  while (!rest.empty()) {
    std::string_view behind = rest;
    std::string line = Fit(behind, width, charset).first;
    if (!behind.empty() && behind.front() != ' ') {
      const size_t blank = line.rfind(' ');
      if (blank != std::string::npos && blank > 0) {
        line.resize(blank);
        behind = rest.substr(blank);
      }
    }
    behind.remove_prefix(std::min(behind.find_first_not_of(' '), behind.size()));
    line.resize(line.find_last_not_of(' ') + 1);
    lines.push_back(std::move(line));
    rest = behind;
  }
  return lines;
}

Line& Line::Add(std::string_view text, Style style) {
  const auto [shown, columns] = Fit(text, std::string::npos, charset_);
  Append(shown, columns, style);
  return *this;
}

Line& Line::AddCut(std::string_view text, size_t width, Style style) {
  std::string_view rest = text;
  auto [shown, columns] = Fit(rest, width, charset_);
  if (!rest.empty()) {
    constexpr std::string_view kEllipsis = "…";
    const size_t ellipsis = WidthOf(kEllipsis, charset_);
    if (width < ellipsis) {
      shown.clear();
      columns = 0;
    } else {
      rest = text;
      std::tie(shown, columns) = Fit(rest, width - ellipsis, charset_);
      shown += Shown(kEllipsis, charset_);
      columns += ellipsis;
    }
  }
  Append(shown, columns, style);
  return *this;
}

Line& Line::PadTo(size_t column, Style style) {
  if (column > width_) {
    const size_t blanks = column - width_;
    Append(std::string(blanks, ' '), blanks, style);
  }
  return *this;
}

void Line::Append(std::string_view shown, size_t columns, Style style) {
  if (shown.empty()) return;
  width_ += columns;
  if (!spans_.empty() && spans_.back().style == style) {
    spans_.back().text += shown;
  } else {
    spans_.push_back({.text = std::string(shown), .style = style});
  }
}

std::string Line::Text() const {
  std::string text;
  for (const Span& span : spans_) text += span.text;
  return text;
}

std::string Line::Ansi(Colors colors) const {
  std::string text;
  for (const Span& span : spans_) {
    const std::string sgr = Sgr(span.style, colors);
    text += sgr;
    text += span.text;
    if (!sgr.empty()) text += "\x1b[0m";
  }
  return text;
}

}  // namespace holdfast::top
