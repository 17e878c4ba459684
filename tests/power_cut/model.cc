#include "tests/power_cut/model.h"

#include <algorithm>

namespace holdfast::power_cut {

spool::StreamId Model::OpenStream(std::string_view name) {
  const auto found = std::find_if(streams.begin(), streams.end(),
                                  [&](const Stream& stream) { return stream.name == name; });
  const auto id = spool::StreamId(static_cast<uint32_t>(found - streams.begin()));
  if (found == streams.end()) streams.push_back({std::string(name)});
  return id;
}

int64_t Model::Append(const spool::NewEntry& entry) {
  Stream& stream = streams[entry.stream.value()];
  const int64_t base_offset = stream.end;
  stream.entries.push_back(
      {base_offset, entry.record_count, entry.max_timestamp_ms, entry.bytes.size(), entry.tag});
  stream.end += entry.record_count;
  return base_offset;
}

int64_t Model::EndOffset(spool::StreamId stream) const { return streams[stream.value()].end; }

int64_t Model::StartOffset(spool::StreamId stream) const { return streams[stream.value()].start; }

void Model::Trim(spool::StreamId stream, int64_t offset) {
  Stream& trimmed = streams[stream.value()];
  trimmed.start = std::max(trimmed.start, std::min(offset, trimmed.end));
}

void Model::Put(std::string_view key, std::string_view value) {
  keys.insert_or_assign(std::string(key), std::string(value));
}

void Model::Erase(std::string_view key) {
  if (const auto found = keys.find(key); found != keys.end()) keys.erase(found);
}

std::optional<std::string_view> Model::Get(std::string_view key) const {
  const auto found = keys.find(key);
  if (found == keys.end()) return std::nullopt;
  return found->second;
}

}  // namespace holdfast::power_cut
