#include "cli/record_text.h"

#include <optional>
#include <string_view>
#include <utility>

#include "agent/spool_text.h"
#include "base/base64.h"

namespace holdfast::cli {
namespace {

using Json = nlohmann::ordered_json;

void PutBytes(Json& json, const std::string& name, const std::optional<std::string_view>& bytes) {
  if (!bytes) {
    json[name] = nullptr;
  } else if (agent::IsUtf8(*bytes)) {
    json[name] = *bytes;
  } else {
    json[name + "_base64"] = base::ToBase64(*bytes);
  }
}

}  // namespace

kafka::Record RecordOf(const client::Message& message) {
  kafka::Record record{
      .timestamp = message.timestamp_ms, .key = message.key, .value = message.value};
  for (const client::Header& header : message.headers)
    record.headers.push_back({header.key, header.value});
  return record;
}

std::string TextOf(const kafka::Record& record) {
  return agent::Escaped(record.key) + "\t" + agent::Escaped(record.value);
}

Json JsonOf(const kafka::Record& record, int64_t offset, int64_t timestamp_ms) {
  Json json;
  json["offset"] = offset;
  json["timestamp"] = timestamp_ms;
  PutBytes(json, "key", record.key);
  PutBytes(json, "value", record.value);
  json["headers"] = Json::array();
  for (const kafka::RecordHeader& from : record.headers) {
    Json to;
    PutBytes(to, "key", from.key);
    PutBytes(to, "value", from.value);
    json["headers"].push_back(std::move(to));
  }
  return json;
}

}  // namespace holdfast::cli
