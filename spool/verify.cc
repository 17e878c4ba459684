#include "spool/verify.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "spool/damage.h"
#include "spool/directory.h"
#include "spool/offline.h"
#include "spool/segment_builder.h"

namespace holdfast::spool {
namespace {

// Notes what the reading of a spool stumbles over, once each.
class Findings final : public DamageObserver {
 public:
  explicit Findings(std::vector<Damage>& damages) : damages_(damages) {}

  void OnDamage(uint64_t segment, std::optional<CommitNumber> commit,
                const base::Error& error) override {
    if (!known_.emplace(segment, commit, error.message).second) return;
    damages_.push_back({.segment = segment, .commit = commit, .what = error.message, .losses = {}});
  }

 private:
  std::vector<Damage>& damages_;
  std::set<std::tuple<uint64_t, std::optional<CommitNumber>, std::string>> known_;
};

class Verifier {
 public:
  // `owned`: by the caller, so that nobody else writes.
  Verifier(const std::string& path, const VerifyOptions& options, bool owned)
      : path_(path), options_(options), owned_(owned), findings_(report_.damages) {}

  base::Result<VerifyReport> Run() {
    HF_ASSIGN_OR_RETURN(view_, OfflineView::Open(path_, options_.keys));
    HF_ASSIGN_OR_RETURN(const std::vector<Directory::File> files, Directory::ListSegments(path_));
    for (const Directory::File& file : files) total_bytes_ += file.bytes;
    for (const Directory::File& file : files) {
      HF_RETURN_IF_ERROR(VerifySegment(file));
      done_bytes_ += file.bytes;
    }
    ReportProgress(0);
    const auto& streams = view_->state().streams();
    for (uint32_t id = 0; id < streams.size(); ++id) Expect(StreamId(id), streams[id].end);
    for (const StreamId id : view_->state().Nameless()) {
      const StreamState& stream = view_->state().stream(id);
      report_.nameless.push_back({stream.name, {stream.start, stream.end}});
    }
    if (!owned_) HF_RETURN_IF_ERROR(LeaveOutTrimmed());
    return std::move(report_);
  }

 private:
  base::Result<void> VerifySegment(const Directory::File& listed);
  base::Result<void> VerifyFrames(const Directory::File& listed, SegmentFile& file,
                                  CommitNumber end, MemoryIndex* index);
  base::Result<void> VerifyIndex(SegmentFile& file, const MemoryIndex& index, CommitNumber end);
  base::Result<void> VerifyEntries(uint64_t segment, const FrameView& frame,
                                   const EntryReader& read);
  // The next offset of the stream that there is. What is missing before it is taken to be lost with
  // the frame or segment that was found damaged last.
  void Expect(StreamId stream, int64_t offset);
  base::Result<void> LeaveOutTrimmed();
  // By another process, which may have begun segments that the view does not know.
  [[nodiscard]] bool IsUsed() const {
    const auto view = Directory::Look(path_);
    return !owned_ && view && view->live;
  }
  void ReportProgress(uint64_t more_bytes) const {
    if (options_.progress) options_.progress(done_bytes_ + more_bytes, total_bytes_);
  }
  [[nodiscard]] std::string NameOf(StreamId stream) const {
    const auto& streams = view_->state().streams();
    if (stream.value() < streams.size()) return streams[stream.value()].name;
    return LostStreamName(stream);
  }

  const std::string& path_;
  const VerifyOptions& options_;
  const bool owned_;
  VerifyReport report_;
  Findings findings_;
  std::unique_ptr<OfflineView> view_;
  uint64_t done_bytes_ = 0;
  uint64_t total_bytes_ = 0;
  std::set<uint64_t> gone_;  // Segments of which nothing can be read.
  bool repaired_ = false;    // Frames were lost and said so before.
  std::map<StreamId, int64_t> expected_;
};

base::Result<void> Verifier::VerifySegment(const Directory::File& listed) {
  ReportProgress(0);
  const std::string path = Directory::SegmentPath(path_, listed.number);
  const Origin origin{view_->directory().id, listed.number};
  const CommitNumber known_end = view_->EndOf(listed.number);
  const auto file = owned_
                        ? SegmentFile::Open(path, origin, lmdb::Access::kRead, options_.keys,
                                            &findings_, known_end)
                        : SegmentFile::Observe(path, origin, options_.keys, &findings_, known_end);
  if (!file) {
    if (file.error().code == base::Code::kNotFound && !owned_) return {};
    if (file.error().code != base::Code::kCorrupt) return base::Unexpected(file.error());
    findings_.OnDamage(listed.number, std::nullopt, file.error());
    gone_.insert(listed.number);
    return {};
  }
  const auto& segments = view_->segments();
  const bool behind = segments.empty() || listed.number > segments.back().number;
  // Only prepared, or begun since the view was opened.
  if (!(*file)->header() || (behind && IsUsed())) return {};
  ++report_.segments;
  if ((*file)->torn() && known_end == kAllCommits) report_.torn_segment = listed.number;
  const auto ignore = [](const Change&) -> base::Result<void> { return {}; };
  if (const auto read = (*file)->ReadCheckpoint(ignore, SegmentFile::Pieces::kAll); !read)
    findings_.OnDamage(listed.number, std::nullopt, read.error());
  // What a running process has added to the newest one since, the view does not know.
  const bool newest = !segments.empty() && listed.number == segments.back().number;
  const CommitNumber end = newest ? segments.back().end_commit : known_end;
  MemoryIndex index;
  HF_RETURN_IF_ERROR(VerifyFrames(listed, **file, end, &index));
  return VerifyIndex(**file, index, end);
}

base::Result<void> Verifier::VerifyFrames(const Directory::File& listed, SegmentFile& file,
                                          CommitNumber end, MemoryIndex* index) {
  const uint64_t first = file.header()->first_commit.value();
  CommitNumber there;  // Up to here.
  {
    HF_ASSIGN_OR_RETURN(const auto transaction, file.BeginRead());
    HF_ASSIGN_OR_RETURN(there, file.LastCommit(transaction));
    there = there.next();
  }
  if (end == kAllCommits) end = there;
  // Of a salvaged file what is missing is damage anyhow. One that is sealed was whole, or has been
  // repaired, which leaves nothing in place of lost commits at its end.
  if (there > end || file.salvaged() || file.sealed()) there = end;
  const uint64_t frames = end.value() - first;
  const auto visit = [&](const FrameView& frame, const EntryReader& read) -> base::Result<bool> {
    const uint64_t number = frame.commit().value() - first;
    ++report_.frames;
    for (uint32_t line = 0; line < frame.entry_count(); ++line) {
      const EntryInfo info = frame.info(line);
      if (info.base_offset < expected_[info.stream]) continue;  // Salvaged, and does not fit.
      Expect(info.stream, info.base_offset);
      expected_[info.stream] = info.end_offset();
      index->Add(info.stream,
                 {info.base_offset, info.max_timestamp_ms, static_cast<uint32_t>(number), line});
    }
    HF_RETURN_IF_ERROR(VerifyEntries(listed.number, frame, read));
    if (number % 64 == 0) ReportProgress(listed.bytes * number / std::max<uint64_t>(frames, 1));
    return true;
  };
  HF_RETURN_IF_ERROR(WalkInChunks(file, there, visit, [&](CommitNumber, const base::Error& error) {
    repaired_ = repaired_ || error.code == base::Code::kNotFound;
  }));
  if (there == end) return {};
  findings_.OnDamage(
      listed.number, there,
      {base::Code::kCorrupt, Directory::SegmentPath(path_, listed.number) + ": commits " +
                                 std::to_string(there.value()) + " to " +
                                 std::to_string(end.value() - 1) + " are missing at its end"});
  return {};
}

base::Result<void> Verifier::VerifyEntries(uint64_t segment, const FrameView& frame,
                                           const EntryReader& read) {
  const size_t damages_before = report_.damages.size();
  std::string plain;
  for (uint32_t line = 0; line < frame.entry_count(); ++line) {
    base::Result<EntryView> entry = read(line, &plain);
    const EntryInfo info = frame.info(line);
    base::Result<void> sound;
    if (!entry) {
      sound = base::Unexpected(entry.error());
    } else if (options_.check_entry && info.bytes != 0 && view_->Needed(info)) {
      sound = options_.check_entry(NameOf(info.stream), *entry);
    }
    if (sound) {
      ++report_.entries;
      report_.entry_bytes += info.bytes;
      continue;
    }
    report_.damages.push_back(
        {.segment = segment,
         .commit = frame.commit(),
         .what = sound.error().message,
         .losses = {{NameOf(info.stream), {info.base_offset, info.end_offset()}}}});
  }
  const base::Result<void> whole = frame.VerifyEntries();
  if (whole || report_.damages.size() != damages_before) return {};
  report_.damages.push_back(
      {.segment = segment,
       .commit = frame.commit(),
       .what = whole.error().message + "; none that is needed fails a check of its own",
       .losses = {}});
  return {};
}

// Looking everything up makes the file say what of its index is damaged.
base::Result<void> Verifier::VerifyIndex(SegmentFile& file, const MemoryIndex& index,
                                         CommitNumber end) {
  HF_ASSIGN_OR_RETURN(const auto transaction, file.BeginRead());
  HF_RETURN_IF_ERROR(
      index.ForEach([&](StreamId stream, const std::vector<Place>& places) -> base::Result<void> {
        std::vector<Place> found;
        return file.FindPlaces(transaction, stream, places.front().base_offset, places.size(), end,
                               &found);
      }));
  for (uint32_t id = 0; id < file.header()->streams; id += kEndsPerBlock)
    (void)file.EndAtBeginning(transaction, StreamId(id));  // If it is lost, so is the checkpoint.
  return {};
}

void Verifier::Expect(StreamId stream, int64_t offset) {
  const auto& streams = view_->state().streams();
  int64_t from = expected_[stream];
  if (stream.value() < streams.size()) from = std::max(from, streams[stream.value()].start);
  if (from >= offset) return;
  std::vector<Damage>& damages = report_.damages;
  const auto culprit = std::find_if(damages.rbegin(), damages.rend(), [&](const Damage& damage) {
    return damage.commit.has_value() || gone_.contains(damage.segment);
  });
  const Damage::Loss loss{NameOf(stream), {from, offset}};
  if (culprit != damages.rend()) {
    culprit->losses.push_back(loss);
  } else if (!repaired_) {
    damages.push_back({.segment = 0,
                       .commit = std::nullopt,
                       .what = path_ + ": entries are missing, and no damage tells why",
                       .losses = {loss}});
  }
}

// What was trimmed since the view was opened may be gone, and is no loss.
base::Result<void> Verifier::LeaveOutTrimmed() {
  if (report_.damages.empty()) return {};
  HF_ASSIGN_OR_RETURN(const auto now, OfflineView::Open(path_, options_.keys));
  std::erase_if(report_.damages, [&](Damage& damage) {
    const bool unexplained = damage.segment == 0;
    std::erase_if(damage.losses, [&](Damage::Loss& loss) {
      if (const auto stream = now->state().FindStream(loss.stream))
        loss.offsets.start = std::max(loss.offsets.start, now->state().stream(*stream).start);
      return loss.offsets.start >= loss.offsets.end;
    });
    return unexplained && damage.losses.empty();
  });
  return {};
}

// Of a spool that we own.
class Repairer {
 public:
  Repairer(const Directory& directory, const KeyRing& keys, const ProgressCallback& progress,
           const EntryCheck& check_entry)
      : directory_(directory), keys_(keys), progress_(progress), check_entry_(check_entry) {}

  base::Result<void> Run(const VerifyReport& report) {
    std::set<uint64_t> damaged;
    for (const Damage& damage : report.damages) damaged.insert(damage.segment);
    HF_ASSIGN_OR_RETURN(const auto view, OfflineView::Open(directory_.path(), keys_));
    HF_ASSIGN_OR_RETURN(const auto files, Directory::ListSegments(directory_.path()));
    uint64_t total = 0;
    uint64_t done = 0;
    for (const Directory::File& file : files) total += file.bytes;
    for (const Directory::File& file : files) {
      if (progress_) progress_(done, total);
      done += file.bytes;
      const auto& segments = view->segments();
      const bool newest = !segments.empty() && file.number == segments.back().number;
      HF_RETURN_IF_ERROR(
          RepairSegment(file, view->EndOf(file.number), newest, damaged.contains(file.number)));
    }
    if (progress_) progress_(total, total);
    return {};
  }

 private:
  base::Result<void> RepairSegment(const Directory::File& listed, CommitNumber end, bool newest,
                                   bool damaged);
  base::Result<void> Rewrite(SegmentFile& file, const Directory::File& listed, CommitNumber end,
                             bool newest, const SegmentCheckpoint& checkpoint);
  // The frames that are intact.
  static base::Result<void> WalkAll(SegmentFile& file, CommitNumber end,
                                    const FrameVisitor& visit) {
    if (end == kAllCommits) {
      HF_ASSIGN_OR_RETURN(const auto transaction, file.BeginRead());
      HF_ASSIGN_OR_RETURN(end, file.LastCommit(transaction));
      end = end.next();
    }
    return WalkInChunks(file, end, visit, [](CommitNumber, const base::Error&) {});
  }

  const Directory& directory_;
  const KeyRing& keys_;
  const ProgressCallback& progress_;
  const EntryCheck& check_entry_;
};

base::Result<void> Repairer::RepairSegment(const Directory::File& listed, CommitNumber end,
                                           bool newest, bool damaged) {
  const Origin origin{directory_.id(), listed.number};
  const auto file = SegmentFile::Open(directory_.SegmentPath(listed.number), origin,
                                      lmdb::Access::kRead, keys_, nullptr, end);
  if (!file && file.error().code == base::Code::kCorrupt) {
    HF_RETURN_IF_ERROR(directory_.KeepDamaged(listed.number));
    return {};
  }
  if (!file) return base::Unexpected(file.error());
  const bool index_missing = !newest && end != kAllCommits && !(*file)->sealed();
  if (!(*file)->header() || (!damaged && !index_missing)) return {};
  const auto checkpoint = SegmentCheckpoint::Read(**file);
  if (!checkpoint && checkpoint.error().code == base::Code::kCorrupt) return {};  // See the header.
  if (!checkpoint) return base::Unexpected(checkpoint.error());
  return Rewrite(**file, listed, end, newest, *checkpoint);
}

base::Result<void> Repairer::Rewrite(SegmentFile& file, const Directory::File& listed,
                                     CommitNumber end, bool newest,
                                     const SegmentCheckpoint& checkpoint) {
  SegmentPlan plan;
  uint64_t sealing_bytes = 0;
  std::set<StreamId> streams;
  const auto count = [&](const FrameView& frame, const EntryReader&) -> base::Result<bool> {
    ++plan.frames;
    plan.frame_bytes += frame.bytes().size();
    plan.kept_entries += frame.entry_count();
    for (uint32_t line = 0; line < frame.entry_count(); ++line) {
      if (frame.table()) plan.frame_bytes += frame.stored_bytes(line);
      streams.insert(frame.info(line).stream);
    }
    if (!keys_.empty() && !frame.sealed())
      sealing_bytes += kSaltBytes + (frame.entry_count() + uint64_t{1}) * kSealBytes;
    return true;
  };
  HF_RETURN_IF_ERROR(WalkAll(file, end, count));
  plan.frame_bytes += sealing_bytes;
  plan.kept_streams = streams.size();
  const std::string draft = directory_.SegmentPath(listed.number) + ".new";
  using Kind = SegmentBuilder::Kind;
  HF_ASSIGN_OR_RETURN(
      auto builder,
      SegmentBuilder::Begin(draft, newest ? Kind::kOpen : Kind::kSealed,
                            newest ? listed.bytes + sealing_bytes : 0, plan, checkpoint, keys_));
  const auto add = [&](const FrameView& frame, const EntryReader& read) -> base::Result<bool> {
    // An entry that lies apart from its frame, or is encrypted, costs only itself; it leaves its
    // line, as one that a revision has taken the bytes of.
    const EntryReader read_or_lose = [&](uint32_t line, std::string* plain) {
      auto entry = read(line, plain);
      if (!entry && entry.error().code == base::Code::kCorrupt)
        entry = EntryView{.info = {.stream = frame.info(line).stream,
                                   .base_offset = frame.info(line).base_offset,
                                   .record_count = frame.info(line).record_count},
                          .bytes = {}};
      return entry;
    };
    const auto copy = FrameCopy::Of(frame, read_or_lose, file.key(), nullptr,
                                    {.sealed = !keys_.empty(), .check_entry = check_entry_});
    // Changes of state that cannot be decrypted cost their frame.
    if (!copy && copy.error().code == base::Code::kCorrupt) return true;
    if (!copy) return base::Unexpected(copy.error());
    HF_RETURN_IF_ERROR(builder.Add((*copy)->draft()));
    return true;
  };
  HF_RETURN_IF_ERROR(WalkAll(file, end, add));
  HF_RETURN_IF_ERROR(builder.Finish());
  return directory_.AdoptSegment(draft, listed.number);
}

}  // namespace

base::Result<VerifyReport> Verify(const std::string& directory, const VerifyOptions& options) {
  HF_ASSIGN_OR_RETURN(const DirectoryView before, Directory::Look(directory));
  auto report = Verifier(directory, options, /*owned=*/false).Run();
  if (report && report->sound()) return report;
  HF_ASSIGN_OR_RETURN(const DirectoryView after, Directory::Look(directory));
  if (before.live || (!after.live && after.owner == before.owner)) return report;
  // While nobody writes, a segment is read without LMDB's lock. Who came meanwhile did not know of
  // that, and may have written to pages that were read.
  return Verifier(directory, options, /*owned=*/false).Run();
}

base::Result<VerifyReport> Repair(const std::string& directory, const KeyRing& keys,
                                  const ProgressCallback& progress, const EntryCheck& check_entry) {
  HF_ASSIGN_OR_RETURN(const Directory owned, Directory::OpenExisting(directory));
  HF_RETURN_IF_ERROR(owned.CheckExported());
  const VerifyOptions options{.keys = keys};
  HF_ASSIGN_OR_RETURN(VerifyReport report, Verifier(directory, options, /*owned=*/true).Run());
  HF_RETURN_IF_ERROR(Repairer(owned, keys, progress, check_entry).Run(report));
  return report;
}

}  // namespace holdfast::spool
