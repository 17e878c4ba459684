#include "broker/config_values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace holdfast::broker {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

template <class T>
std::optional<T> ParseNumber(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Takes the first item off the list.
std::string_view TakeItem(std::string_view* list) {
  const size_t comma = std::min(list->find(','), list->size());
  const std::string_view item = Trimmed(list->substr(0, comma));
  list->remove_prefix(std::min(comma + 1, list->size()));
  return item;
}

bool AllAllowed(std::string_view items, std::string_view allowed) {
  if (items.ends_with(',')) return false;  // The last item is empty.
  while (!items.empty()) {
    if (!ListHas(allowed, TakeItem(&items))) return false;
  }
  return true;
}

// The items of both lists, each once, but for those of `without`.
std::string Joined(std::string_view list, std::string_view more, std::string_view without) {
  std::set<std::string_view> seen{""};
  while (!without.empty()) seen.insert(TakeItem(&without));
  std::string joined;
  for (std::string_view items : {list, more}) {
    while (!items.empty()) {
      const std::string_view item = TakeItem(&items);
      if (!seen.insert(item).second) continue;
      if (!joined.empty()) joined += ',';
      joined += item;
    }
  }
  return joined;
}

// What Java takes besides what std::from_chars does.
std::string_view WithoutPlus(std::string_view text) {
  const bool plus = text.size() > 1 && text[0] == '+' && text[1] != '-';
  return plus ? text.substr(1) : text;
}

std::optional<std::string> NormalBoolean(const ConfigDefinition& definition,
                                         std::string_view value) {
  std::string lower(value);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const std::string_view allowed = definition.allowed.empty() ? "true,false" : definition.allowed;
  return ListHas(allowed, lower) ? std::optional(std::move(lower)) : std::nullopt;
}

std::optional<std::string> NormalDouble(const ConfigDefinition& definition,
                                        std::string_view value) {
  value = WithoutPlus(value);
  constexpr std::string_view kSuffixes = "dDfF";
  if (!value.empty() && kSuffixes.find(value.back()) != std::string_view::npos)
    value.remove_suffix(1);
  const auto number = ParseNumber<double>(value);
  if (!number || !(*number >= static_cast<double>(definition.min)) ||
      !(*number <= static_cast<double>(definition.max))) {
    return std::nullopt;
  }
  std::array<char, 32> printed{};
  const auto end = std::to_chars(printed.data(), printed.data() + printed.size(), *number).ptr;
  std::string text(printed.data(), end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

// Nothing: it is no value for it.
std::optional<std::string> NormalForm(const ConfigDefinition& definition, std::string_view value) {
  const std::string_view allowed = definition.allowed;
  value = Trimmed(value);
  switch (definition.type) {
    case ConfigType::kBoolean:
      return NormalBoolean(definition, value);
    case ConfigType::kString:
      if (!allowed.empty() && !ListHas(allowed, value)) return std::nullopt;
      return std::string(value);
    case ConfigType::kList:
      if (!allowed.empty() && !AllAllowed(value, allowed)) return std::nullopt;
      return Joined(value, {}, {});
    case ConfigType::kDouble:
      return NormalDouble(definition, value);
    case ConfigType::kInt:
    case ConfigType::kLong: {
      const auto number = ParseNumber<int64_t>(WithoutPlus(value));
      if (!number || *number < definition.min || *number > definition.max) return std::nullopt;
      return std::to_string(*number);
    }
  }
  return std::nullopt;
}

std::string Refusal(const ConfigDefinition& definition, std::string_view value) {
  std::string message = "Invalid value " + QuoteForClient(value) + " for configuration " +
                        std::string(definition.name);
  if (!definition.allowed.empty()) {
    message += ": must be one of " + std::string(definition.allowed);
  } else if (definition.type == ConfigType::kBoolean) {
    message += ": must be true or false";
  } else {
    message += ": must be a number from " + std::to_string(definition.min) + " to " +
               std::to_string(definition.max);
  }
  return message;
}

}  // namespace

std::vector<TopicRecord::Config> StoredConfigs(const ConfigValues& values) {
  std::vector<TopicRecord::Config> configs;
  for (const auto& [name, value] : values) configs.push_back({name, value, {}});
  return configs;
}

std::optional<int64_t> ParseConfigNumber(std::string_view text) {
  return ParseNumber<int64_t>(text);
}

std::optional<double> ParseConfigDouble(std::string_view text) { return ParseNumber<double>(text); }

std::string_view KeptValue(std::string_view name, std::string_view value) {
  if (name.ends_with("cleanup.policy") && value.ends_with(',')) value.remove_suffix(1);
  return value;
}

bool ListHas(std::string_view list, std::string_view item) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == item) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

std::string_view Trimmed(std::string_view text) {
  const auto blank = [](char c) { return static_cast<unsigned char>(c) <= ' '; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string QuoteForClient(std::string_view text) {
  constexpr size_t kQuotedMax = 100;
  return text.size() <= kQuotedMax ? std::string(text)
                                   : std::string(text.substr(0, kQuotedMax)) + "...";
}

const ConfigDefinition* FindDefinition(std::span<const ConfigDefinition> definitions,
                                       std::string_view name) {
  const auto found = std::ranges::lower_bound(definitions, name, {}, &ConfigDefinition::name);
  return found == definitions.end() || found->name != name ? nullptr : &*found;
}

Result<std::string> NormalValue(const ConfigDefinition& definition, std::string_view value) {
  if (auto normal = NormalForm(definition, value)) return *std::move(normal);
  return Unexpected(Code::kInvalid, Refusal(definition, value));
}

Result<ConfigValues> AlteredValues(ConfigValues values, std::span<const ConfigChange> changes,
                                   std::span<const ConfigDefinition> definitions) {
  for (const ConfigChange& change : changes) {
    if (change.operation == ConfigOperation::kDelete) {
      values.erase(change.name);
      continue;
    }
    std::string value = change.value;
    if (change.operation != ConfigOperation::kSet) {
      const ConfigDefinition* definition = FindDefinition(definitions, change.name);
      if (definition == nullptr || definition->type != ConfigType::kList) {
        return Unexpected(Code::kInvalid, "Cannot append to or subtract from " +
                                              QuoteForClient(change.name) +
                                              ": its type is not a list");
      }
      const auto set = values.find(change.name);
      const std::string_view before = set == values.end() ? definition->default_value : set->second;
      value = change.operation == ConfigOperation::kAppend ? Joined(before, change.value, {})
                                                           : Joined(before, {}, change.value);
    }
    values.insert_or_assign(change.name, std::move(value));
  }
  return values;
}

}  // namespace holdfast::broker
