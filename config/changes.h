// What differs between two configurations, and how one is shown.
//
// Threads: any.
#pragma once

#include <string>
#include <vector>

namespace holdfast::config {

class Config;  // config/holdfast.pb.h

// Keys whose values differ, such as "agent.spool.bytes_max"; lists count as one value.
struct Changes {
  std::vector<std::string> live;     // Marked so in the schema: a running process takes them.
  std::vector<std::string> restart;  // All others.
};
Changes Compare(const Config& before, const Config& after);

// JSON with every value, defaults included. Secrets are replaced: what the schema marks as such,
// and properties whose names say so.
std::string PrintWithoutSecrets(const Config& config);

}  // namespace holdfast::config
