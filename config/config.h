// The configuration: one YAML file, environment variables and the command line, checked against
// config/holdfast.proto.
//
//   config::Sources sources{.file = "holdfast.yaml", .sets = {{"log.level", "debug", "--set"}}};
//   HF_ASSIGN_OR_RETURN(auto config, config::Load(sources));
//   HF_RETURN_IF_ERROR(config::CheckComplete(*config, "agent"));
//   config->agent().spool().directory();   // config/holdfast.pb.h
//
// Later sources win: defaults, file, environment (HOLDFAST__AGENT__SPOOL__DIRECTORY=...), sets. An
// error is kInvalid and has one line per mistake: where it stands, what is wrong, what would be
// right.
//
// Threads: none. Limits: a file of 1 MiB.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::config {

class Config;  // config/holdfast.pb.h

// One value for one key such as "agent.spool.directory"; lists and maps are written in YAML.
struct Setting {
  std::string key;
  std::string value;
  std::string origin;  // For messages: "--set", "--listen".
};

// What becomes of {env: NAME} and {file: PATH}.
enum class References : uint8_t {
  kResolve,
  // They stay as they are written: for a configuration that is checked here and used elsewhere.
  // Nothing of this host is read but the file of the configuration itself.
  kKeep,
};

struct Sources {
  std::shared_ptr<const Config> base = nullptr;  // What was loaded before. Null: nothing.
  References references = References::kResolve;
  std::vector<Setting> defaults = {};         // Under everything else but the base.
  std::string file = {};                      // Empty: none.
  std::vector<std::string> environment = {};  // NAME=VALUE; only names with HOLDFAST__ count.
  std::vector<Setting> sets = {};             // In order: the last one wins.
};

base::Result<std::shared_ptr<const Config>> Load(const Sources& sources);

// Says what must be set and is not, below "agent", "broker", "inject" or a part of them, such as
// "agent.upstream".
base::Result<void> CheckComplete(const Config& config, std::string_view part);

// The reference as Markdown, from the comments and options of config/holdfast.proto, which protoc
// has written to `descriptor_set_file`.
base::Result<std::string> PrintReference(const std::string& descriptor_set_file);

}  // namespace holdfast::config
