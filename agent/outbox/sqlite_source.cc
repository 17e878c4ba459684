#include "agent/outbox/sqlite_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <utility>

#include "agent/outbox/json_headers.h"
#include "agent/outbox/outbox_sql_sqlite.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

// A service that writes without pause leaves the lock free for moments only, which SQLite's own
// busy_timeout misses: it looks ever more rarely.
constexpr int kBusyTries = 5000;
constexpr int kBusyPauseMs = 1;
int OnBusy(void* /*nothing*/, int tries) {
  if (tries >= kBusyTries) return 0;
  sqlite3_sleep(kBusyPauseMs);
  return 1;
}
// SQLite takes 32766 values in one statement. Rows of further routes are read for nothing.
constexpr size_t kHeldMost = 30'000;

// Between two transactions. SQLite wakes nobody who waits for the lock, and its busy_timeout looks
// ever more rarely, so the lock has to be free for most of the time.
constexpr int kPauseMs = 1;

std::string_view BytesAt(sqlite3_stmt* statement, int column) {
  const void* bytes = sqlite3_column_type(statement, column) == SQLITE_BLOB
                          ? sqlite3_column_blob(statement, column)
                          : sqlite3_column_text(statement, column);
  if (bytes == nullptr) return {};
  return {static_cast<const char*>(bytes),
          static_cast<size_t>(sqlite3_column_bytes(statement, column))};
}

std::optional<std::string> TextAt(sqlite3_stmt* statement, int column) {
  if (sqlite3_column_type(statement, column) == SQLITE_NULL) return std::nullopt;
  return std::string(BytesAt(statement, column));
}

void BindText(sqlite3_stmt* statement, int parameter, std::string_view text) {
  sqlite3_bind_text64(statement, parameter, text.data(), text.size(), SQLITE_TRANSIENT,
                      SQLITE_UTF8);
}

bool EqualNames(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         sqlite3_strnicmp(a.data(), b.data(), static_cast<int>(a.size())) == 0;
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::ranges::any_of(names, [&](const auto& one) { return EqualNames(one, name); });
}

// A URI for SQLite. Each byte is escaped, which needs no rules.
std::string UriOf(std::string_view path, std::string_view parameters) {
  std::string uri = "file:";
  for (const char c : path) uri += fmt::format("%{:02x}", static_cast<unsigned char>(c));
  return uri.append("?").append(parameters);
}

}  // namespace

class SqliteSource::Transaction {
 public:
  static Result<Transaction> Begin(SqliteSource& source, const char* how) {
    HF_RETURN_IF_ERROR(source.Execute(how));
    return Transaction(source);
  }
  Transaction(Transaction&& other) noexcept : source_(std::exchange(other.source_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction() {
    if (source_ != nullptr)
      sqlite3_exec(source_->database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  }
  Result<void> Commit() {
    HF_RETURN_IF_ERROR(source_->Execute("COMMIT"));
    source_ = nullptr;
    return {};
  }

 private:
  explicit Transaction(SqliteSource& source) : source_(&source) {}

  SqliteSource* source_;
};

base::Error SqliteSource::ErrorOf(int code) const {
  std::string message = fmt::format(
      "{}: {}", path_, database_ ? sqlite3_errmsg(database_.get()) : sqlite3_errstr(code));
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {Code::kUnavailable, message + " (another transaction is open for too long)"};
    case SQLITE_CANTOPEN:
    case SQLITE_FULL:
      return {Code::kUnavailable, std::move(message)};
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return {Code::kInvalid,
              message +
                  " (the agent has to be able to write to the file, to FILE-wal and FILE-shm "
                  "beside it, and to their directory)"};
    case SQLITE_NOTADB:
      return {Code::kInvalid, std::move(message)};
    case SQLITE_CORRUPT:
      return {Code::kInvalid, message + " (PRAGMA integrity_check says more)"};
    case SQLITE_ERROR:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
      return {Code::kInvalid, message + " (did the tables change?)"};
    default:
      return {Code::kIo, std::move(message)};
  }
}

Result<SqliteSource::Statement> SqliteSource::Prepare(const std::string& sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(database_.get(), sql.c_str(),
                                      static_cast<int>(sql.size() + 1), &statement, nullptr);
  if (code != SQLITE_OK) return Unexpected(ErrorOf(code));
  return Statement(statement);
}

Result<void> SqliteSource::Execute(const std::string& sql) {
  const int code = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return Unexpected(ErrorOf(code));
  return {};
}

Result<bool> SqliteSource::Step(const Statement& statement) {
  const int code = sqlite3_step(statement.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  base::Error error = ErrorOf(code);
  sqlite3_reset(statement.get());
  return Unexpected(std::move(error));
}

Result<int64_t> SqliteSource::Integer(const std::string& sql) {
  HF_ASSIGN_OR_RETURN(const Statement statement, Prepare(sql));
  HF_ASSIGN_OR_RETURN(const bool any, Step(statement));
  return any ? sqlite3_column_int64(statement.get(), 0) : 0;
}

Result<std::string> SqliteSource::Text(const std::string& sql) {
  HF_ASSIGN_OR_RETURN(const Statement statement, Prepare(sql));
  HF_ASSIGN_OR_RETURN(const bool any, Step(statement));
  return any ? std::string(BytesAt(statement.get(), 0)) : std::string();
}

Result<void> SqliteSource::Open() {
  HF_RETURN_IF_ERROR(FindFile());
  HF_RETURN_IF_ERROR(lock_.Hold(LockPath(), path_));
  // Without SQLITE_OPEN_CREATE: an empty file would only hide a wrong name.
  HF_RETURN_IF_ERROR(OpenDatabase(path_, SQLITE_OPEN_READWRITE));
  HF_RETURN_IF_ERROR(CheckMode());
  if (sqlite3_db_readonly(database_.get(), "main") != 0)
    return Unexpected(ErrorOf(SQLITE_READONLY));
  HF_RETURN_IF_ERROR(Execute("PRAGMA main.synchronous=NORMAL"));
  HF_RETURN_IF_ERROR(CheckSchema());
  data_version_ = -1;
  // What an agent deleted that was killed before it could flush that.
  return FlushLog();
}

Result<void> SqliteSource::OpenDatabase(const std::string& name, int flags) {
  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(name.c_str(), &database,
                                   flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
  database_.reset(database);
  if (code != SQLITE_OK) return Unexpected(ErrorOf(code));
  sqlite3_busy_handler(database, OnBusy, nullptr);
  // A name in quotes is a column and nothing else.
  sqlite3_db_config(database, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);
  return {};
}

Result<void> SqliteSource::CheckMode() {
  HF_ASSIGN_OR_RETURN(const std::string mode, Text("PRAGMA main.journal_mode"));
  if (mode != "wal") {
    return Unexpected(Code::kInvalid,
                      fmt::format("{}: its journal mode is `{}`, and has to be `wal`, so that the "
                                  "agent and the service do not block each other; run `PRAGMA "
                                  "journal_mode=WAL` once on the file",
                                  path_, mode));
  }
  return {};
}

Result<void> SqliteSource::FindFile() {
  find_.reset();
  find_to_send_.reset();
  delete_.reset();
  quarantine_.reset();
  database_.reset();
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(options_.file.c_str(), nullptr),
                                                         &std::free);
  if (!real) {
    return Unexpected(Code::kUnavailable,
                      base::ErrnoError(fmt::format("{}: there is no such database yet, and the "
                                                   "agent does not make it",
                                                   options_.file),
                                       errno)
                          .message);
  }
  struct stat file {};
  if (stat(real.get(), &file) != 0 || !S_ISREG(file.st_mode)) {
    return Unexpected(Code::kInvalid, fmt::format("{}: not a file", options_.file));
  }
  path_ = real.get();
  return {};
}

Result<std::vector<std::string>> SqliteSource::ColumnsOf(const std::string& table,
                                                         bool with_generated) {
  HF_ASSIGN_OR_RETURN(
      const Statement statement,
      Prepare(fmt::format("SELECT name FROM pragma_table_xinfo(?, 'main') WHERE hidden IN ({})",
                          with_generated ? "0, 2, 3" : "0")));
  BindText(statement.get(), 1, table);
  std::vector<std::string> columns;
  while (true) {
    HF_ASSIGN_OR_RETURN(const bool any, Step(statement));
    if (!any) return columns;
    columns.emplace_back(BytesAt(statement.get(), 0));
  }
}

Result<bool> SqliteSource::PositionIsUnique() {
  // The row id under another name, or the one column of a unique index over all rows.
  HF_ASSIGN_OR_RETURN(
      const Statement statement,
      Prepare(
          "SELECT 1 FROM pragma_table_info(?1, 'main') WHERE name = ?2 COLLATE NOCASE AND pk > 0"
          "  AND upper(type) = 'INTEGER'"
          "  AND (SELECT count(*) FROM pragma_table_info(?1, 'main') WHERE pk > 0) = 1 "
          "UNION ALL "
          "SELECT 1 FROM pragma_index_list(?1, 'main') AS list WHERE list.\"unique\""
          "  AND NOT list.partial"
          "  AND (SELECT count(*) FROM pragma_index_info(list.name, 'main')) = 1"
          "  AND (SELECT name FROM pragma_index_info(list.name, 'main')) = ?2 COLLATE NOCASE"));
  BindText(statement.get(), 1, table_);
  BindText(statement.get(), 2, options_.mapping.position);
  return Step(statement);
}

bool SqliteSource::GivesPositionsOnce() const {
  int autoincrement = 0;
  return sqlite3_table_column_metadata(database_.get(), "main", table_.c_str(),
                                       options_.mapping.position.c_str(), nullptr, nullptr, nullptr,
                                       nullptr, &autoincrement) == SQLITE_OK &&
         autoincrement != 0;
}

Result<void> SqliteSource::CheckSchema() {
  const TableMapping& mapping = options_.mapping;
  constexpr std::string_view kMain = "main.";
  table_ = mapping.table;
  if (table_.starts_with(kMain)) table_.erase(0, kMain.size());
  const auto wrong = [this](std::string_view what) {
    return Unexpected(
        Code::kInvalid,
        fmt::format("{}: {}. `holdfast outbox sql --dialect sqlite` prints what has to be there",
                    path_, what));
  };
  if (table_.find('.') != std::string::npos) {
    return wrong(fmt::format(
        "the table is `{}`, and SQLite has no schemas: set its name without one", table_));
  }
  // All at once, so that they can be repaired at once.
  std::vector<std::string> problems;
  columns_ = mapping.Columns();
  std::vector<std::string> needed = columns_;
  if (mapping.only_null) needed.push_back(*mapping.only_null);
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> all, ColumnsOf(table_, true));
  if (all.empty()) {
    problems.push_back(fmt::format("there is no table `{}`", table_));
  } else {
    for (const std::string& column : needed) {
      if (!Contains(all, column)) {
        problems.push_back(fmt::format("table `{}` has no column `{}`", table_, column));
      }
    }
    HF_ASSIGN_OR_RETURN(const bool unique, PositionIsUnique());
    if (!unique && Contains(all, mapping.position)) {
      problems.push_back(fmt::format(
          "the column `{}` is neither INTEGER PRIMARY KEY (AUTOINCREMENT, best) nor has a unique "
          "index of its own",
          mapping.position));
    }
    if (EqualNames(mapping.id, mapping.position) && Contains(all, mapping.position) &&
        !GivesPositionsOnce()) {
      problems.push_back(
          fmt::format("the id is the position, `{}`, which a table that was emptied gives to "
                      "another event: make the column INTEGER PRIMARY KEY AUTOINCREMENT, or give "
                      "events an id of their own, that is never used again",
                      mapping.position));
    }
  }
  HF_ASSIGN_OR_RETURN(const std::vector<std::string> quarantine,
                      ColumnsOf(QuarantineName(), false));
  if (quarantine.empty()) {
    problems.push_back(fmt::format("there is no table `{}`", QuarantineName()));
  } else {
    needed.insert(needed.end(), {"reason", "quarantined_at"});
    for (const std::string& column : needed) {
      if (!Contains(quarantine, column)) {
        problems.push_back(fmt::format(
            "table `{}` has no column `{}`: ALTER TABLE {} ADD COLUMN {}", QuarantineName(), column,
            QuotedName(QuarantineName()), QuotedName(column)));
      }
    }
  }
  if (!problems.empty()) return wrong(fmt::format("{}", fmt::join(problems, "; ")));

  // Columns of which the agent knows nothing go with the row, if there is a place for them.
  std::vector<std::string> kept;
  for (const std::string& column : all) {
    if (Contains(quarantine, column)) kept.push_back(QuotedName(column));
  }
  const std::string table = "main." + QuotedName(table_);
  const std::string position = QuotedName(mapping.position);
  const std::string moved = fmt::format("{}", fmt::join(kept, ", "));
  HF_ASSIGN_OR_RETURN(
      quarantine_,
      Prepare(fmt::format("INSERT INTO main.{} ({}, reason, quarantined_at) SELECT {}, ?2, "
                          "strftime('%Y-%m-%dT%H:%M:%fZ', 'now') FROM {} WHERE {} = ?1",
                          QuotedName(QuarantineName()), moved, moved, table, position)));
  HF_ASSIGN_OR_RETURN(delete_,
                      Prepare(fmt::format("DELETE FROM {} WHERE {} = ?1", table, position)));
  HF_ASSIGN_OR_RETURN(find_, Prepare(fmt::format("SELECT {} FROM {} WHERE {} = ?1",
                                                 QuotedName(mapping.id), table, position)));
  HF_ASSIGN_OR_RETURN(find_to_send_, Prepare(fmt::format("SELECT 1 FROM {} WHERE {} = ?1 AND {}",
                                                         table, position, ToSend())));
  std::vector<std::string> expressions;
  for (const std::string& column : columns_) expressions.push_back(QuotedName(column));
  // SQLite itself knows how ISO 8601 is written. Null: the text is not that.
  expressions.push_back(
      mapping.timestamp
          ? fmt::format("CASE typeof({0}) WHEN 'integer' THEN {0} WHEN 'text' THEN "
                        "CAST(round((julianday({0}) - 2440587.5) * 86400000.0) AS INTEGER) END",
                        QuotedName(*mapping.timestamp))
          : "NULL");
  select_ = fmt::format("SELECT {} FROM {}", fmt::join(expressions, ", "), table);
  return {};
}

std::string SqliteSource::HasPosition() const {
  // Without its unique position a row could not be removed again.
  return fmt::format("typeof({}) = 'integer'", QuotedName(options_.mapping.position));
}

std::string SqliteSource::NotDone() const {
  return options_.mapping.only_null
             ? fmt::format("{} IS NULL", QuotedName(*options_.mapping.only_null))
             : "true";
}

std::string SqliteSource::ToSend() const { return HasPosition() + " AND " + NotDone(); }

RowId SqliteSource::IdOf(sqlite3_stmt* statement) const {
  const auto id = std::ranges::find(columns_, options_.mapping.id) - columns_.begin();
  return {sqlite3_column_int64(statement, 0),
          std::string(BytesAt(statement, static_cast<int>(id)))};
}

Row SqliteSource::RowOf(sqlite3_stmt* statement) const {
  const TableMapping& mapping = options_.mapping;
  const auto index = [this](const std::string& column) {
    return static_cast<int>(std::ranges::find(columns_, column) - columns_.begin());
  };
  const auto text = [&](const std::string& column) { return TextAt(statement, index(column)); };
  Row row;
  const auto problem = [&row](std::string what) {
    if (row.problem.empty()) row.problem = std::move(what);
  };
  row.position = sqlite3_column_int64(statement, 0);
  if (std::optional<std::string> id = text(mapping.id)) {
    row.id = *std::move(id);
  } else {
    problem(fmt::format("the column `{}` is null, and holds the event's id", mapping.id));
  }
  if (std::optional<std::string> route = text(mapping.route)) {
    row.route = *std::move(route);
  } else {
    problem(fmt::format("the column `{}` is null, and says to which topic", mapping.route));
  }
  if (mapping.key) row.key = text(*mapping.key);
  row.payload = text(mapping.payload);
  if (mapping.timestamp) {
    const auto computed = static_cast<int>(columns_.size());
    if (sqlite3_column_type(statement, computed) != SQLITE_NULL) {
      row.timestamp_ms = sqlite3_column_int64(statement, computed);
    } else if (const std::optional<std::string> written = text(*mapping.timestamp)) {
      problem(
          fmt::format("the column `{}` is neither milliseconds nor a time as ISO 8601 writes "
                      "it: `{}`",
                      *mapping.timestamp, *written));
    }
  }
  for (const TableMapping::Additional& one : mapping.additional) {
    const int column = index(one.column);
    if (one.placement == TableMapping::Placement::kHeader) {
      row.headers.emplace_back(one.alias, TextAt(statement, column));
      continue;
    }
    const int64_t partition = sqlite3_column_int64(statement, column);
    if (sqlite3_column_type(statement, column) == SQLITE_NULL) continue;
    if (sqlite3_column_type(statement, column) != SQLITE_INTEGER || partition < 0 ||
        partition > std::numeric_limits<int32_t>::max()) {
      problem(fmt::format("the column `{}` is no partition: `{}`", one.column,
                          BytesAt(statement, column)));
      continue;
    }
    row.partition = static_cast<int32_t>(partition);
  }
  if (mapping.json_headers) {
    if (const std::optional<std::string> json = text(*mapping.json_headers)) {
      if (const auto taken = TakeJsonHeaders(*json, mapping.json_key, &row); !taken) {
        problem(fmt::format("the column `{}`: {}", *mapping.json_headers, taken.error().message));
      }
    }
  }
  for (const std::string& column : columns_) {
    if (column == mapping.payload || column == mapping.json_headers) continue;
    if (!NamesField(mapping.topic, column)) continue;
    if (std::optional<std::string> value = text(column))
      row.fields.emplace_back(column, *std::move(value));
  }
  return row;
}

// A database that was put in the place of this one would never be looked at, and may have rows that
// are removed from this one.
Result<void> SqliteSource::CheckInPlace() const {
  int moved = 0;
  sqlite3_file_control(database_.get(), "main", SQLITE_FCNTL_HAS_MOVED, &moved);
  if (moved != 0) {
    return Unexpected(Code::kUnavailable,
                      fmt::format("{}: the file was moved or replaced while it was open", path_));
  }
  return {};
}

Result<int64_t> SqliteSource::DataVersion() {
  HF_RETURN_IF_ERROR(CheckInPlace());
  return Integer("PRAGMA main.data_version");
}

Result<bool> SqliteSource::MayHaveMore() {
  HF_ASSIGN_OR_RETURN(const int64_t version, DataVersion());
  return version != data_version_;
}

Result<std::vector<Row>> SqliteSource::Read(size_t limit, std::span<const std::string> held,
                                            std::span<const RowId> stuck) {
  HF_ASSIGN_OR_RETURN(data_version_, DataVersion());
  held = held.first(std::min(held.size(), kHeldMost));
  std::string sql = select_ + " WHERE " + ToSend();
  if (!held.empty()) {
    const std::string route = QuotedName(options_.mapping.route);
    sql += fmt::format(" AND ({} IS NULL OR CAST({} AS TEXT) NOT IN (?", route, route);
    for (size_t i = 1; i < held.size(); ++i) sql += ",?";
    sql += "))";
  }
  sql += fmt::format(" ORDER BY {} LIMIT {}", QuotedName(options_.mapping.position),
                     limit + stuck.size());
  HF_ASSIGN_OR_RETURN(const Statement statement, Prepare(sql));
  int parameter = 0;
  for (const std::string& route : held) BindText(statement.get(), ++parameter, route);
  std::vector<Row> rows;
  size_t bytes = 0;
  while (rows.size() < limit && bytes < kReadBytes) {
    HF_ASSIGN_OR_RETURN(const bool any, Step(statement));
    if (!any) break;
    if (!stuck.empty() && std::ranges::find(stuck, IdOf(statement.get())) != stuck.end()) continue;
    rows.push_back(RowOf(statement.get()));
    bytes += MemoryOf(rows.back());
  }
  return rows;
}

Result<std::vector<RowId>> SqliteSource::Find(std::span<const int64_t> positions) {
  std::vector<RowId> found;
  HF_ASSIGN_OR_RETURN(auto transaction, Transaction::Begin(*this, "BEGIN"));
  for (const int64_t position : positions) {
    sqlite3_reset(find_.get());
    sqlite3_bind_int64(find_.get(), 1, position);
    HF_ASSIGN_OR_RETURN(const bool any, Step(find_));
    if (any) found.push_back({position, std::string(BytesAt(find_.get(), 0))});
  }
  sqlite3_reset(find_.get());
  HF_RETURN_IF_ERROR(transaction.Commit());
  HF_RETURN_IF_ERROR(CheckInPlace());
  return found;
}

Result<bool> SqliteSource::IsThere(const RowId& row) {
  sqlite3_reset(find_.get());
  sqlite3_bind_int64(find_.get(), 1, row.position);
  HF_ASSIGN_OR_RETURN(const bool any, Step(find_));
  const bool there = any && BytesAt(find_.get(), 0) == row.id;
  sqlite3_reset(find_.get());
  return there;
}

Result<void> SqliteSource::Delete(int64_t position) {
  sqlite3_reset(delete_.get());
  sqlite3_bind_int64(delete_.get(), 1, position);
  HF_RETURN_IF_ERROR(Step(delete_));
  sqlite3_reset(delete_.get());
  if (sqlite3_changes(database_.get()) == 1) return {};
  sqlite3_reset(find_to_send_.get());
  sqlite3_bind_int64(find_to_send_.get(), 1, position);
  HF_ASSIGN_OR_RETURN(const bool still, Step(find_to_send_));
  sqlite3_reset(find_to_send_.get());
  if (!still) return {};
  return Unexpected(Code::kUnavailable,
                    fmt::format("{}: the row at {} could not be removed, and the database does not "
                                "say why; is there a trigger?",
                                path_, position));
}

Result<void> SqliteSource::Quarantine(const Poison& poison) {
  sqlite3_reset(quarantine_.get());
  sqlite3_bind_int64(quarantine_.get(), 1, poison.row.position);
  BindText(quarantine_.get(), 2, poison.reason);
  HF_RETURN_IF_ERROR(Step(quarantine_));
  sqlite3_reset(quarantine_.get());
  return Delete(poison.row.position);
}

bool SqliteSource::WasRefused() const {
  const int code = sqlite3_errcode(database_.get()) & 0xff;
  return code == SQLITE_CONSTRAINT || code == SQLITE_MISMATCH || code == SQLITE_TOOBIG;
}

Result<Source::Refusal> SqliteSource::Remove(std::span<const RowId> spooled,
                                             std::span<const Poison> poison) {
  // Parts of it, each whole: what is left is removed when the caller comes again.
  while (!spooled.empty() || !poison.empty()) {
    HF_ASSIGN_OR_RETURN(auto transaction, Transaction::Begin(*this, "BEGIN IMMEDIATE"));
    const auto end = std::chrono::steady_clock::now() + kChunkTime;
    for (size_t rows = 0;
         rows < kChunkRows && (rows == 0 || std::chrono::steady_clock::now() < end); ++rows) {
      if (!spooled.empty()) {
        HF_ASSIGN_OR_RETURN(const bool there, IsThere(spooled.front()));
        if (there) HF_RETURN_IF_ERROR(Delete(spooled.front().position));
        spooled = spooled.subspan(1);
      } else if (!poison.empty()) {
        HF_ASSIGN_OR_RETURN(const bool there, IsThere(poison.front().row));
        const Result<void> moved = there ? Quarantine(poison.front()) : Result<void>();
        if (!moved && WasRefused()) {
          return fmt::format(
              "{}; let `{}` take it, or rename that and make it anew as `holdfast outbox sql "
              "--dialect sqlite` prints it",
              moved.error().message, QuarantineName());
        }
        HF_RETURN_IF_ERROR(moved);
        poison = poison.subspan(1);
      } else {
        break;
      }
    }
    HF_RETURN_IF_ERROR(transaction.Commit());
    HF_RETURN_IF_ERROR(FlushLog());
    if (!spooled.empty() || !poison.empty()) sqlite3_sleep(kPauseMs);
  }
  HF_RETURN_IF_ERROR(CheckInPlace());
  return Refusal();
}

Result<void> SqliteSource::FlushLog() {
  sqlite3_file* log = nullptr;
  int code = sqlite3_file_control(database_.get(), "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
  if (code == SQLITE_OK && log != nullptr && log->pMethods != nullptr) {
    code = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
  }
  if (code == SQLITE_OK) return {};
  return Unexpected(Code::kIo,
                    fmt::format("{}-wal: cannot flush it: {}", path_, sqlite3_errstr(code)));
}

Result<Source::Lag> SqliteSource::Measure() {
  Lag lag;
  Lag::Part& part = lag.parts.emplace_back();
  part.owned = true;
  HF_ASSIGN_OR_RETURN(
      const Statement count,
      Prepare(fmt::format("SELECT sum(good), sum(NOT good) FROM (SELECT {} AS good FROM main.{} "
                          "WHERE {} ORDER BY {} LIMIT {})",
                          HasPosition(), QuotedName(table_), NotDone(),
                          QuotedName(options_.mapping.position), Lag::kCountMost)));
  HF_RETURN_IF_ERROR(Step(count));
  part.rows = static_cast<uint64_t>(sqlite3_column_int64(count.get(), 0));
  lag.without_position = static_cast<uint64_t>(sqlite3_column_int64(count.get(), 1));
  HF_ASSIGN_OR_RETURN(const Statement oldest,
                      Prepare(fmt::format("{} WHERE {} ORDER BY {} LIMIT 1", select_, ToSend(),
                                          QuotedName(options_.mapping.position))));
  HF_ASSIGN_OR_RETURN(const bool any, Step(oldest));
  if (any) {
    const Row row = RowOf(oldest.get());
    part.oldest_ms = row.timestamp_ms;
    part.lowest = row.position;
  }
  HF_ASSIGN_OR_RETURN(const int64_t quarantined,
                      Integer(fmt::format("SELECT count(*) FROM (SELECT 1 FROM main.{} LIMIT {})",
                                          QuotedName(QuarantineName()), Lag::kCountMost)));
  lag.quarantined = static_cast<uint64_t>(quarantined);
  return lag;
}

bool SqliteSource::IsWal() const {
  constexpr std::streamoff kVersions = 18;  // Of the format: for writing, and for reading.
  std::array<char, 2> versions{};
  std::ifstream file(path_, std::ios::binary);
  file.seekg(kVersions).read(versions.data(), versions.size());
  return file.good() && versions == std::array<char, 2>{2, 2};
}

Result<Source::Sight> SqliteSource::Look() {
  HF_RETURN_IF_ERROR(FindFile());
  Sight sight;
  HF_ASSIGN_OR_RETURN(sight.taken, SourceLock::IsTaken(LockPath()));
  const std::string directory = std::filesystem::path(path_).parent_path().string();
  if (eaccess(path_.c_str(), R_OK | W_OK) != 0 || eaccess(directory.c_str(), W_OK | X_OK) != 0)
    return Unexpected(ErrorOf(SQLITE_READONLY));
  auto lag = LookInside();
  Close(/*clean=*/true);
  if (!lag) return Unexpected(std::move(lag).error());
  sight.lag = *std::move(lag);
  return sight;
}

Result<std::optional<Source::Lag>> SqliteSource::LookInside() {
  const auto bytes_of = [this](const char* beside) {
    std::error_code none;
    const uintmax_t bytes = std::filesystem::file_size(path_ + beside, none);
    return none ? uintmax_t{0} : bytes;
  };
  const auto nobody_has_it = [&] { return IsWal() && bytes_of("-wal") == 0; };
  bool at_rest = nobody_has_it();
  if (!at_rest && bytes_of("-wal") != 0 && bytes_of("-shm") == 0) return std::nullopt;
  while (true) {
    HF_RETURN_IF_ERROR(
        OpenDatabase(UriOf(path_, at_rest ? "immutable=1" : "mode=ro&readonly_shm=1"),
                     SQLITE_OPEN_READONLY | SQLITE_OPEN_URI));
    if (!at_rest) HF_RETURN_IF_ERROR(CheckMode());
    const auto measured = [this]() -> Result<Lag> {
      HF_RETURN_IF_ERROR(CheckSchema());
      return Measure();
    }();
    if (at_rest && !nobody_has_it()) {
      at_rest = false;
      Close(/*clean=*/true);
      continue;
    }
    if (!measured) return Unexpected(measured.error());
    return *measured;
  }
}

void SqliteSource::Close(bool clean) {
  find_.reset();
  find_to_send_.reset();
  delete_.reset();
  quarantine_.reset();
  database_.reset();
  if (clean) lock_ = SourceLock();
}

}  // namespace holdfast::outbox
