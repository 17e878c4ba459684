#include "agent/forward_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "agent/ledger.h"
#include "base/crc32c.h"
#include "base/endian.h"

namespace holdfast::agent {
namespace {

constexpr uint8_t kFormat = 1;
// Epochs are 16 bits; a new producer id begins at 0 again.
constexpr int16_t kEpochMax = 32000;
constexpr size_t kUpstreamSize = 1 + 8 + 4;
constexpr size_t kForwardSize = 1 + 8 + 2 + 8 + 4 + 8 + 8;
// From format 2 on the topic's id follows.
constexpr uint8_t kForwardFormat = 2;
constexpr size_t kTopicIdSize = 16;
constexpr size_t kLeftOutSize = 8 + 8 + 2;

base::Result<> CheckForm(std::string_view what, std::string_view bytes, uint8_t format,
                         size_t size) {
  if (bytes.empty() || static_cast<uint8_t>(bytes[0]) != format) {
    return base::Unexpected(base::Code::kInvalid,
                            fmt::format("{}: written by another version of the agent", what));
  }
  if (bytes.size() != size) {
    return base::Unexpected(base::Code::kCorrupt,
                            fmt::format("{}: {} bytes in place of {}", what, bytes.size(), size));
  }
  return {};
}

template <std::integral T>
void Put(std::string& to, T value) {
  std::array<char, sizeof(T)> bytes;
  base::StoreLittle(bytes.data(), value);
  to.append(bytes.data(), bytes.size());
}

// Reads fields one after the other; the caller has checked the size.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : at_(bytes.data() + 1) {}
  template <std::integral T>
  void Get(T& value) {
    value = base::LoadLittle<T>(at_);
    at_ += sizeof(T);
  }

 private:
  const char* at_;
};

// Of what the state has of a stream under the prefix. A fresh one if it has nothing.
template <class Value, class Parse>
base::Result<Value> StateOf(const spool::State& state, std::string_view prefix,
                            spool::StreamId stream, Parse parse) {
  const auto bytes = state.Get(StreamKey(prefix, stream));
  return bytes ? parse(*bytes) : Value();
}

}  // namespace

std::string StreamKey(std::string_view prefix, spool::StreamId stream) {
  std::array<char, 4> id;
  base::StoreBig(id.data(), stream.value());
  return std::string(prefix).append(id.data(), id.size());
}

std::optional<spool::StreamId> ParseStreamKey(std::string_view prefix, std::string_view key) {
  if (!key.starts_with(prefix) || key.size() != prefix.size() + 4) return std::nullopt;
  return spool::StreamId(base::LoadBig<uint32_t>(key.data() + prefix.size()));
}

std::string StreamName(std::string_view topic, int32_t partition) {
  std::array<char, 12> number;
  const auto end = std::to_chars(number.data(), number.data() + number.size(), partition).ptr;
  std::string name;
  name.reserve(topic.size() + 1 + number.size());
  return name.append(topic).append(1, '/').append(number.data(), end);
}

std::optional<std::pair<std::string, int32_t>> ParseStreamName(std::string_view name) {
  const size_t slash = name.rfind('/');
  if (slash == std::string_view::npos) return std::nullopt;
  int32_t partition = 0;
  const auto [end, error] =
      std::from_chars(name.data() + slash + 1, name.data() + name.size(), partition);
  if (error != std::errc() || end != name.data() + name.size() || partition < 0) {
    return std::nullopt;
  }
  return std::pair(std::string(name.substr(0, slash)), partition);
}

uint32_t ClusterTag(std::string_view cluster_id) { return base::Crc32c(cluster_id); }

std::string SerializeClusterTag(uint32_t tag) {
  std::string bytes(1, static_cast<char>(kFormat));
  Put(bytes, tag);
  return bytes;
}

base::Result<uint32_t> ParseClusterTag(std::string_view bytes) {
  HF_RETURN_IF_ERROR(CheckForm("cluster's tag", bytes, kFormat, 1 + sizeof(uint32_t)));
  uint32_t tag = 0;
  Fields(bytes).Get(tag);
  return tag;
}

bool Destination::SharesAddress(const Destination& other) const {
  return std::ranges::any_of(bootstrap, [&other](const std::string& address) {
    return std::ranges::find(other.bootstrap, address) != other.bootstrap.end();
  });
}

// In JSON, so that another version may say more.
std::string Destination::Serialize() const {
  const nlohmann::json json{{"bootstrap", bootstrap}, {"principal", principal}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

base::Result<Destination> Destination::Parse(std::string_view bytes) {
  const auto json = nlohmann::json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  const auto malformed = base::Unexpected(base::Code::kCorrupt, "destination: it is malformed");
  if (!json.is_object()) return malformed;
  const nlohmann::json principal = json.value("principal", nlohmann::json(""));
  if (!principal.is_string()) return malformed;
  Destination parsed{.principal = principal};
  for (const auto& address : json.value("bootstrap", nlohmann::json::array())) {
    if (!address.is_string()) return malformed;
    parsed.bootstrap.push_back(address);
  }
  return parsed;
}

std::string UpstreamProducer::Serialize() const {
  std::string bytes(1, static_cast<char>(kFormat));
  Put(bytes, id);
  Put(bytes, cluster_tag);
  return bytes;
}

base::Result<UpstreamProducer> UpstreamProducer::Parse(std::string_view bytes) {
  HF_RETURN_IF_ERROR(CheckForm("upstream producer", bytes, kFormat, kUpstreamSize));
  UpstreamProducer parsed;
  Fields fields(bytes);
  fields.Get(parsed.id);
  fields.Get(parsed.cluster_tag);
  return parsed;
}

bool Identity::Advance(const UpstreamProducer& producer, int64_t ordinal) {
  if (producer_id != producer.id) {
    *this = {.producer_id = producer.id, .cluster_tag = producer.cluster_tag};
  } else if (epoch < kEpochMax) {
    ++epoch;
  } else {
    return false;
  }
  base_ordinal = ordinal;
  return true;
}

std::string ForwardRecord::Serialize() const {
  std::string bytes(1, static_cast<char>(kForwardFormat));
  Put(bytes, identity.producer_id);
  Put(bytes, identity.epoch);
  Put(bytes, identity.base_ordinal);
  Put(bytes, identity.cluster_tag);
  Put(bytes, confirmed);
  Put(bytes, tier_offset);
  for (const uint8_t byte : topic_id.bytes) Put(bytes, byte);
  return bytes;
}

base::Result<ForwardRecord> ForwardRecord::Parse(std::string_view bytes) {
  const bool has_topic_id = !bytes.empty() && static_cast<uint8_t>(bytes.front()) == kForwardFormat;
  HF_RETURN_IF_ERROR(CheckForm("forward record", bytes, has_topic_id ? kForwardFormat : kFormat,
                               has_topic_id ? kForwardSize + kTopicIdSize : kForwardSize));
  ForwardRecord parsed;
  Fields fields(bytes);
  fields.Get(parsed.identity.producer_id);
  fields.Get(parsed.identity.epoch);
  fields.Get(parsed.identity.base_ordinal);
  fields.Get(parsed.identity.cluster_tag);
  fields.Get(parsed.confirmed);
  fields.Get(parsed.tier_offset);
  if (has_topic_id) {
    for (uint8_t& byte : parsed.topic_id.bytes) fields.Get(byte);
  }
  return parsed;
}

std::string SerializeLeftOut(const std::vector<LeftOut>& left_out) {
  std::string bytes(1, static_cast<char>(kFormat));
  for (const LeftOut& range : left_out) {
    Put(bytes, range.begin);
    Put(bytes, range.end);
    Put(bytes, static_cast<int16_t>(range.error));
  }
  return bytes;
}

base::Result<std::vector<LeftOut>> ParseLeftOut(std::string_view bytes) {
  const size_t count = bytes.empty() ? 0 : (bytes.size() - 1) / kLeftOutSize;
  HF_RETURN_IF_ERROR(CheckForm("records left out", bytes, kFormat, 1 + count * kLeftOutSize));
  std::vector<LeftOut> parsed(count);
  Fields fields(bytes);
  for (LeftOut& range : parsed) {
    int16_t error = 0;
    fields.Get(range.begin);
    fields.Get(range.end);
    fields.Get(error);
    range.error = static_cast<kafka::ErrorCode>(error);
  }
  return parsed;
}

base::Result<std::map<std::string, std::string>> ListByHand(
    const std::map<spool::StreamId, uint64_t>& dropped, const spool::State& state, int64_t now_ms) {
  std::map<std::string, std::string> values;
  for (const auto& [id, bytes] : dropped) {
    const spool::StreamState& stream = state.stream(id);
    if (!ParseStreamName(stream.name)) continue;
    HF_ASSIGN_OR_RETURN(const auto cursor,
                        StateOf<ForwardRecord>(state, kForwardPrefix, id, &ForwardRecord::Parse));
    HF_ASSIGN_OR_RETURN(const auto left_out,
                        StateOf<std::vector<LeftOut>>(state, kLeftOutPrefix, id, &ParseLeftOut));
    HF_ASSIGN_OR_RETURN(auto drops, StateOf<Drops>(state, kDropsPrefix, id, &Drops::Parse));
    int64_t at = std::max(stream.start, cursor.confirmed);
    if (at >= stream.end) continue;
    uint64_t rest = bytes;
    const auto list = [&](int64_t end) {
      if (at >= end) return;
      drops.Add({.begin = at,
                 .end = end,
                 .cause = DropCause::kByHand,
                 .when_ms = now_ms,
                 .bytes = std::exchange(rest, 0)});
    };
    for (const LeftOut& dead : left_out) {
      list(dead.begin);
      at = std::max(at, dead.end);
    }
    list(stream.end);
    values[StreamKey(kDropsPrefix, id)] = drops.Serialize();
  }
  return values;
}

}  // namespace holdfast::agent
