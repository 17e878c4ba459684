// A regular expression for names of topics, in the syntax of RE2, as members of consumer groups
// subscribe by.
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

class TopicPattern {
 public:
  // kInvalid: it cannot be parsed; the message is for the client.
  static base::Result<TopicPattern> Parse(const std::string& pattern);
  TopicPattern(TopicPattern&&) noexcept;
  TopicPattern& operator=(TopicPattern&&) noexcept;
  ~TopicPattern();

  // The whole name, not a part of it.
  [[nodiscard]] bool Matches(std::string_view name) const;

 private:
  explicit TopicPattern(std::unique_ptr<re2::RE2> pattern);
  std::unique_ptr<re2::RE2> pattern_;
};

}  // namespace holdfast::broker
