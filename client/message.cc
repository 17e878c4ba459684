#include "client/message.h"

#include <ranges>

namespace holdfast::client {
namespace {

Bytes BytesOf(const void* data, size_t size) {
  if (data == nullptr) return std::nullopt;
  return std::string_view(static_cast<const char*>(data), size);
}

}  // namespace

Message View(RdKafka::Message& message) {
  Message view{.topic = message.topic_name(),
               .partition = message.partition(),
               .offset = message.offset(),
               .timestamp_ms = message.timestamp().timestamp,
               .key = BytesOf(message.key_pointer(), message.key_len()),
               .value = BytesOf(message.payload(), message.len())};
  if (const RdKafka::Headers* headers = message.headers()) {
    for (const RdKafka::Headers::Header& header : headers->get_all()) {
      const Bytes value = BytesOf(header.value(), header.value_size());
      view.headers.push_back(
          {header.key(), value ? std::optional(std::string(*value)) : std::nullopt});
    }
  }
  return view;
}

const std::string* FindHeader(const Message& message, std::string_view key) {
  for (const Header& header : std::views::reverse(message.headers)) {
    if (header.key == key) return header.value ? &*header.value : nullptr;
  }
  return nullptr;
}

std::unique_ptr<RdKafka::Headers> MakeHeaders(const std::vector<Header>& headers) {
  std::unique_ptr<RdKafka::Headers> made(RdKafka::Headers::create());
  for (const Header& header : headers) {
    made->add(header.key, header.value ? header.value->data() : nullptr,
              header.value ? header.value->size() : 0);
  }
  return made;
}

}  // namespace holdfast::client
