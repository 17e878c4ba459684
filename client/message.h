// A record of a topic, as librdkafka gives it, in terms of views.
//
// Threads: any; values. A Message borrows what it was made of.
#pragma once

#include <librdkafka/rdkafkacpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::client {

using Bytes = std::optional<std::string_view>;  // None: null, which is not empty.

struct Header {
  std::string key;
  std::optional<std::string> value;
};

struct Message {
  std::string topic = {};
  int32_t partition = 0;
  int64_t offset = 0;
  int64_t timestamp_ms = 0;
  Bytes key;
  Bytes value;
  std::vector<Header> headers;
};

Message View(RdKafka::Message& message);

// The value of the last header of that name; null if there is none, or it has none.
const std::string* FindHeader(const Message& message, std::string_view key);

// For produce, which takes it over if it succeeds.
std::unique_ptr<RdKafka::Headers> MakeHeaders(const std::vector<Header>& headers);

}  // namespace holdfast::client
