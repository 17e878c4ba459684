// What settings of topics, groups and the broker have in common: values held against their
// definitions, and changes of them.
//
// Threads: plain functions on values.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "broker/records.h"
#include "broker/topic_config.h"

namespace holdfast::broker {

// Null if there is none. The definitions are in the order of their names.
const ConfigDefinition* FindDefinition(std::span<const ConfigDefinition> definitions,
                                       std::string_view name);
// The value as it is kept and shown, as Kafka reads it: without blanks around it and the items of
// lists, booleans in small letters, each item once, numbers without what does not count. kInvalid:
// it is no value for it; the message is for the client.
base::Result<std::string> NormalValue(const ConfigDefinition& definition, std::string_view value);
// What they are after the changes, not checked but for what is no list and is appended to.
base::Result<ConfigValues> AlteredValues(ConfigValues values, std::span<const ConfigChange> changes,
                                         std::span<const ConfigDefinition> definitions);

// As records have them. Borrows from the values.
std::vector<TopicRecord::Config> StoredConfigs(const ConfigValues& values);

std::optional<int64_t> ParseConfigNumber(std::string_view text);
std::optional<double> ParseConfigDouble(std::string_view text);
// What is left of a stored value that earlier versions took as it was: an empty last item.
std::string_view KeptValue(std::string_view name, std::string_view value);
// Whether `item` stands in `list`, whose items are separated by commas alone.
bool ListHas(std::string_view list, std::string_view item);
// Without the blanks around it, as String.trim() of Java does it.
std::string_view Trimmed(std::string_view text);
// What a client sent, as far as it belongs into a message.
std::string QuoteForClient(std::string_view text);

}  // namespace holdfast::broker
