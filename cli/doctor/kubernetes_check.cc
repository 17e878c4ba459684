#include "cli/doctor/kubernetes_check.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>

#include "agent/spool_text.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;

constexpr const char* kToken = "/var/run/secrets/kubernetes.io/serviceaccount/token";
// Past this share of its periods waiting is felt.
constexpr double kThrottledShare = 0.05;
constexpr uint64_t kPeriodsMin = 100;
// For the process to end after the drain.
constexpr std::chrono::seconds kReserve{3};

}  // namespace

Surroundings ReadSurroundings(const CgroupLimits& limits) {
  struct statvfs root {};
  return {.in_kubernetes =
              std::getenv("KUBERNETES_SERVICE_HOST") != nullptr || access(kToken, F_OK) == 0,
          .user = geteuid(),
          .root_read_only = statvfs("/", &root) == 0 && (root.f_flag & ST_RDONLY) != 0,
          .token_mounted = access(kToken, F_OK) == 0,
          .limits = limits};
}

Findings CheckKubernetes(const Surroundings& surroundings, std::chrono::milliseconds drain) {
  Findings findings(Area::kKubernetes);
  if (!surroundings.in_kubernetes) {
    findings.Note("not in Kubernetes");
    return findings;
  }
  if (surroundings.user == 0) {
    findings.Trouble(Event::kRunsAsRoot, "the container runs as user 0");
  } else {
    findings.Good(fmt::format("the container runs as user {}", surroundings.user));
  }
  if (surroundings.token_mounted)
    findings.Trouble(Event::kTokenMounted, fmt::format("{} is there", kToken));
  findings.Note(surroundings.root_read_only
                    ? "the container's root file system is read-only"
                    : "the container's root file system can be written to; the agent needs no "
                      "more than its spool");
  const CgroupLimits& limits = surroundings.limits;
  findings.Note(fmt::format(
      "the container may use {} of memory and {} of the processors",
      limits.memory_bytes_max ? agent::BytesText(*limits.memory_bytes_max) : "any amount",
      limits.cpus_max ? fmt::format("{:.2g}", *limits.cpus_max) : "all"));
  const double share = limits.periods == 0 ? 0
                                           : static_cast<double>(limits.throttled_periods) /
                                                 static_cast<double>(limits.periods);
  if (limits.periods >= kPeriodsMin && share > kThrottledShare)
    findings.Trouble(Event::kCpuThrottled,
                     fmt::format("the container had to wait for a processor in {:.0f} % of its "
                                 "periods",
                                 share * 100));
  const auto needed = std::chrono::ceil<std::chrono::seconds>(drain + kReserve);
  findings.Note(
      fmt::format("the pod's terminationGracePeriodSeconds has to be {} or more: "
                  "drain_timeout_ms, drain_backlog_ms, and a little to end",
                  needed.count()));
  return findings;
}

}  // namespace holdfast::cli::doctor
