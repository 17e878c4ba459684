// The part of SegmentStore that writes segments anew, ordered by stream: without what is trimmed,
// where streams that do not move hold back space that is needed; as a revision says; and for the
// order itself.
//
// A group is one segment or two that become one. That takes the name of the second by a rename, and
// begins where the first one did. From then on nobody looks into the first, whether or not a crash
// comes before it is removed: the last segment that begins early enough is the one that holds an
// offset, and between the beginnings of the two no stream has an entry, so the first is retired.
// Of three that would not hold.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "metrics/catalogue.h"
#include "spool/segment_sorter.h"
#include "spool/segment_store.h"

namespace holdfast::spool {
namespace {

// What looking costs (all tables of contents are read) is not spent again at once.
constexpr base::Duration kReclaimInterval = std::chrono::seconds(30);
// The disk space that is freed must be this many times what is written.
constexpr uint64_t kFreedPerWritten = 3;
constexpr size_t kJoinedAtOnce = 2;  // See the top.
constexpr uint64_t kAlike = 3;       // Times one segment's size is the other's, at most.
// A segment that takes so many times what it needs is written anew when others are.
constexpr uint64_t kOversize = 2;
// Where a stream's entries lie together like that, reading them is reading in sequence.
constexpr uint64_t kStretchBytes = uint64_t{256} << 10;
// Of a segment's records, before looking whether it takes too much, and again when that has grown.
constexpr double kTrimmedShareMin = 0.5;
constexpr double kTrimmedStep = 0.125;
constexpr base::Duration kTrimmedInterval = std::chrono::minutes(5);

base::Result<uint64_t> FileBytes(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot ask for its size", errno));
  return static_cast<uint64_t>(info.st_size);
}

void RemoveDraft(const std::string& draft) {
  // If it stays it is found when the spool is opened next time.
  (void)std::remove(draft.c_str());
  (void)std::remove((draft + "-lock").c_str());
}

}  // namespace

// While it lives the segment's file stays, also if it is retired.
class SegmentStore::Hold {
 public:
  Hold(std::shared_ptr<SegmentStore> store, std::shared_ptr<Segment> segment)
      : store_(std::move(store)), segment_(std::move(segment)) {}
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() {
    if (segment_->EndLease()) store_->OnLastLease();
  }

 private:
  const std::shared_ptr<SegmentStore> store_;
  const std::shared_ptr<Segment> segment_;
};

std::shared_ptr<const SegmentStore::Hold> SegmentStore::HoldOn(
    const std::shared_ptr<Segment>& segment) {
  if (!segment->TryLease()) return nullptr;
  return std::make_shared<const Hold>(shared_from_this(), segment);
}

// Nobody else writes these segments anew meanwhile.
class SegmentStore::Claim {
 public:
  explicit Claim(const Group& group) {
    for (const Part& part : group) {
      if (part.segment->claimed.exchange(true)) return;
      claimed_.push_back(part.segment);
    }
    all_ = true;
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    for (const auto& segment : claimed_) segment->claimed = false;
  }
  [[nodiscard]] bool all() const { return all_; }

 private:
  std::vector<std::shared_ptr<Segment>> claimed_;
  bool all_ = false;
};

// What a draft takes while it is written, so that nobody finds that space free.
class SegmentStore::DraftSpace {
 public:
  DraftSpace(SegmentStore& store, uint64_t bytes) : disk_bytes_(store.disk_bytes_), bytes_(bytes) {
    disk_bytes_ += bytes_;
  }
  DraftSpace(const DraftSpace&) = delete;
  DraftSpace& operator=(const DraftSpace&) = delete;
  ~DraftSpace() { disk_bytes_ -= bytes_; }

 private:
  std::atomic<uint64_t>& disk_bytes_;
  const uint64_t bytes_;
};

// Starts only rise, so nothing is kept later that was not planned for.
EntryFilter SegmentStore::Untrimmed() const {
  return [this](const EntryInfo& entry) {
    return entry.end_offset() > catalog_.Range(entry.stream).start;
  };
}

EntryCheck SegmentStore::CheckFor(uint64_t number) {
  if (!check_entry_) return {};
  return [this, number](const EntryView& entry) {
    base::Result<void> checked = check_entry_(entry.bytes);
    if (!checked)
      damage_.OnDamage(number, entry.info.commit,
                       {base::Code::kCorrupt,
                        "stream " + std::to_string(entry.info.stream.value()) + ", offset " +
                            std::to_string(entry.info.base_offset) +
                            ": damaged, and left out of the segment that is written anew: " +
                            checked.error().message});
    return checked;
  };
}

base::Result<SegmentStore::Part> SegmentStore::MakePart(const std::shared_ptr<Segment>& segment,
                                                        std::shared_ptr<const Hold> hold,
                                                        Revision* revision) {
  HF_ASSIGN_OR_RETURN(const auto file, files_.Open(*segment));
  HF_ASSIGN_OR_RETURN(SegmentPlan plan, SegmentPlan::Make(*file, CommitNumber(segment->end_commit),
                                                          Untrimmed(), revision));
  HF_ASSIGN_OR_RETURN(const SegmentCheckpoint checkpoint, SegmentCheckpoint::Read(*file));
  const uint64_t needed = SegmentBuilder::BytesNeeded(plan, checkpoint);
  return Part{segment, std::move(hold), file, plan, needed};
}

base::Result<void> SegmentStore::CheckSpaceFor(uint64_t bytes) const {
  HF_ASSIGN_OR_RETURN(const uint64_t free, directory_.FreeBytes());
  if ((bytes_max_ == 0 || disk_bytes_ + bytes <= bytes_max_) && free >= bytes) return {};
  return base::Unexpected(base::Code::kFull, directory_.path() +
                                                 ": no space to write a segment anew, " +
                                                 std::to_string(bytes >> 20) + " MiB");
}

base::Result<uint64_t> SegmentStore::WriteDraft(const Group& group, const std::string& draft,
                                                Revision* revision) {
  HF_ASSIGN_OR_RETURN(SegmentCheckpoint checkpoint, SegmentCheckpoint::Read(*group.front().file));
  checkpoint.header.origin = group.back().file->header()->origin;
  SegmentPlan plan;
  for (const Part& part : group) plan.Add(part.plan);
  HF_ASSIGN_OR_RETURN(auto builder, SegmentBuilder::Begin(draft, SegmentBuilder::Kind::kOrdered, 0,
                                                          plan, checkpoint, keys()));
  SegmentSorter sorter(Untrimmed(), revision, CommitNumber(group.back().segment->end_commit - 1),
                       CheckFor(group.back().segment->number));
  for (const Part& part : group)
    HF_RETURN_IF_ERROR(sorter.Add(part.file, CommitNumber(part.segment->end_commit)));
  HF_RETURN_IF_ERROR(sorter.Write(&builder));
  HF_RETURN_IF_ERROR(builder.Finish());
  return sorter.entry_bytes();
}

base::Result<uint64_t> SegmentStore::Install(const Group& group, const std::string& draft,
                                             uint64_t entry_bytes) {
  const std::shared_ptr<Segment>& old = group.back().segment;
  HF_ASSIGN_OR_RETURN(const uint64_t bytes, FileBytes(draft));
  auto written = std::make_shared<Segment>(old->number, old->path, bytes,
                                           group.front().file->header()->first_commit);
  written->end_commit = old->end_commit.load();
  written->entry_bytes = entry_bytes;
  if (group.size() == 1) {
    written->sweep_stream = old->sweep_stream;
    written->sweep_until = old->sweep_until;
  }
  written->reclaim_after = old->reclaim_after;
  const std::shared_ptr<const Catalog::Segments> now = catalog_.segments();
  for (const Part& part : group)
    if (std::find(now->begin(), now->end(), part.segment) == now->end())
      return base::Unexpected(base::Code::kUnavailable, part.segment->path + ": retired just now");
  HF_RETURN_IF_ERROR(directory_.RaiseFormat());
  HF_RETURN_IF_ERROR(directory_.AdoptSegment(draft, old->number));
  HF_CHECK(catalog_.Replace(*old, written));
  // Whoever reads in the old file goes on doing so; it is gone when they are.
  old->Retire();
  files_.Forget(*old);
  uint64_t freed = old->bytes;
  for (size_t i = 0; i + 1 < group.size(); ++i) freed += group[i].segment->bytes;
  disk_bytes_ += bytes;
  disk_bytes_ -= old->bytes;
  if (group.size() > 1) {
    group.front().segment->sweep_until = 0;  // Nobody needs it any more.
    SweepSoon();
  }
  freed -= std::min(freed, bytes);
  metrics_.reclaimed_bytes.Add(freed);
  return freed;
}

// Only if there is no space for one more segment, or for the one that was refused.
void SegmentStore::Reclaim() {
  if (CheckSpaceForOneMore(Purpose::kEntries, wanted_bytes_)) return;
  const base::TimePoint now = background_.Now();
  const std::shared_ptr<const Catalog::Segments> segments = catalog_.segments();
  bool freed = false;
  for (size_t i = 0; i + 1 < segments->size(); ++i) {
    const std::shared_ptr<Segment>& segment = (*segments)[i];
    if (segment->PinnedIndex() || now < segment->reclaim_after) continue;
    segment->reclaim_after = now + kReclaimInterval;
    const base::Result<bool> rewritten = ReclaimOne(segment);
    if (!rewritten) {
      base::Log(base::Event::kSpaceNotFreed, "spool", "cannot free space in a segment: {}",
                rewritten.error().message);
      metrics_.errors.With("reclaim").Add();
    } else if (*rewritten) {
      freed = true;
    }
  }
  if (freed && on_space_freed_) on_space_freed_();
}

// Writes it anew without what is trimmed. Says whether that was worth it, and possible.
base::Result<bool> SegmentStore::ReclaimOne(const std::shared_ptr<Segment>& segment) {
  Group group(1);
  auto hold = HoldOn(segment);
  if (!hold) return false;
  HF_ASSIGN_OR_RETURN(group.front(), MakePart(segment, std::move(hold), nullptr));
  const Part& part = group.front();
  if (part.plan.kept_entries == 0 || part.needed * (kFreedPerWritten + 1) > segment->bytes ||
      !CheckSpaceFor(part.needed))
    return false;
  const Claim claim(group);
  if (!claim.all()) return false;
  const std::string draft = segment->path + ".new";
  const DraftSpace space(*this, part.needed);
  base::Result<uint64_t> done = WriteDraft(group, draft, nullptr);
  if (done) done = Install(group, draft, *done);
  if (done) return true;
  RemoveDraft(draft);
  return base::Unexpected(std::move(done).error());
}

// Writes it anew, and returns how much disk space that frees.
base::Result<uint64_t> SegmentStore::Rewrite(const Group& group, Revision& revision) {
  uint64_t needed = 0;
  for (const Part& part : group) needed += part.needed;
  HF_RETURN_IF_ERROR(CheckSpaceFor(needed));
  const Claim claim(group);
  if (!claim.all())
    return base::Unexpected(base::Code::kUnavailable,
                            group.back().segment->path + ": somebody writes it anew just now");
  const std::string draft = group.back().segment->path + ".new";
  std::optional<DraftSpace> space(std::in_place, *this, needed);
  base::Result<uint64_t> done = WriteDraft(group, draft, &revision);
  if (done) {
    const base::MutexLock lock(work_mutex_);
    done = closed_ ? base::Unexpected(base::Code::kClosed, "the spool is closed")
                   : Install(group, draft, *done);
    space.reset();
    if (done && on_space_freed_) on_space_freed_();
  }
  if (!done) RemoveDraft(draft);
  return done;
}

base::Result<void> SegmentStore::SealIfNeeded(Segment& segment) {
  if (!segment.PinnedIndex()) return {};
  const base::MutexLock lock(work_mutex_);
  if (closed_) return base::Unexpected(base::Code::kClosed, "the spool is closed");
  Seal(segment);
  return {};
}

// Whether streams of the revision have entries in the segment, as far as `next` tells.
base::Result<bool> SegmentStore::MayChange(const Revision& revision, Segment& segment,
                                           Segment& next) {
  HF_ASSIGN_OR_RETURN(const auto file, OpenWithEnds(segment));
  HF_ASSIGN_OR_RETURN(const auto next_file, OpenWithEnds(next));
  HF_ASSIGN_OR_RETURN(const auto begin, file->BeginRead());
  HF_ASSIGN_OR_RETURN(const auto end, next_file->BeginRead());
  for (const StreamId stream : revision.Streams()) {
    HF_ASSIGN_OR_RETURN(const StreamEnd before, file->EndAtBeginning(begin, stream));
    HF_ASSIGN_OR_RETURN(const StreamEnd after, next_file->EndAtBeginning(end, stream));
    if (before.end != after.end && catalog_.Range(stream).start < after.end) return true;
  }
  return false;
}

// The group, if it is worth the work, without large segments that could as well stay as they are.
void SegmentStore::AddGroup(Group group, std::vector<Group>* groups) const {
  uint64_t all = 0;
  for (const Part& part : group) all += part.needed;
  const auto idle = [&](const Part& part) {
    return part.plan.revised_entries == 0 && part.segment->bytes < kOversize * part.needed;
  };
  std::erase_if(group, [&](const Part& part) { return idle(part) && part.needed * 2 >= all; });
  if (!group.empty()) groups->push_back(std::move(group));
}

// What a revision changes, and segments that became small beside each other; up to the first that
// is damaged.
base::Result<void> SegmentStore::Survey(Revision& revision, std::vector<Group>* groups) {
  const std::shared_ptr<const Catalog::Segments> segments = catalog_.segments();
  Group group;
  uint64_t needed = 0;
  const auto end_group = [&] {
    AddGroup(std::exchange(group, {}), groups);
    needed = 0;
  };
  for (size_t i = 0; i + 1 < segments->size(); ++i) {
    const std::shared_ptr<Segment>& segment = (*segments)[i];
    HF_RETURN_IF_ERROR(SealIfNeeded(*segment));
    auto hold = HoldOn(segment);
    const auto next_hold = HoldOn((*segments)[i + 1]);
    bool look = hold && (!next_hold || segment->bytes * 2 <= segment_bytes_);
    if (hold && !look) {
      const auto may_change = MayChange(revision, *segment, *(*segments)[i + 1]);
      if (!may_change && may_change.error().code != base::Code::kCorrupt)
        return base::Unexpected(may_change.error());
      look = !may_change || *may_change;
    }
    if (!look) {
      end_group();
      continue;
    }
    base::Result<Part> part = MakePart(segment, std::move(hold), &revision);
    if (!part) {
      end_group();
      return base::Unexpected(std::move(part).error());
    }
    const bool follows = group.empty() || CommitNumber(group.back().segment->end_commit) ==
                                              part->file->header()->first_commit;
    if (!follows || needed + part->needed > segment_bytes_) end_group();
    needed += part->needed;
    group.push_back(*std::move(part));
    if (group.size() == kJoinedAtOnce) end_group();
  }
  end_group();
  return {};
}

base::Result<RevisionReport> SegmentStore::Revise(Revision& revision) {
  std::vector<Group> groups;
  base::Result<void> surveyed = Survey(revision, &groups);
  // What lies before a damaged segment need not wait for its repair.
  if (!surveyed && surveyed.error().code != base::Code::kCorrupt)
    return base::Unexpected(std::move(surveyed).error());
  uint64_t freed = 0;
  uint64_t written = 0;
  for (const Group& group : groups) {
    SegmentPlan plan;
    for (const Part& part : group) plan.Add(part.plan);
    if (plan.revised_entries == 0) continue;  // Joining pays in the long run.
    freed += plan.freed_entry_bytes;
    for (const Part& part : group) written += part.needed;
  }
  RevisionReport report;
  report.done = revision.Worth(freed, written);
  if (!report.done) groups.clear();
  for (Group& next : groups) {
    const Group group = std::move(next);  // Let go when it is done.
    const base::Result<uint64_t> bytes = Rewrite(group, revision);
    if (!bytes && bytes.error().code == base::Code::kCorrupt && group.size() > 1) {
      // Damage of the second one's entries is seen only now.
      std::vector<Group> before;
      AddGroup(Group(1, group.front()), &before);
      for (const Group& first : before) HF_RETURN_IF_ERROR(Rewrite(first, revision));
    }
    if (!bytes) return base::Unexpected(bytes.error());
    ++report.written_segments;
    report.freed_bytes += *bytes;
    if (!revision.Pace(0))
      return base::Unexpected(base::Code::kClosed, "the revision was told to stop");
  }
  if (!surveyed) return base::Unexpected(std::move(surveyed).error());
  return report;
}

namespace {

// Changes nothing.
class Ordering final : public Revision {
 public:
  explicit Ordering(const spool::Pace& pace) : pace_(pace) {}
  [[nodiscard]] std::span<const StreamId> Streams() const override { return {}; }
  [[nodiscard]] Fate Judge(const EntryInfo&) const override { return Fate::kKeep; }
  base::Result<Replacement> Replace(const EntryView&) override {
    return base::Unexpected(base::Code::kInvalid, "nothing is to be replaced");
  }
  [[nodiscard]] bool Worth(uint64_t, uint64_t) override { return true; }
  [[nodiscard]] bool Pace(size_t bytes) override { return pace_(bytes); }

 private:
  const spool::Pace& pace_;
};

}  // namespace

base::Result<RevisionReport> SegmentStore::Sort(base::TimePoint now, const Pace& pace) {
  Ordering ordering(pace);
  std::shared_ptr<const Catalog::Segments> segments = catalog_.segments();
  for (size_t i = 0; i + 1 < segments->size(); ++i) {
    if (!pace(0)) return base::Unexpected(base::Code::kClosed, "told to stop");
    HF_ASSIGN_OR_RETURN(auto part, FindUnsorted((*segments)[i], (*segments)[i + 1], now, ordering));
    if (!part) continue;
    Group group;
    group.push_back(*std::move(part));
    HF_ASSIGN_OR_RETURN(const RevisionReport report, SortGroup(group, ordering));
    if (report.written_segments != 0) return report;
  }
  for (size_t i = 0; i + kJoinedAtOnce < segments->size(); ++i) {
    HF_ASSIGN_OR_RETURN(const Group group, FindPair((*segments)[i], (*segments)[i + 1], ordering));
    if (group.empty()) continue;
    HF_ASSIGN_OR_RETURN(const RevisionReport report, SortGroup(group, ordering));
    if (report.written_segments != 0) return report;
  }
  return RevisionReport{.done = true};
}

base::Result<RevisionReport> SegmentStore::SortGroup(const Group& group, Revision& revision) {
  // The writer may need a segment meanwhile, and must not find the space taken.
  uint64_t needed = segment_bytes_ + SmallBytes();
  for (const Part& part : group) needed += part.needed;
  base::Result<void> room = CheckSpaceFor(needed);
  const base::Result<uint64_t> freed =
      room ? Rewrite(group, revision) : base::Unexpected(std::move(room).error());
  if (freed) return RevisionReport{.written_segments = 1, .freed_bytes = *freed};
  for (const Part& part : group) part.segment->sort_looked = false;  // It is not done.
  // Somebody else does, or it is not needed any more.
  if (freed.error().code == base::Code::kUnavailable) return RevisionReport{};
  if (freed.error().code != base::Code::kCorrupt) return base::Unexpected(freed.error());
  for (const Part& part : group) LeaveDamaged(*part.segment, freed.error());
  return RevisionReport{};
}

// Both, if they fit into one and are about equally large: else a large one would be written again
// for each small one that comes.
base::Result<SegmentStore::Group> SegmentStore::FindPair(const std::shared_ptr<Segment>& segment,
                                                         const std::shared_ptr<Segment>& next,
                                                         Revision& revision) {
  Group group;
  const auto [small, large] = std::minmax(segment->bytes, next->bytes);
  if (small + large > segment_bytes_ || small * kAlike < large ||
      CommitNumber(segment->end_commit) != next->first_commit || segment->PinnedIndex() ||
      next->PinnedIndex() || segment->damaged || next->damaged)
    return group;
  for (const auto& each : {segment, next}) {
    auto hold = HoldOn(each);
    if (!hold) return Group{};
    auto part = MakePart(each, std::move(hold), &revision);
    if (!part && part.error().code == base::Code::kCorrupt) {
      LeaveDamaged(*each, part.error());
      return Group{};
    }
    if (!part) return base::Unexpected(std::move(part).error());
    group.push_back(*std::move(part));
  }
  return group;
}

// Nothing if the segment is as it should be.
base::Result<std::optional<SegmentStore::Part>> SegmentStore::FindUnsorted(
    const std::shared_ptr<Segment>& segment, const std::shared_ptr<Segment>& next,
    base::TimePoint now, Revision& revision) {
  if (segment->lost || segment->damaged) return std::nullopt;
  auto hold = HoldOn(segment);
  const auto next_hold = HoldOn(next);
  if (!hold || !next_hold) return std::nullopt;
  HF_RETURN_IF_ERROR(SealIfNeeded(*segment));
  const base::Result<bool> trimmed = MoreIsTrimmed(*segment, *next, now);
  base::Result<std::optional<Part>> found = std::nullopt;
  if (!trimmed) {
    found = base::Unexpected(trimmed.error());
  } else if (*trimmed || !segment->sort_looked) {
    auto part = MakePart(segment, std::move(hold), &revision);
    if (!part) {
      found = base::Unexpected(std::move(part).error());
    } else if (const SegmentPlan& plan = part->plan; plan.kept_entries != 0) {
      const bool scattered = part->file->header()->layout == Layout::kByCommit &&
                             plan.stretches > 1 &&
                             plan.kept_entry_bytes < plan.stretches * kStretchBytes;
      const bool fits = plan.kept_entry_bytes + plan.kept_entries * kSealBytes <= UINT32_MAX;
      if (fits && (scattered || segment->bytes >= kOversize * part->needed))
        found = *std::move(part);
    }
  }
  if (found) segment->sort_looked = true;
  if (found || found.error().code != base::Code::kCorrupt) return found;
  LeaveDamaged(*segment, found.error());
  return std::nullopt;
}

void SegmentStore::LeaveDamaged(Segment& segment, const base::Error& error) {
  segment.damaged = true;
  damage_.OnDamage(segment.number, std::nullopt, error);
}

// By the records' numbers; what compaction took of them counts as if it were there.
base::Result<bool> SegmentStore::MoreIsTrimmed(Segment& segment, Segment& next,
                                               base::TimePoint now) {
  if (now < segment.sort_after) return false;
  segment.sort_after = now + kTrimmedInterval;
  HF_ASSIGN_OR_RETURN(const auto file, OpenWithEnds(segment));
  HF_ASSIGN_OR_RETURN(const auto next_file, OpenWithEnds(next));
  HF_ASSIGN_OR_RETURN(const auto begin, file->BeginRead());
  HF_ASSIGN_OR_RETURN(const auto end, next_file->BeginRead());
  int64_t all = 0;
  int64_t trimmed = 0;
  for (uint32_t id = 0; id < next_file->header()->streams; ++id) {
    HF_ASSIGN_OR_RETURN(const StreamEnd before, file->EndAtBeginning(begin, StreamId(id)));
    HF_ASSIGN_OR_RETURN(const StreamEnd after, next_file->EndAtBeginning(end, StreamId(id)));
    all += after.end - before.end;
    trimmed += std::clamp<int64_t>(catalog_.Range(StreamId(id)).start - before.end, 0,
                                   after.end - before.end);
  }
  const double share = all == 0 ? 0 : static_cast<double>(trimmed) / static_cast<double>(all);
  if (share < kTrimmedShareMin || share < segment.sort_trimmed + kTrimmedStep) return false;
  segment.sort_trimmed = share;
  return true;
}

}  // namespace holdfast::spool
