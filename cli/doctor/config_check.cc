#include "cli/doctor/config_check.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <utility>
#include <vector>

#include "agent/spool_text.h"
#include "config/config.h"
#include "config/holdfast.pb.h"
#include "net/address.h"

namespace holdfast::cli::doctor {
namespace {

using agent::BytesText;
using base::Event;

// Loops, metadata, producers, buffers of TLS; measured at rest, and a little more.
constexpr uint64_t kOtherMemory = uint64_t{64} << 20;

bool IsOutside(const std::string& listen) {
  const auto address = net::HostPort::Parse(listen);
  if (!address || address->host == "localhost") return false;
  const auto ip = net::SocketAddress::FromIp(address->host, address->port);
  return ip && !ip->IsLoopback();
}

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

class ConfigCheck {
 public:
  explicit ConfigCheck(const ConfigQuestion& question) : question_(question) {}

  Findings Run() {
    const config::Config& config = question_.config;
    CheckComplete();
    if (config.has_agent()) {
      CheckStorage("agent.spool", config.agent().spool());
      CheckAgent(config.agent());
    }
    if (config.has_broker()) {
      CheckStorage("broker.data", config.broker().data());
      CheckBroker(config.broker());
    }
    CheckSecrets();
    return findings_;
  }

 private:
  void CheckComplete() {
    const config::Config& config = question_.config;
    if (!config.has_agent() && !config.has_broker() && !config.has_inject()) {
      findings_.Trouble(Event::kConfigIncomplete,
                        "there are settings neither for an agent nor for a broker");
      return;
    }
    for (const auto& [part, present] :
         {std::pair("agent", config.has_agent()), std::pair("broker", config.has_broker()),
          std::pair("inject", config.has_inject())}) {
      if (!present) continue;
      if (const auto complete = config::CheckComplete(config, part); !complete) {
        findings_.Trouble(Event::kConfigIncomplete, complete.error().message);
      } else {
        findings_.Good(fmt::format("the settings of {} are complete", part));
      }
    }
  }

  void CheckStorage(std::string_view key, const config::Storage& storage) {
    if (storage.free_bytes_min() == 0)
      findings_.Trouble(Event::kNoFreeBytesKept, fmt::format("{}.free_bytes_min is 0", key));
  }

  void CheckMemory(std::string_view of, uint64_t bytes, std::string_view keys) {
    const auto limit = question_.limits.memory_bytes_max;
    if (!limit || bytes + kOtherMemory <= *limit) return;
    findings_.Trouble(
        Event::kMemoryAboveLimit,
        fmt::format("this process may use {} of memory, and {} may take {} and some "
                    "{} more: {}",
                    BytesText(*limit), of, BytesText(bytes), BytesText(kOtherMemory), keys));
  }

  void CheckAgent(const config::Agent& agent) {
    const config::AgentLimits& limits = agent.limits();
    CheckMemory("the agent",
                limits.memory_in_flight_bytes_max() + limits.waiting_bytes_max() +
                    limits.transactions_bytes_max() + agent.spool().queue_bytes_max(),
                "agent.limits.memory_in_flight_bytes_max, waiting_bytes_max, "
                "transactions_bytes_max and agent.spool.queue_bytes_max");
    std::vector<std::string> addresses(agent.listen().begin(), agent.listen().end());
    for (const config::Listener& listener : agent.listeners())
      addresses.push_back(listener.listen());
    for (const std::string& listen : addresses) {
      if (IsOutside(listen) && !agent.has_tls() && !agent.has_sasl())
        findings_.Trouble(Event::kOpenListener,
                          fmt::format("the agent listens on {}, with neither agent.tls nor "
                                      "agent.sasl",
                                      listen));
    }
    CheckUpstream(agent.upstream());
  }

  void CheckUpstream(const config::Upstream& upstream) {
    const auto& properties = upstream.properties();
    const auto get = [&](const char* name) {
      const auto found = properties.find(name);
      return found == properties.end() ? std::string() : Upper(found->second);
    };
    const std::string protocol = get("security.protocol");
    std::string mechanism = get("sasl.mechanism");
    if (mechanism.empty()) mechanism = get("sasl.mechanisms");
    if (protocol == "SASL_PLAINTEXT" && (mechanism == "PLAIN" || mechanism == "OAUTHBEARER"))
      findings_.Trouble(Event::kPasswordInTheClear,
                        fmt::format("the agent logs in by {} without TLS", mechanism));
    if (get("ssl.endpoint.identification.algorithm") == "NONE")
      findings_.Trouble(Event::kPeerNotChecked,
                        "agent.upstream.properties.ssl.endpoint.identification.algorithm is none");
  }

  void CheckBrokerListener(const std::string& key, const std::string& listen, bool tls,
                           const config::BrokerSasl* sasl) {
    if (!IsOutside(listen)) return;
    if (!tls && sasl == nullptr)
      findings_.Trouble(
          Event::kOpenListener,
          fmt::format("{} is {}, with neither TLS nor SASL, so that clients are anybody", key,
                      listen));
    if (sasl == nullptr || tls) return;
    for (const std::string& mechanism : sasl->mechanisms()) {
      if (Upper(mechanism) == "PLAIN" || Upper(mechanism) == "OAUTHBEARER")
        findings_.Trouble(Event::kPasswordInTheClear,
                          fmt::format("{} is {}, where clients log in by {} without TLS", key,
                                      listen, mechanism));
    }
  }

  void CheckBroker(const config::Broker& broker) {
    CheckMemory("the broker",
                broker.limits().memory_in_flight_bytes_max() +
                    broker.compaction().memory_bytes_max() + broker.data().queue_bytes_max(),
                "broker.limits.memory_in_flight_bytes_max, broker.compaction.memory_bytes_max and "
                "broker.data.queue_bytes_max");
    CheckBrokerListener("broker.listen", broker.listen(), broker.has_tls(),
                        broker.has_sasl() ? &broker.sasl() : nullptr);
    for (const config::BrokerListener& listener : broker.listeners()) {
      CheckBrokerListener("broker.listeners " + listener.name(), listener.listen(),
                          listener.has_tls(), listener.has_sasl() ? &listener.sasl() : nullptr);
    }
  }

  // --- Secrets, and who can read them.

  void CheckFile(std::string_view what, const std::string& path) {
    if (path.empty()) return;
    struct stat info {};
    // One that cannot be read is complained of by who needs it.
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return;
    if ((info.st_mode & S_IROTH) != 0)
      findings_.Trouble(Event::kSecretReadable,
                        fmt::format("{} is in {}, which everybody may read (mode {:04o})", what,
                                    path, info.st_mode & 07777));
  }

  // As it is written: {file: PATH}, {env: NAME}, or the secret itself.
  void CheckSecret(const std::string& key, const std::string& written) {
    constexpr std::string_view kFile = "{file: ";
    if (written.empty() || written.starts_with("{env: ")) return;
    if (!written.starts_with(kFile)) {
      in_the_file_.push_back(key);
      return;
    }
    const std::filesystem::path path =
        written.substr(kFile.size(), written.size() - kFile.size() - 1);
    CheckFile(key, path.is_absolute()
                       ? path.string()
                       : (std::filesystem::path(question_.file).parent_path() / path).string());
  }

  void CheckTlsFiles(const std::string& key, const config::ListenerTls& tls) {
    CheckFile(key + "'s private key", tls.key().empty() ? tls.certificate() : tls.key());
    CheckSecret(key + ".key_password", tls.key_password());
  }

  template <class Users>
  void CheckUsers(const std::string& key, const Users& users) {
    for (const config::User& user : users)
      CheckSecret(fmt::format("{}[{}].password", key, user.name()), user.password());
  }

  void CheckSecrets() {
    const config::Agent& agent = question_.written.agent();
    const config::Broker& broker = question_.written.broker();
    for (const std::string& key : agent.spool().encryption_keys())
      CheckSecret("agent.spool.encryption_keys", key);
    for (const std::string& key : broker.data().encryption_keys())
      CheckSecret("broker.data.encryption_keys", key);
    CheckTlsFiles("agent.tls", agent.tls());
    CheckTlsFiles("broker.tls", broker.tls());
    for (const config::BrokerListener& listener : broker.listeners())
      CheckTlsFiles("broker.listeners " + listener.name() + " tls", listener.tls());
    CheckUsers("agent.sasl.users", agent.sasl().users());
    CheckUsers("broker.users", broker.users());
    const auto& properties = agent.upstream().properties();
    for (const char* const name : {"sasl.password", "sasl.jaas.config", "ssl.key.password"}) {
      if (const auto found = properties.find(name); found != properties.end())
        CheckSecret("agent.upstream.properties." + std::string(name), found->second);
    }
    if (const auto found = properties.find("ssl.key.location"); found != properties.end())
      CheckFile("the key that the agent shows to the tier", found->second);
    for (const config::OutboxSource& source : agent.outbox()) {
      // Without a password in it, it is none.
      if (const std::string& connection = source.postgres().connection();
          connection.starts_with('{') || connection.find("password") != std::string::npos)
        CheckSecret(fmt::format("agent.outbox {} postgres.connection", source.name()), connection);
    }
    if (in_the_file_.empty()) return;
    const std::string keys = fmt::format("{}", fmt::join(in_the_file_, ", "));
    if (question_.file.empty()) return;
    findings_.Note(
        fmt::format("secrets stand among the settings themselves, where {{file: PATH}} "
                    "or {{env: NAME}} would keep them apart: {}",
                    keys));
    CheckFile(keys, question_.file);
  }

  const ConfigQuestion& question_;
  Findings findings_{Area::kConfig};
  std::vector<std::string> in_the_file_;
};

}  // namespace

Findings CheckConfig(const ConfigQuestion& question) { return ConfigCheck(question).Run(); }

}  // namespace holdfast::cli::doctor
