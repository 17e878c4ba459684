// Which name a certificate's subject gives a client: Kafka's ssl.principal.mapping.rules.
//
// Rules with commas between; the first that fits counts:
//   DEFAULT                          the subject as it is, "CN=orders,O=Example"
//   RULE:PATTERN/REPLACEMENT/        for a subject that the pattern fits as a whole: what it fits
//                                    is replaced, where $1 stands for its first group
//   RULE:PATTERN/REPLACEMENT/L or /U the same in small or in large letters (those of ASCII)
// A slash in a rule is written "\/". Patterns are RE2's: Java's without looking around or back.
//
// Threads: any; immutable.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::auth {

class PrincipalMapping {
 public:
  // kInvalid: not of that form.
  static base::Result<std::shared_ptr<const PrincipalMapping>> Parse(std::string_view rules);
  ~PrincipalMapping();
  PrincipalMapping(const PrincipalMapping&) = delete;
  PrincipalMapping& operator=(const PrincipalMapping&) = delete;

  // None: no rule fits, and the client is not to be served.
  [[nodiscard]] std::optional<std::string> NameOf(std::string_view subject) const;

 private:
  class Rule;

  explicit PrincipalMapping(std::vector<Rule> rules);
  const std::vector<Rule> rules_;
};

}  // namespace holdfast::auth
