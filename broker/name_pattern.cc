#include "broker/name_pattern.h"

#include <re2/re2.h>

namespace holdfast::broker {

NamePattern::NamePattern(std::unique_ptr<re2::RE2> pattern) : pattern_(std::move(pattern)) {}
NamePattern::NamePattern(NamePattern&&) noexcept = default;
NamePattern& NamePattern::operator=(NamePattern&&) noexcept = default;
NamePattern::~NamePattern() = default;

base::Result<NamePattern> NamePattern::Parse(const std::string& pattern) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  auto parsed = std::make_unique<re2::RE2>(pattern, options);
  if (!parsed->ok()) return base::Unexpected(base::Code::kInvalid, parsed->error());
  return NamePattern(std::move(parsed));
}

bool NamePattern::Matches(std::string_view name) const {
  return re2::RE2::FullMatch(re2::StringPiece(name.data(), name.size()), *pattern_);
}

}  // namespace holdfast::broker
