// A table of a PostgreSQL database as a source: services insert rows in transactions of their own,
// and agents take them out. `holdfast outbox sql` prints the tables and the grants.
//
// Order: each read begins at the lowest position, in the order of the index on it, whatever the
// planner's statistics say. Positions below which nothing can come any more are passed over, so
// that a drained backlog, of which the index still keeps the dead entries, is not walked again and
// again. How that is known (see Source::Read):
//
//   1. H is the highest position of a read. Who gets a position below H afterwards does not exist,
//      if the sequence has no cache, so a row below H that is not visible yet belongs to one of the
//      transactions that hold a row-exclusive lock on the table after that read.
//   2. Once these have ended, the next read sees all rows below H that there will ever be.
//   3. If no routes are held and no rows are stuck, its first row is the lowest that is left: the
//      floor may rise to right below it, or to H.
//
// It is looked for every kFloorEvery, and every kForgetEvery the floor is forgotten: a row whose
// service chose the position by itself is taken then at the latest. It is forgotten at once, and
// the rows are read again, if the table's file is another one, as after TRUNCATE, which may have
// let positions begin anew. There is no floor if the position does not come from a rising sequence
// without cache that belongs to the column, and none for a partitioned table.
//
// Several agents: see postgres_ownership.h. Their number of parts is changed while nothing is left
// undelivered. The part of a row is
//   (hashtextextended(coalesce(key::text, ''), 0) & 9223372036854775807) % hash_partitions
// with the id in the key's place if the table has none.
// With the mode kLease nothing is kept in the session, so a pooler may stand in between. Whoever
// loses a lease while it has rows in hand fails to remove them; rows that its spool has are still
// removed after the next Open, as it is the one to deliver them.
//
// What it takes: a payload of bytea is given as bytes; json, jsonb and text as text; other columns
// as their text. A timestamp without time zone counts as UTC, an integer as milliseconds. If a
// column gets another type meanwhile, a read fails, and the next Open looks at the types anew.
//
// A row is removed by position and id in one statement on the index of the position. If that finds
// fewer rows than there were to be, it is looked whether the others have gone: a trigger may keep
// rows, and a column that got another type is compared wrongly.
//
// What it asks of the database: version 12 or later, and that commits that were confirmed survive a
// crash. A replica that takes over and lacks the last deletions gives rows again.
//
// Threads: one. Shutdown: Close, or the destructor.
// Limits: kReadBytes of all columns that are read at a time, as they are stored and as they are
// sent, but at least one row. Timeouts: postgres_connection.h. After a read that took too long, the
// next one is for half as much, down to one row, and may take kPatience while rows arrive; after
// one that was quick, or some that were in time, for twice as much again. Rows are removed at once,
// and after what took too long half as many likewise, each part whole.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/outbox/postgres_connection.h"
#include "agent/outbox/postgres_ownership.h"
#include "agent/outbox/source.h"
#include "agent/outbox/table_mapping.h"

namespace holdfast::outbox {

class PostgresSource final : public Source {
 public:
  using Ownership = outbox::Ownership;

  static constexpr size_t kReadBytes = size_t{16} << 20;
  static constexpr std::chrono::milliseconds kFloorEvery{100};
  static constexpr std::chrono::seconds kForgetEvery{60};

  struct Options {
    std::string connection;
    TableMapping mapping;
    Ownership ownership = Ownership::kAdvisoryLock;
    uint32_t hash_partitions = 1;
    std::chrono::milliseconds takeover_after{};
    std::chrono::milliseconds lease{};
    std::string agent;  // For people.
    Taker taker;
    PostgresConnection::Timeouts timeouts = {};
  };

  explicit PostgresSource(Options options);

  base::Result<void> Open() override;
  base::Result<std::vector<Row>> Read(size_t limit, std::span<const std::string> held,
                                      std::span<const RowId> stuck) override;
  base::Result<std::vector<RowId>> Find(std::span<const int64_t> positions) override;
  base::Result<Refusal> Remove(std::span<const RowId> spooled,
                               std::span<const Poison> poison) override;
  base::Result<Lag> Measure() override;
  base::Result<Sight> Look() override;
  void Close(bool clean) override;
  void GiveUp() override { gives_up_ = true; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int64_t kNoFloor = std::numeric_limits<int64_t>::min();

  struct Column {
    int64_t oid;           // The type's.
    std::string type;      // The base type's name.
    std::string declared;  // As in CREATE TABLE.
    char category;         // pg_type.typcategory.
    bool not_null;
    bool generated;
    bool has_default;
    bool own_identity;  // Takes no other values.
  };
  using Columns = std::map<std::string, Column, std::less<>>;

  // How much to ask for, so that it is there in time.
  class Portion {
   public:
    explicit Portion(std::chrono::milliseconds timeout) : timeout_(timeout) {}
    [[nodiscard]] size_t Of(size_t most) const { return std::max<size_t>(most >> halvings_, 1); }
    [[nodiscard]] bool halved() const { return halvings_ != 0; }
    void AskForLess();
    void AskForMoreAfter(Clock::duration took);

   private:
    const std::chrono::milliseconds timeout_;
    unsigned halvings_ = 0;
    int in_time_ = 0;  // Since the last of them.
  };

  struct Floor {
    int64_t file = 0;               // The table's, of which the rest is so. 0: any.
    int64_t highest = kNoFloor;     // That was ever read.
    int64_t position = kNoFloor;    // No row of the parts that are read is at or below it.
    std::optional<int64_t> next;    // Where it may rise to, when these have ended:
    std::set<std::string> writers;  // Virtual transactions.
    Clock::time_point looked;
    Clock::time_point forgotten;
  };

  base::Result<void> Connect();
  // The table that CheckSchema found.
  [[nodiscard]] PostgresOwnership::Table Table() const;
  base::Result<void> CheckSchema();
  base::Result<Columns> ColumnsOf(int64_t oid);
  void CheckColumns(const Columns& columns, std::vector<std::string>* problems) const;
  base::Result<void> CheckPosition(std::vector<std::string>* problems);
  base::Result<void> CheckBeside(const std::string& schema, const Columns& columns,
                                 std::vector<std::string>* problems);
  // What stands in a table of this name, and problems if a privilege is missing. 0: no such table.
  base::Result<int64_t> CheckTable(const std::string& schema, const std::string& name,
                                   std::span<const std::string_view> privileges,
                                   std::vector<std::string>* problems);
  // What keeps the quarantine from taking rows as they are.
  [[nodiscard]] std::string DifferencesOf(const Columns& quarantine, const Columns& columns) const;
  // What positions come from: whether there can be a floor, and what may be wrong with the order.
  base::Result<void> LookAtSequence(bool plain_table);
  void MakeStatements(const Columns& columns, const std::vector<std::string>& kept);

  base::Result<PostgresRows> Fetch(size_t limit, std::span<const std::string> held,
                                   std::span<const RowId> stuck);
  // Of what Fetch gave: whether the floor is that of another file. Then it is forgotten.
  base::Result<bool> ForgetFloorOfOtherFile(const PostgresRows& rows);
  base::Result<Lag> Count();
  base::Result<void> RaiseFloor(std::span<const Row> rows, bool some_held);
  // Of what a statement gave: its column at `same_types` says whether they are as MakeStatements
  // took them to be.
  base::Result<void> CheckTypes(const PostgresRows& rows, int same_types) const;
  Row RowOf(const PostgresRows& rows, int row) const;
  // The ids as remove_ and move_ compare them.
  [[nodiscard]] std::string IdsOf(std::span<const RowId> rows) const;
  base::Result<void> RemoveSpooled(std::span<const RowId> rows);
  base::Result<void> MovePoison(std::span<const Poison> poison);
  // In one transaction.
  base::Result<Refusal> RemoveAtOnce(std::span<const RowId> spooled,
                                     std::span<const Poison> poison);
  base::Result<std::vector<RowId>> FindBy(const std::string& statement,
                                          std::span<const int64_t> positions);
  // That what was not removed is not there, is another row, or was marked as sent instead.
  base::Result<void> CheckGone(std::span<const RowId> rows, const PostgresRows& removed);
  // As bytes if the column is bytea.
  [[nodiscard]] std::optional<std::string> ValueAt(const PostgresRows& rows, int row,
                                                   int column) const;
  [[nodiscard]] std::string ToSend() const;
  [[nodiscard]] std::string PartOfRow() const;
  [[nodiscard]] std::string FileOfTable() const;
  [[nodiscard]] bool ReadsAll(std::span<const int32_t> parts) const {
    return parts.size() == options_.hash_partitions;
  }

  const Options options_;
  std::atomic<bool> gives_up_ = false;
  std::optional<PostgresConnection> connection_;
  PostgresOwnership ownership_;

  // Made by Open.
  std::string schema_;  // In quotes, with a dot behind it.
  std::string table_;   // With its schema.
  std::string quarantine_;
  std::string differences_;  // Of it from the table.
  int64_t oid_ = 0;
  std::vector<std::string> columns_;
  std::vector<bool> bytes_;  // Which of them are bytea.
  bool id_is_bytes_ = false;
  bool floor_possible_ = false;
  std::string doubt_;       // See Sight.
  std::string said_doubt_;  // The log has it.
  std::string timestamp_;   // The expression that gives milliseconds.
  std::string read_all_;
  std::string read_parts_;
  std::string find_;
  std::string find_to_send_;  // Of those, what a read would give again.
  std::string remove_;
  std::string move_;
  std::string measure_;

  std::vector<int32_t> parts_;  // Of the last read.
  Portion read_;
  Portion removal_;
  Floor floor_;
};

}  // namespace holdfast::outbox
