// An outbox's table that fails when a test says so.
//
//   test::Table table;
//   Drain drain(context, options, router, std::make_unique<test::TableSource>(table), note);
//
// Ownership: the table outlives the source. Threads: one.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/outbox/source.h"
#include "base/random.h"

namespace holdfast::test {

using outbox::Row;
using outbox::RowId;

// A table, and how its database behaves.
struct Table {
  std::map<int64_t, Row> rows;
  std::map<int64_t, std::string> quarantine;
  std::set<int64_t> refused;  // Of these positions the quarantine takes none.
  base::Random random{1};
  uint64_t failures_percent = 0;
  bool reachable = true;
  bool countable = true;       // Or counting its rows takes too long.
  int32_t parts = 1;           // All rows are in the last one.
  bool owned = true;           // All parts, or another agent has them.
  bool lockable = true;        // The quarantine; or somebody has it for himself.
  bool tells_changes = false;  // As SQLite and LMDB do.
  bool clean = false;
  int opens = 0;
  int refusals = 0;
  int reads = 0;
  std::function<void()> on_read;  // While it is read.
};

class TableSource final : public outbox::Source {
 public:
  explicit TableSource(Table& table) : table_(table) {}

  base::Result<void> Open() override {
    table_.clean = false;
    ++table_.opens;
    return Call();
  }
  base::Result<std::vector<Row>> Read(size_t limit, std::span<const std::string> held,
                                      std::span<const RowId> stuck) override {
    HF_RETURN_IF_ERROR(Call());
    ++table_.reads;
    if (table_.on_read) table_.on_read();
    highest_read_ = table_.rows.empty() ? 0 : table_.rows.rbegin()->first;
    std::vector<Row> rows;
    for (const auto& [position, row] : table_.rows) {
      if (rows.size() == limit) break;
      if (std::ranges::find(held, row.route) != held.end()) continue;
      if (std::ranges::find(stuck, RowId{position, row.id}) != stuck.end()) continue;
      rows.push_back(row);
    }
    return rows;
  }
  base::Result<bool> MayHaveMore() override {
    HF_RETURN_IF_ERROR(Call());
    return !table_.tells_changes ||
           (!table_.rows.empty() && table_.rows.rbegin()->first > highest_read_);
  }
  base::Result<std::vector<RowId>> Find(std::span<const int64_t> positions) override {
    HF_RETURN_IF_ERROR(Call());
    std::vector<RowId> found;
    for (const int64_t position : positions) {
      const auto row = table_.rows.find(position);
      if (row != table_.rows.end()) found.push_back({position, row->second.id});
    }
    return found;
  }
  base::Result<Refusal> Remove(std::span<const RowId> spooled,
                               std::span<const Poison> poison) override {
    HF_RETURN_IF_ERROR(Call());
    if (!poison.empty() && !table_.lockable) {
      return base::Unexpected(base::Code::kUnavailable, "the quarantine is locked");
    }
    for (const Poison& one : poison) {
      if (!table_.refused.contains(one.row.position)) continue;
      if (!IsThere(one.row)) continue;
      ++table_.refusals;
      return fmt::format("no place for {}", one.row.position);
    }
    for (const RowId& row : spooled) Erase(row);
    for (const Poison& one : poison) {
      if (Erase(one.row)) table_.quarantine[one.row.position] = one.reason;
    }
    HF_RETURN_IF_ERROR(Call());  // The answer is lost, the change is not.
    return Refusal();
  }
  base::Result<Lag> Measure() override {
    HF_RETURN_IF_ERROR(Call());
    if (!table_.countable) return base::Unexpected(base::Code::kTimeout, "counting takes too long");
    Lag lag;
    for (int32_t i = 0; i < table_.parts; ++i)
      lag.parts.push_back({.partition = i, .owned = table_.owned});
    lag.parts.back().rows = table_.rows.size();
    if (!table_.rows.empty()) lag.parts.back().lowest = table_.rows.begin()->first;
    return lag;
  }
  base::Result<Sight> Look() override {
    HF_ASSIGN_OR_RETURN(Lag lag, Measure());
    return Sight{.lag = std::move(lag)};
  }
  void Close(bool clean) override { table_.clean = clean; }

 private:
  bool IsThere(const RowId& row) const {
    const auto there = table_.rows.find(row.position);
    return there != table_.rows.end() && there->second.id == row.id;
  }
  bool Erase(const RowId& row) { return IsThere(row) && table_.rows.erase(row.position) > 0; }
  base::Result<void> Call() {
    if (table_.reachable && table_.random.Below(100) >= table_.failures_percent) return {};
    return base::Unexpected(base::Code::kUnavailable, "the connection is lost");
  }

  Table& table_;
  int64_t highest_read_ = 0;
};

}  // namespace holdfast::test
