#include "cli/doctor/cgroup.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <string_view>
#include <vector>

#include "cli/doctor/kernel_file.h"

namespace holdfast::cli::doctor {
namespace {

namespace fs = std::filesystem;

// Version 1 writes no limit as a number that no host has.
constexpr uint64_t kNoLimitV1 = uint64_t{1} << 62;

std::optional<uint64_t> NumberOf(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  return number;
}

// From the group up to the root: inside of a container the path may be that of the host, which is
// not there, and then the root is the container's.
std::vector<fs::path> WayUp(const fs::path& hierarchy, std::string group) {
  std::vector<fs::path> way;
  std::error_code error;
  while (group.size() > 1) {
    if (fs::path path = hierarchy.string() + group; fs::exists(path, error)) way.push_back(path);
    group.resize(group.rfind('/'));
  }
  way.push_back(hierarchy);
  return way;
}

template <class Number>
void TakeLeast(std::optional<Number>& least, std::optional<Number> other) {
  if (other) least = std::min(least.value_or(*other), *other);
}

std::optional<double> ShareOf(std::optional<uint64_t> quota, std::optional<uint64_t> period) {
  if (!quota || !period || *period == 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

void ReadThrottling(const fs::path& group, CgroupLimits& limits) {
  std::ifstream in(group / "cpu.stat");
  std::string name;
  for (uint64_t value = 0; in >> name >> value;) {
    if (name == "nr_periods") limits.periods = std::max(limits.periods, value);
    if (name == "nr_throttled")
      limits.throttled_periods = std::max(limits.throttled_periods, value);
  }
}

void ReadUnified(const fs::path& group, CgroupLimits& limits) {
  TakeLeast(limits.memory_bytes_max, NumberOf(ReadLine(group / "memory.max")));
  const std::string cpu = ReadLine(group / "cpu.max");  // "max 100000", "50000 100000"
  const size_t blank = std::min(cpu.find(' '), cpu.size());
  TakeLeast(limits.cpus_max,
            ShareOf(NumberOf(cpu),
                    NumberOf(std::string_view(cpu).substr(std::min(blank + 1, cpu.size())))));
  ReadThrottling(group, limits);
}

void ReadMemoryV1(const fs::path& group, CgroupLimits& limits) {
  auto bytes = NumberOf(ReadLine(group / "memory.limit_in_bytes"));
  if (bytes && *bytes >= kNoLimitV1) bytes.reset();
  TakeLeast(limits.memory_bytes_max, bytes);
}

void ReadCpuV1(const fs::path& group, CgroupLimits& limits) {
  TakeLeast(limits.cpus_max, ShareOf(NumberOf(ReadLine(group / "cpu.cfs_quota_us")),
                                     NumberOf(ReadLine(group / "cpu.cfs_period_us"))));
  ReadThrottling(group, limits);
}

bool Lists(std::string_view list, std::string_view wanted) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == wanted) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

}  // namespace

CgroupLimits ReadCgroup(const std::string& root) {
  CgroupLimits limits;
  const fs::path groups = fs::path(root) / "sys/fs/cgroup";
  std::ifstream in(fs::path(root) / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // 4:memory:/a/b, or 0::/a/b
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const fs::path& one : WayUp(groups, group)) ReadUnified(one, limits);
    }
    if (Lists(controllers, "memory")) {
      for (const fs::path& one : WayUp(groups / "memory", group)) ReadMemoryV1(one, limits);
    }
    if (Lists(controllers, "cpu")) {
      for (const fs::path& one : WayUp(groups / "cpu", group)) ReadCpuV1(one, limits);
    }
  }
  return limits;
}

}  // namespace holdfast::cli::doctor
