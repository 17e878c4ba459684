// A PostgreSQL server of a test's own, in a temporary folder, on a Unix socket and a loopback port.
// Whoever may use them is its superuser. It ends with the test, whatever happens to that.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace holdfast::test {

class PostgresServer {
 public:
  // `settings`: as `postgres -c` takes them. It is started.
  explicit PostgresServer(std::vector<std::string> settings = {});
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  void Start();
  void Stop();
  // All its processes at once.
  void Kill();

  [[nodiscard]] std::string Connection(const std::string& database = "postgres",
                                       const std::string& user = "postgres") const;
  [[nodiscard]] int port() const { return port_; }
  // Its own, where files for it may lie.
  [[nodiscard]] const std::string& directory() const { return directory_; }

 private:
  [[nodiscard]] pid_t Run(const std::vector<std::string>& command) const;
  void WaitUntilReady() const;
  [[nodiscard]] std::string Log() const;

  const std::vector<std::string> settings_;
  std::string directory_;
  const int port_holder_;
  const int port_;
  pid_t pid_ = -1;
};

}  // namespace holdfast::test
