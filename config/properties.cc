#include "config/properties.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "config/value.h"

namespace holdfast::config {
namespace {

constexpr std::array kOfKafka{
    Property{"security.protocol", "PLAINTEXT,SSL,SASL_PLAINTEXT,SASL_SSL", "PLAINTEXT",
             "TLS, SASL or both."},
    Property{"ssl.ca.location", "", "",
             "PEM file, or directory of hashed ones, with the CAs that are trusted. Not set: those "
             "of the system."},
    Property{"ssl.certificate.location", "", "",
             "PEM file with the agent's own certificate, and those between it and a CA, for "
             "brokers that want to see one."},
    Property{"ssl.key.location", "", "",
             "PEM file with the key of that certificate. Not set: it stands in the same file."},
    Property{"ssl.key.password", "", "", "Of an encrypted key."},
    Property{"ssl.endpoint.identification.algorithm", "https,none", "https",
             "Whether a broker's certificate must be that of its host name."},
    Property{"sasl.mechanism", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER", "",
             "How the agent authenticates itself. `sasl.mechanisms` is the same."},
    Property{"sasl.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER", "",
             "As `sasl.mechanism`."},
    Property{"sasl.username", "", "", "Of PLAIN and SCRAM."},
    Property{"sasl.password", "", "", "Of PLAIN and SCRAM."},
    Property{"sasl.jaas.config", "", "",
             "User name and password (`username=\"...\" password=\"...\";`) as Java clients have "
             "them, in place of the two above."},
    Property{"sasl.oauthbearer.token.endpoint.url", "", "",
             "Of OAUTHBEARER: `file:///PATH` of the file that holds the token. It is read for each "
             "connection."},
    Property{"sasl.oauthbearer.extensions", "", "",
             "Of OAUTHBEARER: NAME=VALUE that go along with the token, with commas between."},
};

constexpr std::array kOfDebezium{
    Property{"table.field.event.position", "", "",
             "The integer column that rises with each insert. Debezium has no need of it."},
    Property{"table.field.event.id", "", "", "The event's id: the header `id`."},
    Property{"table.field.event.key", "", "", "The record's key. Empty: records have none."},
    Property{"table.field.event.payload", "", "", "The record's value."},
    Property{"table.field.event.timestamp", "", "",
             "The record's timestamp. Not set, or empty: when the row is taken."},
    Property{"table.fields.additional.placement", "", "",
             "Further columns: `column:header`, `column:header:alias` or `column:partition`, with "
             "commas between."},
    Property{"route.by.field", "", "", "The column that `${aggregatetype}` stands for."},
    Property{"route.topic.replacement", "", "",
             "As `topic` above; `${routedByValue}` is `${aggregatetype}`."},
    Property{"route.tombstone.on.empty.payload", "true,false", "false",
             "Whether an empty payload becomes a null value, as a null one does."},
};

constexpr std::array kOfContainers{
    Property{"requests.cpu", "", "", "Such as `50m`."},
    Property{"requests.memory", "", "", "Such as `64Mi`."},
    Property{"requests.ephemeral-storage", "", "", "Such as `2Gi`."},
    Property{"limits.cpu", "", "", "Such as `1`."},
    Property{"limits.memory", "", "", "Such as `256Mi`."},
    Property{"limits.ephemeral-storage", "", "", "Such as `4Gi`."},
};

bool SameWord(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

PropertyTable PropertiesOf(std::string_view message) {
  if (message == "OutboxSource") return kOfDebezium;
  if (message == "Sidecar") return kOfContainers;
  return kOfKafka;
}

const Property* FindProperty(PropertyTable table, std::string_view name) {
  const auto found = std::ranges::find(table, name, &Property::name);
  return found == table.end() ? nullptr : &*found;
}

std::string_view NearestProperty(PropertyTable table, std::string_view name) {
  std::string_view nearest;
  size_t best = std::max<size_t>(1, name.size() / 3) + 1;
  for (const Property& property : table) {
    const size_t distance = EditDistance(name, property.name);
    if (distance < best) {
      best = distance;
      nearest = property.name;
    }
  }
  return nearest;
}

bool IsValueOf(const Property& property, std::string_view value) {
  std::string_view values = property.values;
  if (values.empty()) return true;
  while (!values.empty()) {
    const size_t comma = std::min(values.find(','), values.size());
    if (SameWord(values.substr(0, comma), value)) return true;
    values.remove_prefix(std::min(comma + 1, values.size()));
  }
  return false;
}

}  // namespace holdfast::config
