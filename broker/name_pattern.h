// A regular expression for names, in the syntax of RE2: of topics, by which members of consumer
// groups subscribe, and of transactional ids.
//
// Threads: immutable. Limits: RE2's own, so that a match takes linear time and bounded memory.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace re2 {
class RE2;
}

namespace holdfast::broker {

class NamePattern {
 public:
  // kInvalid: it cannot be parsed; the message is for the client.
  static base::Result<NamePattern> Parse(const std::string& pattern);
  NamePattern(NamePattern&&) noexcept;
  NamePattern& operator=(NamePattern&&) noexcept;
  ~NamePattern();

  // The whole name, not a part of it.
  [[nodiscard]] bool Matches(std::string_view name) const;

 private:
  explicit NamePattern(std::unique_ptr<re2::RE2> pattern);
  std::unique_ptr<re2::RE2> pattern_;
};

}  // namespace holdfast::broker
