#include "spool/compaction.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "spool/directory.h"
#include "spool/offline.h"
#include "spool/segment_builder.h"
#include "spool/segment_sorter.h"

namespace holdfast::spool {
namespace {

// Less would be much work for little.
constexpr uint64_t kFreedShareMin = 2;

struct Owned {
  Directory directory;
  KeyRing keys;
  EntryCheck check_entry;
  std::unique_ptr<OfflineView> view;
};

base::Result<Owned> Own(const std::string& path, const KeyRing& keys,
                        const EntryCheck& check_entry) {
  HF_ASSIGN_OR_RETURN(Directory directory, Directory::OpenExisting(path));
  HF_RETURN_IF_ERROR(directory.CheckExported());
  // Leftovers go first, so that the file system has what they take.
  HF_RETURN_IF_ERROR(directory.Segments());
  HF_ASSIGN_OR_RETURN(auto view, OfflineView::Open(path, keys));
  if (!view->whole())
    return base::Unexpected(base::Code::kCorrupt,
                            path +
                                ": a part of the newest checkpoint is lost, so it is not known "
                                "what is still needed; start the agent or broker on it once, which "
                                "makes a new one from the older segments");
  return Owned{std::move(directory), keys, check_entry, std::move(view)};
}

base::Result<std::shared_ptr<SegmentFile>> OpenSealed(const Owned& spool, uint64_t number) {
  const std::string path = spool.directory.SegmentPath(number);
  HF_ASSIGN_OR_RETURN(auto file,
                      SegmentFile::Open(path, {spool.directory.id(), number}, lmdb::Access::kRead,
                                        spool.keys, nullptr, spool.view->EndOf(number)));
  if (!file->header())
    return base::Unexpected(base::Code::kCorrupt, path + ": the segment has no header");
  return file;
}

base::Result<uint64_t> DiskBytes(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot ask for its size", errno));
  return static_cast<uint64_t>(info.st_size);
}

base::Error RepairFirst(base::Error error) {
  if (error.code == base::Code::kCorrupt)
    error.message += "; repair the spool first (holdfast spool repair)";
  return error;
}

base::Result<void> Rewrite(const Owned& spool, const OfflineView::SegmentInfo& segment,
                           const std::shared_ptr<SegmentFile>& file, const SegmentPlan& plan,
                           const EntryFilter& keep) {
  const std::string draft = spool.directory.SegmentPath(segment.number) + ".new";
  HF_ASSIGN_OR_RETURN(const SegmentCheckpoint checkpoint, SegmentCheckpoint::Read(*file));
  HF_ASSIGN_OR_RETURN(auto builder, SegmentBuilder::Begin(draft, SegmentBuilder::Kind::kOrdered, 0,
                                                          plan, checkpoint, spool.keys));
  SegmentSorter sorter(keep, nullptr, CommitNumber(segment.end_commit.value() - 1),
                       spool.check_entry);
  HF_RETURN_IF_ERROR(sorter.Add(file, segment.end_commit));
  HF_RETURN_IF_ERROR(sorter.Write(&builder));
  HF_RETURN_IF_ERROR(builder.Finish());
  HF_RETURN_IF_ERROR(spool.directory.RaiseFormat());
  return spool.directory.AdoptSegment(draft, segment.number);
}

base::Result<void> CompactSegment(const Owned& spool, const OfflineView::SegmentInfo& segment,
                                  CompactionReport* report) {
  const auto keep = [&](const EntryInfo& info) { return spool.view->Needed(info); };
  HF_ASSIGN_OR_RETURN(const auto file, OpenSealed(spool, segment.number));
  HF_ASSIGN_OR_RETURN(const SegmentPlan plan, SegmentPlan::Make(*file, segment.end_commit, keep));
  if (plan.kept_entries == 0) {
    HF_RETURN_IF_ERROR(spool.directory.RemoveSegment(segment.number));
    ++report->removed_segments;
    report->freed_bytes += segment.disk_bytes;
    return {};
  }
  if (plan.frame_bytes * kFreedShareMin > segment.disk_bytes) return {};
  HF_RETURN_IF_ERROR(Rewrite(spool, segment, file, plan, keep));
  HF_ASSIGN_OR_RETURN(const uint64_t bytes, DiskBytes(spool.directory.SegmentPath(segment.number)));
  ++report->rewritten_segments;
  report->freed_bytes += segment.disk_bytes - std::min(segment.disk_bytes, bytes);
  return {};
}

// Whether any entry in it is still needed; as far as can be read.
base::Result<bool> AnyNeeded(const Owned& spool, const OfflineView::SegmentInfo& segment) {
  HF_ASSIGN_OR_RETURN(const auto file, OpenSealed(spool, segment.number));
  bool needed = false;
  HF_RETURN_IF_ERROR(WalkInChunks(
      *file, segment.end_commit,
      [&](const FrameView& frame, const EntryReader&) -> base::Result<bool> {
        for (uint32_t line = 0; line < frame.entry_count(); ++line)
          needed = needed || spool.view->Needed(frame.info(line));
        return !needed;
      },
      // What is damaged may be needed; that is for Repair.
      [&](CommitNumber, const base::Error& error) {
        needed = needed || error.code != base::Code::kNotFound;
      }));
  return needed;
}

// One frame behind the last, with nothing but the trims.
base::Result<void> AppendTrims(const Owned& spool, std::span<const StreamId> streams,
                               const std::map<std::string, std::string>& values, int64_t time_ms) {
  std::string changes;
  for (const StreamId stream : streams)
    AppendTrim(stream, spool.view->state().stream(stream).end, &changes);
  for (const auto& [key, value] : values) AppendPut(key, value, &changes);
  const FrameDraft trims{.commit = spool.view->newest_commit().next(),
                         .commit_time_ms = time_ms,
                         .entries = {},
                         .changes = changes};
  const OfflineView::SegmentInfo& newest = spool.view->segments().back();
  const std::string path = spool.directory.SegmentPath(newest.number);
  HF_ASSIGN_OR_RETURN(auto file, SegmentFile::Open(path, {spool.directory.id(), newest.number},
                                                   lmdb::Access::kWrite, spool.keys, nullptr));
  if (file->salvaged() && !file->torn())
    return base::Unexpected(base::Code::kCorrupt, path + ": is damaged");
  HF_RETURN_IF_ERROR(file->SyncInherited());
  if (!file->salvaged() && !file->sealed() &&
      trims.FrameBytes() <= file->RoomBytes(spool.view->open_index())) {
    HF_RETURN_IF_ERROR(file->Append(trims));
    return file->Sync();
  }
  // The segment is full, or must not be written to. Only its owner can begin another, so this one
  // is written anew, with more room.
  const std::string draft = path + ".new";
  HF_ASSIGN_OR_RETURN(const SegmentCheckpoint checkpoint, SegmentCheckpoint::Read(*file));
  HF_ASSIGN_OR_RETURN(SegmentPlan plan, SegmentPlan::Make(*file, newest.end_commit, nullptr));
  ++plan.frames;
  plan.frame_bytes += trims.FrameBytes();
  const uint64_t sealing_bytes =
      spool.keys.empty() || file->key() != nullptr ? 0 : plan.kept_entries * kSealBytes;
  HF_ASSIGN_OR_RETURN(auto builder, SegmentBuilder::Begin(
                                        draft, SegmentBuilder::Kind::kOpen,
                                        newest.disk_bytes + 2 * trims.FrameBytes() + sealing_bytes,
                                        plan, checkpoint, spool.keys));
  HF_RETURN_IF_ERROR(
      RewriteFrames(*file, newest.end_commit, nullptr,
                    {.sealed = !spool.keys.empty(), .check_entry = spool.check_entry},
                    [&](const FrameDraft& frame) { return builder.Add(frame); }));
  HF_RETURN_IF_ERROR(builder.Add(trims));
  HF_RETURN_IF_ERROR(builder.Finish());
  file.reset();
  return spool.directory.AdoptSegment(draft, newest.number);
}

}  // namespace

base::Result<CompactionReport> Compact(const std::string& path, const KeyRing& keys,
                                       const ProgressCallback& progress,
                                       const EntryCheck& check_entry) {
  HF_ASSIGN_OR_RETURN(const Owned spool, Own(path, keys, check_entry));
  CompactionReport report;
  const auto& segments = spool.view->segments();
  uint64_t done = 0;
  for (size_t i = 0; i + 1 < segments.size(); ++i) {
    if (progress) progress(done, spool.view->disk_bytes());
    done += segments[i].disk_bytes;
    if (auto compacted = CompactSegment(spool, segments[i], &report); !compacted)
      return base::Unexpected(RepairFirst(std::move(compacted).error()));
  }
  return report;
}

base::Result<CompactionReport> DropBacklogs(const std::string& path, const KeyRing& keys,
                                            std::span<const StreamId> streams,
                                            const std::map<std::string, std::string>& values,
                                            int64_t time_ms, const EntryCheck& check_entry) {
  CompactionReport report;
  {
    HF_ASSIGN_OR_RETURN(const Owned spool, Own(path, keys, check_entry));
    if (spool.view->segments().empty()) return report;
    if (auto trimmed = AppendTrims(spool, streams, values, time_ms); !trimmed)
      return base::Unexpected(RepairFirst(std::move(trimmed).error()));
  }
  HF_ASSIGN_OR_RETURN(const Owned spool, Own(path, keys, check_entry));  // With the trims.
  const auto& segments = spool.view->segments();
  for (size_t i = 0; i + 1 < segments.size(); ++i) {
    HF_ASSIGN_OR_RETURN(const bool needed, AnyNeeded(spool, segments[i]));
    if (needed) continue;
    HF_RETURN_IF_ERROR(spool.directory.RemoveSegment(segments[i].number));
    ++report.removed_segments;
    report.freed_bytes += segments[i].disk_bytes;
  }
  return report;
}

}  // namespace holdfast::spool
