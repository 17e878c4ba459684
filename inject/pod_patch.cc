#include "inject/pod_patch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <utility>

#include "config/value.h"
#include "inject/agent_settings.h"
#include "inject/json_access.h"
#include "inject/quantity.h"
#include "inject/sidecar.h"

namespace holdfast::inject {
namespace {

using nlohmann::json;

constexpr std::string_view kInjectPrefix = "inject.holdfast.io/";
constexpr const char* kInjectLabel = "holdfast.io/inject";
constexpr const char* kMirrorAnnotation = "kubernetes.io/config.mirror";
constexpr int64_t kGraceSecondsDefault = 30;
constexpr int64_t kGraceSecondsMax = int64_t{366} * 24 * 3600;
constexpr size_t kShownMax = 64;
constexpr const char* kDiskRequest = "requests.ephemeral-storage";
constexpr const char* kDiskLimit = "limits.ephemeral-storage";
// What the kubelet keeps of a container's log, five files of 10 MiB, and some more.
constexpr double kLogBytes = 64 << 20;

constexpr std::array<std::string_view, 12> kKnownAnnotations{
    "durability", "spool-size",    "bootstrap-env", "secret",
    "status",     "agent-config",  "requests.cpu",  "requests.memory",
    "limits.cpu", "limits.memory", kDiskRequest,    kDiskLimit};

// For a message: what a pod says may be long.
std::string Shown(std::string_view text) {
  if (text.size() <= kShownMax) return std::string(text);
  size_t end = kShownMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "...";
}

// A part of a JSON pointer.
std::string Escaped(std::string_view part) {
  std::string escaped;
  for (const char c : part) {
    if (c == '~') {
      escaped += "~0";
    } else if (c == '/') {
      escaped += "~1";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

bool IsVariableName(std::string_view name) {
  return !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
         std::ranges::all_of(name, [](unsigned char c) {
           return std::isalnum(c) || c == '_' || c == '-' || c == '.';
         });
}

// A DNS subdomain, as names of Secrets are.
bool IsObjectName(std::string_view name) {
  const auto is_end = [](unsigned char c) { return std::islower(c) || std::isdigit(c); };
  return !name.empty() && name.size() <= 253 && is_end(static_cast<unsigned char>(name.front())) &&
         is_end(static_cast<unsigned char>(name.back())) &&
         std::ranges::all_of(name,
                             [&](unsigned char c) { return is_end(c) || c == '-' || c == '.'; });
}

std::vector<std::string> SplitNames(std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    std::string_view name = text.substr(0, comma);
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    if (!name.empty()) names.emplace_back(name);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return names;
}

// One pod on its way to a patch.
class Patcher {
 public:
  Patcher(const Policy& policy, const json& pod) : policy_(policy), pod_(pod) {}

  PodPatch Run() {
    ReadAnnotations();
    if (const auto early = Settle()) {
      patch_.verdict = *early;
      return std::move(patch_);
    }
    CheckPod();
    Sidecar sidecar = ReadSidecar();
    const std::vector<std::string> variables = ReadBootstrapEnv();
    CheckSpool(sidecar);
    LimitDisk(&sidecar);
    sidecar.arguments =
        AgentSettingsOf(policy_,
                        {.grace_period_ms = GraceSeconds() * 1000,
                         .spool_bytes = ParseQuantity(sidecar.spool_size).value_or(0),
                         .settings = settings_},
                        &patch_.reasons);
    if (!patch_.reasons.empty()) {
      patch_.verdict = Verdict::kRefuse;
      return std::move(patch_);
    }
    patch_.verdict = Verdict::kInject;
    SetAnnotations(sidecar);
    // The variables first: they are put where the containers stand now.
    SetVariables("initContainers", variables);
    SetVariables("containers", variables);
    AddContainer(ContainerOf(policy_.sidecar(), sidecar));
    AddVolumes(VolumesOf(policy_.sidecar(), sidecar));
    RaisePodResources(sidecar);
    return std::move(patch_);
  }

 private:
  template <class... Args>
  void Refuse(fmt::format_string<Args...> format, Args&&... args) {
    patch_.reasons.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  void Operation(json operation) { patch_.operations.push_back(std::move(operation)); }

  void ReadAnnotations() {
    const json* const annotations = Find(pod_, {"metadata", "annotations"});
    if (annotations == nullptr || !annotations->is_object()) return;
    for (const auto& [name, value] : annotations->items()) {
      if (!value.is_string()) continue;  // The API server refuses it.
      const auto& text = value.get_ref<const std::string&>();
      if (name.starts_with(kConfigPrefix)) {
        settings_[name.substr(kConfigPrefix.size())] = text;
      } else if (name.starts_with(kInjectPrefix)) {
        annotations_[name.substr(kInjectPrefix.size())] = text;
      }
    }
  }

  // The API server sends nothing else. A patch of another shape would not apply.
  bool IsWellFormed() const {
    const auto is = [](const json* at, json::value_t type) {
      return at == nullptr || at->type() == type;
    };
    const json* const metadata = Find(pod_, "metadata");
    const json* const spec = Find(pod_, "spec");
    if (spec == nullptr || !is(metadata, json::value_t::object) ||
        !is(spec, json::value_t::object) ||
        !is(Find(pod_, {"metadata", "annotations"}), json::value_t::object) ||
        !is(Find(*spec, "volumes"), json::value_t::array))
      return false;
    for (const char* list : {"initContainers", "containers"}) {
      if (!is(Find(*spec, list), json::value_t::array)) return false;
      for (const json& container : ListOf(*spec, list))
        if (!container.is_object() || !is(Find(container, "env"), json::value_t::array))
          return false;
    }
    return true;
  }

  // What is known without looking closer.
  std::optional<Verdict> Settle() {
    if (!IsWellFormed()) {
      Refuse("it is not of the form of a pod");
      return Verdict::kRefuse;
    }
    if (Find(pod_, {"metadata", "annotations", kMirrorAnnotation}) != nullptr)
      return Verdict::kSkip;
    const json* const label = Find(pod_, {"metadata", "labels", kInjectLabel});
    if (label != nullptr && *label == "false") return Verdict::kSkip;
    if (label != nullptr && *label != "true") {
      Refuse("the label {} must be \"true\" or \"false\"", kInjectLabel);
      return Verdict::kRefuse;
    }
    const bool has_container = HasContainer();
    if (has_container && annotations_.contains("status")) return Verdict::kUnchanged;
    if (has_container) {
      Refuse("it has a container named {} that was not injected; rename it", kContainerName);
      return Verdict::kRefuse;
    }
    if (policy_.unfit_cluster().empty()) return std::nullopt;
    Refuse("{}", policy_.unfit_cluster());
    return Verdict::kRefuse;
  }

  bool HasContainer() const {
    for (const char* list : {"initContainers", "containers"})
      for (const json& container : ListOf(Spec(), list))
        if (TextOf(container, "name") == kContainerName) return true;
    return false;
  }

  const json& Spec() const { return *Find(pod_, "spec"); }

  int64_t GraceSeconds() const {
    const int64_t seconds =
        NumberOf(Spec(), "terminationGracePeriodSeconds").value_or(kGraceSecondsDefault);
    return std::clamp<int64_t>(seconds, 0, kGraceSecondsMax);
  }

  void CheckPod() {
    if (ListOf(Spec(), "containers").empty()) Refuse("it has no containers");
    const json* const os = Find(pod_, {"spec", "os"});
    const json* const selector = Find(pod_, {"spec", "nodeSelector"});
    if ((os != nullptr && TextOf(*os, "name") == "windows") ||
        (selector != nullptr && TextOf(*selector, "kubernetes.io/os") == "windows"))
      Refuse("it runs on Windows, and the agent runs on Linux");
    const json* const host_network = Find(pod_, {"spec", "hostNetwork"});
    if (host_network != nullptr && *host_network == true) {
      Refuse(
          "it has hostNetwork, where the agent's ports would be the node's; let it use the node's "
          "agent instead");
    }
    for (const char* list : {"initContainers", "containers"})
      for (const json& container : ListOf(Spec(), list)) CheckPorts(container);
  }

  void CheckPorts(const json& container) {
    for (const json& port : ListOf(container, "ports")) {
      const int64_t number = NumberOf(port, "containerPort").value_or(0);
      for (const auto& [name, own] :
           {std::pair<const char*, int64_t>("kafka_port", policy_.sidecar().kafka_port()),
            std::pair<const char*, int64_t>("admin_port", policy_.sidecar().admin_port())}) {
        if (number != own) continue;
        Refuse(
            "its container {} has port {}, which the agent takes: change one of them, the "
            "agent's by inject.sidecar.{}",
            Shown(TextOf(container, "name")), number, name);
      }
    }
  }

  Sidecar ReadSidecar() {
    const config::Sidecar& settings = policy_.sidecar();
    Sidecar sidecar{.durability = settings.durability(),
                    .spool_size = settings.spool_size(),
                    .resources = {settings.resources().begin(), settings.resources().end()}};
    for (const auto& [name, value] : annotations_) {
      if (name == "durability") {
        if (!config::Sidecar::Durability_Parse(value, &sidecar.durability)) {
          Refuse("annotation {}{} is \"{}\", and must be pod, volume or node", kInjectPrefix, name,
                 Shown(value));
        }
      } else if (name == "spool-size") {
        const auto bytes = ParseQuantity(value);
        if (!bytes || *bytes < kSpoolBytesMin) {
          Refuse("annotation {}{} is \"{}\", and must be a quantity of at least 16Mi, such as 2Gi",
                 kInjectPrefix, name, Shown(value));
        } else {
          sidecar.spool_size = value;
        }
      } else if (name == "secret") {
        if (!IsObjectName(value)) {
          Refuse("annotation {}{} is \"{}\", and must be the name of a Secret", kInjectPrefix, name,
                 Shown(value));
        }
        sidecar.secret = value;
      } else if (name.starts_with("requests.") || name.starts_with("limits.")) {
        if (!IsKnown(name)) continue;
        if (!ParseQuantity(value)) {
          Refuse("annotation {}{} is \"{}\", and must be a quantity such as 100m or 64Mi",
                 kInjectPrefix, name, Shown(value));
        }
        sidecar.resources[name] = value;
      } else {
        [[maybe_unused]] const bool known = IsKnown(name);
      }
    }
    return sidecar;
  }

  // Refuses what nobody reads: it was meant to do something.
  bool IsKnown(const std::string& name) {
    if (std::ranges::find(kKnownAnnotations, name) != kKnownAnnotations.end()) return true;
    const auto nearest = std::ranges::min_element(kKnownAnnotations, {}, [&](std::string_view one) {
      return config::EditDistance(std::string_view(name).substr(0, kShownMax), one);
    });
    Refuse("unknown annotation \"{}{}\"; did you mean \"{}{}\"?", kInjectPrefix, Shown(name),
           kInjectPrefix, *nearest);
    return false;
  }

  std::vector<std::string> ReadBootstrapEnv() {
    std::vector<std::string> names(policy_.sidecar().bootstrap_env().begin(),
                                   policy_.sidecar().bootstrap_env().end());
    const auto annotated = annotations_.find("bootstrap-env");
    if (annotated == annotations_.end()) return names;
    for (std::string& name : SplitNames(annotated->second)) {
      if (!IsVariableName(name)) {
        Refuse("annotation {}bootstrap-env has \"{}\", which is no name of a variable",
               kInjectPrefix, Shown(name));
      } else if (std::ranges::find(names, name) == names.end()) {
        names.push_back(std::move(name));
      }
    }
    return names;
  }

  const json* Volume(std::string_view name) const {
    for (const json& volume : ListOf(Spec(), "volumes"))
      if (TextOf(volume, "name") == name) return &volume;
    return nullptr;
  }

  void CheckSpool(const Sidecar& sidecar) {
    for (const char* name : {kConfigVolume, kNoTokenVolume, kSecretVolume})
      if (Volume(name) != nullptr) Refuse("it has a volume named {}; rename it", name);
    if (sidecar.durability == config::Sidecar::node && policy_.sidecar().node_directory().empty()) {
      Refuse(
          "durability node needs an agent on each node, which delivers what the pod leaves, and "
          "there are none here: take {0}durability: volume, or have the cluster's administrator "
          "set nodeAgents.enabled",
          kInjectPrefix);
    }
    const json* const spool = Volume(kSpoolVolume);
    if (sidecar.durability != config::Sidecar::volume) {
      if (spool == nullptr) return;
      Refuse(
          "it has a volume named {0}; annotate it {1}durability: volume to have the spool there, "
          "or rename it",
          kSpoolVolume, kInjectPrefix);
      return;
    }
    // The claim of an ephemeral volume is deleted with its pod.
    if (spool == nullptr || Find(*spool, "persistentVolumeClaim") == nullptr) {
      Refuse(
          "durability volume needs a volume named {0} that outlives the pod: add a claim of this "
          "name to the volumeClaimTemplates of the StatefulSet, or a persistentVolumeClaim to the "
          "pod's volumes",
          kSpoolVolume);
    }
    const json* const context = Find(pod_, {"spec", "securityContext"});
    if (context == nullptr || !NumberOf(*context, "fsGroup")) {
      Refuse(
          "durability volume needs securityContext.fsGroup in the pod's spec, such as 65532, so "
          "that the agent may write to the volume");
    }
  }

  // The spool in an emptyDir counts against the limits of all containers together, of those that
  // have one; the kubelet evicts a pod that is over them, and the spool goes with it.
  void LimitDisk(Sidecar* sidecar) {
    if (sidecar->durability != config::Sidecar::pod) return;
    const double spool_bytes = ParseQuantity(sidecar->spool_size).value_or(0);
    if (const auto given = sidecar->resources.find(kDiskLimit); given != sidecar->resources.end()) {
      if (ParseQuantity(given->second).value_or(spool_bytes) >= spool_bytes) return;
      Refuse(
          "the agent's {0} is {1}, less than its spool in an emptyDir of {2}: raise {3}{0}, or "
          "lower {3}spool-size",
          kDiskLimit, Shown(given->second), Shown(sidecar->spool_size), kInjectPrefix);
      return;
    }
    if (!LimitsDisk("initContainers") && !LimitsDisk("containers")) return;
    // Said, or the API server would take the limit for the request.
    const std::string& request = sidecar->resources.try_emplace(kDiskRequest, "0").first->second;
    sidecar->resources[kDiskLimit] =
        PrintMebibytes(std::max(spool_bytes + kLogBytes, ParseQuantity(request).value_or(0)));
  }

  bool LimitsDisk(const char* list) const {
    return std::ranges::any_of(ListOf(Spec(), list), [](const json& container) {
      return Find(container, {"resources", "limits", "ephemeral-storage"}) != nullptr;
    });
  }

  void SetAnnotations(const Sidecar& sidecar) {
    const json status = {{"version", HOLDFAST_VERSION},
                         {"durability", config::Sidecar::Durability_Name(sidecar.durability)}};
    const std::pair<const char*, std::string> written[] = {
        {kStatusAnnotation, status.dump()}, {kAgentConfigAnnotation, policy_.agent_yaml()}};
    if (Find(pod_, "metadata") == nullptr)
      Operation({{"op", "add"}, {"path", "/metadata"}, {"value", json::object()}});
    if (Find(pod_, {"metadata", "annotations"}) == nullptr) {
      json all = json::object();
      for (const auto& [name, value] : written) all[name] = value;
      return Operation(
          {{"op", "add"}, {"path", "/metadata/annotations"}, {"value", std::move(all)}});
    }
    for (const auto& [name, value] : written) {
      Operation(
          {{"op", "add"}, {"path", "/metadata/annotations/" + Escaped(name)}, {"value", value}});
    }
  }

  void SetVariables(const char* list, const std::vector<std::string>& names) {
    const json& containers = ListOf(Spec(), list);
    for (size_t i = 0; i < containers.size(); ++i) {
      json variables = json::array();
      for (const std::string& name : names) {
        if (!HasVariable(containers[i], name)) {
          variables.push_back(
              {{"name", name},
               {"value", fmt::format("127.0.0.1:{}", policy_.sidecar().kafka_port())}});
          if (!MayImport(containers[i], name)) continue;
          patch_.warnings.push_back(fmt::format(
              "holdfast: container {} gets the agent's address as {}, also if one comes "
              "by envFrom; it keeps only what it sets in env",
              Shown(TextOf(containers[i], "name")), Shown(name)));
          continue;
        }
        patch_.warnings.push_back(
            fmt::format("holdfast: container {} sets {} itself, and keeps its value",
                        Shown(TextOf(containers[i], "name")), Shown(name)));
      }
      if (variables.empty()) continue;
      const std::string path = fmt::format("/spec/{}/{}/env", list, i);
      if (ListOf(containers[i], "env").empty()) {
        Operation({{"op", "add"}, {"path", path}, {"value", std::move(variables)}});
        continue;
      }
      // In front, where the container's own variables may refer to them.
      for (size_t at = 0; at < variables.size(); ++at) {
        Operation({{"op", "add"},
                   {"path", fmt::format("{}/{}", path, at)},
                   {"value", std::move(variables[at])}});
      }
    }
  }

  static bool HasVariable(const json& container, std::string_view name) {
    return std::ranges::any_of(ListOf(container, "env"), [name](const json& variable) {
      return TextOf(variable, "name") == name;
    });
  }

  // What is in a ConfigMap or Secret is not known here.
  static bool MayImport(const json& container, std::string_view name) {
    return std::ranges::any_of(ListOf(container, "envFrom"), [name](const json& source) {
      return name.starts_with(TextOf(source, "prefix"));
    });
  }

  // First, so that it is ready before all others start.
  void AddContainer(json container) {
    if (ListOf(Spec(), "initContainers").empty()) {
      Operation({{"op", "add"},
                 {"path", "/spec/initContainers"},
                 {"value", json::array({std::move(container)})}});
    } else {
      Operation(
          {{"op", "add"}, {"path", "/spec/initContainers/0"}, {"value", std::move(container)}});
    }
  }

  void AddVolumes(json volumes) {
    if (ListOf(Spec(), "volumes").empty()) {
      return Operation({{"op", "add"}, {"path", "/spec/volumes"}, {"value", std::move(volumes)}});
    }
    for (json& volume : volumes)
      Operation({{"op", "add"}, {"path", "/spec/volumes/-"}, {"value", std::move(volume)}});
  }

  // Those of the pod as a whole have to hold all of its containers; the agent brings its share.
  void RaisePodResources(const Sidecar& sidecar) {
    for (const auto& [kind, other] :
         {std::pair("requests", "limits"), std::pair("limits", "requests")}) {
      const json* const whole = Find(pod_, {"spec", "resources", kind});
      if (whole == nullptr) continue;
      for (const std::string_view name : {"cpu", "memory"}) {
        const auto before = ParseQuantity(TextOf(*whole, name));
        // A limit alone is the request as well, and a limit must not be less than the request.
        auto own = sidecar.resources.find(fmt::format("{}.{}", kind, name));
        if (own == sidecar.resources.end())
          own = sidecar.resources.find(fmt::format("{}.{}", other, name));
        if (!before || own == sidecar.resources.end()) continue;
        const double sum = *before + ParseQuantity(own->second).value_or(0);
        Operation({{"op", "replace"},
                   {"path", fmt::format("/spec/resources/{}/{}", kind, name)},
                   {"value", name == "cpu" ? PrintMilli(sum) : PrintMebibytes(sum)}});
      }
    }
  }

  const Policy& policy_;
  const json& pod_;
  std::map<std::string, std::string> settings_;     // Behind config.holdfast.io/.
  std::map<std::string, std::string> annotations_;  // Behind inject.holdfast.io/.
  PodPatch patch_;
};

}  // namespace

PodPatch PatchPod(const Policy& policy, const json& pod) { return Patcher(policy, pod).Run(); }

}  // namespace holdfast::inject
