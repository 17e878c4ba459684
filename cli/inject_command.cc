#include "cli/inject_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "agent/spool_text.h"
#include "cli/command_line.h"
#include "cli/complain.h"
#include "cli/output.h"
#include "config/value.h"
#include "inject/node_directory.h"

namespace holdfast::cli {
namespace {

using base::Code;

constexpr const char* kCertificatesFooter =
    R"(They ask the API server as the pod's ServiceAccount, and can be run again at any time.

Example:
  holdfast inject certificates create --namespace holdfast-system \
      --secret holdfast-injector-certificate --service holdfast-injector
  holdfast inject certificates install --namespace holdfast-system \
      --secret holdfast-injector-certificate --webhook-configuration holdfast)";

constexpr const char* kCreateFooter =
    R"(Makes a CA and a certificate that it signs, and puts them into a Secret of type
kubernetes.io/tls: tls.crt, tls.key and ca.crt. A Secret whose certificate has all names and holds
long enough is left alone. A certificate that still holds is renewed in two steps, so that no
request fails: the new one waits beside it until `install` has made its CA known. The old CA stays
in ca.crt until it ends. The key of a CA is kept nowhere.)";

constexpr const char* kInstallFooter =
    R"(Writes the Secret's ca.crt into every webhook of the configuration, and puts a renewed
certificate into use that waits for it.)";

constexpr const char* kPrepareNodeFooter =
    R"(Makes DIR/node (of the node's agent alone) and DIR/pods (where each pod's agent has a
folder). For an init container that runs as root.

Example:
  holdfast inject prepare-node /var/lib/holdfast)";

void AddApi(CLI::App& verb, InjectCommand* command) {
  verb.add_option("--namespace", command->secret.name_space, "Of the Secret")
      ->required()
      ->type_name("NAME");
  verb.add_option("--secret", command->secret.name, "The Secret")->required()->type_name("NAME");
  verb.add_option("--server", command->api.server,
                  "The API server; of the pod's cluster if not set")
      ->type_name("URL");
  verb.add_option("--token-file", command->api.token_file, "The ServiceAccount's token")
      ->type_name("FILE")
      ->capture_default_str();
  verb.add_option("--ca-file", command->api.ca_file, "CAs of the API server")
      ->type_name("FILE")
      ->capture_default_str();
}

void AddCertificates(CLI::App& inject, InjectCommand* command) {
  CLI::App* const certificates =
      inject.add_subcommand("certificates", "The webhook's certificate, for a release's hook");
  certificates->footer(kCertificatesFooter);
  certificates->require_subcommand(1);

  CLI::App* const create = certificates->add_subcommand("create", "Make or renew it in a Secret");
  create->footer(kCreateFooter);
  create->callback([command] { command->verb = InjectVerb::kCreate; });
  AddApi(*create, command);
  create
      ->add_option("--service", command->service,
                   "The webhook's Service: the certificate is for SERVICE.NAMESPACE.svc")
      ->type_name("NAME");
  create->add_option("--dns", command->names, "A further name; may be repeated")
      ->type_name("NAME")
      ->allow_extra_args(false);
  create->add_option("--duration", command->duration, "How long a certificate holds")
      ->type_name("TIME")
      ->capture_default_str();
  create->add_option("--renew-before", command->renew_before, "This long before its end")
      ->type_name("TIME")
      ->capture_default_str();

  CLI::App* const install =
      certificates->add_subcommand("install", "Make its CA known to the API server");
  install->footer(kInstallFooter);
  install->callback([command] { command->verb = InjectVerb::kInstall; });
  AddApi(*install, command);
  install
      ->add_option("--webhook-configuration", command->webhook_configuration,
                   "The MutatingWebhookConfiguration")
      ->required()
      ->type_name("NAME");
}

base::Result<int64_t> SecondsOf(const std::string& option, const std::string& text) {
  const auto ms = config::ParseNumber(text, config::Unit::kMilliseconds);
  if (ms && *ms >= 1000) return *ms / 1000;
  return base::Unexpected(Code::kInvalid,
                          fmt::format("{} is \"{}\", and must be a duration such as "
                                      "90d or 2160h",
                                      option, text));
}

base::Result<inject::CertificateWish> WishOf(const InjectCommand& command) {
  inject::CertificateWish wish{};
  if (!command.service.empty())
    wish.names.push_back(fmt::format("{}.{}.svc", command.service, command.secret.name_space));
  wish.names.insert(wish.names.end(), command.names.begin(), command.names.end());
  if (wish.names.empty())
    return base::Unexpected(Code::kInvalid, "give the webhook's --service, or a name by --dns");
  HF_ASSIGN_OR_RETURN(wish.valid_seconds, SecondsOf("--duration", command.duration));
  HF_ASSIGN_OR_RETURN(wish.renew_before_seconds, SecondsOf("--renew-before", command.renew_before));
  if (wish.renew_before_seconds >= wish.valid_seconds) {
    return base::Unexpected(Code::kInvalid,
                            "--renew-before must be less than --duration, or each run renews");
  }
  return wish;
}

base::Result<std::string> Do(const InjectCommand& command) {
  if (command.verb == InjectVerb::kPrepareNode) {
    HF_RETURN_IF_ERROR(inject::PrepareNode(command.directory, command.user));
    return fmt::format("{0}/node and {0}/pods are ready", command.directory);
  }
  inject::CertificateWish wish;
  if (command.verb == InjectVerb::kCreate) {
    HF_ASSIGN_OR_RETURN(wish, WishOf(command));
  }
  HF_ASSIGN_OR_RETURN(const auto api, inject::ApiServer::Of(command.api));
  if (command.verb == InjectVerb::kCreate)
    return inject::CreateCertificate(api, command.secret, wish, agent::NowMs() / 1000);
  return inject::InstallCertificate(api, command.secret, command.webhook_configuration);
}

}  // namespace

void AddInjectVerbs(CLI::App& inject, InjectCommand* command) {
  inject.require_subcommand(0, 1);
  AddCertificates(inject, command);
  CLI::App* const prepare =
      inject.add_subcommand("prepare-node", "Make the directories that agents use on a node");
  prepare->footer(kPrepareNodeFooter);
  prepare->callback([command] { command->verb = InjectVerb::kPrepareNode; });
  prepare->add_option("DIR", command->directory, "Of the node, such as /var/lib/holdfast")
      ->required()
      ->type_name("");
  prepare->add_option("--uid", command->user, "Whose the node agent's directory is")
      ->capture_default_str();
}

int RunInjectCommand(const InjectCommand& command) {
  const auto done = Do(command);
  if (done) {
    PrintText(*done + "\n");
    return kExitFine;
  }
  return Fail(done.error().code == Code::kInvalid ? kExitWrongUsage : kExitFailed, done.error());
}

}  // namespace holdfast::cli
