// The loading half of Writer: what a directory holds becomes segments, state and owner, and what is
// damaged in it becomes a loss that is said.
//
// State comes from the newest segment: its checkpoint, then the changes in its frames. If both
// copies of a piece of that checkpoint are lost, it comes from the newest older one whose
// checkpoint is whole, from all frames since, and from what is left of the newest one. That is all
// of it, if no segment between is gone. Then a new segment begins at once, with a whole checkpoint.
#include <algorithm>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "metrics/catalogue.h"
#include "spool/writer.h"

namespace holdfast::spool {
namespace {

constexpr base::Duration kOutdatedDelay = std::chrono::seconds(5);

}  // namespace

base::Result<void> Writer::Open() {
  HF_RETURN_IF_ERROR(Load());
  ReportNameless();
  ReportOperationBytesMax();
  store_->Report();
  return {};
}

base::Result<void> Writer::Load() {
  HF_ASSIGN_OR_RETURN(std::vector<Directory::File> files, directory_.Segments());
  const uint64_t newest_number = files.empty() ? 0 : files.back().number;
  HF_RETURN_IF_ERROR(OpenNewest(files));
  store_->Adopt({}, {}, newest_number);
  if (files.empty()) {
    HF_RETURN_IF_ERROR(owner_.Load(state_));
    return RollToAny();
  }
  HF_ASSIGN_OR_RETURN(const Loaded loaded, LoadNewest(files));
  store_->Adopt(*catalog_.segments(), loaded.retired, newest_number);
  const bool leave = file_->salvaged() || file_->sealed() || !loaded.whole;
  if (leave) LeaveNewest();
  // If the state came from older segments, none of those may go before a new one has all of it.
  // Beginning that sweeps.
  if (loaded.whole) store_->SweepSoon();
  if (leave) return {};
  // A new key counts from now on, and so does a smaller limit. Both wait if there is no space just
  // now.
  if (!Outdated()) return {};
  base::Result<void> rolled = RollToAny();
  if (rolled || rolled.error().code != base::Code::kFull) return rolled;
  if (KeyChanged())
    base::Log(base::Event::kSegmentNotBegun, "spool",
              "there is no space for a segment with the new key; until there is, records are "
              "written {}: {}",
              file_->key() == nullptr ? "unencrypted" : "with the one before",
              rolled.error().message);
  executor_.Post([self = shared_from_this()] { self->LeaveOutdated(); });
  return {};
}

bool Writer::KeyChanged() const {
  const KeyRing& keys = store_->keys();
  return !keys.empty() && (file_->key() == nullptr || !file_->key()->IsCurrent(keys));
}

bool Writer::Outdated() const {
  return KeyChanged() || store_->IsTooLarge(segment_->bytes, SegmentHolds(0));
}

// Until it worked. After a failure the log goes on in a new segment anyway.
void Writer::LeaveOutdated() {
  if (stopped_ || mode_ == Mode::kFailing || !Outdated()) return;
  OnRolledEarly(RollToAny());
  if (mode_ == Mode::kFailing || !Outdated()) return;
  outdated_timer_ = executor_.After(kOutdatedDelay, [this] { LeaveOutdated(); });
}

// Opens the newest segment that was begun. One behind it was only prepared, or nothing is left of
// it.
base::Result<void> Writer::OpenNewest(std::vector<Directory::File>& files) {
  while (!files.empty()) {
    const uint64_t number = files.back().number;
    const std::string path = directory_.SegmentPath(number);
    const auto open = [&](lmdb::Access access) {
      return SegmentFile::Open(path, {directory_.id(), number}, access, store_->keys(),
                               &store_->damage());
    };
    auto file = open(lmdb::Access::kWrite);
    if (!file && file.error().code == base::Code::kFull) {
      // There is no space for its lock file. One that was only prepared gives some.
      auto unwritten = open(lmdb::Access::kRead);
      if (!unwritten || (*unwritten)->header()) return base::Unexpected(std::move(file).error());
      file = std::move(unwritten);
    }
    if (!file && file.error().code != base::Code::kCorrupt)
      return base::Unexpected(std::move(file).error());
    if (!file) {
      HF_RETURN_IF_ERROR(KeepDamaged(number, file.error()));
    } else if ((*file)->header()) {
      // What is seen now may only be in memory still; from here on it is on the disk.
      HF_RETURN_IF_ERROR((*file)->SyncInherited());
      file_ = *std::move(file);
      if (file_->torn()) ReportTorn();
      return {};
    } else {
      file->reset();
      HF_RETURN_IF_ERROR(directory_.RemoveSegment(number));
    }
    files.pop_back();
  }
  return {};
}

void Writer::ReportTorn() const {
  const auto transaction = file_->BeginRead();
  if (!transaction) return;
  const auto last = file_->LastCommit(*transaction);
  if (!last) return;
  base::Log(base::Event::kCommitTorn, "spool",
            "{}: its newest commit was torn while it was written; all up to commit {} is there",
            directory_.SegmentPath(file_->header()->origin.segment), last->value());
}

void Writer::ReportNameless() const {
  for (const StreamId id : state_.Nameless()) {
    const StreamState& stream = state_.stream(id);
    base::Log(base::Event::kStreamNameLost, "spool",
              "{}: the commits that had the name of stream {} are damaged; {} of its records are "
              "there, and nobody asks for them",
              directory_.path(), stream.name, stream.end - stream.start);
  }
}

// Of a segment that must not be written to, or does not hold all state: the log goes on in another.
void Writer::LeaveNewest() {
  segment_->end_commit = durable_.next().value();
  const base::Result<void> rolled = RollToAny();
  if (rolled) return;
  // What is there can be read; writing waits until there is space.
  retry_delay_ = kRetryDelayMin;
  SetMode(Mode::kFailing, {base::Code::kIo, rolled.error().message});
  executor_.Post([self = shared_from_this()] {
    if (!self->stopped_) self->Retry();
  });
}

base::Result<Writer::Loaded> Writer::LoadNewest(const std::vector<Directory::File>& files) {
  std::vector<Change> known;
  index_ = std::make_shared<MemoryIndex>();
  uint64_t entry_bytes = 0;
  std::vector<Source> sources{{file_, kAllCommits}};
  auto loaded = LoadState(sources, Pieces::kAll, &state_, index_.get(), &known, &entry_bytes);
  const bool whole = loaded || loaded.error().code != base::Code::kCorrupt;
  if (!whole) {
    HF_ASSIGN_OR_RETURN(known, FindSegments(files));
    HF_ASSIGN_OR_RETURN(sources, FindSources(known));
    state_ = State();
    *index_ = MemoryIndex();
    entry_bytes = 0;
    loaded = LoadState(sources, Pieces::kIntact, &state_, index_.get(), nullptr, &entry_bytes);
  }
  if (!loaded) return base::Unexpected(std::move(loaded).error());
  durable_ = *loaded;
  HF_RETURN_IF_ERROR(LoadOwner(sources));

  Catalog::Segments segments;
  std::vector<Directory::File> retired;
  for (size_t i = 0; i + 1 < files.size(); ++i) {
    const auto found = std::find_if(known.begin(), known.end(), [&](const Change& change) {
      return change.segment == files[i].number;
    });
    if (found == known.end()) {
      // It was retired before the newest segment began, and not removed, or a crash undid that. But
      // where nobody knows any more, a file that cannot be read may wait for better days.
      if (whole) retired.push_back(files[i]);
      continue;
    }
    auto segment =
        std::make_shared<Segment>(files[i].number, directory_.SegmentPath(files[i].number),
                                  files[i].bytes, found->first_commit);
    segment->end_commit = found->end_commit.value();
    segment->entry_bytes = found->entry_bytes;
    segments.push_back(std::move(segment));
  }
  segment_ =
      std::make_shared<Segment>(files.back().number, directory_.SegmentPath(files.back().number),
                                files.back().bytes, file_->header()->first_commit);
  segment_->PinFile(file_);
  segment_->entry_bytes = entry_bytes;
  purpose_ = segment_->bytes < store_->segment_bytes() ? Purpose::kProgress : Purpose::kEntries;
  segments.push_back(segment_);
  ReportMissing(known, segments);
  catalog_.Load(std::move(segments), index_, state_, durable_);
  return Loaded{std::move(retired), whole};
}

// A file of which nothing can be read.
base::Result<void> Writer::KeepDamaged(uint64_t number, const base::Error& why) {
  HF_ASSIGN_OR_RETURN(const std::string kept, directory_.KeepDamaged(number));
  store_->damage().OnDamage(number, std::nullopt,
                            {base::Code::kCorrupt, why.message + "; the file is kept as " + kept});
  return {};
}

// What the newest checkpoint would say of the older segments: from their files.
base::Result<std::vector<Change>> Writer::FindSegments(const std::vector<Directory::File>& files) {
  std::vector<Change> known;
  CommitNumber end = file_->header()->first_commit;
  for (size_t i = files.size() - 1; i-- > 0;) {
    const auto file = OpenOlder(files[i].number, end);
    // What a key or a descriptor is missing for must not be left out of a new checkpoint: the next
    // start would take the file for a retired one.
    if (!file && file.error().code != base::Code::kCorrupt) return base::Unexpected(file.error());
    if (!file) {
      HF_RETURN_IF_ERROR(KeepDamaged(files[i].number, file.error()));
      continue;
    }
    if (!(*file)->header()) continue;
    Change change;
    change.segment = files[i].number;
    change.first_commit = (*file)->header()->first_commit;
    change.end_commit = end;
    const auto sum = [&](const FrameView& frame) -> base::Result<void> {
      for (uint32_t line = 0; line < frame.entry_count(); ++line)
        change.entry_bytes += frame.info(line).bytes;
      return {};
    };
    HF_RETURN_IF_ERROR((*file)->WalkFrames(end, sum, [](CommitNumber, const base::Error&) {}));
    end = change.first_commit;
    known.push_back(change);
  }
  std::reverse(known.begin(), known.end());
  return known;
}

// The segments that make up the state if the newest one's checkpoint is damaged, see the top.
base::Result<std::vector<Writer::Source>> Writer::FindSources(const std::vector<Change>& known) {
  std::vector<Source> sources{{file_, kAllCommits}};
  const auto ignore = [](const Change&) -> base::Result<void> { return {}; };
  bool whole = false;
  CommitNumber next = file_->header()->first_commit;
  for (auto older = known.rbegin(); older != known.rend() && !whole; ++older) {
    HF_ASSIGN_OR_RETURN(auto file, OpenOlder(older->segment, older->end_commit));
    HF_ASSIGN_OR_RETURN(const auto transaction, file->BeginRead());
    HF_ASSIGN_OR_RETURN(const CommitNumber last, file->LastCommit(transaction));
    whole = file->ReadCheckpoint(ignore, Pieces::kAll).has_value();
    if (last.next() < next) next = CommitNumber(0);  // And stays there: some are missing.
    if (next.value() != 0) next = older->first_commit;
    sources.insert(sources.begin(), {std::move(file), older->end_commit});
  }
  std::string message = directory_.path() + ": the checkpoint of the newest segment is damaged; ";
  message += whole && next.value() != 0 ? "the state comes from an older one"
                                        : "a part of the state may be lost";
  store_->damage().OnDamage(file_->header()->origin.segment, std::nullopt,
                            {base::Code::kCorrupt, std::move(message)});
  return sources;
}

base::Result<std::shared_ptr<SegmentFile>> Writer::OpenOlder(uint64_t number, CommitNumber end) {
  return SegmentFile::Open(directory_.SegmentPath(number), {directory_.id(), number},
                           lmdb::Access::kRead, store_->keys(), &store_->damage(), end);
}

// Segments that were there when the newest began may have been retired since. They are missed if
// some stream still begins before the first one that is left.
void Writer::ReportMissing(const std::vector<Change>& known, const Catalog::Segments& segments) {
  const Segment& first = *segments.front();
  const auto missing = std::find_if(known.rbegin(), known.rend(), [&](const Change& change) {
    return change.segment < first.number;
  });
  if (missing == known.rend()) return;
  const auto file = first.number == segments.back()->number
                        ? base::Result<std::shared_ptr<SegmentFile>>(file_)
                        : OpenOlder(first.number, CommitNumber(first.end_commit));
  if (!file) return;  // That is said when somebody reads.
  const auto transaction = (*file)->BeginRead();
  if (!transaction) return;
  for (uint32_t id = 0; id < state_.streams().size(); ++id) {
    const StreamState& stream = state_.streams()[id];
    const auto end = (*file)->EndAtBeginning(*transaction, StreamId(id));
    if (!end || stream.start >= end->end) continue;
    store_->damage().OnDamage(
        missing->segment, std::nullopt,
        {base::Code::kCorrupt, directory_.SegmentPath(missing->segment) +
                                   ": the file is gone, and with it all up to commit " +
                                   std::to_string(missing->end_commit.value() - 1)});
    return;
  }
}

base::Result<CommitNumber> Writer::LoadState(std::span<const Source> sources, Pieces pieces,
                                             State* state, MemoryIndex* index,
                                             std::vector<Change>* segments, uint64_t* entry_bytes) {
  const auto apply = [&](const Change& change) -> base::Result<void> {
    if (change.kind == ChangeKind::kSegment) {
      if (segments != nullptr) segments->push_back(change);
      return {};
    }
    auto applied = state->Apply(change);
    if (applied || pieces == Pieces::kAll) return applied;
    store_->damage().OnDamage(sources.back().file->header()->origin.segment, std::nullopt,
                              applied.error());
    return {};
  };
  CommitNumber last;
  for (const Source& source : sources) {
    const bool newest = &source == &sources.back();
    if (newest || &source == &sources.front())
      HF_RETURN_IF_ERROR(source.file->ReadCheckpoint(apply, pieces));
    HF_ASSIGN_OR_RETURN(
        last, LoadFrames(source, state, newest ? index : nullptr, newest ? entry_bytes : nullptr));
  }
  return last;
}

base::Result<CommitNumber> Writer::LoadFrames(const Source& source, State* state,
                                              MemoryIndex* index, uint64_t* entry_bytes) {
  SegmentFile& file = *source.file;
  const uint64_t first = file.header()->first_commit.value();
  CommitNumber last(first - 1);
  const auto damaged = [&](CommitNumber commit, const base::Error&) { last = commit; };
  const auto lose = [&](const base::Error& error) -> base::Result<void> {
    store_->damage().OnDamage(file.header()->origin.segment, last, error);
    return {};
  };
  std::string plain;
  const auto load = [&](const FrameView& frame) -> base::Result<void> {
    last = frame.commit();
    const base::Result<std::string_view> changes = frame.changes(file.key(), &plain);
    if (!changes) return lose(changes.error());
    if (const auto applied = state->Apply(frame, *changes); !applied) return lose(applied.error());
    if (index == nullptr) return {};
    for (uint32_t line = 0; line < frame.entry_count(); ++line) {
      const EntryInfo info = frame.info(line);
      index->Add(info.stream, {info.base_offset, info.max_timestamp_ms,
                               static_cast<uint32_t>(last.value() - first), line});
      *entry_bytes += info.bytes;
    }
    return {};
  };
  HF_RETURN_IF_ERROR(file.WalkFrames(source.end, load, damaged));
  return last;
}

base::Result<void> Writer::LoadOwner(std::span<const Source> sources) {
  HF_RETURN_IF_ERROR(owner_.Load(state_));
  const auto replay = [&](const FrameView& frame) -> base::Result<void> {
    for (uint32_t line = 0; line < frame.entry_count(); ++line)
      if (const EntryInfo info = frame.info(line); info.bytes != 0) owner_.Replay(info);
    return {};
  };
  for (const Source& source : sources)
    HF_RETURN_IF_ERROR(
        source.file->WalkFrames(source.end, replay, [](CommitNumber, const base::Error&) {}));
  return {};
}

}  // namespace holdfast::spool
