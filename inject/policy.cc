#include "inject/policy.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "config/config.h"
#include "inject/quantity.h"

namespace holdfast::inject {
namespace {

using base::Code;

constexpr size_t kAgentFileBytesMax = size_t{128} << 10;
constexpr std::pair<int, int> kFirstWithSidecars{1, 29};

// "1.36", "v1.29.3", "1.30+".
std::optional<std::pair<int, int>> ParseVersion(std::string_view text) {
  if (text.starts_with('v')) text.remove_prefix(1);
  std::pair<int, int> version;
  const char* const end = text.data() + text.size();
  const auto major = std::from_chars(text.data(), end, version.first);
  if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') return std::nullopt;
  if (std::from_chars(major.ptr + 1, end, version.second).ec != std::errc()) return std::nullopt;
  return version;
}

base::Result<std::string> UnfitClusterOf(const std::string& kubernetes_version) {
  if (kubernetes_version.empty()) return std::string();
  const auto version = ParseVersion(kubernetes_version);
  if (!version) {
    return base::Unexpected(Code::kInvalid, fmt::format("inject.kubernetes_version is \"{}\", and "
                                                        "must be a version such as 1.36",
                                                        kubernetes_version));
  }
  if (*version >= kFirstWithSidecars) return std::string();
  return fmt::format("the cluster is Kubernetes {}, and native sidecars need 1.29",
                     kubernetes_version);
}

base::Result<> CheckQuantities(const config::Sidecar& sidecar) {
  const auto spool = ParseQuantity(sidecar.spool_size());
  if (!spool || *spool < kSpoolBytesMin) {
    return base::Unexpected(
        Code::kInvalid, fmt::format("inject.sidecar.spool_size is \"{}\", and must be a quantity "
                                    "of at least 16Mi, such as 2Gi",
                                    sidecar.spool_size()));
  }
  for (const auto& [name, quantity] : sidecar.resources()) {
    if (ParseQuantity(quantity)) continue;
    return base::Unexpected(Code::kInvalid,
                            fmt::format("inject.sidecar.resources.{} is \"{}\", and must be a "
                                        "quantity such as 100m or 64Mi",
                                        name, quantity));
  }
  return {};
}

base::Result<std::string> ReadAgentFile(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text(kAgentFileBytesMax + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.eof()) {
    if (!in) return base::Unexpected(base::ErrnoError("cannot read " + file, errno));
    return base::Unexpected(Code::kInvalid, file +
                                                ": larger than 128KiB, and each pod carries it in "
                                                "an annotation");
  }
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

}  // namespace

base::Result<std::shared_ptr<const Policy>> Policy::Load(const config::Inject& config) {
  HF_ASSIGN_OR_RETURN(std::string unfit_cluster, UnfitClusterOf(config.kubernetes_version()));
  const config::Sidecar& sidecar = config.sidecar();
  HF_RETURN_IF_ERROR(CheckQuantities(sidecar));
  if (sidecar.kafka_port() == sidecar.admin_port()) {
    return base::Unexpected(Code::kInvalid,
                            "inject.sidecar.kafka_port and admin_port must not be the same");
  }
  if (!sidecar.node_directory().empty() && !sidecar.node_directory().starts_with('/')) {
    return base::Unexpected(Code::kInvalid, "inject.sidecar.node_directory must begin with /");
  }
  if (sidecar.durability() == config::Sidecar::node && sidecar.node_directory().empty()) {
    return base::Unexpected(Code::kInvalid,
                            "inject.sidecar.durability is node, which needs agents on the nodes, "
                            "and inject.sidecar.node_directory, where these are");
  }
  HF_ASSIGN_OR_RETURN(std::string yaml, ReadAgentFile(sidecar.agent_config_file()));
  HF_ASSIGN_OR_RETURN(auto agent, config::Load({.references = config::References::kKeep,
                                                .file = sidecar.agent_config_file()}));
  return std::shared_ptr<const Policy>(
      new Policy(config, std::move(yaml), std::move(agent), std::move(unfit_cluster)));
}

}  // namespace holdfast::inject
