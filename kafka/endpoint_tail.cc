#include "kafka/endpoint_tail.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "kafka/wire.h"

namespace holdfast::kafka {
namespace {

constexpr int16_t kFetchTailSince = 16;
constexpr int16_t kFetchKey = FetchRequest::kApi.key;
constexpr size_t kUuidBytes = sizeof(Uuid::bytes);
constexpr size_t kLeaderBytes = 4 + 4;
// How much of a step is looked at first when its beginning came with the piece before.
constexpr size_t kCarryBytes = 256;

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

base::Buffer Encode(const EndpointTail& tail) {
  Writer writer(/*version=*/0, /*flexible=*/true);
  writer.Struct(tail);
  return std::move(writer).Finish();
}

// Finds a tagged field that makes the tail so many bytes long. `space` is where its content lies.
bool FillUp(EndpointTail& tail, size_t bytes, std::string& space) {
  constexpr uint32_t kTagsOfOneByte = 127;
  const size_t size = Encode(tail).size();
  if (size == bytes) return true;
  if (size > bytes) return false;
  const uint32_t free_tag = tail.unknown_tags.empty() ? 1 : tail.unknown_tags.back().tag + 1;
  space.assign(bytes - size, '\0');
  tail.unknown_tags.emplace_back();
  // Where the content's length or the number of tags takes a byte more, the tag's own number has
  // to.
  for (const uint32_t tag : {free_tag, std::max(free_tag, kTagsOfOneByte + 1)}) {
    for (size_t content = space.size(); content-- > 0;) {
      tail.unknown_tags.back() = {tag, std::string_view(space).substr(0, content)};
      const size_t filled = Encode(tail).size();
      if (filled == bytes) return true;
      if (filled < bytes) break;
    }
  }
  tail.unknown_tags.pop_back();
  return false;
}

}  // namespace

bool HasEndpointTail(int16_t api_key, int16_t version) {
  return (api_key == kFetchKey && version >= kFetchTailSince) || api_key == kShareFetchKey ||
         api_key == kShareAcknowledgeKey;
}

base::Result<EndpointTail> FindEndpointTail(int16_t api_key, int16_t version,
                                            std::string_view frame) {
  EndpointTailFinder finder(api_key, version);
  HF_ASSIGN_OR_RETURN(const size_t begin, finder.Pass(frame));
  return finder.Decode(frame.substr(begin));
}

base::Buffer EncodeEndpointTail(const EndpointTail& tail) { return Encode(tail); }

base::Result<base::Buffer> EncodeEndpointTail(EndpointTail tail, size_t bytes) {
  std::string space;
  if (FillUp(tail, bytes, space)) return Encode(tail);
  tail.node_endpoints.clear();
  if (FillUp(tail, bytes, space)) return Encode(tail);
  return base::Unexpected(base::Code::kInvalid,
                          "the end of an answer, of " + std::to_string(bytes) +
                              " bytes, cannot be written with other addresses in as many");
}

base::Result<size_t> EndpointTailFinder::Pass(std::string_view piece) {
  size_t at = 0;
  while (at < piece.size() && step_ != Step::kTail) {
    if (skip_ > 0) {
      const size_t skipped = std::min(skip_, piece.size() - at);
      skip_ -= skipped;
      at += skipped;
      continue;
    }
    const size_t carried = carried_.size();
    std::string_view bytes = piece.substr(at);
    if (carried > 0) {
      carried_.append(bytes.substr(0, std::max(kCarryBytes, carried)));
      bytes = carried_;
    }
    const Step step = step_;
    Reader reader(bytes, version_, /*flexible=*/true);
    Read(reader);
    if (reader.ok()) {
      at += reader.position() - carried;
      carried_.clear();
    } else if (reader.ended_early()) {
      step_ = step;
      if (carried == 0) carried_ = bytes;
      at += carried_.size() - carried;
    } else {
      return base::Unexpected(Unreadable(reader));
    }
  }
  passed_ += at;
  return at;
}

void EndpointTailFinder::PassOpaque(size_t bytes) {
  HF_CHECK(bytes <= skip_);
  skip_ -= bytes;
  passed_ += bytes;
}

base::Result<EndpointTail> EndpointTailFinder::Decode(std::string_view bytes) const {
  Reader reader(bytes, version_, /*flexible=*/true);
  EndpointTail tail{.api_key = api_key_, .begin = passed_};
  if (step_ == Step::kTail) reader.Struct(tail);
  if (step_ == Step::kTail && reader.AtEnd()) return tail;
  return base::Unexpected(Unreadable(reader));
}

// One step; what it leaves behind if it fails does not count.
void EndpointTailFinder::Read(Reader& reader) {
  switch (step_) {
    case Step::kHead:
      SkipToTopics(reader, api_key_, version_);
      topics_ = CompactLength(reader);
      return NextTopic();
    case Step::kTopic:
      reader.Take(kUuidBytes);
      partitions_ = CompactLength(reader);
      return NextPartition();
    case Step::kPartition:
      return ReadPartition(reader);
    case Step::kPartitionEnd:
      if (api_key_ == kShareFetchKey) {
        SkipArray(reader, [&] { reader.Take(8 + 8 + 2); });  // Acquired records.
      }
      SkipTags(reader);
      if (reader.ok()) --partitions_;
      return NextPartition();
    case Step::kTopicEnd:
      SkipTags(reader);
      if (reader.ok()) --topics_;
      return NextTopic();
    case Step::kTail:
      return;
  }
}

void EndpointTailFinder::ReadPartition(Reader& reader) {
  uint32_t records = 0;
  if (api_key_ == kFetchKey) {
    reader.Take(4 + 2 + 8 + 8 + 8);  // Index, error, high watermark, last stable, log start.
    SkipArray(reader, [&] { reader.Take(8 + 8); });  // Aborted transactions.
    reader.Take(4);                                  // The preferred replica.
    records = CompactLength(reader);
  } else {
    reader.Take(4 + 2);  // Index, error.
    SkipCounted(reader);
    if (api_key_ == kShareFetchKey) {
      reader.Take(2);  // The acknowledgements' error.
      SkipCounted(reader);
    }
    reader.Take(kLeaderBytes);
    SkipTags(reader);
    if (api_key_ == kShareFetchKey) records = CompactLength(reader);
  }
  if (!reader.ok()) return;
  skip_ = records;
  step_ = Step::kPartitionEnd;
}

void EndpointTailFinder::NextPartition() {
  step_ = partitions_ > 0 ? Step::kPartition : Step::kTopicEnd;
}

void EndpointTailFinder::NextTopic() { step_ = topics_ > 0 ? Step::kTopic : Step::kTail; }

base::Error EndpointTailFinder::Unreadable(const Reader& reader) const {
  return {
      base::Code::kInvalid,
      fmt::format("an answer to request {} of version {} is not readable at byte {}: {}", api_key_,
                  version_, passed_ + reader.position(),
                  reader.ok() ? "more follows than belongs to it, or too little" : reader.error())};
}

}  // namespace holdfast::kafka
