#include "auth/principal_mapping.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <utility>

namespace holdfast::auth {
namespace {

using base::Code;

constexpr std::string_view kDefault = "DEFAULT";
constexpr std::string_view kRule = "RULE:";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void SkipBlanks(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
}

// Up to a slash that no backslash precedes, which is dropped. None: there is no such slash.
std::optional<std::string_view> TakeToSlash(std::string_view& text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '/') {
      const std::string_view taken = text.substr(0, i);
      text.remove_prefix(i + 1);
      return taken;
    }
  }
  return std::nullopt;
}

}  // namespace

class PrincipalMapping::Rule {
 public:
  // That of DEFAULT.
  Rule() = default;
  Rule(std::unique_ptr<re2::RE2> pattern, std::string_view replacement, char letters)
      : pattern_(std::move(pattern)), replacement_(replacement), letters_(letters) {}

  [[nodiscard]] std::optional<std::string> NameOf(std::string_view subject) const {
    if (!pattern_) return std::string(subject);
    const re2::StringPiece text(subject.data(), subject.size());
    if (!re2::RE2::FullMatch(text, *pattern_)) return std::nullopt;
    std::string name = ReplaceAll(text);
    if (letters_ == 'L') std::ranges::transform(name, name.begin(), Small);
    if (letters_ == 'U') std::ranges::transform(name, name.begin(), Large);
    return name;
  }

 private:
  static char Small(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
  static char Large(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

  // As Java's String.replaceAll, which looks for the pattern again where the last match ended.
  [[nodiscard]] std::string ReplaceAll(re2::StringPiece text) const {
    std::vector<re2::StringPiece> groups(1 + pattern_->NumberOfCapturingGroups());
    std::string replaced;
    size_t from = 0;
    while (from <= text.size() && pattern_->Match(text, from, text.size(), re2::RE2::UNANCHORED,
                                                  groups.data(), static_cast<int>(groups.size()))) {
      const auto begin = static_cast<size_t>(groups[0].data() - text.data());
      replaced.append(text.data() + from, begin - from);
      AppendReplacement(groups, replaced);
      from = begin + groups[0].size();
      if (!groups[0].empty()) continue;
      if (from < text.size()) replaced.push_back(text[from]);
      ++from;
    }
    if (from < text.size()) replaced.append(text.data() + from, text.size() - from);
    return replaced;
  }

  void AppendReplacement(const std::vector<re2::StringPiece>& groups, std::string& to) const {
    for (size_t i = 0; i < replacement_.size(); ++i) {
      const char c = replacement_[i];
      if (c == '\\' && i + 1 < replacement_.size()) {
        to.push_back(replacement_[++i]);
        continue;
      }
      size_t group = groups.size();
      if (c == '$') {
        // As many figures as there are groups for; without one, the text stands for itself.
        for (size_t number = 0; i + 1 < replacement_.size() && IsDigit(replacement_[i + 1]); ++i) {
          number = 10 * number + static_cast<size_t>(replacement_[i + 1] - '0');
          if (number >= groups.size()) break;
          group = number;
        }
      }
      if (group < groups.size()) {
        to.append(groups[group].data(), groups[group].size());
      } else {
        to.push_back(c);
      }
    }
  }

  std::unique_ptr<re2::RE2> pattern_;
  std::string replacement_;
  char letters_ = '\0';
};

PrincipalMapping::PrincipalMapping(std::vector<Rule> rules) : rules_(std::move(rules)) {}
PrincipalMapping::~PrincipalMapping() = default;

base::Result<std::shared_ptr<const PrincipalMapping>> PrincipalMapping::Parse(
    std::string_view text) {
  std::vector<Rule> rules;
  SkipBlanks(text);
  while (true) {
    const std::string_view begin = text;
    const auto wrong = [&](std::string_view why) {
      return base::Unexpected(Code::kInvalid, fmt::format("has \"{}\", {}", begin, why));
    };
    if (text.starts_with(kDefault)) {
      text.remove_prefix(kDefault.size());
      rules.emplace_back();
    } else {
      std::optional<std::string_view> pattern;
      std::optional<std::string_view> replacement;
      if (text.starts_with(kRule)) {
        text.remove_prefix(kRule.size());
        pattern = TakeToSlash(text);
        if (pattern) replacement = TakeToSlash(text);
      }
      if (!replacement)
        return wrong("which is neither DEFAULT nor RULE:PATTERN/REPLACEMENT/, with L or U or none");
      const char letters = text.starts_with('L') || text.starts_with('U') ? text[0] : '\0';
      if (letters != '\0') text.remove_prefix(1);
      re2::RE2::Options options;
      options.set_log_errors(false);
      auto parsed =
          std::make_unique<re2::RE2>(re2::StringPiece(pattern->data(), pattern->size()), options);
      if (!parsed->ok()) return wrong(parsed->error());
      rules.emplace_back(std::move(parsed), *replacement, letters);
    }
    SkipBlanks(text);
    if (text.empty()) break;
    if (text[0] != ',') return wrong("where a comma has to come after the rule");
    text.remove_prefix(1);
    SkipBlanks(text);
    if (text.empty()) break;  // As in Kafka.
  }
  return std::shared_ptr<const PrincipalMapping>(new PrincipalMapping(std::move(rules)));
}

std::optional<std::string> PrincipalMapping::NameOf(std::string_view subject) const {
  for (const Rule& rule : rules_) {
    if (auto name = rule.NameOf(subject)) return name;
  }
  return std::nullopt;
}

}  // namespace holdfast::auth
