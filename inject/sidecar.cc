#include "inject/sidecar.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace holdfast::inject {
namespace {

using nlohmann::json;

constexpr int kUser = 65532;
constexpr const char* kAdminPort = "holdfast-admin";
// A year. Apps start once the agent takes records, and a spool that is full of what the tier has
// not taken makes them wait for as long as that lasts. To kill the agent would not make room, and
// one that cannot start ends by itself. The price: there is no liveness probe before this one has
// succeeded, so that one that hangs until then is not started anew.
constexpr int kStartupFailures = 365 * 24 * 3600;

json ProbeOf(const char* path, int period_seconds, int failures) {
  return {{"httpGet", {{"path", path}, {"port", kAdminPort}}},
          {"periodSeconds", period_seconds},
          {"timeoutSeconds", 5},
          {"failureThreshold", failures}};
}

json SecurityContext() {
  return {{"runAsUser", kUser},
          {"runAsGroup", kUser},
          {"runAsNonRoot", true},
          {"readOnlyRootFilesystem", true},
          {"allowPrivilegeEscalation", false},
          {"capabilities", {{"drop", {"ALL"}}}},
          {"seccompProfile", {{"type", "RuntimeDefault"}}}};
}

json ResourcesOf(const std::map<std::string, std::string>& resources) {
  json all = json::object();
  for (const auto& [name, quantity] : resources) {
    const size_t dot = name.find('.');
    all[name.substr(0, dot)][name.substr(dot + 1)] = quantity;
  }
  return all;
}

json FieldVariable(const char* name, const char* path) {
  return {{"name", name}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
}

json MountsOf(const Sidecar& sidecar) {
  json spool = {{"name", kSpoolVolume}, {"mountPath", "/var/lib/holdfast"}};
  if (sidecar.durability == config::Sidecar::node)
    spool["subPathExpr"] = "$(POD_NAMESPACE)_$(POD_NAME)_$(POD_UID)";
  json mounts = json::array();
  mounts.push_back({{"name", kConfigVolume}, {"mountPath", "/etc/holdfast"}, {"readOnly", true}});
  if (!sidecar.secret.empty()) {
    mounts.push_back(
        {{"name", kSecretVolume}, {"mountPath", "/etc/holdfast/secret"}, {"readOnly", true}});
  }
  mounts.push_back(std::move(spool));
  // The ServiceAccount plug-in leaves a container alone that has a mount in the token's place.
  mounts.push_back({{"name", kNoTokenVolume},
                    {"mountPath", "/var/run/secrets/kubernetes.io/serviceaccount"},
                    {"readOnly", true}});
  return mounts;
}

}  // namespace

json ContainerOf(const config::Sidecar& settings, const Sidecar& sidecar) {
  json arguments = {"agent",
                    "--config",
                    "/etc/holdfast/agent.yaml",
                    "--spool",
                    "/var/lib/holdfast/spool",
                    "--listen",
                    fmt::format("127.0.0.1:{}", settings.kafka_port()),
                    "--admin",
                    fmt::format("0.0.0.0:{}", settings.admin_port())};
  for (const std::string& argument : sidecar.arguments) arguments.push_back(argument);
  json container = {
      {"name", kContainerName},
      {"image", settings.image()},
      {"imagePullPolicy", config::Sidecar::PullPolicy_Name(settings.image_pull_policy())},
      {"restartPolicy", "Always"},
      {"args", std::move(arguments)},
      {"ports",
       {{{"name", kAdminPort}, {"containerPort", settings.admin_port()}, {"protocol", "TCP"}}}},
      {"startupProbe", ProbeOf("/ready", 1, kStartupFailures)},
      {"livenessProbe", ProbeOf("/live", 10, 3)},
      {"readinessProbe", ProbeOf("/ready", 5, 3)},
      {"resources", ResourcesOf(sidecar.resources)},
      {"securityContext", SecurityContext()},
      {"volumeMounts", MountsOf(sidecar)}};
  if (sidecar.durability == config::Sidecar::node) {
    container["env"] = {FieldVariable("POD_NAMESPACE", "metadata.namespace"),
                        FieldVariable("POD_NAME", "metadata.name"),
                        FieldVariable("POD_UID", "metadata.uid")};
  }
  return container;
}

json VolumesOf(const config::Sidecar& settings, const Sidecar& sidecar) {
  json volumes = json::array();
  volumes.push_back({{"name", kConfigVolume},
                     {"downwardAPI",
                      {{"items",
                        {{{"path", "agent.yaml"},
                          {"fieldRef",
                           {{"fieldPath", fmt::format("metadata.annotations['{}']",
                                                      kAgentConfigAnnotation)}}}}}}}}});
  if (!sidecar.secret.empty())
    volumes.push_back({{"name", kSecretVolume}, {"secret", {{"secretName", sidecar.secret}}}});
  if (sidecar.durability == config::Sidecar::pod) {
    volumes.push_back({{"name", kSpoolVolume}, {"emptyDir", {{"sizeLimit", sidecar.spool_size}}}});
  } else if (sidecar.durability == config::Sidecar::node) {
    volumes.push_back(
        {{"name", kSpoolVolume},
         {"hostPath", {{"path", settings.node_directory() + "/pods"}, {"type", "Directory"}}}});
  }
  volumes.push_back({{"name", kNoTokenVolume}, {"emptyDir", json::object()}});
  return volumes;
}

}  // namespace holdfast::inject
