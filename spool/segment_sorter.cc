#include "spool/segment_sorter.h"

#include <algorithm>
#include <tuple>

#include "base/check.h"

namespace holdfast::spool {
namespace {

// So that the disk is never asked for much at once, and live commits get their turn.
constexpr uint64_t kAtOnceBytes = uint64_t{4} << 20;

}  // namespace

base::Result<void> SegmentSorter::Add(std::shared_ptr<SegmentFile> file, CommitNumber end) {
  HF_ASSIGN_OR_RETURN(auto transaction, file->BeginRead());
  // Its entries are read here and there, unless they are ordered already.
  const bool here_and_there = !file->salvaged() && file->header()->layout == Layout::kByCommit;
  const uint64_t prefetched = here_and_there ? file->used_bytes() : 0;
  for (uint64_t at = 0; at < prefetched; at += kAtOnceBytes) {
    file->Prefetch(at, kAtOnceBytes);
    HF_RETURN_IF_ERROR(Pace(kAtOnceBytes));
  }
  sources_.push_back({std::move(file), std::move(transaction)});
  return WalkIntact(*sources_.back().file, end,
                    [&](const FrameView& frame, const EntryReader&) -> base::Result<bool> {
                      HF_RETURN_IF_ERROR(AddFrame(frame));
                      return true;
                    });
}

base::Result<void> SegmentSorter::AddFrame(const FrameView& frame) {
  const auto source = static_cast<uint32_t>(sources_.size() - 1);
  const uint64_t first = sources_[source].file->header()->first_commit.value();
  const auto number = static_cast<uint32_t>(frame.commit().value() - first);
  const auto index = static_cast<uint32_t>(frames_.size());
  frames_.push_back({source, number, static_cast<uint32_t>(lines_.size())});
  for (uint32_t line = 0; line < frame.entry_count(); ++line) {
    const EntryInfo info = frame.info(line);
    if (keep_ && !keep_(info)) continue;
    const Revision::Fate fate =
        revision_ == nullptr ? Revision::Fate::kKeep : revision_->Judge(info);
    if (info.bytes == 0 || fate == Revision::Fate::kEmpty) {
      AddGone(info);
      continue;
    }
    EndGone(info.stream);
    lines_.push_back({.stream = info.stream,
                      .frame = index,
                      .line = line,
                      .position = 0,
                      .replace = fate == Revision::Fate::kReplace});
  }
  if (frame.commit() == last_)
    while (!open_gone_.empty()) EndGone(open_gone_.begin()->first);
  return {};
}

void SegmentSorter::AddGone(const EntryInfo& info) {
  if (const auto gone = open_gone_.find(info.stream);
      gone != open_gone_.end() &&
      uint64_t{gone->second.record_count} + info.record_count > INT32_MAX)
    EndGone(info.stream);
  Gone& gone = open_gone_.try_emplace(info.stream, Gone{info.base_offset, 0}).first->second;
  gone.record_count = static_cast<uint32_t>(info.end_offset() - gone.base_offset);
}

void SegmentSorter::EndGone(StreamId stream) {
  const auto found = open_gone_.find(stream);
  if (found == open_gone_.end()) return;
  gone_.emplace(static_cast<uint32_t>(lines_.size()), found->second);
  lines_.push_back({.stream = stream,
                    .frame = static_cast<uint32_t>(frames_.size() - 1),
                    .line = 0,
                    .position = 0,
                    .replace = false});
  open_gone_.erase(found);
}

base::Result<void> SegmentSorter::Write(SegmentBuilder* builder) {
  if (!open_gone_.empty())
    return base::Unexpected(base::Code::kCorrupt,
                            "commit " + std::to_string(last_.value()) + ": the frame is missing");
  HF_RETURN_IF_ERROR(WriteRuns(builder));
  for (size_t frame = 0; frame < frames_.size(); ++frame)
    HF_RETURN_IF_ERROR(WriteTable(frame, builder));
  return {};
}

base::Result<void> SegmentSorter::WriteRuns(SegmentBuilder* builder) {
  if (builder->key() != nullptr)
    for (Frame& frame : frames_) frame.salt = NewSalt();
  std::vector<uint32_t> order;
  order.reserve(lines_.size() - gone_.size());
  for (uint32_t index = 0; index < lines_.size(); ++index)
    if (!gone_.contains(index)) order.push_back(index);
  std::sort(order.begin(), order.end(), [this](uint32_t a, uint32_t b) {
    return std::tuple(lines_[a].stream, a) < std::tuple(lines_[b].stream, b);
  });
  std::string run;
  uint64_t position = 0;  // Of the run.
  const auto end_run = [&]() -> base::Result<void> {
    if (run.empty()) return {};
    HF_RETURN_IF_ERROR(builder->AddRun(static_cast<uint32_t>(position), run));
    const size_t written = run.size();
    position += written;
    run.clear();
    return Written(written, builder);
  };
  for (const uint32_t index : order) {
    HF_RETURN_IF_ERROR(WriteEntry(index, position + run.size(), builder->key(), &run));
    if (run.size() >= kRunBytes) HF_RETURN_IF_ERROR(end_run());
  }
  return end_run();
}

base::Result<void> SegmentSorter::WriteEntry(uint32_t index, uint64_t position, SegmentKey* key,
                                             std::string* run) {
  Line& line = lines_[index];
  const Frame& frame = frames_[line.frame];
  const Source& source = sources_[frame.source];
  HF_ASSIGN_OR_RETURN(const FrameView view, View(frame));
  std::string plain;
  HF_ASSIGN_OR_RETURN(EntryView entry,
                      source.file->Entry(source.transaction, view, line.line, &plain));
  // Without a key the new segment says no more of an entry's bytes than the old one.
  if (key != nullptr && check_entry_ && !view.covers_entries() && !check_entry_(entry)) {
    gone_.emplace(index, Gone{entry.info.base_offset, entry.info.record_count});
    return {};
  }
  Revision::Replacement other;
  if (line.replace) {
    HF_ASSIGN_OR_RETURN(other, revision_->Replace(entry));
    HF_CHECK(!other.bytes.empty());
    entry.bytes = other.bytes;
    entry.info.bytes = static_cast<uint32_t>(other.bytes.size());
    entry.info.max_timestamp_ms = other.max_timestamp_ms;
    replaced_.emplace(index, Replaced{entry.info.bytes, other.max_timestamp_ms});
  }
  if (position + entry.bytes.size() + kSealBytes > UINT32_MAX)
    return base::Unexpected(base::Code::kInvalid,
                            "a segment with entries of more than 4 GiB cannot be written anew");
  line.position = static_cast<uint32_t>(position);
  entry_bytes_ += entry.bytes.size();
  if (key == nullptr) {
    run->append(entry.bytes);
  } else {
    SealEntry(*key, frame.salt, index - frame.first_line,
              {.info = entry.info, .position = line.position}, entry.bytes, run);
  }
  return {};
}

base::Result<void> SegmentSorter::WriteTable(size_t index, SegmentBuilder* builder) {
  const Frame& frame = frames_[index];
  HF_ASSIGN_OR_RETURN(const FrameView view, View(frame));
  std::vector<TableLine> lines;
  for (uint32_t at = frame.first_line; at < LinesEnd(index); ++at) {
    const Line& line = lines_[at];
    if (const auto gone = gone_.find(at); gone != gone_.end()) {
      lines.push_back({.info = {.stream = line.stream,
                                .base_offset = gone->second.base_offset,
                                .record_count = gone->second.record_count}});
      continue;
    }
    lines.push_back({.info = view.info(line.line), .position = line.position});
    if (!line.replace) continue;
    const Replaced& replaced = replaced_.at(at);
    lines.back().info.bytes = replaced.bytes;
    lines.back().info.max_timestamp_ms = replaced.max_timestamp_ms;
  }
  std::string plain;
  HF_ASSIGN_OR_RETURN(const std::string_view changes,
                      view.changes(sources_[frame.source].file->key(), &plain));
  const TableDraft draft{.commit = view.commit(),
                         .commit_time_ms = view.commit_time_ms(),
                         .lines = lines,
                         .changes = changes,
                         .salt = frame.salt};
  HF_RETURN_IF_ERROR(builder->AddTable(draft));
  return Written(draft.TableBytes(), builder);
}

uint32_t SegmentSorter::LinesEnd(size_t frame) const {
  return frame + 1 < frames_.size() ? frames_[frame + 1].first_line
                                    : static_cast<uint32_t>(lines_.size());
}

base::Result<FrameView> SegmentSorter::View(const Frame& frame) {
  const Source& source = sources_[frame.source];
  return source.file->Frame(source.transaction, frame.number);
}

base::Result<void> SegmentSorter::Written(size_t bytes, SegmentBuilder* builder) {
  unflushed_ += bytes;
  if (unflushed_ >= kAtOnceBytes) {
    unflushed_ = 0;
    HF_RETURN_IF_ERROR(builder->Flush());
  }
  return Pace(bytes);
}

base::Result<void> SegmentSorter::Pace(size_t bytes) {
  if (revision_ == nullptr || revision_->Pace(bytes)) return {};
  return base::Unexpected(base::Code::kClosed, "the revision was told to stop");
}

}  // namespace holdfast::spool
