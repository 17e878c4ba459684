// What every Kafka message under kafka/api/ is made of. A message is a plain struct, the same one
// for both directions, and names its fields once for all versions:
//
//   static void Fields(auto& wire, auto& m) {
//     wire(m.group_id);
//     wire(m.group_instance_id, {.since = 3});
//     wire.Bytes(m.metadata);  // Bytes and records, as opposed to strings.
//     wire.Tags(m.unknown_tags, Tag(0, m.current_leader, {.since = 10}));  // Last, if flexible.
//   }
//
// Names of structs and fields are those of Kafka's own schemas, in our case:
// TopicData.PartitionData is `topic_data`, `partition_data`. Nullable fields are std::optional, and
// null unless the schema says otherwise. What a version does not carry keeps the value of its
// initialiser.
//
// Ownership: strings, bytes and records are views. After decoding they borrow from the frame;
//   whoever builds a message keeps the characters alive until it is encoded, if need be in the
//   message's own `strings`: response.cluster_id = response.strings.Keep(MakeId()).
#pragma once

#include <array>
#include <cstdint>
#include <forward_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"

namespace holdfast::kafka {

inline constexpr int16_t kNever = std::numeric_limits<int16_t>::max();

// One request kind with the versions that the codec knows. `flexible` is the first version with
// compact lengths and tagged fields, or kNever.
struct Api {
  int16_t key = 0;
  std::string_view name;
  int16_t oldest = 0;
  int16_t newest = 0;
  int16_t flexible = kNever;

  [[nodiscard]] constexpr bool Knows(int16_t version) const {
    return oldest <= version && version <= newest;
  }
  [[nodiscard]] constexpr bool Flexible(int16_t version) const { return version >= flexible; }
};

// The versions that carry a field. A request whose version cannot carry what is set is not made,
// unless the field is ignorable; a response leaves out what the version that the client chose has
// no place for.
struct Versions {
  int16_t since = 0;
  int16_t last = kNever;
  int16_t nullable_since = 0;  // For optional fields only.
  bool ignorable = false;
};

// Where in a message the contents of a field of bytes were left out.
struct Gap {
  size_t at = 0;
  size_t bytes = 0;
};

// 16 raw bytes. Kafka gives topics random ones; all zero stands for "none".
struct Uuid {
  std::array<uint8_t, 16> bytes{};

  [[nodiscard]] bool IsZero() const { return *this == Uuid(); }
  // Kafka's text form: URL-safe base64 without padding, 22 characters.
  [[nodiscard]] std::string ToString() const;
  auto operator<=>(const Uuid&) const = default;
};

// A tagged field that this codec does not know, kept so that it survives decoding and encoding.
struct UnknownTag {
  uint32_t tag = 0;
  std::string_view bytes;

  bool operator==(const UnknownTag&) const = default;
};
using UnknownTags = std::vector<UnknownTag>;

template <class T>
struct TaggedField {
  uint32_t tag;
  T& field;
  Versions versions;
};
template <class T>
TaggedField<T> Tag(uint32_t tag, T& field, Versions versions = {}) {
  return {tag, field, versions};
}

// Owns characters that the views of a message point to. They stay in place when the message is
// moved.
class Strings {
 public:
  std::string_view Keep(std::string text) { return kept_.emplace_front(std::move(text)); }

 private:
  std::forward_list<std::string> kept_;
};

}  // namespace holdfast::kafka

template <>
struct std::hash<holdfast::kafka::Uuid> {
  size_t operator()(const holdfast::kafka::Uuid& id) const noexcept {
    return std::hash<std::string_view>()(
        {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()});
  }
};
