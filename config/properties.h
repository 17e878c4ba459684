// Properties that go by the names they have elsewhere: those of Kafka's clients under
// agent.upstream.properties, those of Debezium's outbox event router under agent.outbox.properties,
// those of a container's resources under inject.sidecar.resources.
// What they mean together is judged by who uses them.
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

using PropertyTable = std::span<const Property>;

// Of the message (config/holdfast.proto) that has the map.
PropertyTable PropertiesOf(std::string_view message);
// Null if there is none.
const Property* FindProperty(PropertyTable table, std::string_view name);
// One that a person may have meant, or empty.
std::string_view NearestProperty(PropertyTable table, std::string_view name);
// Whether the property may have the value. Upper and lower case are the same in those that have a
// list of values.
bool IsValueOf(const Property& property, std::string_view value);

}  // namespace holdfast::config
