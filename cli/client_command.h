// `holdfast topic|group|acl|config VERB`, `holdfast produce` and `holdfast consume`: clients of a
// tier, directly or through an agent's listener.
//
// Output goes to standard output, what went wrong and progress to standard error.
// Threads: main.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

class TierAccess;  // cli/client_verb.h
using ClientRun = std::function<base::Result<int>(const TierAccess&)>;

// As the command line says it.
struct ClientCommand {
  std::string config_file;
  std::vector<std::string> brokers;
  std::vector<std::string> properties;  // NAME=VALUE
  ClientRun run;                        // Of the verb. Null: none was chosen.
};

// Add the verbs and options below their commands. Parsing fills `command`, which outlives them.
void AddTopicVerbs(CLI::App& topic, ClientCommand* command);
void AddGroupVerbs(CLI::App& group, ClientCommand* command);
void AddAclVerbs(CLI::App& acl, ClientCommand* command);
void AddConfigVerbs(CLI::App& config, ClientCommand* command);
void AddProduce(CLI::App& produce, ClientCommand* command);
void AddConsume(CLI::App& consume, ClientCommand* command);

// Returns the exit code. `environment`: NAME=VALUE, for the configuration.
int RunClientCommand(const ClientCommand& command, std::vector<std::string> environment);

}  // namespace holdfast::cli
