// The reading half of SegmentFile: from LMDB, or from what was salvaged of a damaged file.
#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <utility>

#include "base/endian.h"
#include "spool/segment_file.h"

namespace holdfast::spool {
namespace {

// LMDB gives a large value pages of its own, and it begins behind the first one's header.
constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kPageHeaderBytes = 16;
constexpr size_t kSoundBytesMin = 1024;
constexpr size_t kSoundPerSet = 1024;

base::Result<std::string_view> OpenPiece(const SegmentKey& key, const Origin& origin,
                                         uint32_t piece, std::string_view sealed,
                                         std::string* plain) {
  Salt salt{};
  if (sealed.size() < salt.size())
    return base::Unexpected(base::Code::kCorrupt, "a piece of the checkpoint is too short");
  std::copy_n(sealed.begin(), salt.size(), salt.begin());
  HF_RETURN_IF_ERROR(
      key.Open(salt, piece, std::to_string(origin.segment), sealed.substr(salt.size()), plain));
  return std::string_view(*plain);
}

}  // namespace

std::string_view SegmentFile::WholePages(std::string_view value) {
  if (reinterpret_cast<uintptr_t>(value.data()) % kBlockBytes != kPageHeaderBytes) return value;
  const uint64_t pages = (kPageHeaderBytes + value.size() + kBlockBytes - 1) / kBlockBytes;
  return {value.data(), pages * kBlockBytes - kPageHeaderBytes};
}

base::Result<std::string_view> SegmentFile::FindPiece(const lmdb::ReadTransaction& transaction,
                                                      uint32_t index) const {
  const base::Error lost{base::Code::kCorrupt,
                         "piece " + std::to_string(index) + " of the checkpoint is lost"};
  if (salvage_) {
    const auto found = salvage_->pieces().find(index);
    if (found == salvage_->pieces().end()) return base::Unexpected(Within(lost));
    return found->second;
  }
  for (const uint64_t key : {uint64_t{index}, uint64_t{index} + header_->state_pieces}) {
    HF_ASSIGN_OR_RETURN(const auto value, transaction.Get(state_, lmdb::IntegerKey(key).view()));
    if (!value) continue;
    const base::Result<Piece> piece = DecodePiece(origin_, WholePages(*value));
    if (piece && piece->index == index) return piece->changes;
    Report(std::nullopt, {base::Code::kCorrupt, "a copy of the checkpoint is damaged"});
  }
  return base::Unexpected(Within(lost));
}

base::Result<void> SegmentFile::ReadCheckpoint(const ChangeVisitor& visit, Pieces wanted) {
  HF_ASSIGN_OR_RETURN(const auto transaction, BeginRead());
  std::vector<std::pair<uint32_t, std::string_view>> pieces;
  for (uint32_t i = 0; i < header_->state_pieces; ++i) {
    const base::Result<std::string_view> piece = FindPiece(transaction, i);
    if (piece) {
      pieces.emplace_back(i, *piece);
    } else if (wanted == Pieces::kAll || piece.error().code != base::Code::kCorrupt) {
      return base::Unexpected(piece.error());
    }
  }
  for (const auto& [index, stored] : pieces) {
    base::Result<std::string_view> changes = stored;
    std::string plain;
    if (key_) changes = OpenPiece(*key_, origin_, index, stored, &plain);
    if (!changes) return base::Unexpected(Within(changes.error()));
    ChangeReader reader(*changes);
    Change change;
    while (reader.Next(&change)) HF_RETURN_IF_ERROR(visit(change));
    if (!reader.AtEnd())
      return base::Unexpected(
          Within({base::Code::kCorrupt, "the checkpoint holds what is not a change of state"}));
  }
  return {};
}

base::Result<void> SegmentFile::WalkFrames(CommitNumber end, const FrameVisitor& visit,
                                           const DamageVisitor& damaged) {
  HF_ASSIGN_OR_RETURN(const auto transaction, BeginRead());
  // Of damage at the end only the one who knows the next segment can tell.
  if (!salvage_ || end == kAllCommits) {
    HF_ASSIGN_OR_RETURN(const CommitNumber last, LastCommit(transaction));
    end = std::min(end, last.next());
  }
  const uint64_t first = header_->first_commit.value();
  for (uint64_t commit = first; commit < end.value(); ++commit) {
    const auto frame = Frame(transaction, static_cast<uint32_t>(commit - first));
    if (!frame) {
      damaged(CommitNumber(commit), frame.error());
    } else {
      HF_RETURN_IF_ERROR(visit(*frame));
    }
  }
  return {};
}

base::Result<lmdb::ReadTransaction> SegmentFile::BeginRead() const {
  if (salvage_) return lmdb::ReadTransaction::OfNothing();
  return lmdb::ReadTransaction::Begin(*environment_);
}

base::Result<CommitNumber> SegmentFile::LastCommit(const lmdb::ReadTransaction& transaction) const {
  const CommitNumber none(header_->first_commit.value() - 1);
  if (salvage_) return salvage_->last().value_or(none);
  HF_ASSIGN_OR_RETURN(auto cursor, lmdb::Cursor::Open(transaction, frames_));
  HF_ASSIGN_OR_RETURN(const bool any, cursor.Last());
  if (!any) return none;
  return CommitNumber(base::LoadLittle<uint64_t>(cursor.key().data()));
}

base::Result<StreamEnd> SegmentFile::EndAtBeginning(const lmdb::ReadTransaction& transaction,
                                                    StreamId stream) {
  if (salvage_) return RebuiltEnd(stream);
  if (stream.value() >= header_->streams) return StreamEnd{};
  const uint64_t block = stream.value() / kEndsPerBlock;
  HF_ASSIGN_OR_RETURN(const auto bytes, transaction.Get(ends_, lmdb::IntegerKey(block).view()));
  if (bytes) {
    const auto end = DecodeEnd(origin_, block, *bytes, stream.value() % kEndsPerBlock);
    if (end) return end;
    Report(std::nullopt, end.error());
  }
  return RebuiltEnd(stream);
}

// From the checkpoint, which has them too.
base::Result<StreamEnd> SegmentFile::RebuiltEnd(StreamId stream) {
  {
    const base::MutexLock lock(mutex_);
    if (ends_known_)
      return stream.value() < rebuilt_ends_.size() ? rebuilt_ends_[stream.value()] : StreamEnd{};
  }
  std::vector<StreamEnd> ends;
  HF_RETURN_IF_ERROR(ReadCheckpoint(
      [&](const Change& change) -> base::Result<void> {
        if (change.kind != ChangeKind::kStream) return {};
        if (ends.size() <= change.stream.value()) ends.resize(change.stream.value() + size_t{1});
        ends[change.stream.value()] = {change.end, change.max_timestamp_ms};
        return {};
      },
      Pieces::kAll));
  {
    const base::MutexLock lock(mutex_);
    rebuilt_ends_ = std::move(ends);
    ends_known_ = true;
  }
  return RebuiltEnd(stream);
}

base::Result<void> SegmentFile::FindPlaces(const lmdb::ReadTransaction& transaction,
                                           StreamId stream, int64_t from, size_t limit,
                                           CommitNumber end, std::vector<Place>* out) {
  if (sealed_ && !index_damaged_) {
    const auto found = FindSealedPlaces(transaction, stream, from, limit, out);
    if (found || found.error().code != base::Code::kCorrupt) return found;
    Report(std::nullopt, found.error());
    index_damaged_ = true;
  }
  HF_ASSIGN_OR_RETURN(const auto index, RebuiltIndex(end));
  index->Find(stream, from, limit, out);
  return {};
}

// Adds nothing to `out` if it fails. A block whose key is damaged still stands where it belongs, so
// the neighbours of what is found are checked as well.
base::Result<void> SegmentFile::FindSealedPlaces(const lmdb::ReadTransaction& transaction,
                                                 StreamId stream, int64_t from, size_t limit,
                                                 std::vector<Place>* out) const {
  HF_ASSIGN_OR_RETURN(auto cursor, lmdb::Cursor::Open(transaction, streams_));
  std::vector<Place> places;
  // The block before the first one that begins behind `from`, if it is of this stream.
  HF_ASSIGN_OR_RETURN(bool more, cursor.SeekAtOrAfter(BlockKey(stream, from + 1)));
  HF_ASSIGN_OR_RETURN(const bool before, more ? cursor.Previous() : cursor.Last());
  if (before) {
    HF_RETURN_IF_ERROR(ReadBlock(cursor, stream, &places));
    HF_ASSIGN_OR_RETURN(more, cursor.Next());
  } else {
    HF_ASSIGN_OR_RETURN(more, cursor.First());
  }
  const size_t wanted = limit + kPlacesPerBlock;  // The first block may begin long before `from`.
  while (more && places.size() < wanted) {
    HF_ASSIGN_OR_RETURN(const bool same, ReadBlock(cursor, stream, &places));
    if (!same) break;
    HF_ASSIGN_OR_RETURN(more, cursor.Next());
  }
  auto first =
      std::upper_bound(places.begin(), places.end(), from,
                       [](int64_t offset, const Place& p) { return offset < p.base_offset; });
  if (first != places.begin()) --first;
  const size_t count = std::min(limit, static_cast<size_t>(places.end() - first));
  out->insert(out->end(), first, first + static_cast<ptrdiff_t>(count));
  return {};
}

// Says whether the block is of the stream; then its places are added. kCorrupt if it is damaged.
base::Result<bool> SegmentFile::ReadBlock(const lmdb::Cursor& cursor, StreamId stream,
                                          std::vector<Place>* places) const {
  StreamId found;
  int64_t base_offset = 0;
  if (!ParseBlockKey(cursor.key(), &found, &base_offset))
    return base::Unexpected(Within({base::Code::kCorrupt, "damaged index block"}));
  std::vector<Place> others;
  if (auto result = UnpackBlock(seed_, found, base_offset, cursor.value(),
                                found == stream ? places : &others);
      !result)
    return base::Unexpected(Within(result.error()));
  return found == stream;
}

base::Result<std::shared_ptr<const MemoryIndex>> SegmentFile::RebuiltIndex(CommitNumber end) {
  {
    const base::MutexLock lock(mutex_);
    if (rebuilt_) return rebuilt_;
  }
  const auto index = std::make_shared<MemoryIndex>();
  std::unordered_map<StreamId, int64_t> ends;
  const auto add = [&](const FrameView& frame) -> base::Result<void> {
    const uint64_t number = frame.commit().value() - header_->first_commit.value();
    for (uint32_t line = 0; line < frame.entry_count(); ++line) {
      const EntryInfo info = frame.info(line);
      int64_t& stream_end = ends[info.stream];
      if (info.base_offset < stream_end) continue;  // Salvaged, and does not fit.
      stream_end = info.end_offset();
      index->Add(info.stream,
                 {info.base_offset, info.max_timestamp_ms, static_cast<uint32_t>(number), line});
    }
    return {};
  };
  HF_RETURN_IF_ERROR(WalkFrames(end, add, [](CommitNumber, const base::Error&) {}));
  const base::MutexLock lock(mutex_);
  if (!rebuilt_) rebuilt_ = index;
  return rebuilt_;
}

base::Result<FrameView> SegmentFile::Frame(const lmdb::ReadTransaction& transaction,
                                           uint32_t frame) {
  const CommitNumber commit(header_->first_commit.value() + frame);
  base::Result<FrameView> view = ParseFrame(transaction, commit);
  if (view) {
    {
      const base::MutexLock lock(mutex_);
      if (frame < verified_.size() && verified_[frame]) return view;
    }
    if (const auto verified = view->Verify(seed_, commit); !verified)
      view = base::Unexpected(verified.error());
  }
  if (!view) {
    base::Error error =
        Within(std::move(view).error().Within("commit " + std::to_string(commit.value())));
    if (error.code == base::Code::kCorrupt) Report(commit, error);
    return base::Unexpected(std::move(error));
  }
  const base::MutexLock lock(mutex_);
  if (verified_.size() <= frame) verified_.resize(size_t{frame} + 1);
  verified_[frame] = true;
  return view;
}

base::Result<FrameView> SegmentFile::ParseFrame(const lmdb::ReadTransaction& transaction,
                                                CommitNumber commit) const {
  std::optional<std::string_view> bytes;
  if (salvage_) {
    if (salvage_->LostBefore(commit))
      return base::Unexpected(base::Code::kNotFound, "missing frame");
    const auto found = salvage_->frames().find(commit);
    if (found == salvage_->frames().end())
      return base::Unexpected(base::Code::kCorrupt, "the frame is lost");
    bytes = found->second;
  } else {
    HF_ASSIGN_OR_RETURN(bytes, transaction.Get(frames_, lmdb::IntegerKey(commit.value()).view()));
    // The frame knows its length; LMDB's note of it may be damaged.
    if (bytes && !bytes->empty()) bytes = WholePages(*bytes);
  }
  if (!bytes || bytes->empty()) return base::Unexpected(base::Code::kNotFound, "missing frame");
  return FrameView::Parse(*bytes);
}

base::Result<EntryView> SegmentFile::Entry(const lmdb::ReadTransaction& transaction,
                                           const FrameView& frame, uint32_t line,
                                           std::string* plain) const {
  if (!frame.table()) return frame.entry(line, key(), plain);
  const EntryInfo info = frame.info(line);
  if (info.bytes == 0) return EntryView{info, {}};  // Of those nothing is stored.
  const auto stored = FindInRun(transaction, frame.position(line), frame.stored_bytes(line));
  if (!stored)
    return base::Unexpected(Within(
        base::Error(stored.error()).Within("commit " + std::to_string(frame.commit().value()))));
  return frame.entry(line, *stored, key(), plain);
}

bool SegmentFile::KnownSound(uint32_t frame, std::string_view bytes) {
  if (frame >= written_from_) return true;
  if (bytes.size() < kSoundBytesMin) return false;
  const uintptr_t at = reinterpret_cast<uintptr_t>(bytes.data()) / kSoundBytesMin;
  const base::MutexLock lock(mutex_);
  const auto found = sound_.find(at / kSoundPerSet);
  return found != sound_.end() && found->second[at % kSoundPerSet];
}

void SegmentFile::NoteSound(std::string_view bytes) {
  if (bytes.size() < kSoundBytesMin) return;  // Two might begin in one place.
  const uintptr_t at = reinterpret_cast<uintptr_t>(bytes.data()) / kSoundBytesMin;
  const base::MutexLock lock(mutex_);
  sound_[at / kSoundPerSet].set(at % kSoundPerSet);
}

// It is the last run that begins early enough.
base::Result<std::string_view> SegmentFile::FindInRun(const lmdb::ReadTransaction& transaction,
                                                      uint32_t position, size_t bytes) const {
  const base::Error lost{base::Code::kCorrupt, "a run is lost"};
  if (salvage_) {
    const auto next = salvage_->runs().upper_bound(position);
    if (next == salvage_->runs().begin()) return base::Unexpected(lost);
    return std::prev(next)->second.At(position, bytes);
  }
  if (!runs_) return base::Unexpected(lost);
  HF_ASSIGN_OR_RETURN(auto cursor, lmdb::Cursor::Open(transaction, *runs_));
  const lmdb::IntegerKey key(position);
  HF_ASSIGN_OR_RETURN(bool found, cursor.SeekAtOrAfter(key.view()));
  if (!found) {
    HF_ASSIGN_OR_RETURN(found, cursor.Last());
  } else if (cursor.key() != key.view()) {
    HF_ASSIGN_OR_RETURN(found, cursor.Previous());
  }
  if (!found) return base::Unexpected(lost);
  HF_ASSIGN_OR_RETURN(const Run run, DecodeRun(seed_, WholePages(cursor.value())));
  return run.At(position, bytes);
}

base::Error SegmentFile::Within(base::Error error) const { return std::move(error).Within(path_); }

void SegmentFile::Report(std::optional<CommitNumber> frame, const base::Error& error) const {
  if (observer_ != nullptr) observer_->OnDamage(origin_.segment, frame, error);
}

}  // namespace holdfast::spool
