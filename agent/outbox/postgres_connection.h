// A connection to PostgreSQL by libpq, as agents need it: every wait has an end, and errors say
// what to do about them.
//
// Timeouts: 5 s to connect (unless the connection string says otherwise), kStatement for a
// statement, kLock for a lock, and kAnswer until the server is taken for gone.
// After an error the connection is closed: what was open is rolled back, and locks are given back.
//
// `pooled`: the session may change between two transactions, so nothing is kept in it: no prepared
// statements, and settings are made in each transaction anew.
//
// Threads: one. Shutdown: the destructor.
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::outbox {

// What a statement gave, as text.
class PostgresRows {
 public:
  PostgresRows() = default;
  explicit PostgresRows(PGresult* result) : result_(result) {}

  [[nodiscard]] int count() const { return PQntuples(result_.get()); }
  // By a statement that inserts or deletes.
  [[nodiscard]] size_t changed() const;
  [[nodiscard]] bool IsNull(int row, int column) const {
    return PQgetisnull(result_.get(), row, column) != 0;
  }
  // Empty if it is null.
  [[nodiscard]] std::string_view Text(int row, int column) const;
  [[nodiscard]] int64_t Integer(int row, int column) const;
  [[nodiscard]] bool True(int row, int column) const { return Text(row, column) == "t"; }

 private:
  struct Clear {
    void operator()(PGresult* result) const { PQclear(result); }
  };
  std::unique_ptr<PGresult, Clear> result_;
};

class PostgresConnection {
 public:
  static constexpr std::chrono::seconds kStatement{10};
  static constexpr std::chrono::seconds kLock{5};
  static constexpr std::chrono::seconds kAnswer{15};

  // As text; not set: null.
  using Parameter = std::optional<std::string>;

  static base::Result<PostgresConnection> Open(const std::string& connection, bool pooled);

  // One statement, in a transaction of its own unless one was begun.
  base::Result<PostgresRows> Execute(const std::string& sql, std::span<const Parameter> parameters);
  base::Result<PostgresRows> Execute(const std::string& sql,
                                     std::initializer_list<Parameter> parameters = {}) {
    return Execute(sql, std::span<const Parameter>(parameters.begin(), parameters.size()));
  }
  base::Result<void> Begin();
  base::Result<void> Commit();

  [[nodiscard]] int server_version() const { return PQserverVersion(connection_.get()); }

 private:
  struct Finish {
    void operator()(PGconn* connection) const { PQfinish(connection); }
  };

  explicit PostgresConnection(PGconn* connection, bool pooled)
      : connection_(connection), pooled_(pooled) {}

  base::Result<PostgresRows> ExecuteHere(const std::string& sql,
                                         std::span<const Parameter> parameters);
  base::Result<void> Run(const std::string& statements);
  base::Result<PostgresRows> Await(bool sent);
  base::Result<void> AwaitInput(std::chrono::steady_clock::time_point give_up);

  std::unique_ptr<PGconn, Finish> connection_;
  bool pooled_;
  bool in_transaction_ = false;
  std::map<std::string, std::string> prepared_;  // Names by statement.
};

// Parameters of an array's type.
std::string PostgresArray(std::span<const int64_t> values);
std::string PostgresArray(std::span<const int32_t> values);
std::string PostgresArray(std::span<const std::string> values);

}  // namespace holdfast::outbox
