// `holdfast inject certificates create|install` and `holdfast inject prepare-node`: what is done
// once for a release, and for a node. Without a verb `holdfast inject` serves
// (cli/run_inject.cc).
//
// Output goes to standard output, what went wrong to standard error. Threads: main.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "inject/api_server.h"
#include "inject/certificate_hook.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

enum class InjectVerb : uint8_t { kServe, kCreate, kInstall, kPrepareNode };

struct InjectCommand {
  InjectVerb verb = InjectVerb::kServe;
  inject::ApiServer::Options api;
  inject::SecretName secret;
  std::string service;  // Its names come before those of `names`.
  std::vector<std::string> names;
  std::string duration = "8760h";
  std::string renew_before = "2880h";
  std::string webhook_configuration;
  std::string directory;
  uid_t user = 65532;
};

// Adds the verbs below `inject`. Parsing fills `command`, which outlives `inject`.
void AddInjectVerbs(CLI::App& inject, InjectCommand* command);

// Of a verb that does not serve. Returns the exit code.
int RunInjectCommand(const InjectCommand& command);

}  // namespace holdfast::cli
