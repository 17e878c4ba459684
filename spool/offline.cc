#include "spool/offline.h"

#include <algorithm>
#include <utility>

namespace holdfast::spool {
namespace {

constexpr size_t kPlacesAtOnce = 64;
// A transaction that reads keeps a writer from using pages again; so few frames are read in one.
constexpr uint64_t kFramesAtOnce = 64;
constexpr int kAttempts = 10;  // At a directory that changes under us.

}  // namespace

base::Result<void> WalkInChunks(SegmentFile& file, CommitNumber end, const FrameVisitor& visit,
                                const SegmentFile::DamageVisitor& damaged, CommitNumber begin) {
  const uint64_t first = file.header()->first_commit.value();
  for (uint64_t next = std::max(first, begin.value()); next < end.value();) {
    HF_ASSIGN_OR_RETURN(const auto transaction, file.BeginRead());
    const uint64_t chunk_end = std::min(end.value(), next + kFramesAtOnce);
    for (; next < chunk_end; ++next) {
      const auto frame = file.Frame(transaction, static_cast<uint32_t>(next - first));
      if (!frame) {
        damaged(CommitNumber(next), frame.error());
        continue;
      }
      const EntryReader read = [&](uint32_t line, std::string* plain) {
        return file.Entry(transaction, *frame, line, plain);
      };
      HF_ASSIGN_OR_RETURN(const bool more, visit(*frame, read));
      if (!more) return {};
    }
  }
  return {};
}

base::Result<std::unique_ptr<OfflineView>> OfflineView::Open(const std::string& path,
                                                             const KeyRing& keys) {
  for (int attempt = 1;; ++attempt) {
    std::unique_ptr<OfflineView> view(new OfflineView(path, keys));
    HF_ASSIGN_OR_RETURN(view->directory_, Directory::Look(path));
    const base::Result<void> loaded = view->Load();
    if (loaded) return view;
    if (loaded.error().code != base::Code::kNotFound || attempt == kAttempts)
      return base::Unexpected(loaded.error());
  }
}

base::Result<void> OfflineView::Load() {
  HF_ASSIGN_OR_RETURN(const std::vector<Directory::File> files, Directory::ListSegments(path_));
  for (const Directory::File& file : files) disk_bytes_ += file.bytes;
  // The newest segment that was begun; one behind it was only prepared.
  for (size_t at = files.size(); at-- > 0;) {
    const SegmentInfo newest{.number = files[at].number, .disk_bytes = files[at].bytes};
    const auto observed = SegmentFile::Observe(Directory::SegmentPath(path_, newest.number),
                                               {directory_.id, newest.number}, keys_);
    // The engine, too, goes on without a segment of which nothing can be read.
    if (!observed && observed.error().code == base::Code::kCorrupt) continue;
    if (!observed) return base::Unexpected(observed.error());
    const std::shared_ptr<SegmentFile>& file = *observed;
    if (!file->header()) continue;
    segments_.push_back(newest);
    HF_RETURN_IF_ERROR(LoadState(*file));
    // Older ones that are not known any more were retired; some crash may have kept the file.
    std::erase_if(segments_, [&](SegmentInfo& segment) {
      const auto found = std::find_if(files.begin(), files.end(),
                                      [&](const auto& f) { return f.number == segment.number; });
      if (found != files.end()) segment.disk_bytes = found->bytes;
      return found == files.end();
    });
    return {};
  }
  return {};
}

// From the newest segment, which is the only one that `segments_` has so far.
base::Result<void> OfflineView::LoadState(SegmentFile& file) {
  SegmentInfo newest = segments_.back();
  const auto read = [&](SegmentFile::Pieces wanted) {
    state_ = State();
    segments_.clear();
    return file.ReadCheckpoint(
        [&](const Change& change) -> base::Result<void> {
          if (change.kind != ChangeKind::kSegment) return state_.Apply(change);
          segments_.push_back({.number = change.segment,
                               .disk_bytes = 0,
                               .first_commit = change.first_commit,
                               .end_commit = change.end_commit,
                               .entry_bytes = change.entry_bytes});
          return {};
        },
        wanted);
  };
  auto checkpoint = read(SegmentFile::Pieces::kAll);
  whole_ = checkpoint.has_value();
  if (!whole_ && checkpoint.error().code == base::Code::kCorrupt)
    checkpoint = read(SegmentFile::Pieces::kIntact);
  HF_RETURN_IF_ERROR(checkpoint);
  const uint64_t first = file.header()->first_commit.value();
  {
    HF_ASSIGN_OR_RETURN(const auto transaction, file.BeginRead());
    HF_ASSIGN_OR_RETURN(newest_commit_, file.LastCommit(transaction));
  }
  newest.first_commit = file.header()->first_commit;
  newest.end_commit = newest_commit_.next();
  std::string plain;
  const auto load = [&](const FrameView& frame, const EntryReader&) -> base::Result<bool> {
    // A frame that makes no sense is treated as the engine does: lost.
    const auto changes = frame.changes(file.key(), &plain);
    if (!changes || !state_.Apply(frame, *changes)) return true;
    for (uint32_t line = 0; line < frame.entry_count(); ++line) {
      const EntryInfo info = frame.info(line);
      open_index_.Add(info.stream, {info.base_offset, info.max_timestamp_ms,
                                    static_cast<uint32_t>(frame.commit().value() - first), line});
      newest.entry_bytes += info.bytes;
    }
    return true;
  };
  // Damage shows when entries are read.
  HF_RETURN_IF_ERROR(
      WalkInChunks(file, newest.end_commit, load, [](CommitNumber, const base::Error&) {}));
  std::sort(segments_.begin(), segments_.end(),
            [](const SegmentInfo& a, const SegmentInfo& b) { return a.number < b.number; });
  segments_.push_back(newest);
  return {};
}

base::Result<std::shared_ptr<SegmentFile>> OfflineView::OpenSegment(
    const SegmentInfo& segment) const {
  auto file =
      SegmentFile::Observe(Directory::SegmentPath(path_, segment.number),
                           {directory_.id, segment.number}, keys_, nullptr, EndOf(segment.number));
  if (!file && file.error().code == base::Code::kNotFound) return nullptr;
  if (!file) return file;
  // A file that was used again lost its header.
  if (!(*file)->header()) return nullptr;
  return file;
}

CommitNumber OfflineView::EndOf(uint64_t segment) const {
  for (size_t i = 0; i + 1 < segments_.size(); ++i)
    if (segments_[i].number == segment) return segments_[i].end_commit;
  return kAllCommits;
}

base::Result<void> OfflineView::Read(StreamId stream, int64_t from, const EntryVisitor& visit,
                                     const DamageVisitor& damaged) const {
  const int64_t start = state_.stream(stream).start;
  return ReadFrom(stream, std::max(from, start), start, visit, damaged);
}

base::Result<void> OfflineView::ReadAlsoTrimmed(StreamId stream, int64_t from,
                                                const EntryVisitor& visit,
                                                const DamageVisitor& damaged) const {
  return ReadFrom(stream, from, state_.stream(stream).start, visit, damaged);
}

// Where it begins by now: what was trimmed since Open may be gone.
int64_t OfflineView::StartNow(StreamId stream) const {
  const auto now = Open(path_, keys_);
  if (!now || !(*now)->Knows(stream)) return 0;
  return (*now)->state().stream(stream).start;
}

// What is missing from `needed_from` on is damage.
base::Result<void> OfflineView::ReadFrom(StreamId stream, int64_t from, int64_t needed_from,
                                         const EntryVisitor& visit,
                                         const DamageVisitor& damaged) const {
  const StreamState& known = state_.stream(stream);
  int64_t expected = from;
  std::string because;
  const auto report_gap = [&](int64_t until) {
    expected = std::max(expected, needed_from);
    if (until <= expected) return;
    needed_from = std::max(needed_from, StartNow(stream));
    expected = std::max(expected, needed_from);
    if (until > expected)
      damaged({base::Code::kCorrupt, known.name + ": offsets [" + std::to_string(expected) + ", " +
                                         std::to_string(until) + ") are lost" +
                                         (because.empty() ? "" : ": " + because)});
    because.clear();
  };
  bool more = true;
  const auto check = [&](const EntryInfo& info, std::string_view bytes) {
    report_gap(info.base_offset);
    expected = info.end_offset();
    if (bytes.empty()) return true;  // A revision took them.
    return more = visit(info, bytes);
  };
  for (const SegmentInfo& segment : segments_) {
    const auto read = ReadSegment(segment, stream, expected, check,
                                  [&](const base::Error& error) { because = error.message; });
    if (!read) because = read.error().message;
    if (!more) return {};
  }
  report_gap(known.end);
  return {};
}

base::Result<void> OfflineView::ReadSegment(const SegmentInfo& segment, StreamId stream,
                                            int64_t from, const EntryVisitor& visit,
                                            const DamageVisitor& damaged) const {
  HF_ASSIGN_OR_RETURN(const auto file, OpenSegment(segment));
  if (!file) return {};
  std::vector<Copy> copies;
  for (bool more = true; more;) {
    copies.clear();
    HF_ASSIGN_OR_RETURN(more, CopyEntries(segment, *file, stream, &from, &copies, damaged));
    for (const Copy& copy : copies)
      if (!visit(copy.info, copy.bytes)) return {};
  }
  return {};
}

// Moves `from` along. Says whether there may be more.
base::Result<bool> OfflineView::CopyEntries(const SegmentInfo& segment, SegmentFile& file,
                                            StreamId stream, int64_t* from,
                                            std::vector<Copy>* copies,
                                            const DamageVisitor& damaged) const {
  HF_ASSIGN_OR_RETURN(const auto transaction, file.BeginRead());
  std::vector<Place> places;
  if (segment.number == segments_.back().number) {
    open_index_.Find(stream, *from, kPlacesAtOnce, &places);
  } else {
    HF_RETURN_IF_ERROR(
        file.FindPlaces(transaction, stream, *from, kPlacesAtOnce, segment.end_commit, &places));
  }
  size_t bytes = 0;
  for (const Place& place : places) {
    const auto frame = file.Frame(transaction, place.frame);
    if (!frame || place.line >= frame->entry_count()) {
      damaged(
          frame ? base::Error{base::Code::kCorrupt, Directory::SegmentPath(path_, segment.number) +
                                                        ": the index does not fit the frames"}
                : frame.error());
      *from = std::max(*from, place.base_offset + 1);
      continue;
    }
    const EntryInfo info = frame->info(place.line);
    if (info.end_offset() <= *from) continue;  // Only the first place may lie before.
    if (bytes != 0 && bytes + info.bytes > kCopyBytes) return true;
    bytes += info.bytes;
    *from = info.end_offset();
    std::string plain;
    const auto entry = file.Entry(transaction, *frame, place.line, &plain);
    if (!entry) {
      damaged(entry.error());
      continue;
    }
    copies->push_back({info, std::string(entry->bytes)});
  }
  return places.size() == kPlacesAtOnce;
}

bool OfflineView::Knows(StreamId stream) const { return stream.value() < state_.streams().size(); }

bool OfflineView::Needed(const EntryInfo& entry) const {
  return !Knows(entry.stream) || entry.end_offset() > state_.stream(entry.stream).start;
}

base::Result<void> OfflineView::WalkEntries(const InfoVisitor& visit, const DamageVisitor& damaged,
                                            const ProgressCallback& progress) const {
  uint64_t total = 0;
  for (const SegmentInfo& segment : segments_) total += segment.disk_bytes;
  uint64_t done = 0;
  bool stopped = false;
  for (const SegmentInfo& segment : segments_) {
    if (progress) progress(done, total);
    const auto file = OpenSegment(segment);
    if (!file) {
      damaged(file.error());
    } else if (*file) {
      const auto walk = [&](const FrameView& frame, const EntryReader&) -> base::Result<bool> {
        for (uint32_t line = 0; line < frame.entry_count() && !stopped; ++line) {
          const EntryInfo info = frame.info(line);
          if (Knows(info.stream) && Needed(info)) stopped = !visit(info);
        }
        return !stopped;
      };
      HF_RETURN_IF_ERROR(
          WalkInChunks(**file, segment.end_commit, walk,
                       [&](CommitNumber, const base::Error& error) { damaged(error); }));
    }
    if (stopped) return {};
    done += segment.disk_bytes;
  }
  if (progress) progress(done, total);
  return {};
}

base::Result<void> OfflineView::WalkCommits(CommitNumber from, const CommitVisitor& visit,
                                            const DamageVisitor& damaged,
                                            const ProgressCallback& progress) const {
  uint64_t total = 0;
  for (const SegmentInfo& segment : segments_) total += segment.disk_bytes;
  uint64_t done = 0;
  for (const SegmentInfo& segment : segments_) {
    if (progress) progress(done, total);
    done += segment.disk_bytes;
    if (segment.end_commit <= from) continue;
    const auto file = OpenSegment(segment);
    if (!file) damaged(file.error());
    if (!file || !*file) continue;
    bool more = true;
    std::string plain;
    const auto walk = [&](const FrameView& frame, const EntryReader&) -> base::Result<bool> {
      const auto changes = frame.changes((*file)->key(), &plain);
      if (!changes) {
        damaged(changes.error());
        return true;
      }
      return more = visit(frame, *changes);
    };
    HF_RETURN_IF_ERROR(WalkInChunks(
        **file, segment.end_commit, walk,
        [&](CommitNumber, const base::Error& error) { damaged(error); }, from));
    if (!more) return {};
  }
  if (progress) progress(done, total);
  return {};
}

}  // namespace holdfast::spool
