// An SQLite database as a source: the service inserts rows into a table of its own file, and the
// agent, another process on the same host, takes them out. `holdfast outbox sql --dialect sqlite`
// prints the tables.
//
// What it asks of the database, and says at Open if it is not so: the file exists (it is never
// made), it is in WAL mode (so that reading never blocks writing), and the position is an INTEGER
// PRIMARY KEY, or has a unique index. With AUTOINCREMENT no position is given twice, and the id may
// be the position. SQLite has one writer at a time, so the order of positions is that of commits.
//
// What it asks of the service: the agent is a second writer, so write transactions begin with
// BEGIN IMMEDIATE, and with a busy_timeout; one that has read before its first write may otherwise
// fail with SQLITE_BUSY when the agent has deleted rows in between.
//
// What a service's writer waits for: rows are removed kChunkRows at a time, or fewer if that takes
// longer than kChunkTime, each such part whole. These transactions do not flush
// (synchronous=NORMAL); the write-ahead log is flushed after each of them, while the writer may go
// on, and the next one begins a millisecond later. So when Remove has returned, a power cut does
// not bring rows back, and a caller may forget which they were. (Unless the service sets
// synchronous=OFF: then a checkpoint of its own may lose that, as it may damage the database.)
// Checkpoints after the agent's commits are passive ones and hold up nobody. No transaction is left
// open between two calls, so the log can be reset.
//
// One agent at a time has a file as a source: see source_lock.h; the lock's file is the database's
// name with `-holdfast` behind it. An agent with another spool, if it takes the place of one that
// was killed, may send again what that one had noted and not yet removed.
//
// If a row is still to be sent after it was deleted, as a trigger may keep it, that is an error.
//
// Look opens the file read-only. If nobody has it open, SQLite would make a log of its own even so,
// so it is read as one that nobody changes, and once more if somebody came meanwhile.
//
// Threads: one. Shutdown: Close, or the destructor.
// Limits: kReadBytes at a time; changes wait 5 s for the service's transaction and then fail with
// kUnavailable.
#pragma once

#include <sqlite3.h>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/outbox/source.h"
#include "agent/outbox/source_lock.h"
#include "agent/outbox/table_mapping.h"

namespace holdfast::outbox {

class SqliteSource final : public Source {
 public:
  static constexpr size_t kChunkRows = 200;
  static constexpr std::chrono::milliseconds kChunkTime{2};
  // A read ends with the row that reaches it.
  static constexpr size_t kReadBytes = size_t{16} << 20;

  struct Options {
    std::string file;
    TableMapping mapping;
  };

  explicit SqliteSource(Options options) : options_(std::move(options)) {}

  base::Result<void> Open() override;
  base::Result<std::vector<Row>> Read(size_t limit, std::span<const std::string> held,
                                      std::span<const RowId> stuck) override;
  base::Result<bool> MayHaveMore() override;
  base::Result<std::vector<RowId>> Find(std::span<const int64_t> positions) override;
  base::Result<Refusal> Remove(std::span<const RowId> spooled,
                               std::span<const Poison> poison) override;
  base::Result<Lag> Measure() override;
  base::Result<Sight> Look() override;
  void Close(bool clean) override;

 private:
  struct CloseDatabase {
    void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  };
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;
  // Gone without Commit, it is rolled back.
  class Transaction;

  base::Result<void> FindFile();
  [[nodiscard]] std::string LockPath() const { return path_ + "-holdfast"; }
  base::Result<void> OpenDatabase(const std::string& name, int flags);
  base::Result<void> CheckMode();
  // The first bytes of the file say what it is, though nobody has it open.
  [[nodiscard]] bool IsWal() const;
  base::Result<std::optional<Lag>> LookInside();
  base::Result<void> CheckSchema();
  // Nothing if there is no such table. `with_generated`: columns that cannot be inserted, too.
  base::Result<std::vector<std::string>> ColumnsOf(const std::string& table, bool with_generated);
  base::Result<bool> PositionIsUnique();
  [[nodiscard]] bool GivesPositionsOnce() const;
  [[nodiscard]] std::string QuarantineName() const { return table_ + "_quarantine"; }
  // Conditions of rows; with both, they are to be sent.
  [[nodiscard]] std::string HasPosition() const;
  [[nodiscard]] std::string NotDone() const;
  [[nodiscard]] std::string ToSend() const;

  base::Result<Statement> Prepare(const std::string& sql);
  base::Result<void> Execute(const std::string& sql);
  base::Result<int64_t> Integer(const std::string& sql);
  base::Result<std::string> Text(const std::string& sql);
  // Whether there is a row.
  base::Result<bool> Step(const Statement& statement);
  base::Result<void> CheckInPlace() const;
  base::Result<int64_t> DataVersion();
  base::Result<void> FlushLog();
  base::Result<bool> IsThere(const RowId& row);
  // Or marked as sent instead, by a trigger.
  base::Result<void> Delete(int64_t position);
  // Puts the row into the quarantine, and deletes it.
  base::Result<void> Quarantine(const Poison& poison);
  // Whether that is what the last error was about.
  [[nodiscard]] bool WasRefused() const;
  [[nodiscard]] RowId IdOf(sqlite3_stmt* statement) const;
  Row RowOf(sqlite3_stmt* statement) const;
  [[nodiscard]] base::Error ErrorOf(int code) const;

  const Options options_;
  std::string path_;  // Without symbolic links, so that all agents agree on it.
  std::string table_;
  std::vector<std::string> columns_;
  std::string select_;  // From the columns to the table's name.
  SourceLock lock_;
  std::unique_ptr<sqlite3, CloseDatabase> database_;
  int64_t data_version_ = 0;  // Before the last read.
  // Made by Open.
  Statement find_;
  Statement find_to_send_;
  Statement delete_;
  Statement quarantine_;
};

}  // namespace holdfast::outbox
