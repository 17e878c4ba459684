#include "kafka/endpoint_tail.h"

#include <fmt/format.h>

#include "kafka/wire.h"

namespace holdfast::kafka {
namespace {

constexpr int16_t kFetchTailSince = 16;
constexpr int16_t kFetchKey = FetchRequest::kApi.key;
constexpr size_t kUuidBytes = sizeof(Uuid::bytes);
constexpr size_t kLeaderBytes = 4 + 4;

void SkipTags(Reader& reader) {
  UnknownTags tags;
  reader.Tags(tags);
}

// Of a compact array, string or bytes; 0 for null.
uint32_t CompactLength(Reader& reader) {
  const uint32_t length = reader.UnsignedVarint();
  return length == 0 ? 0 : length - 1;
}

void SkipCounted(Reader& reader) { reader.Take(CompactLength(reader)); }

template <class Skip>
void SkipArray(Reader& reader, Skip skip) {
  const uint32_t count = CompactLength(reader);
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    skip();
    SkipTags(reader);
  }
}

void SkipFetchPartition(Reader& reader) {
  reader.Take(4 + 2 + 8 + 8 + 8);  // Index, error, high watermark, last stable, log start.
  SkipArray(reader, [&] { reader.Take(8 + 8); });  // Aborted transactions.
  reader.Take(4);                                  // The preferred replica.
  SkipCounted(reader);                             // Records.
}

void SkipShareFetchPartition(Reader& reader) {
  reader.Take(4 + 2);  // Index, error.
  SkipCounted(reader);
  reader.Take(2);  // The acknowledgements' error.
  SkipCounted(reader);
  reader.Take(kLeaderBytes);
  SkipTags(reader);
  SkipCounted(reader);                                 // Records.
  SkipArray(reader, [&] { reader.Take(8 + 8 + 2); });  // Acquired records.
}

void SkipShareAcknowledgePartition(Reader& reader) {
  reader.Take(4 + 2);  // Index, error.
  SkipCounted(reader);
  reader.Take(kLeaderBytes);
  SkipTags(reader);
}

void SkipToTopics(Reader& reader, int16_t api_key, int16_t version) {
  reader.Take(4);  // The correlation id.
  SkipTags(reader);
  reader.Take(4 + 2);  // Throttle time, error.
  if (api_key == kFetchKey) {
    reader.Take(4);  // The session.
    return;
  }
  SkipCounted(reader);  // The error's message.
  constexpr int16_t kAcknowledgeLockSince = 2;
  if (api_key == kShareFetchKey || version >= kAcknowledgeLockSince) reader.Take(4);
}

void SkipPartition(Reader& reader, int16_t api_key) {
  if (api_key == kFetchKey) return SkipFetchPartition(reader);
  if (api_key == kShareFetchKey) return SkipShareFetchPartition(reader);
  SkipShareAcknowledgePartition(reader);
}

}  // namespace

bool HasEndpointTail(int16_t api_key, int16_t version) {
  return (api_key == kFetchKey && version >= kFetchTailSince) || api_key == kShareFetchKey ||
         api_key == kShareAcknowledgeKey;
}

base::Result<EndpointTail> FindEndpointTail(int16_t api_key, int16_t version,
                                            std::string_view frame) {
  EndpointTail tail{.api_key = api_key};
  Reader reader(frame, version, /*flexible=*/true);
  SkipToTopics(reader, api_key, version);
  SkipArray(reader, [&] {
    reader.Take(kUuidBytes);
    SkipArray(reader, [&] { SkipPartition(reader, api_key); });
  });
  tail.begin = reader.position();
  reader.Struct(tail);
  if (reader.AtEnd()) return tail;
  return base::Unexpected(
      base::Code::kInvalid,
      fmt::format("an answer to request {} of version {} is not readable at byte {}: {}", api_key,
                  version, reader.position(),
                  reader.ok() ? "more follows than belongs to it" : reader.error()));
}

base::Buffer EncodeEndpointTail(const EndpointTail& tail) {
  Writer writer(/*version=*/0, /*flexible=*/true);
  writer.Struct(tail);
  return std::move(writer).Finish();
}

}  // namespace holdfast::kafka
