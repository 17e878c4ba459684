#include "bench/samples.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/random.h"

namespace holdfast::bench {
namespace {

nlohmann::ordered_json& AllRows() {
  static nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  return rows;
}

constexpr int kNameWidth = 16;

}  // namespace

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

void Samples::Add(const Samples& more) {
  bytes += more.bytes;
  seconds += more.seconds;
  commit_ms.insert(commit_ms.end(), more.commit_ms.begin(), more.commit_ms.end());
  alone_ms.insert(alone_ms.end(), more.alone_ms.begin(), more.alone_ms.end());
}

double Samples::MegabytesPerSecond() const {
  return seconds > 0 ? static_cast<double>(bytes) / seconds / 1e6 : 0;
}

double Percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = std::ceil(percent / 100 * static_cast<double>(values.size())) - 1;
  return values[static_cast<size_t>(std::max(at, 0.0))];
}

Samples RunRaw(const std::string& directory, size_t commit_bytes, double seconds) {
  const std::string path = directory + "/raw";
  const std::string payload = RandomBytes(commit_bytes);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) Die(path + ": cannot create");
  Samples samples;
  const auto begun = Clock::now();
  while (samples.seconds < seconds) {
    const auto commit_begun = Clock::now();
    if (pwrite(fd, payload.data(), payload.size(), static_cast<off_t>(samples.bytes)) !=
            static_cast<ssize_t>(payload.size()) ||
        fdatasync(fd) != 0)
      Die(path + ": cannot write");
    samples.bytes += payload.size();
    samples.commit_ms.push_back(Seconds(Clock::now() - commit_begun) * 1e3);
    samples.seconds = Seconds(Clock::now() - begun);
  }
  close(fd);
  unlink(path.c_str());
  return samples;
}

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  base::Random random(1);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

void Die(const std::string& what) {
  std::fprintf(stderr, "holdfast_bench: %s\n", what.c_str());
  std::exit(1);
}

Table::Table(std::string workload, std::vector<std::string> columns)
    : workload_(std::move(workload)), columns_(std::move(columns)) {
  std::printf("\n%-*s", kNameWidth, columns_.front().c_str());
  for (size_t i = 1; i < columns_.size(); ++i) std::printf(" %11s", columns_[i].c_str());
  std::printf("\n");
}

void Table::Add(const std::string& name, const std::vector<double>& values) {
  nlohmann::ordered_json row{{"workload", workload_}, {columns_.front(), name}};
  std::printf("%-*s", kNameWidth, name.c_str());
  for (size_t i = 0; i < values.size(); ++i) {
    std::printf(" %11.*f", values[i] >= 1000 ? 0 : 2, values[i]);
    row[columns_[i + 1]] = values[i];
  }
  std::printf("\n");
  std::fflush(stdout);
  AllRows().push_back(std::move(row));
}

void Table::WriteJson(const std::string& path) {
  std::ofstream file(path);
  file << AllRows().dump(1) << "\n";
  file.flush();
  if (!file) Die(path + ": cannot write");
}

}  // namespace holdfast::bench
