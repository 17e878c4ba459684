// What a role refuses to start with, whatever becomes of its ports and directories. The start
// itself, `validate` and the doctor ask here.
//
// Threads: any. Reads the files that settings name.
#pragma once

#include "base/result.h"

namespace holdfast::config {
class Agent;
class Broker;
class Config;
}  // namespace holdfast::config

namespace holdfast::cli {

// kInvalid, with the key, if a value is wrong; another code if a file cannot be read. What must be
// set and is not they leave to config::CheckComplete.
base::Result<> CheckAgent(const config::Agent& config);
base::Result<> CheckBroker(const config::Broker& config);
base::Result<> CheckInject(const config::Config& config);

}  // namespace holdfast::cli
