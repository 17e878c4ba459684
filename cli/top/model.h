// What /overview of an agent or a broker says (agent/overview.h, broker/overview.h), as facts and
// tables that a terminal shows in the same way whichever it is.
//
// The answer may be anything: what is missing or of another type counts as nothing.
//
// Threads: any; plain values. Texts are as they came; cli/top/line.h makes them harmless.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/top/line.h"

namespace holdfast::top {

struct Remark {
  Tone tone = Tone::kPlain;
  std::string title;
  std::string why;
  std::string todo;
};

// One line: "Disk  12 %, 3.2 MiB of 27.0 MiB".
struct Fact {
  std::string_view label;
  std::string text;
  Tone tone = Tone::kPlain;
  std::vector<double> curve = {};    // Of the last minutes, oldest first.
  std::optional<double> share = {};  // Of what is used, 0 to 1.
};

struct Column {
  std::string_view title;
  std::string_view sort;    // By which the server sorts; empty: it does not.
  bool number = false;      // To the right.
  bool descending = false;  // The first order that somebody wants.
  uint8_t rank = 0;         // Where there is no room for all, the highest are left out; 0: never.
  bool wide = false;        // Takes what room the others leave.
};

struct Cell {
  std::string text;
  Tone tone = Tone::kPlain;
};

struct Table {
  std::string_view name;  // "Topics"
  std::string_view one;   // "topic"
  std::string_view more;  // "topics"
  std::string_view empty;
  bool served = false;      // The server filters, sorts and pages; else all rows are here.
  std::string_view prefix;  // Of its parameters then,
  std::string_view sort;    // and by what it is sorted at first.
  bool descending = false;
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
  size_t offset = 0;  // Of the first row.
  size_t matching = 0;
  size_t total = 0;
};

struct Model {
  std::string role;
  int64_t now_ms = 0;
  Tone tone = Tone::kPlain;
  std::string headline;
  std::vector<Remark> remarks;  // The worst first.
  std::vector<Fact> facts;
  std::vector<Table> tables;  // Those without rows as well, unless that is the rule.
};

// `admin`: where the answer comes from, for what is to be typed. kInvalid if it is no overview.
base::Result<Model> ReadModel(std::string_view answer, const std::string& admin);

// "14:03:22", in this host's time zone.
std::string ClockText(int64_t time_ms);
// The same behind the date, "2026-01-31 14:03:22", if that is not the date of `now_ms`.
std::string MomentText(int64_t time_ms, int64_t now_ms);

}  // namespace holdfast::top
