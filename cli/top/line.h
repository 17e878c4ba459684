// Lines of text for a terminal, and the one way by which text gets onto it.
//
// Names and messages come from clients, brokers and whoever answers at the address: a Line takes
// any bytes and holds only what a terminal shows as itself. Control characters, those that turn the
// direction of writing, marks without a place of their own and bytes that are not UTF-8 become a
// replacement. Where the terminal does not speak UTF-8, whatever is not ASCII does.
//
//   Line line(charset);
//   line.Add("orders", {.bold = true}).PadTo(20).Add(why, {.tone = Tone::kFailing});
//   line.width();                      // In columns of the terminal.
//   line.Ansi(Colors::kSixteen);       // With escapes.
//
// Threads: any; plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::top {

enum class Charset : uint8_t { kAscii, kUtf8 };
// What the locale of the environment says: the first of LC_ALL, LC_CTYPE and LANG that is set.
Charset CharsetOf(std::string_view lc_all, std::string_view lc_ctype, std::string_view lang);

enum class Colors : uint8_t { kNone, kSixteen };

enum class Tone : uint8_t { kPlain, kQuiet, kFine, kNotice, kWaiting, kFailing };

struct Style {
  Tone tone = Tone::kPlain;
  bool bold = false;
  bool reverse = false;

  bool operator==(const Style&) const = default;
};

// What is shown of `text`, and how many columns that takes.
std::string Shown(std::string_view text, Charset charset);
size_t WidthOf(std::string_view text, Charset charset);
// In lines of at most `width` columns, broken between words where there are any.
std::vector<std::string> Wrap(std::string_view text, size_t width, Charset charset);

class Line {
 public:
  explicit Line(Charset charset) : charset_(charset) {}

  Line& Add(std::string_view text, Style style = {});
  // At most `width` columns of it; what is cut ends in an ellipsis.
  Line& AddCut(std::string_view text, size_t width, Style style = {});
  // Blanks up to this column, none if the line is there already.
  Line& PadTo(size_t column, Style style = {});

  [[nodiscard]] size_t width() const { return width_; }
  [[nodiscard]] Charset charset() const { return charset_; }
  [[nodiscard]] std::string Text() const;
  [[nodiscard]] std::string Ansi(Colors colors) const;

 private:
  struct Span {
    std::string text;
    Style style;
  };
  void Append(std::string_view shown, size_t columns, Style style);

  Charset charset_;
  size_t width_ = 0;
  std::vector<Span> spans_;
};

}  // namespace holdfast::top
