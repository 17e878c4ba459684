#include "broker/config_values.h"

#include <algorithm>
#include <charconv>

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

bool AllAllowed(std::string_view items, std::string_view allowed) {
  while (!items.empty()) {
    const size_t comma = std::min(items.find(','), items.size());
    if (!ListHas(allowed, items.substr(0, comma))) return false;
    items.remove_prefix(std::min(comma + 1, items.size()));
  }
  return true;
}

// Appends to `list` those of `items` that are not in it, and not in `without`.
void Append(std::string_view items, std::string_view without, std::string* list) {
  while (!items.empty()) {
    const size_t comma = std::min(items.find(','), items.size());
    const std::string_view item = items.substr(0, comma);
    items.remove_prefix(std::min(comma + 1, items.size()));
    if (item.empty() || ListHas(*list, item) || ListHas(without, item)) continue;
    if (!list->empty()) *list += ',';
    *list += item;
  }
}

std::string Joined(std::string_view list, std::string_view items) {
  std::string joined;
  Append(list, {}, &joined);
  Append(items, {}, &joined);
  return joined;
}

std::string Without(std::string_view list, std::string_view items) {
  std::string rest;
  Append(list, items, &rest);
  return rest;
}

bool Fits(const ConfigDefinition& definition, std::string_view value) {
  switch (definition.type) {
    case ConfigType::kBoolean:
      return ListHas(definition.allowed.empty() ? "true,false" : definition.allowed, value);
    case ConfigType::kString:
      return definition.allowed.empty() || ListHas(definition.allowed, value);
    case ConfigType::kList:
      return definition.allowed.empty() || AllAllowed(value, definition.allowed);
    case ConfigType::kDouble: {
      const auto number = ParseNumber<double>(value);
      return number && *number >= static_cast<double>(definition.min) &&
             *number <= static_cast<double>(definition.max);
    }
    case ConfigType::kInt:
    case ConfigType::kLong: {
      const auto number = ParseNumber<int64_t>(value);
      return number && *number >= definition.min && *number <= definition.max;
    }
  }
  return false;
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

bool ListHas(std::string_view list, std::string_view item) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == item) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
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

Result<> CheckValue(const ConfigDefinition& definition, std::string_view value) {
  if (Fits(definition, value)) return {};
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
      value = change.operation == ConfigOperation::kAppend ? Joined(before, change.value)
                                                           : Without(before, change.value);
    }
    values.insert_or_assign(change.name, std::move(value));
  }
  return values;
}

}  // namespace holdfast::broker
