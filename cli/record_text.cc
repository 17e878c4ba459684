#include "cli/record_text.h"

#include <fmt/format.h>

#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "agent/spool_text.h"
#include "base/base64.h"
#include "base/utf8.h"

namespace holdfast::cli {
namespace {

using Json = nlohmann::ordered_json;

void PutBytes(Json& json, const std::string& name, const std::optional<std::string_view>& bytes) {
  if (!bytes) {
    json[name] = nullptr;
  } else if (base::IsUtf8(*bytes)) {
    json[name] = *bytes;
  } else {
    json[name + "_base64"] = base::ToBase64(*bytes);
  }
}

tl::unexpected<base::Error> Wrong(std::string message) {
  return base::Unexpected(base::Code::kInvalid, std::move(message));
}

// `name`, or `name` with _base64 behind it.
base::Result<std::optional<std::string>> TakeBytes(Json& json, const std::string& name) {
  std::optional<std::string> bytes;
  for (const std::string& key : {name, name + "_base64"}) {
    const auto found = json.find(key);
    if (found == json.end()) continue;
    if (bytes) return Wrong(fmt::format("has both {} and {}", name, key));
    if (!found->is_null() && !found->is_string())
      return Wrong(fmt::format("{} is neither text nor null", key));
    if (found->is_string()) bytes = std::move(found->get_ref<std::string&>());
    if (bytes && key != name) {
      bytes = base::FromBase64(*bytes);
      if (!bytes) return Wrong(key + " is not Base64");
    }
    json.erase(found);
  }
  return bytes;
}

// None: it is not there, or -1, as a broker says it that does not know.
base::Result<std::optional<int64_t>> TakeNumber(Json& json, const std::string& name, int64_t max) {
  const auto found = json.find(name);
  if (found == json.end()) return std::nullopt;
  if (!found->is_number_integer() || *found < -1 || *found > max)
    return Wrong(fmt::format("{} is not a number from -1 to {}", name, max));
  const auto number = found->get<int64_t>();
  json.erase(found);
  return number < 0 ? std::nullopt : std::optional(number);
}

base::Result<void> CheckEmpty(const Json& json) {
  if (json.empty()) return {};
  return Wrong(
      fmt::format("\"{}\" is none of topic, partition, offset, timestamp, key, value, "
                  "headers, and key_base64 and value_base64",
                  agent::Escaped(json.begin().key())));
}

base::Result<std::vector<client::Header>> TakeHeaders(Json& json) {
  std::vector<client::Header> headers;
  const auto found = json.find("headers");
  if (found == json.end()) return headers;
  if (!found->is_array()) return Wrong("headers is not a list");
  for (Json& one : *found) {
    if (!one.is_object()) return Wrong("a header is not an object with key and value");
    HF_ASSIGN_OR_RETURN(auto key, TakeBytes(one, "key"));
    if (!key) return Wrong("a header has no key");
    HF_ASSIGN_OR_RETURN(auto value, TakeBytes(one, "value"));
    HF_RETURN_IF_ERROR(CheckEmpty(one));
    headers.push_back({*std::move(key), std::move(value)});
  }
  json.erase(found);
  return headers;
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

Json JsonOf(const kafka::Record& record, int64_t offset, int64_t timestamp_ms, Json first) {
  Json json = std::move(first);
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

base::Result<client::Record> ParseJson(std::string_view line) {
  Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Wrong("not an object of JSON");
  client::Record record;
  HF_ASSIGN_OR_RETURN(record.topic, TakeBytes(json, "topic"));
  HF_ASSIGN_OR_RETURN(const auto partition,
                      TakeNumber(json, "partition", std::numeric_limits<int32_t>::max()));
  if (partition) record.partition = static_cast<int32_t>(*partition);
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
  HF_ASSIGN_OR_RETURN(record.timestamp_ms, TakeNumber(json, "timestamp", kAny));
  HF_RETURN_IF_ERROR(TakeNumber(json, "offset", kAny));
  HF_ASSIGN_OR_RETURN(record.key, TakeBytes(json, "key"));
  HF_ASSIGN_OR_RETURN(record.value, TakeBytes(json, "value"));
  HF_ASSIGN_OR_RETURN(record.headers, TakeHeaders(json));
  HF_RETURN_IF_ERROR(CheckEmpty(json));
  return record;
}

}  // namespace holdfast::cli
