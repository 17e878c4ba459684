// Kafka's client properties that Holdfast takes under agent.upstream.properties, by the names that
// librdkafka and Kafka give them. What they mean together is judged by who uses them.
//
// Threads: any; pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace holdfast::config {

struct Property {
  std::string_view name;
  // What the value must be one of, with commas between; empty: any text.
  std::string_view values;
  std::string_view preset;  // Empty: none.
  std::string_view meaning;
};

std::span<const Property> Properties();
// Null if there is none.
const Property* FindProperty(std::string_view name);
// One that a person may have meant, or empty.
std::string_view NearestProperty(std::string_view name);
// Whether the property may have the value. Upper and lower case are the same in those that have a
// list of values.
bool IsValueOf(const Property& property, std::string_view value);

}  // namespace holdfast::config
