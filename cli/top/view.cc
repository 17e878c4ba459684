#include "cli/top/view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "agent/spool_text.h"

namespace holdfast::top {
namespace {

constexpr Style kBold{.bold = true};
constexpr Style kQuiet{.tone = Tone::kQuiet};
constexpr size_t kGap = 2;  // Between columns.
// Rather than less of what is cut, columns of a rank are left out.
constexpr size_t kNameMin = 12;
constexpr size_t kWideMin = 30;
// Where curves begin, and how long they become: a cell for two samples.
constexpr size_t kCurveAt = 40;
constexpr size_t kCurveMax = 75;
constexpr size_t kCurveMin = 8;
constexpr size_t kGauge = 20;
// Of what is printed rather than shown.
constexpr size_t kRowsPrinted = 50;
constexpr size_t kRowsAskedMax = 500;

struct HelpLine {
  std::string_view keys;
  std::string_view what;
};
constexpr HelpLine kHelp[] = {
    {"q, Ctrl-C", "quit"},
    {"Up, Down, PgUp, PgDn, Home, End", "choose a row; also k, j, g and G"},
    {"Enter", "all of the chosen row"},
    {"Tab, 1 to 9", "another table"},
    {"/", "show only rows with a text in name or reason; Enter keeps it, Esc drops it"},
    {"Left, Right, < and >", "sort by another column"},
    {"r", "the other way round"},
    {"v", "all of what is wrong, and what to do"},
    {"Space", "ask now"},
    {"Ctrl-L", "draw the screen anew"},
    {"?, h", "this page; any other key leaves it"},
};

std::string Encoded(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.';
    if (plain) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<uint8_t>(c));
    }
  }
  return encoded;
}

// As many points as there are columns, of neighbours the mean; the newest at the end.
std::vector<double> Fitted(const std::vector<double>& points, size_t columns) {
  const size_t each = (points.size() + columns - 1) / columns;
  std::vector<double> fitted;
  for (size_t end = points.size(); end > 0; end -= std::min(each, end)) {
    const size_t begin = end - std::min(each, end);
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += points[i];
    fitted.push_back(sum / static_cast<double>(end - begin));
  }
  std::ranges::reverse(fitted);
  return fitted;
}

std::string Curve(const std::vector<double>& points, size_t columns, Charset charset) {
  static constexpr std::string_view kSteps[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr std::string_view kPlainSteps[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
  const std::string_view* const steps = charset == Charset::kUtf8 ? kSteps : kPlainSteps;
  const std::vector<double> fitted = Fitted(points, columns);
  double most = 0;
  for (const double point : fitted) most = std::max(most, point);
  std::string curve;
  for (const double point : fitted) {
    const auto step = most > 0 ? static_cast<size_t>(std::ceil(7 * point / most)) : 0;
    curve += steps[std::min<size_t>(step, 7)];
  }
  return curve;
}

std::string Gauge(double share) {
  const auto full = static_cast<size_t>(std::clamp(share, 0.0, 1.0) * kGauge);
  return "[" + std::string(full, '|') + std::string(kGauge - full, ' ') + "]";
}

// How wide each column is; 0: it is left out.
std::vector<size_t> WidthsOf(const Table& table, const std::vector<const std::vector<Cell>*>& rows,
                             size_t room, Charset charset) {
  std::vector<size_t> widths;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    size_t width =
        WidthOf(table.columns[i].title, charset) + (table.columns[i].sort.empty() ? 0 : 1);
    for (const auto* row : rows) width = std::max(width, WidthOf((*row)[i].text, charset));
    widths.push_back(width);
  }
  const auto wide = std::ranges::find(table.columns, true, &Column::wide);
  if (wide != table.columns.begin() && wide != table.columns.end())
    widths.front() = std::min(widths.front(), std::max(kNameMin, room / 2));
  const auto flexible = [&](size_t i) { return i == 0 || table.columns[i].wide; };
  const auto least = [&](size_t i) {
    return flexible(i) ? std::min(widths[i], i == 0 ? kNameMin : kWideMin) : widths[i];
  };
  const auto needed = [&] {
    size_t sum = 0;
    for (size_t i = 0; i < widths.size(); ++i) sum += widths[i] == 0 ? 0 : least(i) + kGap;
    return sum - std::min(sum, kGap);
  };
  while (needed() > room) {
    const auto last = std::ranges::max_element(table.columns, {}, [&](const Column& column) {
      return widths[static_cast<size_t>(&column - table.columns.data())] == 0 ? 0 : column.rank;
    });
    if (last->rank == 0) break;
    const auto at = static_cast<size_t>(last - table.columns.begin());
    if (widths[at] == 0) break;
    widths[at] = 0;
  }
  size_t left = room - std::min(room, needed());
  for (size_t i = 0; i < widths.size(); ++i) {
    if (widths[i] == 0 || !flexible(i)) continue;
    const size_t more = std::min(left, widths[i] - least(i));
    widths[i] = least(i) + more;
    left -= more;
  }
  return widths;
}

void AddCell(std::string_view text, const Column& column, size_t width, size_t room, Style style,
             Line& line) {
  const size_t begin = line.width();
  const size_t columns = WidthOf(text, line.charset());
  if (column.number && columns < width) line.PadTo(std::min(begin + width - columns, room), style);
  if (line.width() >= room) return;
  line.AddCut(text, std::min(width, room - line.width()), style);
  line.PadTo(std::min(begin + width, room), style);
}

bool Has(const std::vector<Cell>& row, std::string_view text) {
  return std::ranges::any_of(
      row, [&](const Cell& cell) { return cell.text.find(text) != std::string::npos; });
}

}  // namespace

// --- What is shown.

void View::Resize(Size size) {
  size_ = size;
  KeepInSight();
}

void View::Take(Model model) {
  model_ = std::move(model);
  lost_.reset();
  KeepInSight();
}

void View::Lose(std::string why, std::chrono::seconds silent) {
  const std::string ago =
      silent.count() == 0 ? "" : ", for " + agent::AgeText(1000 * int64_t{silent.count()});
  if (model_) why += ". What is below is old";
  lost_ = Model{.tone = Tone::kFailing,
                .headline = "No answer from " + admin_ + ago,
                .remarks = {{.why = why + ".",
                             .todo = "See whether the process runs, whether this is its admin "
                                     "address, and what its log says last. It is asked again."}}};
}

base::Result<> View::Choose(std::string_view sort, std::string_view filter) {
  if (!model_ || model_->tables.empty()) return {};
  std::string known;
  for (const Table& table : model_->tables) {
    if (!table.served) continue;
    for (const Column& column : table.columns) {
      if (column.sort.empty()) continue;
      known.append(known.empty() ? "" : ", ").append(column.sort);
      if (!sort.empty() && column.sort != sort) continue;
      table_ = table.name;
      Wish& wish = MakeWish(table);
      wish.filter = filter;
      if (sort.empty()) return {};
      wish.sort = sort;
      wish.descending = column.descending;
      return {};
    }
  }
  return base::Unexpected(
      base::Code::kInvalid,
      fmt::format("the {} cannot be sorted by {}; it can by {}", model_->role, sort, known));
}

const Table* View::Shown() const {
  if (!model_ || model_->tables.empty()) return nullptr;
  const auto found = std::ranges::find(model_->tables, table_, &Table::name);
  return found == model_->tables.end() ? &model_->tables.front() : &*found;
}

View::Wish View::WishFor(const Table& table) const {
  const auto found = wishes_.find(table.name);
  if (found != wishes_.end()) return found->second;
  return {.sort = std::string(table.sort), .descending = table.descending};
}

View::Wish& View::MakeWish(const Table& table) {
  return wishes_.try_emplace(table.name, WishFor(table)).first->second;
}

// Those that there are of the wanted ones.
std::vector<const std::vector<Cell>*> View::RowsOf(const Table& table) const {
  const std::string filter = table.served ? "" : WishFor(table).filter;
  std::vector<const std::vector<Cell>*> rows;
  for (const auto& row : table.rows) {
    if (Has(row, filter)) rows.push_back(&row);
  }
  return rows;
}

size_t View::Matching(const Table& table) const {
  return table.served ? table.matching : RowsOf(table).size();
}

void View::KeepInSight() {
  const Table* const table = Shown();
  if (table == nullptr) return;
  Wish& wish = MakeWish(*table);
  const size_t matching = Matching(*table);
  const size_t room = std::max<size_t>(RoomForRows(), 1);
  wish.chosen = std::min(wish.chosen, matching - std::min<size_t>(matching, 1));
  wish.first = std::min(wish.first, matching - std::min(matching, room));
  wish.first = std::min(wish.first, wish.chosen);
  if (wish.chosen >= wish.first + room) wish.first = wish.chosen - room + 1;
}

std::string View::Parameters(Purpose purpose) const {
  std::string parameters;
  if (!model_) return parameters;
  const auto add = [&](const Table& table, std::string_view name, std::string_view value) {
    parameters += fmt::format("{}{}{}={}", parameters.empty() ? "?" : "&", table.prefix, name,
                              Encoded(value));
  };
  for (const Table& table : model_->tables) {
    if (!table.served) continue;
    const Wish wish = WishFor(table);
    if (!wish.filter.empty()) add(table, "filter", wish.filter);
    add(table, "sort", wish.sort);
    add(table, "order", wish.descending ? "desc" : "asc");
    // Not more than can be seen: of a table that is not shown nothing.
    const size_t seen = &table == Shown() ? std::min(size_.rows, kRowsAskedMax) : 0;
    add(table, "limit", std::to_string(purpose == Purpose::kPrint ? kRowsPrinted : seen));
    add(table, "offset", std::to_string(wish.first));
  }
  return parameters;
}

// --- Keys.

View::Deed View::Press(const Key& key) {
  if (editing_) return Edit(key);
  if (key.kind == Key::kRedraw) return Deed::kRedraw;
  if (key.text == "q" || key.text == "Q") return Deed::kQuit;
  return page_ == Page::kTable ? PressOnTable(key) : PressOnPage(key);
}

View::Deed View::PressOnPage(const Key& key) {
  switch (key.kind) {
    case Key::kUp:
      scrolled_ -= std::min<size_t>(scrolled_, 1);
      return Deed::kNothing;
    case Key::kDown:
      ++scrolled_;  // Draw ends where the page does.
      return Deed::kNothing;
    default:
      page_ = Page::kTable;
      return Deed::kNothing;
  }
}

View::Deed View::PressOnTable(const Key& key) {
  const auto open = [this](Page page) {
    page_ = page;
    scrolled_ = 0;
    return Deed::kNothing;
  };
  const auto screen = static_cast<int64_t>(std::max<size_t>(RoomForRows(), 1));
  constexpr int64_t kAll = int64_t{1} << 40;
  switch (key.kind) {
    case Key::kUp:
      return Move(-1);
    case Key::kDown:
      return Move(1);
    case Key::kPageUp:
      return Move(-screen);
    case Key::kPageDown:
      return Move(screen);
    case Key::kHome:
      return Move(-kAll);
    case Key::kEnd:
      return Move(kAll);
    case Key::kLeft:
      return SortByNext(/*back=*/true);
    case Key::kRight:
      return SortByNext(/*back=*/false);
    case Key::kTab:
      return NextTable(/*back=*/false);
    case Key::kBackTab:
      return NextTable(/*back=*/true);
    case Key::kEnter:
      return open(Page::kRow);
    case Key::kHelp:
      return open(Page::kHelp);
    case Key::kText:
      break;
    default:
      return Deed::kNothing;
  }
  switch (key.text.front()) {
    case 'k':
      return Move(-1);
    case 'j':
      return Move(1);
    case 'g':
      return Move(-kAll);
    case 'G':
      return Move(kAll);
    case '<':
      return SortByNext(/*back=*/true);
    case '>':
      return SortByNext(/*back=*/false);
    case 'r':
      return Reverse();
    case 'v':
      return open(Page::kWhy);
    case '?':
    case 'h':
      return open(Page::kHelp);
    case ' ':
      return Deed::kAsk;
    case '/':
      if (const Table* const table = Shown(); table != nullptr) {
        editing_ = true;
        filter_before_ = MakeWish(*table).filter;
      }
      return Deed::kNothing;
    default:
      break;
  }
  const auto number = static_cast<size_t>(key.text.front() - '1');
  if (!model_ || number >= std::min<size_t>(model_->tables.size(), 9)) return Deed::kNothing;
  table_ = model_->tables[number].name;
  KeepInSight();
  return Deed::kAsk;
}

View::Deed View::Edit(const Key& key) {
  Wish& wish = MakeWish(*Shown());
  const auto now = [&](std::string filter) {
    wish.filter = std::move(filter);
    wish.chosen = wish.first = 0;
    return Deed::kAsk;
  };
  switch (key.kind) {
    case Key::kText:
      return now(wish.filter + key.text);
    case Key::kBackspace: {
      std::string shorter = wish.filter;
      while (!shorter.empty() && (static_cast<uint8_t>(shorter.back()) & 0xc0) == 0x80)
        shorter.pop_back();
      if (!shorter.empty()) shorter.pop_back();
      return now(std::move(shorter));
    }
    case Key::kErase:
      return now("");
    case Key::kEscape:
      editing_ = false;
      return now(filter_before_);
    case Key::kEnter:
      editing_ = false;
      return Deed::kNothing;
    default:
      return Deed::kNothing;
  }
}

View::Deed View::Move(int64_t by) {
  const Table* const table = Shown();
  if (table == nullptr) return Deed::kNothing;
  Wish& wish = MakeWish(*table);
  const auto chosen = static_cast<int64_t>(wish.chosen) + by;
  wish.chosen = static_cast<size_t>(std::max<int64_t>(chosen, 0));
  const size_t first = wish.first;
  KeepInSight();
  return table->served && wish.first != first ? Deed::kAsk : Deed::kNothing;
}

View::Deed View::NextTable(bool back) {
  if (Shown() == nullptr) return Deed::kNothing;
  const auto at = static_cast<size_t>(Shown() - model_->tables.data());
  const size_t count = model_->tables.size();
  table_ = model_->tables[(at + (back ? count - 1 : 1)) % count].name;
  KeepInSight();
  return Deed::kAsk;
}

View::Deed View::SortByNext(bool back) {
  const Table* const table = Shown();
  if (table == nullptr || !table->served) return Deed::kNothing;
  Wish& wish = MakeWish(*table);
  std::vector<const Column*> sortable;
  for (const Column& column : table->columns) {
    if (!column.sort.empty()) sortable.push_back(&column);
  }
  const auto found = std::ranges::find(sortable, wish.sort, &Column::sort);
  const auto at = static_cast<size_t>(found - sortable.begin());
  const size_t count = sortable.size();
  const Column& next = *sortable[(at + (back ? count - 1 : 1)) % count];
  wish.sort = next.sort;
  wish.descending = next.descending;
  return Deed::kAsk;
}

View::Deed View::Reverse() {
  const Table* const table = Shown();
  if (table == nullptr || !table->served) return Deed::kNothing;
  Wish& wish = MakeWish(*table);
  wish.descending = !wish.descending;
  return Deed::kAsk;
}

// --- Drawing.

void View::AddParagraph(std::string_view text, size_t indent, Style style,
                        std::vector<Line>& lines) const {
  const size_t width = size_.columns - std::min(size_.columns, indent);
  for (const std::string& part : Wrap(text, width, charset_)) {
    lines.push_back(NewLine());
    lines.back().PadTo(std::min(indent, size_.columns)).AddCut(part, width, style);
  }
}

Line View::DrawTitle() const {
  Line line = NewLine();
  const std::string role = model_ ? " " + model_->role : "";
  line.AddCut(fmt::format("holdfast{} at {}", role, admin_), size_.columns, kBold);
  const std::string clock = model_ ? ClockText(model_->now_ms) : "";
  if (line.width() + clock.size() + kGap <= size_.columns)
    line.PadTo(size_.columns - clock.size()).Add(clock, kQuiet);
  return line;
}

std::vector<Line> View::DrawHeadline() const {
  std::vector<Line> lines;
  if (!lost_ && !model_) {
    lines.push_back(NewLine());
    lines.back().AddCut("Asking …", size_.columns, kBold);
    return lines;
  }
  const Model& said = lost_ ? *lost_ : *model_;
  AddParagraph("● " + said.headline, 0, {.tone = said.tone, .bold = true}, lines);
  return lines;
}

std::vector<Line> View::DrawRemarks() const {
  std::vector<Line> lines;
  const Model* const said = lost_ ? &*lost_ : model_ ? &*model_ : nullptr;
  if (said == nullptr) return lines;
  for (const Remark& remark : said->remarks) {
    if (!remark.title.empty() && said->headline.find(remark.title) == std::string::npos)
      AddParagraph(remark.title, 2, {.tone = remark.tone, .bold = true}, lines);
    AddParagraph(remark.why, 2, {}, lines);
    if (!remark.todo.empty()) AddParagraph("What to do: " + remark.todo, 2, {}, lines);
  }
  return lines;
}

std::vector<Line> View::DrawFacts(bool curves) const {
  std::vector<Line> lines;
  if (!model_) return lines;
  size_t labels = 0;
  for (const Fact& fact : model_->facts) labels = std::max(labels, fact.label.size());
  for (const Fact& fact : model_->facts) {
    lines.push_back(NewLine());
    Line& line = lines.back();
    line.AddCut(fact.label, size_.columns, kQuiet);
    line.PadTo(std::min(labels + kGap, size_.columns));
    line.AddCut(fact.text, size_.columns - line.width(), {.tone = fact.tone});
    const size_t begin = std::max(kCurveAt, line.width() + kGap);
    if (!curves || begin + kCurveMin > size_.columns) continue;
    const size_t room = std::min(size_.columns - begin, kCurveMax);
    if (!fact.curve.empty()) {
      line.PadTo(begin).Add(Curve(fact.curve, room, charset_), {.tone = Tone::kNotice});
    } else if (fact.share && room >= kGauge + 2) {
      line.PadTo(begin).Add(Gauge(*fact.share), {.tone = Tone::kNotice});
    }
  }
  return lines;
}

// What of the verdict's reasons and the facts has room above the least that a table needs.
std::vector<Line> View::DrawTop() const {
  std::vector<Line> lines = {DrawTitle()};
  for (Line& line : DrawHeadline()) lines.push_back(std::move(line));
  constexpr size_t kFrame = 3;  // Tables' names, the head of one, the keys.
  const size_t left = size_.rows - std::min(size_.rows, lines.size() + kFrame);
  const size_t space = left - std::min(left, std::max<size_t>(3, size_.rows / 4));
  std::vector<Line> remarks = DrawRemarks();
  std::vector<Line> facts = DrawFacts(/*curves=*/true);
  const size_t for_remarks = std::min(
      remarks.size(), std::max(space - std::min(space, facts.size()), (2 * space + 2) / 3));
  if (for_remarks < remarks.size() && for_remarks > 0) {
    remarks[for_remarks - 1] = NewLine();
    remarks[for_remarks - 1].AddCut("  … v: all of it", size_.columns, kQuiet);
  }
  remarks.resize(for_remarks, NewLine());
  facts.resize(std::min(facts.size(), space - for_remarks), NewLine());
  for (Line& line : remarks) lines.push_back(std::move(line));
  for (Line& line : facts) lines.push_back(std::move(line));
  return lines;
}

// Rows of a table below so many lines, its head and the names of tables, and above the keys.
size_t View::RoomBelow(size_t top) const {
  const size_t above = top + 2;
  return size_.rows - std::min(size_.rows, above + 1);
}

size_t View::RoomForRows() const { return RoomBelow(DrawTop().size()); }

std::string View::RangeText(const Table& table, size_t shown) const {
  const Wish wish = WishFor(table);
  const size_t matching = Matching(table);
  std::string text =
      fmt::format("{} {}", agent::CountText(matching), matching == 1 ? table.one : table.more);
  if (shown > 0 && shown < matching) {
    text = fmt::format("{} to {} of {}", agent::CountText(wish.first + 1),
                       agent::CountText(wish.first + shown), text);
  }
  if (matching != table.total)
    text += fmt::format(" matching, {} in all", agent::CountText(table.total));
  return text;
}

Line View::DrawTabs(size_t room) const {
  Line line = NewLine();
  if (!model_) return line;
  size_t number = 0;
  for (const Table& table : model_->tables) {
    const std::string name = fmt::format(" {} {} ", ++number, table.name);
    if (line.width() + name.size() > size_.columns) break;
    line.Add(name, {.bold = &table == Shown(), .reverse = &table == Shown()});
  }
  const Table& table = *Shown();
  std::string range = RangeText(table, std::min(room, Matching(table)));
  const Wish wish = WishFor(table);
  if (!wish.filter.empty() && !editing_) range += ", /" + wish.filter;
  constexpr size_t kWorthIt = 10;
  const size_t left = size_.columns - std::min(size_.columns, line.width() + kGap);
  const size_t width = std::min(WidthOf(range, charset_), left);
  if (left >= kWorthIt) line.PadTo(size_.columns - width).AddCut(range, width, kQuiet);
  return line;
}

Line View::DrawFooter() const {
  Line line = NewLine();
  if (editing_) {
    line.AddCut(fmt::format("Only with: {}", WishFor(*Shown()).filter),
                size_.columns - std::min<size_t>(size_.columns, 1), kBold);
    line.Add(" ", {.reverse = true});
    constexpr std::string_view kNote = "  Enter keeps it, Esc drops it";
    if (line.width() + kNote.size() <= size_.columns) line.Add(kNote, kQuiet);
    return line;
  }
  line.AddCut(page_ == Page::kTable
                  ? "q quit  ? help  / filter  < > sort  r reverse  Tab table  Enter row  v why"
                  : "q quit  Up, Down scroll  any other key goes back",
              size_.columns, kQuiet);
  return line;
}

void View::DrawTable(size_t room, std::vector<Line>& lines) const {
  const Table& table = *Shown();
  const Wish wish = WishFor(table);
  const std::vector<const std::vector<Cell>*> rows = RowsOf(table);
  const size_t matching = table.served ? table.matching : rows.size();
  const std::vector<size_t> widths = WidthsOf(table, rows, size_.columns, charset_);
  const auto draw = [&](auto text_of, auto style_of, Style gap) {
    Line line = NewLine();
    for (size_t i = 0; i < widths.size(); ++i) {
      if (widths[i] == 0) continue;
      if (line.width() > 0) line.PadTo(std::min(line.width() + kGap, size_.columns), gap);
      AddCell(text_of(i), table.columns[i], widths[i], size_.columns, style_of(i), line);
    }
    return line;
  };
  lines.push_back(draw(
      [&](size_t i) {
        const Column& column = table.columns[i];
        std::string title(column.title);
        if (!column.sort.empty() && column.sort == wish.sort) title += wish.descending ? "▼" : "▲";
        return title;
      },
      [](size_t) { return kBold; }, kBold));
  if (matching == 0) {
    lines.push_back(NewLine());
    lines.back().AddCut(wish.filter.empty() ? table.empty : "Nothing matches.", size_.columns,
                        kQuiet);
    return;
  }
  for (size_t at = wish.first; at < wish.first + room && at < matching; ++at) {
    if (at < table.offset || at - table.offset >= rows.size()) {
      lines.push_back(NewLine());  // Its answer is on the way.
      continue;
    }
    const std::vector<Cell>& row = *rows[at - table.offset];
    const bool chosen = at == wish.chosen;
    lines.push_back(draw([&](size_t i) -> std::string_view { return row[i].text; },
                         [&](size_t i) { return Style{.tone = row[i].tone, .reverse = chosen}; },
                         {.reverse = chosen}));
    if (chosen) lines.back().PadTo(size_.columns, {.reverse = true});
  }
}

void View::DrawPage(std::vector<Line>& lines) const {
  std::vector<Line> text;
  if (page_ == Page::kHelp) {
    for (const HelpLine& help : kHelp) {
      AddParagraph(help.keys, 0, kBold, text);
      AddParagraph(help.what, 4, {}, text);
    }
  } else if (page_ == Page::kWhy) {
    text = DrawHeadline();
    std::vector<Line> remarks = DrawRemarks();
    if (remarks.empty()) AddParagraph("There is nothing to be done.", 2, {}, remarks);
    for (Line& line : remarks) text.push_back(std::move(line));
  } else if (const Table* const table = Shown(); table != nullptr) {
    const auto rows = RowsOf(*table);
    const size_t at = WishFor(*table).chosen - table->offset;
    for (size_t i = 0; at < rows.size() && i < table->columns.size(); ++i) {
      AddParagraph(table->columns[i].title, 0, kQuiet, text);
      AddParagraph((*rows[at])[i].text, 4, {}, text);
    }
  }
  const size_t room = size_.rows - std::min(size_.rows, lines.size() + 1);
  const size_t from = std::min(scrolled_, text.size() - std::min(text.size(), room));
  for (size_t i = from; i < text.size() && i < from + room; ++i) lines.push_back(text[i]);
}

std::vector<Line> View::Draw() const {
  std::vector<Line> lines;
  if (page_ != Page::kTable) {
    lines = {DrawTitle()};
    DrawPage(lines);
  } else {
    lines = DrawTop();
    if (model_ && !model_->tables.empty()) {
      const size_t room = RoomBelow(lines.size());
      lines.push_back(DrawTabs(room));
      DrawTable(room, lines);
    }
  }
  lines.resize(size_.rows - std::min<size_t>(size_.rows, 1), NewLine());
  if (size_.rows > 0) lines.push_back(DrawFooter());
  return lines;
}

std::string View::Print() const {
  std::string text;
  const auto print = [&](std::string_view indent, std::string_view what) {
    text += indent;
    text += top::Shown(what, charset_);
    text += '\n';
  };
  print("", fmt::format("{} at {}, {}", model_->role, admin_, agent::TimeText(model_->now_ms)));
  print("", model_->headline);
  for (const Remark& remark : model_->remarks) {
    if (model_->headline.find(remark.title) == std::string::npos) print("  ", remark.title);
    print("  ", remark.why);
    if (!remark.todo.empty()) print("  ", "What to do: " + remark.todo);
  }
  text += '\n';
  for (const Fact& fact : model_->facts) print("", fmt::format("{}: {}", fact.label, fact.text));
  for (const Table& table : model_->tables) {
    const auto rows = RowsOf(table);
    if (rows.empty()) continue;
    text += '\n';
    print("", fmt::format("{}: {}", table.name, RangeText(table, rows.size())));
    const auto widths = WidthsOf(table, rows, std::string::npos, charset_);
    const auto print_row = [&](auto text_of) {
      Line line = NewLine();
      for (size_t i = 0; i < widths.size(); ++i) {
        if (i > 0) line.PadTo(line.width() + kGap);
        AddCell(text_of(i), table.columns[i], widths[i], std::string::npos, {}, line);
      }
      std::string row = line.Text();
      row.resize(row.find_last_not_of(' ') + 1);
      text += row + '\n';
    };
    print_row([&](size_t i) { return table.columns[i].title; });
    for (const auto* row : rows)
      print_row([&](size_t i) -> std::string_view { return (*row)[i].text; });
  }
  return text;
}

}  // namespace holdfast::top
