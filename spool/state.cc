#include "spool/state.h"

#include <algorithm>

#include "base/check.h"

namespace holdfast::spool {
namespace {

// Of what a key or a stream takes in a checkpoint, beside its text.
constexpr uint64_t kKeyOverhead = 7;
constexpr uint64_t kStreamOverhead = 31 + 16;  // Its change, and its place among the ends.

tl::unexpected<base::Error> Corrupt(std::string what) {
  return base::Unexpected(base::Code::kCorrupt, "damaged state: " + std::move(what));
}

}  // namespace

std::optional<std::string_view> State::Get(std::string_view key) const {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return std::nullopt;
  return found->second;
}

void State::ForEach(std::string_view prefix, const Visitor& visit) const {
  for (auto it = keys_.lower_bound(prefix); it != keys_.end() && it->first.starts_with(prefix);
       ++it)
    visit(it->first, it->second);
}

void State::Put(std::string_view key, std::string_view value) {
  if (const auto found = keys_.find(key); found != keys_.end()) {
    key_bytes_ += value.size() - found->second.size();
    found->second.assign(value);
  } else {
    keys_.emplace(key, value);
    key_bytes_ += key.size() + value.size();
  }
}

bool State::Erase(std::string_view key) {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return false;
  key_bytes_ -= found->first.size() + found->second.size();
  keys_.erase(found);
  return true;
}

std::optional<StreamId> State::FindStream(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  if (found == by_name_.end()) return std::nullopt;
  return found->second;
}

StreamId State::OpenStream(std::string_view name) {
  const StreamId id = AddStream(name);
  streams_[id.value()].named_once = true;
  return id;
}

StreamId State::AddStream(std::string_view name) {
  const StreamId id(static_cast<uint32_t>(streams_.size()));
  streams_.push_back({.name = std::string(name)});
  by_name_.emplace(name, id);
  name_bytes_ += name.size();
  return id;
}

StreamState& State::stream(StreamId id) {
  HF_CHECK(id.value() < streams_.size());  // The owner uses a stream that it did not open.
  return streams_[id.value()];
}

const StreamState& State::stream(StreamId id) const {
  HF_CHECK(id.value() < streams_.size());
  return streams_[id.value()];
}

base::Result<void> State::Apply(const Change& change) {
  switch (change.kind) {
    case ChangeKind::kPut:
      Put(change.key, change.value);
      return {};
    case ChangeKind::kErase:
      Erase(change.key);
      return {};
    case ChangeKind::kOpenStream:
    case ChangeKind::kStream:
      return ApplyStream(change);
    case ChangeKind::kTrim: {
      AddLostStreams(change.stream.value() + 1);
      StreamState& trimmed = stream(change.stream);
      trimmed.start = std::max(trimmed.start, change.start);
      // After a damaged frame the trim may know of entries that are lost.
      trimmed.end = std::max(trimmed.end, trimmed.start);
      return {};
    }
    case ChangeKind::kSegment:
      return {};
  }
  return Corrupt("unknown kind of change");
}

// Where a checkpoint comes on top of what an older one left, and where a frame names a stream
// again, it may be there already, or its name may have been lost.
base::Result<void> State::ApplyStream(const Change& change) {
  const uint32_t id = change.stream.value();
  AddLostStreams(id);
  const std::optional<StreamId> named = FindStream(change.key);
  const bool again = change.kind == ChangeKind::kStream && id < streams_.size();
  if (!named && id == streams_.size()) {
    AddStream(change.key);
  } else if (!named && again && streams_[id].name == LostStreamName(change.stream)) {
    by_name_.erase(streams_[id].name);
    by_name_.emplace(change.key, change.stream);
    name_bytes_ += change.key.size() - streams_[id].name.size();
    streams_[id].name = change.key;
  } else if (!named || *named != change.stream || !again) {
    return Corrupt("stream " + std::to_string(id) + " is there already");
  }
  StreamState& known = stream(change.stream);
  known.start = change.start;
  known.end = change.end;
  known.max_timestamp_ms = change.max_timestamp_ms;
  known.named_once = change.kind == ChangeKind::kOpenStream;
  return {};
}

// In the order in which the commit was made as far as it matters: a stream is opened before it gets
// entries, and trimmed up to these at most.
base::Result<void> State::Apply(const FrameView& frame, std::string_view changes) {
  std::vector<Change> trims;
  ChangeReader reader(changes);
  Change change;
  while (reader.Next(&change)) {
    if (change.kind == ChangeKind::kTrim) {
      trims.push_back(change);
    } else {
      HF_RETURN_IF_ERROR(Apply(change));
    }
  }
  if (!reader.AtEnd()) return Corrupt("unknown kind of change");
  for (uint32_t line = 0; line < frame.entry_count(); ++line)
    HF_RETURN_IF_ERROR(Apply(frame.info(line)));
  for (const Change& trim : trims) HF_RETURN_IF_ERROR(Apply(trim));
  return {};
}

void State::AddLostStreams(uint32_t end) {
  while (streams_.size() < end)
    AddStream(LostStreamName(StreamId(static_cast<uint32_t>(streams_.size()))));
}

base::Result<void> State::Apply(const EntryInfo& entry) {
  AddLostStreams(entry.stream.value() + 1);
  StreamState& appended = stream(entry.stream);
  if (entry.base_offset < appended.end)
    return Corrupt("offset " + std::to_string(entry.base_offset) + " of stream " + appended.name +
                   " comes after " + std::to_string(appended.end));
  appended.end = entry.end_offset();
  appended.max_timestamp_ms = std::max(appended.max_timestamp_ms, entry.max_timestamp_ms);
  return {};
}

std::vector<std::string> State::Checkpoint(size_t piece_bytes) const {
  std::vector<std::string> pieces(1);
  const auto piece = [&]() -> std::string* {
    if (pieces.back().size() >= piece_bytes) pieces.emplace_back();
    return &pieces.back();
  };
  for (uint32_t id = 0; id < streams_.size(); ++id) {
    Change change;
    change.stream = StreamId(id);
    change.key = streams_[id].name;
    change.start = streams_[id].start;
    change.end = streams_[id].end;
    change.max_timestamp_ms = streams_[id].max_timestamp_ms;
    AppendStream(change, piece());
  }
  for (const auto& [key, value] : keys_) AppendPut(key, value, piece());
  return pieces;
}

std::vector<StreamId> State::Nameless() const {
  std::vector<StreamId> nameless;
  for (uint32_t i = 0; i < streams_.size(); ++i) {
    const StreamId id(i);
    if (streams_[i].start < streams_[i].end && streams_[i].name == LostStreamName(id))
      nameless.push_back(id);
  }
  return nameless;
}

void State::OnCheckpoint() {
  for (StreamState& stream : streams_) stream.named_once = false;
}

uint64_t State::CheckpointBytes() const {
  return key_bytes_ + keys_.size() * kKeyOverhead + name_bytes_ + streams_.size() * kStreamOverhead;
}

}  // namespace holdfast::spool
