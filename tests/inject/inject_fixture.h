// An injector's policy from text, as the tests of this folder and the fuzzer use it.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "base/check.h"
#include "config/config.h"
#include "inject/policy.h"

namespace holdfast::inject {

inline constexpr const char* kAgentYaml = R"(agent:
  upstream:
    bootstrap: [kafka-1.example.com:9093, kafka-2.example.com:9093]
    properties:
      security.protocol: SASL_SSL
      sasl.mechanism: SCRAM-SHA-512
      sasl.username: shop
      sasl.password: {file: /etc/holdfast/secret/password}
log: {format: json}
)";

// A folder that is gone with it.
class TestFolder {
 public:
  TestFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-inject-XXXXXX";
    HF_CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }

  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name) << text;
    return path_ + "/" + name;
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// With further settings such as {"inject.sidecar.durability", "node", ""}.
inline base::Result<std::shared_ptr<const Policy>> PolicyOf(
    const TestFolder& folder, const std::vector<config::Setting>& settings = {},
    const std::string& agent_yaml = kAgentYaml) {
  const std::string agent = folder.Write("agent.yaml", agent_yaml);
  const auto config = config::Load({
      .file = folder.Write("inject.yaml",
                           "inject:\n"
                           "  kubernetes_version: \"1.36\"\n"
                           "  sidecar:\n"
                           "    image: registry.example.com/holdfast:0.1.0\n"
                           "    node_directory: /var/lib/holdfast\n"
                           "    bootstrap_env: [KAFKA_BOOTSTRAP_SERVERS]\n"
                           "    resources: {requests.cpu: 50m, requests.memory: 64Mi, "
                           "limits.memory: 256Mi}\n"
                           "    agent_config_file: " +
                               agent + "\n"),
      .sets = settings,
  });
  if (!config) return base::Unexpected(config.error());
  return Policy::Load((*config)->inject());
}

}  // namespace holdfast::inject
