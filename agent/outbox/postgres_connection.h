// A connection to PostgreSQL by libpq, as agents need it: every wait has an end, and errors say
// what to do about them.
//
// Timeouts: 5 s to connect (unless the connection string says otherwise), kLock for a lock, and of
// Timeouts `statement` for a statement, what it takes to send its rows included, and `answer` until
// a server from which nothing comes is taken for gone. Once `gives_up` is true every answer that is
// not there fails within 100 ms.
// After an error the connection is closed: what was open is rolled back, and locks are given back.
// But for Try, after which an open one waits for Rollback.
//
// `pooled`: the session may change between two transactions, so nothing is kept in it: no prepared
// statements, and settings are made in each transaction anew.
//
// Threads: one. Shutdown: the destructor.
#pragma once

#include <libpq-fe.h>

#include <atomic>
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
  static constexpr std::chrono::seconds kLock{5};
  struct Timeouts {
    std::chrono::milliseconds statement = std::chrono::seconds(10);
    std::chrono::milliseconds answer = std::chrono::seconds(15);
  };

  // As text; not set: null.
  using Parameter = std::optional<std::string>;

  static base::Result<PostgresConnection> Open(const std::string& connection, bool pooled,
                                               Timeouts timeouts,
                                               const std::atomic<bool>* gives_up = nullptr);

  // One statement, in a transaction of its own unless one was begun.
  base::Result<PostgresRows> Execute(const std::string& sql, std::span<const Parameter> parameters);
  base::Result<PostgresRows> Execute(const std::string& sql,
                                     std::initializer_list<Parameter> parameters = {}) {
    return Execute(sql, std::span<const Parameter>(parameters.begin(), parameters.size()));
  }
  base::Result<void> Begin();
  base::Result<void> Commit();
  // One statement that may take kPatience, as long as some of its rows arrive within each `answer`.
  static constexpr std::chrono::minutes kPatience{5};
  base::Result<PostgresRows> ExecutePatiently(const std::string& sql,
                                              std::span<const Parameter> parameters);
  base::Result<void> Rollback();
  // In a transaction that was begun. If the database refuses what is to be stored, for its value or
  // its type, the connection stays open.
  base::Result<PostgresRows> Try(const std::string& sql,
                                 std::span<const Parameter> parameters = {});
  [[nodiscard]] bool open() const { return connection_ != nullptr; }

  [[nodiscard]] int server_version() const { return PQserverVersion(connection_.get()); }

 private:
  struct Finish {
    void operator()(PGconn* connection) const { PQfinish(connection); }
  };

  PostgresConnection(PGconn* connection, bool pooled, Timeouts timeouts,
                     const std::atomic<bool>* gives_up)
      : connection_(connection), pooled_(pooled), timeouts_(timeouts), gives_up_(gives_up) {}

  base::Result<PostgresRows> ExecuteHere(const std::string& sql,
                                         std::span<const Parameter> parameters);
  base::Result<void> Run(const std::string& statements);
  base::Result<PostgresRows> Await(bool sent);
  base::Result<void> AwaitInput();

  std::unique_ptr<PGconn, Finish> connection_;
  bool pooled_;
  Timeouts timeouts_;
  const std::atomic<bool>* gives_up_;
  bool in_transaction_ = false;
  bool trying_ = false;
  std::map<std::string, std::string> prepared_;  // Names by statement.
};

// Parameters of an array's type.
std::string PostgresArray(std::span<const int64_t> values);
std::string PostgresArray(std::span<const int32_t> values);
std::string PostgresArray(std::span<const std::string> values);

}  // namespace holdfast::outbox
