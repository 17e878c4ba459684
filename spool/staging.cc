#include "spool/staging.h"

#include <algorithm>

#include "base/check.h"

namespace holdfast::spool {

StreamId Staging::OpenStream(std::string_view name) {
  if (const std::optional<StreamId> known = state_.FindStream(name)) return *known;
  HF_CHECK(name.size() <= kStreamNameBytesMax);
  const StreamId stream = state_.OpenStream(name);
  AppendOpenStream(stream, name, &commit_.changes);
  commit_.news.opened.emplace_back(stream, name);
  return stream;
}

void Staging::NameAgain(StreamId id, StreamState& stream) {
  if (!stream.named_once || id.value() >= opened_before_) return;
  stream.named_once = false;
  Change change;
  change.stream = id;
  change.key = stream.name;
  change.start = stream.start;
  change.end = stream.end;
  change.max_timestamp_ms = stream.max_timestamp_ms;
  AppendStream(change, &commit_.changes);
}

int64_t Staging::Append(const NewEntry& entry) {
  HF_CHECK(entry.record_count > 0 && !entry.bytes.empty());
  HF_CHECK(entry.bytes.size() <= budget_);  // More than Operation::Bytes said.
  budget_ -= entry.bytes.size();
  StreamState& stream = state_.stream(entry.stream);
  NameAgain(entry.stream, stream);
  const int64_t base_offset = stream.end;
  stream.end += entry.record_count;
  stream.max_timestamp_ms = std::max(stream.max_timestamp_ms, entry.max_timestamp_ms);
  const auto line = static_cast<uint32_t>(commit_.entries.size());
  commit_.entries.push_back({entry, base_offset});
  commit_.entry_bytes += entry.bytes.size();
  commit_.record_count += entry.record_count;
  commit_.news.entries.push_back({.stream = entry.stream,
                                  .place = {.base_offset = base_offset,
                                            .max_timestamp_ms = entry.max_timestamp_ms,
                                            .line = line},
                                  .end_offset = stream.end});
  return base_offset;
}

int64_t Staging::EndOffset(StreamId stream) const { return state_.stream(stream).end; }

int64_t Staging::StartOffset(StreamId stream) const { return state_.stream(stream).start; }

void Staging::Trim(StreamId stream, int64_t offset) {
  StreamState& trimmed = state_.stream(stream);
  offset = std::min(offset, trimmed.end);
  if (offset <= trimmed.start) return;
  NameAgain(stream, trimmed);
  trimmed.start = offset;
  AppendTrim(stream, offset, &commit_.changes);
  commit_.news.trims.emplace_back(stream, offset);
}

void Staging::Put(std::string_view key, std::string_view value) {
  HF_CHECK(key.size() <= kKeyBytesMax);
  state_.Put(key, value);
  AppendPut(key, value, &commit_.changes);
}

void Staging::Erase(std::string_view key) {
  if (state_.Erase(key)) AppendErase(key, &commit_.changes);
}

std::optional<std::string_view> Staging::Get(std::string_view key) const { return state_.Get(key); }

}  // namespace holdfast::spool
