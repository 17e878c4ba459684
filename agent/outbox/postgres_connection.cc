#include "agent/outbox/postgres_connection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

namespace holdfast::outbox {
namespace {

using base::Code;
using base::Error;
using base::Result;
using base::Unexpected;
using std::chrono::steady_clock;

// Of TCP, on both sides.
constexpr const char* kKeepaliveIdle = "10";
constexpr const char* kKeepaliveInterval = "2";
constexpr const char* kKeepaliveCount = "3";
// Whether to give up.
constexpr std::chrono::milliseconds kLookEvery(100);

// The index on the position is used whatever the statistics say: those of a queue are wrong most of
// the time. Isolation and durability do not depend on what the database has as its defaults: rows
// that were removed must not come back after a crash.
std::string Settings(bool local, PostgresConnection::Timeouts timeouts) {
  const std::string set = local ? "SET LOCAL " : "SET ";
  std::string settings;
  for (const std::string& setting : {
           fmt::format("statement_timeout = '{}ms'", timeouts.statement.count()),
           fmt::format("lock_timeout = '{}s'", PostgresConnection::kLock.count()),
           fmt::format("idle_in_transaction_session_timeout = '{}ms'", timeouts.answer.count()),
           std::string("enable_seqscan = off"),
           std::string("enable_bitmapscan = off"),
           std::string("enable_sort = off"),
           std::string("jit = off"),
       }) {
    settings += set + setting + "; ";
  }
  if (!local) {
    // A session whose client is gone must not keep its locks for hours.
    settings += fmt::format(
        "SET default_transaction_isolation = 'read committed'; SET tcp_keepalives_idle = {}; SET "
        "tcp_keepalives_interval = {}; SET tcp_keepalives_count = {}; SET tcp_user_timeout = "
        "'{}ms'; ",
        kKeepaliveIdle, kKeepaliveInterval, kKeepaliveCount, timeouts.answer.count());
  }
  return settings + fmt::format(
                        "SELECT set_config('synchronous_commit', 'on', {}) "
                        "WHERE current_setting('synchronous_commit') = 'off'",
                        local);
}

std::string Trimmed(const char* message) {
  std::string text = message;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

Error ErrorOf(const PGresult* result) {
  const auto field = [result](int code) {
    const char* text = PQresultErrorField(result, code);
    return std::string_view(text == nullptr ? "" : text);
  };
  const std::string_view state = field(PG_DIAG_SQLSTATE);
  // Not the details: they may hold rows.
  std::string message = fmt::format("PostgreSQL: {} ({})", field(PG_DIAG_MESSAGE_PRIMARY), state);
  if (state.empty()) return {Code::kUnavailable, Trimmed(PQresultErrorMessage(result))};
  if (state == "42501")
    return {Code::kInvalid, message + "; `holdfast outbox sql` prints the grants"};
  if (state == "42P01" || state == "42703" || state == "3F000") {
    return {Code::kInvalid, message + "; `holdfast outbox sql` prints what has to be there"};
  }
  if (state == "26000" || state == "42P05") {
    return {Code::kInvalid, message +
                                "; is there a connection pooler in between that shares sessions? "
                                "Behind one, ownership has to be `lease`"};
  }
  if (state == "25006") {
    return {Code::kInvalid, message + "; is this a replica, or default_transaction_read_only on?"};
  }
  if (state == "57014") return {Code::kTimeout, std::move(message)};
  const std::string_view kind = state.substr(0, 2);
  if (kind == "08" || kind == "53" || kind == "57" || kind == "40" || kind == "25" ||
      state == "55P03") {
    return {Code::kUnavailable, std::move(message)};
  }
  if (kind == "42" || kind == "22" || kind == "23" || kind == "28" || kind == "3D" ||
      kind == "0A") {
    return {Code::kInvalid, std::move(message)};
  }
  return {Code::kIo, std::move(message)};
}

// Not that a table or a right is missing: Open says what to do about these.
bool IsRefusal(const PGresult* result) {
  const char* const text = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const std::string_view state = text == nullptr ? "" : text;
  const auto is_one_of = [](std::string_view one, std::initializer_list<std::string_view> all) {
    return std::ranges::find(all, one) != all.end();
  };
  // Data, constraints, views with a check, limits, and what a trigger raises; then types, and a
  // column that takes no values but its own.
  return is_one_of(state.substr(0, 2), {"22", "23", "44", "54", "P0"}) ||
         is_one_of(state, {"42804", "42846", "428C9"});
}

// libpq gives no SQLSTATE for it.
Error ConnectError(const PGconn* connection) {
  std::string message = "PostgreSQL: " + Trimmed(PQerrorMessage(connection));
  const bool invalid = std::ranges::any_of(
      std::array{"authentication failed", "does not exist", "no pg_hba.conf entry",
                 "permission denied for database", "no password supplied",
                 "certificate verify failed", "does not match host name", "certificate file",
                 "does not support SSL"},
      [&](const char* what) { return message.find(what) != std::string::npos; });
  return {invalid ? Code::kInvalid : Code::kUnavailable, std::move(message)};
}

template <class T>
std::string ArrayOf(std::span<const T> values) {
  return fmt::format("{{{}}}", fmt::join(values, ","));
}

}  // namespace

std::string_view PostgresRows::Text(int row, int column) const {
  return {PQgetvalue(result_.get(), row, column),
          static_cast<size_t>(PQgetlength(result_.get(), row, column))};
}

size_t PostgresRows::changed() const {
  const std::string_view text = PQcmdTuples(result_.get());
  size_t rows = 0;
  std::from_chars(text.data(), text.data() + text.size(), rows);
  return rows;
}

int64_t PostgresRows::Integer(int row, int column) const {
  const std::string_view text = Text(row, column);
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string PostgresArray(std::span<const int64_t> values) { return ArrayOf(values); }
std::string PostgresArray(std::span<const int32_t> values) { return ArrayOf(values); }

std::string PostgresArray(std::span<const std::string> values) {
  std::string array = "{";
  for (const std::string& value : values) {
    if (array.size() > 1) array += ',';
    array += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') array += '\\';
      array += c;
    }
    array += '"';
  }
  return array + '}';
}

Result<PostgresConnection> PostgresConnection::Open(const std::string& connection, bool pooled,
                                                    Timeouts timeouts,
                                                    const std::atomic<bool>* gives_up) {
  // It may hold a password, and what libpq says may quote it.
  PQconninfoOption* parsed = PQconninfoParse(connection.c_str(), nullptr);
  if (parsed == nullptr) {
    return Unexpected(Code::kInvalid,
                      "the connection is neither `host=… user=… dbname=…` nor `postgresql://…` as "
                      "libpq takes them");
  }
  PQconninfoFree(parsed);
  // What stands before the connection string is a default.
  const std::string answer_ms = std::to_string(timeouts.answer.count());
  const std::array<std::pair<const char*, const char*>, 9> settings{{
      {"connect_timeout", "5"},
      {"application_name", "holdfast-outbox"},
      {"tcp_user_timeout", answer_ms.c_str()},
      {"keepalives_idle", kKeepaliveIdle},
      {"keepalives_interval", kKeepaliveInterval},
      {"keepalives_count", kKeepaliveCount},
      {"dbname", connection.c_str()},
      {"client_encoding", "UTF8"},
      {nullptr, nullptr},
  }};
  std::vector<const char*> names;
  std::vector<const char*> values;
  for (const auto& [name, value] : settings) {
    names.push_back(name);
    values.push_back(value);
  }
  PostgresConnection made(PQconnectdbParams(names.data(), values.data(), /*expand_dbname=*/1),
                          pooled, timeouts, gives_up);
  if (PQstatus(made.connection_.get()) != CONNECTION_OK) {
    return Unexpected(ConnectError(made.connection_.get()));
  }
  PQsetNoticeProcessor(
      made.connection_.get(), [](void*, const char*) {}, nullptr);
  if (!pooled) HF_RETURN_IF_ERROR(made.Run(Settings(/*local=*/false, timeouts)));
  return made;
}

Result<void> PostgresConnection::AwaitInput() {
  auto give_up = steady_clock::now() + timeouts_.answer;
  while (PQisBusy(connection_.get()) != 0) {
    if (gives_up_ != nullptr && *gives_up_)
      return Unexpected(Code::kUnavailable, "PostgreSQL: no answer before the agent stopped");
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(give_up - steady_clock::now());
    if (left.count() <= 0)
      return Unexpected(Code::kTimeout, "PostgreSQL: no answer; connecting anew");
    pollfd wait{.fd = PQsocket(connection_.get()), .events = POLLIN, .revents = 0};
    const int ready = poll(&wait, 1, static_cast<int>(std::min(left, kLookEvery).count()));
    if (ready < 0 && errno != EINTR) return Unexpected(base::ErrnoError("PostgreSQL: poll", errno));
    if (ready <= 0) continue;
    if (PQconsumeInput(connection_.get()) == 0) {
      return Unexpected(Code::kUnavailable,
                        "PostgreSQL: " + Trimmed(PQerrorMessage(connection_.get())));
    }
    // However slow the link is, what comes over it is an answer.
    give_up = steady_clock::now() + timeouts_.answer;
  }
  return {};
}

// Of several statements, the last one's rows.
Result<PostgresRows> PostgresConnection::Await(bool sent) {
  const auto fail = [this](Error error) {
    connection_.reset();
    return Unexpected(std::move(error));
  };
  if (!sent) {
    return fail({Code::kUnavailable, "PostgreSQL: " + Trimmed(PQerrorMessage(connection_.get()))});
  }
  PostgresRows rows;
  std::optional<Error> refused;
  while (true) {
    if (auto arrived = AwaitInput(); !arrived) return fail(std::move(arrived).error());
    PGresult* result = PQgetResult(connection_.get());
    if (result == nullptr && refused) return Unexpected(*std::move(refused));
    if (result == nullptr) return rows;
    rows = PostgresRows(result);
    const ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) continue;
    if (!trying_ || !IsRefusal(result)) return fail(ErrorOf(result));
    refused = ErrorOf(result);
  }
}

Result<void> PostgresConnection::Run(const std::string& statements) {
  HF_RETURN_IF_ERROR(Await(PQsendQuery(connection_.get(), statements.c_str()) == 1));
  return {};
}

Result<void> PostgresConnection::Begin() {
  if (!connection_) return Unexpected(Code::kUnavailable, "PostgreSQL: not connected");
  HF_RETURN_IF_ERROR(Run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE" +
                         (pooled_ ? "; " + Settings(/*local=*/true, timeouts_) : std::string())));
  in_transaction_ = true;
  return {};
}

Result<void> PostgresConnection::Commit() {
  in_transaction_ = false;
  return Run("COMMIT");
}

Result<void> PostgresConnection::Rollback() {
  in_transaction_ = false;
  return Run("ROLLBACK");
}

Result<PostgresRows> PostgresConnection::Try(const std::string& sql,
                                             std::span<const Parameter> parameters) {
  trying_ = true;
  auto rows = Execute(sql, parameters);
  trying_ = false;
  return rows;
}

Result<PostgresRows> PostgresConnection::Execute(const std::string& sql,
                                                 std::span<const Parameter> parameters) {
  if (!connection_) return Unexpected(Code::kUnavailable, "PostgreSQL: not connected");
  if (!pooled_ || in_transaction_) return ExecuteHere(sql, parameters);
  HF_RETURN_IF_ERROR(Begin());
  HF_ASSIGN_OR_RETURN(PostgresRows rows, ExecuteHere(sql, parameters));
  HF_RETURN_IF_ERROR(Commit());
  return rows;
}

Result<PostgresRows> PostgresConnection::ExecutePatiently(const std::string& sql,
                                                          std::span<const Parameter> parameters) {
  HF_RETURN_IF_ERROR(Begin());
  HF_RETURN_IF_ERROR(Run(fmt::format("SET LOCAL statement_timeout = '{}min'", kPatience.count())));
  HF_ASSIGN_OR_RETURN(PostgresRows rows, ExecuteHere(sql, parameters));
  HF_RETURN_IF_ERROR(Commit());
  return rows;
}

Result<PostgresRows> PostgresConnection::ExecuteHere(const std::string& sql,
                                                     std::span<const Parameter> parameters) {
  std::vector<const char*> values;
  for (const Parameter& one : parameters) values.push_back(one ? one->c_str() : nullptr);
  const int count = static_cast<int>(values.size());
  if (pooled_) {
    return Await(PQsendQueryParams(connection_.get(), sql.c_str(), count, nullptr, values.data(),
                                   nullptr, nullptr, 0) == 1);
  }
  auto statement = prepared_.find(sql);
  if (statement == prepared_.end()) {
    const std::string name = "holdfast_" + std::to_string(prepared_.size());
    HF_RETURN_IF_ERROR(
        Await(PQsendPrepare(connection_.get(), name.c_str(), sql.c_str(), 0, nullptr) == 1));
    statement = prepared_.emplace(sql, name).first;
  }
  return Await(PQsendQueryPrepared(connection_.get(), statement->second.c_str(), count,
                                   values.data(), nullptr, nullptr, 0) == 1);
}

}  // namespace holdfast::outbox
