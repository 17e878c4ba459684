#include "spool/catalog.h"

#include <algorithm>

#include "base/check.h"

namespace holdfast::spool {

void Catalog::Load(Segments segments, std::shared_ptr<MemoryIndex> index, const State& state,
                   CommitNumber durable) {
  const base::MutexLock lock(mutex_);
  segments_ = std::make_shared<const Segments>(std::move(segments));
  index_ = std::move(index);
  durable_ = durable;
  streams_.clear();
  by_name_.clear();
  for (const StreamState& stream : state.streams()) {
    by_name_.emplace(stream.name, StreamId(static_cast<uint32_t>(streams_.size())));
    streams_.push_back({stream.name, stream.start, stream.end, stream.end});
  }
  for (uint32_t id = 0; id < streams_.size(); ++id) {
    if (const std::optional<Place> first = index_->First(StreamId(id)))
      streams_[id].open_segment_begin = first->base_offset;
  }
}

std::vector<StreamId> Catalog::Publish(const CommitNews& news) {
  std::vector<StreamId> changed;
  changed.reserve(news.entries.size());
  const base::MutexLock lock(mutex_);
  for (const auto& [id, name] : news.opened) {
    HF_CHECK(id.value() == streams_.size());
    streams_.push_back({name});
    by_name_.emplace(name, id);
  }
  for (const CommitNews::Entry& entry : news.entries) {
    index_->Add(entry.stream, entry.place);
    Stream& stream = streams_[entry.stream.value()];
    stream.end = entry.end_offset;
    if (std::exchange(stream.last_commit, news.commit) != news.commit)
      changed.push_back(entry.stream);
  }
  for (const auto& [id, start] : news.trims) streams_[id.value()].start = start;
  durable_ = news.commit;
  segments_->back()->entry_bytes += news.entry_bytes;
  return changed;
}

std::shared_ptr<MemoryIndex> Catalog::BeginSegment(const std::shared_ptr<Segment>& next) {
  const base::MutexLock lock(mutex_);
  auto segments = std::make_shared<Segments>(*segments_);
  if (!segments->empty()) segments->back()->PinIndex(std::move(index_));
  segments->push_back(next);
  segments_ = std::move(segments);
  index_ = std::make_shared<MemoryIndex>();
  for (Stream& stream : streams_) stream.open_segment_begin = stream.end;
  return index_;
}

void Catalog::Remove(const Segment& segment) {
  const base::MutexLock lock(mutex_);
  auto segments = std::make_shared<Segments>(*segments_);
  std::erase_if(*segments, [&](const auto& each) { return each.get() == &segment; });
  segments_ = std::move(segments);
}

bool Catalog::Replace(const Segment& segment, std::shared_ptr<Segment> with) {
  const base::MutexLock lock(mutex_);
  auto segments = std::make_shared<Segments>(*segments_);
  const auto found = std::find_if(segments->begin(), segments->end(),
                                  [&](const auto& each) { return each.get() == &segment; });
  if (found == segments->end()) return false;
  *found = std::move(with);
  segments_ = std::move(segments);
  return true;
}

OffsetRange Catalog::Range(StreamId stream) const {
  const base::MutexLock lock(mutex_);
  if (stream.value() >= streams_.size()) return {};
  return {streams_[stream.value()].start, streams_[stream.value()].end};
}

std::optional<StreamId> Catalog::FindStream(std::string_view name) const {
  const base::MutexLock lock(mutex_);
  const auto found = by_name_.find(std::string(name));
  if (found == by_name_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::pair<std::string, StreamId>> Catalog::Streams() const {
  const base::MutexLock lock(mutex_);
  std::vector<std::pair<std::string, StreamId>> streams;
  streams.reserve(streams_.size());
  for (uint32_t id = 0; id < streams_.size(); ++id)
    streams.emplace_back(streams_[id].name, StreamId(id));
  return streams;
}

size_t Catalog::stream_count() const {
  const base::MutexLock lock(mutex_);
  return streams_.size();
}

CommitNumber Catalog::durable() const {
  const base::MutexLock lock(mutex_);
  return durable_;
}

std::shared_ptr<const Catalog::Segments> Catalog::segments() const {
  const base::MutexLock lock(mutex_);
  return segments_;
}

bool Catalog::InOpenSegment(StreamId stream, int64_t offset) const {
  const base::MutexLock lock(mutex_);
  return stream.value() < streams_.size() && offset >= streams_[stream.value()].open_segment_begin;
}

int64_t Catalog::SealedEnd(StreamId stream) const {
  const base::MutexLock lock(mutex_);
  return stream.value() < streams_.size() ? streams_[stream.value()].open_segment_begin : 0;
}

base::Result<void> Catalog::FindPlaces(const Segment& segment, SegmentFile& file,
                                       const lmdb::ReadTransaction& transaction, StreamId stream,
                                       int64_t from, size_t limit, std::vector<Place>* out) const {
  {
    const base::MutexLock lock(mutex_);
    if (segments_->back().get() == &segment) {
      index_->Find(stream, from, limit, out);
      return {};
    }
  }
  if (const std::shared_ptr<const MemoryIndex> index = segment.PinnedIndex()) {
    index->Find(stream, from, limit, out);
    return {};
  }
  return file.FindPlaces(transaction, stream, from, limit, CommitNumber(segment.end_commit), out);
}

}  // namespace holdfast::spool
