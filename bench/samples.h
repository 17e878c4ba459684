// What the benchmarks measure and print: samples of commits, raw appends to set beside them, and
// tables that are JSON as well.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace holdfast::bench {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration duration);

struct Samples {
  uint64_t bytes = 0;
  double seconds = 0;
  std::vector<double> commit_ms;  // From one commit to the next; raw: a write and its flush.
  std::vector<double> alone_ms;   // Until a single entry is answered, when nothing else is there.

  void Add(const Samples& more);
  [[nodiscard]] double MegabytesPerSecond() const;
};

// 100 is the largest. 0 if there are none.
double Percentile(std::vector<double> values, double percent);

// Append + fdatasync to a new file, of so many bytes at a time.
Samples RunRaw(const std::string& directory, size_t commit_bytes, double seconds);

std::string RandomBytes(size_t size);

// Writes to standard error and exits with 1.
[[noreturn]] void Die(const std::string& what);

// Prints a row as soon as it is known.
class Table {
 public:
  // Column names; the first column is text.
  Table(std::string workload, std::vector<std::string> columns);
  // As many values as there are further columns.
  void Add(const std::string& name, const std::vector<double>& values);
  // The rows of all tables so far, as one JSON array.
  static void WriteJson(const std::string& path);

 private:
  const std::string workload_;
  const std::vector<std::string> columns_;
};

}  // namespace holdfast::bench
