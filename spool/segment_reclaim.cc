// The part of SegmentStore that frees space held back by streams that do not move.
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "base/log.h"
#include "metrics/catalogue.h"
#include "spool/segment_builder.h"
#include "spool/segment_store.h"

namespace holdfast::spool {
namespace {

// What looking costs (all tables of contents are read) is not spent again at once.
constexpr base::Duration kReclaimInterval = std::chrono::seconds(30);
// The disk space that is freed must be this many times what is written.
constexpr uint64_t kFreedPerWritten = 3;

base::Result<uint64_t> FileBytes(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot ask for its size", errno));
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace

// Only if there is no space for one more segment.
void SegmentStore::Reclaim() {
  if (CheckSpace(Purpose::kEntries, 0)) return;
  const base::TimePoint now = background_.Now();
  const std::shared_ptr<const Catalog::Segments> segments = catalog_.segments();
  bool freed = false;
  for (size_t i = 0; i + 1 < segments->size(); ++i) {
    const std::shared_ptr<Segment>& segment = (*segments)[i];
    if (segment->PinnedIndex() || now < segment->reclaim_after) continue;
    segment->reclaim_after = now + kReclaimInterval;
    const base::Result<bool> rewritten = Rewrite(segment);
    if (!rewritten) {
      base::Log(base::LogLevel::kError, "spool", "cannot free space in a segment: {}",
                rewritten.error().message);
      metrics_.errors.With("reclaim").Add();
    } else if (*rewritten) {
      freed = true;
    }
  }
  if (freed && on_space_freed_) on_space_freed_();
}

// Writes it anew without what is trimmed. Says whether that was worth it, and possible.
base::Result<bool> SegmentStore::Rewrite(const std::shared_ptr<Segment>& segment) {
  HF_ASSIGN_OR_RETURN(const auto file, files_.Open(*segment));
  const CommitNumber end(segment->end_commit);
  // Starts only rise, so nothing is kept later that was not planned for.
  const auto keep = [this](const EntryInfo& entry) {
    return entry.end_offset() > catalog_.Range(entry.stream).start;
  };
  HF_ASSIGN_OR_RETURN(const SegmentPlan plan, SegmentPlan::Make(*file, end, keep));
  HF_ASSIGN_OR_RETURN(const SegmentCheckpoint checkpoint, SegmentCheckpoint::Read(*file));
  const uint64_t needed = SegmentBuilder::BytesNeeded(plan, checkpoint);
  if (plan.kept_entries == 0 || needed * (kFreedPerWritten + 1) > segment->bytes) return false;
  if (bytes_max_ != 0 && disk_bytes_ + needed > bytes_max_) return false;
  HF_ASSIGN_OR_RETURN(const uint64_t free, directory_.FreeBytes());
  if (free < needed) return false;

  const std::string draft = directory_.SegmentPath(segment->number) + ".new";
  HF_ASSIGN_OR_RETURN(auto builder, SegmentBuilder::Begin(draft, SegmentBuilder::Kind::kSealed, 0,
                                                          plan, checkpoint, keys()));
  HF_RETURN_IF_ERROR(
      RewriteFrames(*file, end, keep, [&](const FrameDraft& frame) { return builder.Add(frame); }));
  HF_RETURN_IF_ERROR(builder.Finish());
  HF_RETURN_IF_ERROR(directory_.AdoptSegment(draft, segment->number));

  HF_ASSIGN_OR_RETURN(const uint64_t bytes, FileBytes(segment->path));
  auto rewritten =
      std::make_shared<Segment>(segment->number, segment->path, bytes, segment->first_commit);
  rewritten->end_commit = segment->end_commit.load();
  rewritten->entry_bytes = plan.kept_entry_bytes;
  rewritten->sweep_stream = segment->sweep_stream;
  rewritten->sweep_until = segment->sweep_until;
  rewritten->reclaim_after = segment->reclaim_after;
  catalog_.Replace(*segment, rewritten);
  // Whoever reads in the old file goes on doing so; it is gone when they are.
  segment->Retire();
  files_.Forget(*segment);
  disk_bytes_ += bytes;
  disk_bytes_ -= segment->bytes;
  metrics_.reclaimed_bytes.Add(segment->bytes - bytes);
  return true;
}

}  // namespace holdfast::spool
