#include "spool/segment_builder.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

namespace holdfast::spool {
namespace {

// On top of the estimate; only address space for a sealed one.
constexpr uint64_t kSlack = uint64_t{1} << 20;
constexpr uint64_t kAlignment = uint64_t{64} << 10;

}  // namespace

base::Result<SegmentCheckpoint> SegmentCheckpoint::Read(SegmentFile& file) {
  SegmentCheckpoint checkpoint;
  checkpoint.header = *file.header();
  HF_RETURN_IF_ERROR(file.ReadCheckpoint(
      [&](const Change& change) { return checkpoint.Apply(change); }, SegmentFile::Pieces::kAll));
  return checkpoint;
}

base::Result<void> SegmentCheckpoint::Apply(const Change& change) {
  if (change.kind != ChangeKind::kSegment) return state.Apply(change);
  AppendSegment(change, &older_segments);
  return {};
}

base::Result<std::unique_ptr<FrameCopy>> FrameCopy::Of(const FrameView& frame,
                                                       const EntryReader& read,
                                                       const SegmentKey* key,
                                                       const EntryFilter& keep,
                                                       const CopyTarget& target) {
  auto copy = std::make_unique<FrameCopy>();
  std::vector<EntryView> entries;
  for (uint32_t line = 0; line < frame.entry_count(); ++line) {
    if (keep && !keep(frame.info(line))) continue;
    if (frame.sealed()) copy->plain_entries_.emplace_back();
    HF_ASSIGN_OR_RETURN(const EntryView entry,
                        read(line, frame.sealed() ? &copy->plain_entries_.back() : nullptr));
    copy->entries_.push_back({.entry = {.stream = entry.info.stream,
                                        .bytes = entry.bytes,
                                        .record_count = entry.info.record_count,
                                        .max_timestamp_ms = entry.info.max_timestamp_ms,
                                        .tag = entry.info.tag},
                              .base_offset = entry.info.base_offset});
    entries.push_back(entry);
  }
  HF_ASSIGN_OR_RETURN(const std::string_view changes, frame.changes(key, &copy->plain_changes_));
  copy->draft_ = {.commit = frame.commit(),
                  .commit_time_ms = frame.commit_time_ms(),
                  .entries = copy->entries_,
                  .changes = changes};
  const uint64_t bytes =
      FrameBytes(entries.size(), copy->draft_.EntryBytes(), changes.size(), target.sealed);
  if (!target.check_entry || frame.covers_entries() || !CoversEntries(bytes, target.sealed))
    return copy;
  for (size_t i = 0; i < entries.size(); ++i) {
    const EntryView& entry = entries[i];
    if (entry.bytes.empty() || target.check_entry(entry)) continue;
    copy->entries_[i] = {.entry = {.stream = entry.info.stream,
                                   .bytes = {},
                                   .record_count = entry.info.record_count},
                         .base_offset = entry.info.base_offset};
  }
  return copy;
}

base::Result<void> WalkIntact(SegmentFile& file, CommitNumber end, const FrameVisitor& visit) {
  base::Result<void> intact;
  HF_RETURN_IF_ERROR(WalkInChunks(
      file, end,
      [&](const FrameView& frame, const EntryReader& read) -> base::Result<bool> {
        if (!intact) return false;
        return visit(frame, read);
      },
      [&](CommitNumber, const base::Error& error) {
        if (intact && error.code != base::Code::kNotFound) intact = base::Unexpected(error);
      }));
  return intact;
}

base::Result<void> RewriteFrames(SegmentFile& file, CommitNumber end, const EntryFilter& keep,
                                 const CopyTarget& target, const RewrittenFrame& write) {
  return WalkIntact(
      file, end, [&](const FrameView& frame, const EntryReader& read) -> base::Result<bool> {
        HF_ASSIGN_OR_RETURN(const auto copy, FrameCopy::Of(frame, read, file.key(), keep, target));
        HF_RETURN_IF_ERROR(write(copy->draft()));
        return true;
      });
}

void SegmentPlan::Add(const SegmentPlan& other) {
  frames += other.frames;
  frame_bytes += other.frame_bytes;
  kept_entries += other.kept_entries;
  kept_entry_bytes += other.kept_entry_bytes;
  kept_streams += other.kept_streams;
  stretches += other.stretches;
  revised_entries += other.revised_entries;
  freed_entry_bytes += other.freed_entry_bytes;
  growth_bytes_max += other.growth_bytes_max;
}

base::Result<SegmentPlan> SegmentPlan::Make(SegmentFile& file, CommitNumber end,
                                            const EntryFilter& keep, Revision* revision) {
  // Records may be compressed less well than before, and small ones with another time may take
  // nearly twice the bytes. It is address space only.
  constexpr uint64_t kGrowth = 3;
  constexpr uint64_t kGrowthMin = 4096;
  SegmentPlan plan;
  std::string plain;
  std::optional<StreamId> last;
  std::unordered_set<StreamId> streams;
  const auto visit = [&](const FrameView& frame, const EntryReader&) -> base::Result<bool> {
    uint64_t entries = 0;
    uint64_t entry_bytes = 0;
    for (uint32_t line = 0; line < frame.entry_count(); ++line) {
      const EntryInfo info = frame.info(line);
      if (keep && !keep(info)) continue;
      ++entries;
      entry_bytes += info.bytes;
      if (std::exchange(last, info.stream) != info.stream) {
        ++plan.stretches;
        streams.insert(info.stream);
      }
      if (revision == nullptr || info.bytes == 0) continue;
      const Revision::Fate fate = revision->Judge(info);
      if (fate == Revision::Fate::kKeep) continue;
      ++plan.revised_entries;
      if (fate == Revision::Fate::kEmpty) {
        plan.freed_entry_bytes += info.bytes;
        entry_bytes -= info.bytes;
      } else {
        plan.growth_bytes_max += uint64_t{info.bytes} * kGrowth + kGrowthMin;
      }
    }
    if (revision != nullptr && !revision->Pace(frame.entry_count() * kTableLineBytes))
      return base::Unexpected(base::Code::kClosed, "the revision was told to stop");
    HF_ASSIGN_OR_RETURN(const std::string_view changes, frame.changes(file.key(), &plain));
    ++plan.frames;
    plan.kept_entries += entries;
    plan.kept_entry_bytes += entry_bytes;
    plan.frame_bytes += FrameBytes(entries, entry_bytes, changes.size(), /*sealed=*/true);
    return true;
  };
  HF_RETURN_IF_ERROR(WalkIntact(file, end, visit));
  plan.kept_streams = streams.size();
  return plan;
}

uint64_t SegmentBuilder::BytesNeeded(const SegmentPlan& plan, const SegmentCheckpoint& checkpoint) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return plan.frame_bytes + (plan.frames + plan.frame_bytes / kRunBytes) * page +
         SegmentFile::IndexBytes(plan.kept_entries, plan.kept_streams) +
         SegmentFile::BytesToBegin(checkpoint.state, checkpoint.older_segments.size());
}

base::Result<SegmentBuilder> SegmentBuilder::Begin(const std::string& path, Kind kind,
                                                   uint64_t bytes_min, const SegmentPlan& plan,
                                                   const SegmentCheckpoint& checkpoint,
                                                   const KeyRing& keys) {
  const uint64_t needed =
      std::max(BytesNeeded(plan, checkpoint) + kSlack + plan.growth_bytes_max, bytes_min);
  const uint64_t bytes = (needed + kAlignment - 1) / kAlignment * kAlignment;
  std::shared_ptr<SegmentFile> file;
  if (kind != Kind::kOpen) {
    const Layout layout = kind == Kind::kOrdered ? Layout::kByStream : Layout::kByCommit;
    HF_ASSIGN_OR_RETURN(file, SegmentFile::Build(path, checkpoint.header.origin, bytes, layout));
  } else {
    (void)unlink(path.c_str());  // LMDB would open what is there.
    HF_RETURN_IF_ERROR(SegmentFile::Create(path, bytes));
    HF_ASSIGN_OR_RETURN(file, SegmentFile::Open(path, checkpoint.header.origin,
                                                lmdb::Access::kBuild, keys, nullptr));
  }
  HF_RETURN_IF_ERROR(file->Begin(checkpoint.header.first_commit, checkpoint.state,
                                 checkpoint.older_segments,
                                 keys.empty() ? nullptr : SegmentKey::Make(keys)));
  return SegmentBuilder(kind, std::move(file));
}

base::Result<void> SegmentBuilder::Add(const FrameDraft& draft) {
  HF_RETURN_IF_ERROR(FillUpTo(draft.commit));
  HF_RETURN_IF_ERROR(file_->Append(draft));
  for (uint32_t line = 0; line < draft.entries.size(); ++line) {
    const DraftEntry& entry = draft.entries[line];
    Index(draft.commit, line, entry.entry.stream, entry.base_offset, entry.entry.max_timestamp_ms);
  }
  return {};
}

base::Result<void> SegmentBuilder::AddRun(uint32_t position, std::string_view bytes) {
  return file_->AppendRun(position, bytes);
}

base::Result<void> SegmentBuilder::AddTable(const TableDraft& draft) {
  HF_RETURN_IF_ERROR(FillUpTo(draft.commit));
  HF_RETURN_IF_ERROR(file_->AppendTable(draft));
  for (uint32_t line = 0; line < draft.lines.size(); ++line) {
    const EntryInfo& info = draft.lines[line].info;
    Index(draft.commit, line, info.stream, info.base_offset, info.max_timestamp_ms);
  }
  return {};
}

// Numbers have no gaps.
base::Result<void> SegmentBuilder::FillUpTo(CommitNumber commit) {
  for (; next_commit_ < commit; next_commit_ = next_commit_.next())
    HF_RETURN_IF_ERROR(file_->AppendLost(next_commit_));
  next_commit_ = commit.next();
  return {};
}

void SegmentBuilder::Index(CommitNumber commit, uint32_t line, StreamId stream, int64_t base_offset,
                           int64_t max_timestamp_ms) {
  if (kind_ == Kind::kOpen) return;  // It is made when that is sealed.
  const uint64_t frame = commit.value() - file_->header()->first_commit.value();
  index_.Add(stream, {base_offset, max_timestamp_ms, static_cast<uint32_t>(frame), line});
}

base::Result<void> SegmentBuilder::Flush() { return file_->Sync(); }

base::Result<void> SegmentBuilder::Finish() {
  if (kind_ != Kind::kOpen) {
    HF_RETURN_IF_ERROR(file_->Seal(index_));
    HF_RETURN_IF_ERROR(file_->CutOff());
  }
  HF_RETURN_IF_ERROR(file_->Sync());
  file_.reset();
  return {};
}

}  // namespace holdfast::spool
