// What `holdfast top` shows and how keys change it, without a terminal, a clock or a connection:
// from a model and a size to lines.
//
//   View view(admin, charset);
//   view.Resize({.columns = 120, .rows = 40});
//   view.Take(model);                       // Or Lose: nobody answered.
//   for (const Line& line : view.Draw()) ...
//   if (view.Press(key) == View::Deed::kAsk) Ask(view.Parameters());
//
// Above: the verdict, with what to do; facts. Below: one table of several, with a row that is
// chosen. What there is no room for is left out from below: facts before reasons.
//
// Threads: one. Limits: no line is wider than the terminal, and there are no more of them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/top/keys.h"
#include "cli/top/line.h"
#include "cli/top/model.h"

namespace holdfast::top {

struct Size {
  size_t columns = 80;
  size_t rows = 24;

  bool operator==(const Size&) const = default;
};

class View {
 public:
  View(std::string admin, Charset charset) : admin_(std::move(admin)), charset_(charset) {}

  void Resize(Size size);
  void Take(Model model);
  // There was no answer, for this reason, and there has been none for so long.
  void Lose(std::string why, std::chrono::seconds silent);
  // Chooses the table that has this column, and what is shown of it. With an empty column the first
  // table. Once there is a model; kInvalid if none has the column.
  base::Result<> Choose(std::string_view sort, std::string_view filter);

  enum class Deed : uint8_t { kNothing, kAsk, kRedraw, kQuit };
  Deed Press(const Key& key);

  // What the server is to be asked for, "?filter=...": for Draw, or for Print.
  enum class Purpose : uint8_t { kScreen, kPrint };
  [[nodiscard]] std::string Parameters(Purpose purpose) const;
  [[nodiscard]] std::vector<Line> Draw() const;
  // The model as text to be kept or searched: all tables that have rows, nothing cut. Once there is
  // a model.
  [[nodiscard]] std::string Print() const;

 private:
  struct Wish {
    std::string filter;
    std::string sort;
    bool descending = false;
    size_t chosen = 0;  // Of all rows that match.
    size_t first = 0;   // That is on the screen.
  };
  enum class Page : uint8_t { kTable, kHelp, kWhy, kRow };

  [[nodiscard]] const Table* Shown() const;  // Null without a model.
  [[nodiscard]] Wish WishFor(const Table& table) const;
  Wish& MakeWish(const Table& table);
  [[nodiscard]] std::vector<const std::vector<Cell>*> RowsOf(const Table& table) const;
  [[nodiscard]] size_t Matching(const Table& table) const;
  void KeepInSight();
  [[nodiscard]] size_t RoomBelow(size_t top) const;
  [[nodiscard]] size_t RoomForRows() const;

  Deed Move(int64_t by);
  Deed NextTable(bool back);
  Deed SortByNext(bool back);
  Deed Reverse();
  Deed Edit(const Key& key);
  Deed PressOnTable(const Key& key);
  Deed PressOnPage(const Key& key);

  [[nodiscard]] Line NewLine() const { return Line(charset_); }
  void AddParagraph(std::string_view text, size_t indent, Style style,
                    std::vector<Line>& lines) const;
  [[nodiscard]] Line DrawTitle() const;
  [[nodiscard]] std::vector<Line> DrawHeadline() const;
  [[nodiscard]] std::vector<Line> DrawRemarks() const;
  [[nodiscard]] std::vector<Line> DrawFacts(bool curves) const;
  [[nodiscard]] Line DrawTabs(size_t room) const;
  [[nodiscard]] Line DrawFooter() const;
  [[nodiscard]] std::vector<Line> DrawTop() const;  // All above the table.
  void DrawTable(size_t room, std::vector<Line>& lines) const;
  void DrawPage(std::vector<Line>& lines) const;
  [[nodiscard]] std::string RangeText(const Table& table, size_t shown) const;

  const std::string admin_;
  const Charset charset_;
  Size size_;
  std::optional<Model> model_;
  std::optional<Model> lost_;  // What is said in place of the verdict while nobody answers.
  std::map<std::string_view, Wish> wishes_;
  std::string_view table_;  // By name.
  Page page_ = Page::kTable;
  size_t scrolled_ = 0;  // Of the page.
  bool editing_ = false;
  std::string filter_before_;
};

}  // namespace holdfast::top
