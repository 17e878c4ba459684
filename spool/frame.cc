#include "spool/frame.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"

namespace holdfast::spool {
namespace {

// Where the fields stand. Header:
constexpr size_t kMagic = 0;
constexpr size_t kVersion = 4;
constexpr size_t kFlags = 6;
constexpr size_t kCommit = 8;
constexpr size_t kCommitTime = 16;
constexpr size_t kEntryCount = 24;
constexpr size_t kChangesBytes = 28;
constexpr size_t kEntryBytes = 32;
constexpr size_t kPrevious = 36;
constexpr size_t kChecksum = 40;
static_assert(kChecksum + sizeof(uint32_t) == kFrameHeaderBytes);
// A line of the table of contents:
constexpr size_t kStream = 0;
constexpr size_t kRecordCount = 4;
constexpr size_t kBaseOffset = 8;
constexpr size_t kMaxTimestamp = 16;
constexpr size_t kPosition = 24;  // From the first entry's first byte.
constexpr size_t kLength = 28;
constexpr size_t kTag = 32;
static_assert(kTag + sizeof(Tag) == kTableLineBytes);

constexpr uint16_t kSealedFlag = 1;
constexpr uint16_t kWholeFlag = 2;  // The checksum covers the entries, too.
constexpr uint16_t kTableFlag = 4;  // There are no entries in it.
// A frame that lies among others in a page of LMDB's tree leaves copies behind, and parts of them.
// Of a larger one damage to an entry costs only that; its entries have a checksum of their own,
// behind the last one, that is looked at where a power cut may have torn it.
constexpr size_t kWholeBytesMax = size_t{16} << 10;
constexpr size_t kEntriesChecksumBytes = sizeof(uint32_t);
// Summing so few takes no longer than combining two checksums.
constexpr size_t kWorthCombiningBytes = 1024;
constexpr uint32_t kChangesPiece = UINT32_MAX;  // An entry's piece is its line's number.

// What an entry is bound to: the commit, and all that its line says.
using EntryContext = std::array<char, sizeof(uint64_t) + kTableLineBytes>;

EntryContext ContextOf(const char* header, const char* line) {
  EntryContext context;
  std::memcpy(context.data(), header + kCommit, sizeof(uint64_t));
  std::memcpy(context.data() + sizeof(uint64_t), line, kTableLineBytes);
  return context;
}

std::string_view View(const EntryContext& context) { return {context.data(), context.size()}; }

uint64_t StoredBytes(uint64_t bytes, bool sealed) { return bytes + (sealed ? kSealBytes : 0); }

// What a frame of so many bytes takes for the checksum of its entries.
uint64_t EntriesChecksumBytes(uint64_t frame_bytes, uint64_t entry_bytes) {
  return frame_bytes > kWholeBytesMax && entry_bytes != 0 ? kEntriesChecksumBytes : 0;
}

uint32_t Checksum(uint32_t seed, std::string_view bytes, size_t covered) {
  const uint32_t crc = base::Crc32c(bytes.substr(0, kChecksum), seed);
  return base::Crc32c(bytes.substr(kFrameHeaderBytes, covered - kFrameHeaderBytes), crc);
}

tl::unexpected<base::Error> Corrupt(const char* what) {
  return base::Unexpected(base::Code::kCorrupt, std::string("damaged frame: ") + what);
}

void StoreLine(const TableLine& line, char* out) {
  base::StoreLittle(out + kStream, line.info.stream.value());
  base::StoreLittle(out + kRecordCount, line.info.record_count);
  base::StoreLittle(out + kBaseOffset, line.info.base_offset);
  base::StoreLittle(out + kMaxTimestamp, line.info.max_timestamp_ms);
  base::StoreLittle(out + kPosition, line.position);
  base::StoreLittle(out + kLength, line.info.bytes);
  std::memcpy(out + kTag, line.info.tag.data(), sizeof(Tag));
}

// What frames with entries and tables have in common: all but the entries' bytes.
class FrameWriter {
 public:
  // `entry_bytes` as stored; none: it is a table. The lines of `draft` are not looked at.
  FrameWriter(const TableDraft& draft, size_t lines, std::optional<uint64_t> entry_bytes,
              std::span<char> out)
      : seed_(draft.seed), header_(out.data()), bytes_(out.data(), out.size()) {
    const bool sealed = draft.key != nullptr;
    const size_t changes_bytes =
        draft.changes.empty() ? 0 : StoredBytes(draft.changes.size(), sealed);
    whole_ = out.size() <= kWholeBytesMax;
    base::StoreLittle(header_ + kMagic, kFrameMagic);
    base::StoreLittle(header_ + kVersion, kFrameVersion);
    base::StoreLittle(header_ + kFlags,
                      static_cast<uint16_t>((sealed ? kSealedFlag : 0) | (whole_ ? kWholeFlag : 0) |
                                            (entry_bytes ? 0 : kTableFlag)));
    base::StoreLittle(header_ + kCommit, draft.commit.value());
    base::StoreLittle(header_ + kCommitTime, draft.commit_time_ms);
    base::StoreLittle(header_ + kEntryCount, static_cast<uint32_t>(lines));
    base::StoreLittle(header_ + kChangesBytes, static_cast<uint32_t>(changes_bytes));
    base::StoreLittle(header_ + kEntryBytes, static_cast<uint32_t>(entry_bytes.value_or(0)));
    base::StoreLittle(header_ + kPrevious, draft.previous);
    line_ = header_ + kFrameHeaderBytes;
    if (sealed) line_ = std::copy(draft.salt.begin(), draft.salt.end(), line_);
    char* const changes = line_ + lines * kTableLineBytes;
    payload_ = changes + changes_bytes;
    if (sealed && changes_bytes != 0) {
      draft.key->Seal(draft.salt, kChangesPiece, {header_ + kCommit, sizeof(uint64_t)},
                      draft.changes, {changes, changes_bytes});
    } else if (!draft.changes.empty()) {
      std::memcpy(changes, draft.changes.data(), draft.changes.size());
    }
  }

  // Returns where it stands.
  const char* AddLine(const TableLine& line) {
    StoreLine(line, line_);
    return std::exchange(line_, line_ + kTableLineBytes);
  }
  [[nodiscard]] char* payload() const { return payload_; }

  // Returns the checksum.
  uint32_t Finish() {
    const size_t covered = whole_ ? bytes_.size() : static_cast<size_t>(payload_ - header_);
    const uint32_t checksum = Checksum(seed_, bytes_, covered);
    base::StoreLittle(header_ + kChecksum, checksum);
    return checksum;
  }

 private:
  const uint32_t seed_;
  char* const header_;
  const std::string_view bytes_;
  bool whole_ = false;
  char* line_ = nullptr;
  char* payload_ = nullptr;
};

// Behind what has the checksum `crc`. `stored` are the entries' bytes in the frame.
uint32_t SumEntries(const FrameDraft& draft, std::string_view stored, uint32_t crc) {
  if (draft.key != nullptr) return base::Crc32c(stored, crc);
  for (const DraftEntry& draft_entry : draft.entries) {
    const NewEntry& entry = draft_entry.entry;
    std::string_view bytes = stored.substr(0, entry.bytes.size());
    stored.remove_prefix(bytes.size());
    if (entry.summed && bytes.size() >= entry.summed->begin + kWorthCombiningBytes) {
      const std::string_view summed = bytes.substr(entry.summed->begin);
      HF_DCHECK(base::Crc32c(summed) == entry.summed->crc);
      crc = base::Crc32c(bytes.substr(0, entry.summed->begin), crc);
      crc = base::Crc32cCombine(crc, entry.summed->crc, summed.size());
    } else {
      crc = base::Crc32c(bytes, crc);
    }
  }
  return crc;
}

}  // namespace

uint64_t FrameDraft::EntryBytes() const {
  uint64_t bytes = 0;
  for (const DraftEntry& draft : entries) bytes += draft.entry.bytes.size();
  return bytes;
}

uint64_t FrameBytes(uint64_t entries, uint64_t entry_bytes, uint64_t changes_bytes, bool sealed) {
  const uint64_t stored_bytes = entry_bytes + (sealed ? entries * kSealBytes : 0);
  uint64_t bytes = kFrameHeaderBytes + entries * kTableLineBytes + stored_bytes + changes_bytes;
  if (sealed) bytes += kSaltBytes + (changes_bytes != 0 ? kSealBytes : 0);
  return bytes + EntriesChecksumBytes(bytes, stored_bytes);
}

bool CoversEntries(uint64_t frame_bytes, bool sealed) {
  return sealed || frame_bytes <= kWholeBytesMax;
}

uint64_t FrameDraft::FrameBytes() const {
  return spool::FrameBytes(entries.size(), EntryBytes(), changes.size(), key != nullptr);
}

uint32_t EncodeFrame(const FrameDraft& draft, std::span<char> out) {
  const bool sealed = draft.key != nullptr;
  const uint64_t stored_bytes =
      draft.EntryBytes() + (sealed ? draft.entries.size() * kSealBytes : 0);
  HF_CHECK(out.size() == draft.FrameBytes() && out.size() <= UINT32_MAX);
  const uint64_t entry_bytes = stored_bytes + EntriesChecksumBytes(out.size(), stored_bytes);
  const Salt salt = sealed ? NewSalt() : Salt{};
  FrameWriter frame({.seed = draft.seed,
                     .previous = draft.previous,
                     .commit = draft.commit,
                     .commit_time_ms = draft.commit_time_ms,
                     .changes = draft.changes,
                     .key = draft.key,
                     .salt = salt},
                    draft.entries.size(), entry_bytes, out);
  char* const payload = frame.payload();
  size_t position = 0;
  uint32_t number = 0;
  for (const DraftEntry& entry : draft.entries) {
    const std::string_view bytes = entry.entry.bytes;
    const char* const line =
        frame.AddLine({.info = {.stream = entry.entry.stream,
                                .base_offset = entry.base_offset,
                                .record_count = entry.entry.record_count,
                                .bytes = static_cast<uint32_t>(bytes.size()),
                                .max_timestamp_ms = entry.entry.max_timestamp_ms,
                                .tag = entry.entry.tag},
                       .position = static_cast<uint32_t>(position)});
    if (sealed) {
      draft.key->Seal(salt, number++, View(ContextOf(out.data(), line)), bytes,
                      {payload + position, bytes.size() + kSealBytes});
    } else if (!bytes.empty()) {
      std::memcpy(payload + position, bytes.data(), bytes.size());
    }
    position += StoredBytes(bytes.size(), sealed);
  }
  const uint32_t checksum = frame.Finish();
  if (entry_bytes != stored_bytes)
    base::StoreLittle(payload + position, SumEntries(draft, {payload, position}, checksum));
  return checksum;
}

uint64_t TableDraft::TableBytes() const {
  const uint64_t bytes = kFrameHeaderBytes + lines.size() * kTableLineBytes + changes.size();
  if (key == nullptr) return bytes;
  return bytes + kSaltBytes + (changes.empty() ? 0 : kSealBytes);
}

uint32_t EncodeTable(const TableDraft& draft, std::span<char> out) {
  HF_CHECK(out.size() == draft.TableBytes() && out.size() <= UINT32_MAX);
  FrameWriter frame(draft, draft.lines.size(), std::nullopt, out);
  for (const TableLine& line : draft.lines) frame.AddLine(line);
  return frame.Finish();
}

void SealEntry(SegmentKey& key, const Salt& salt, uint32_t number, const TableLine& line,
               std::string_view bytes, std::string* out) {
  EntryContext context;
  base::StoreLittle(context.data(), line.info.commit.value());
  StoreLine(line, context.data() + sizeof(uint64_t));
  const size_t begin = out->size();
  out->resize(begin + bytes.size() + kSealBytes);
  key.Seal(salt, number, View(context), bytes, std::span(*out).subspan(begin));
}

base::Result<FrameView> FrameView::Parse(std::string_view bytes) {
  if (bytes.size() < kFrameHeaderBytes) return Corrupt("shorter than a header");
  const char* const header = bytes.data();
  if (base::LoadLittle<uint32_t>(header + kMagic) != kFrameMagic) return Corrupt("no magic number");
  const auto flags = base::LoadLittle<uint16_t>(header + kFlags);
  FrameView frame(bytes, base::LoadLittle<uint32_t>(header + kEntryCount),
                  base::LoadLittle<uint32_t>(header + kChangesBytes), (flags & kSealedFlag) != 0,
                  (flags & kTableFlag) != 0);
  const uint64_t size = frame.PayloadBegin() + base::LoadLittle<uint32_t>(header + kEntryBytes);
  if (size > bytes.size()) return Corrupt("longer than its place");
  frame.bytes_ = bytes.substr(0, size);
  return frame;
}

base::Result<void> FrameView::Verify(uint32_t seed, CommitNumber expected) const {
  const char* const header = bytes_.data();
  const auto flags = base::LoadLittle<uint16_t>(header + kFlags);
  const size_t covered = (flags & kWholeFlag) != 0 ? bytes_.size() : PayloadBegin();
  if (base::LoadLittle<uint32_t>(header + kChecksum) != Checksum(seed, bytes_, covered))
    return Corrupt("wrong checksum");
  // The segment's format version says which frames it holds, so these are damage, not novelty.
  if (base::LoadLittle<uint16_t>(header + kVersion) != kFrameVersion ||
      (flags & ~(kSealedFlag | kWholeFlag | kTableFlag)) != 0)
    return Corrupt("unknown version or flags");
  if (commit() != expected) return Corrupt("another commit's number");
  if (table_) return {};
  const uint64_t entry_bytes = bytes_.size() - PayloadBegin();
  for (uint32_t i = 0; i < entry_count_; ++i) {
    const uint64_t position = base::LoadLittle<uint32_t>(Line(i) + kPosition);
    if (position + StoredBytes(base::LoadLittle<uint32_t>(Line(i) + kLength), sealed_) >
        entry_bytes)
      return Corrupt("an entry lies outside");
  }
  return {};
}

base::Result<void> FrameView::VerifyEntries() const {
  uint64_t stored = 0;
  for (uint32_t line = 0; !table_ && line < entry_count_; ++line) stored += stored_bytes(line);
  const std::string_view payload = bytes_.substr(PayloadBegin());
  if (payload.size() != stored + kEntriesChecksumBytes) return {};
  if (base::LoadLittle<uint32_t>(payload.data() + stored) !=
      base::Crc32c(payload.substr(0, stored), checksum()))
    return Corrupt("wrong checksum of the entries");
  return {};
}

bool FrameView::covers_entries() const {
  const auto flags = base::LoadLittle<uint16_t>(bytes_.data() + kFlags);
  return sealed_ || (!table_ && (flags & kWholeFlag) != 0);
}

CommitNumber FrameView::commit() const {
  return CommitNumber(base::LoadLittle<uint64_t>(bytes_.data() + kCommit));
}

int64_t FrameView::commit_time_ms() const {
  return base::LoadLittle<int64_t>(bytes_.data() + kCommitTime);
}

EntryInfo FrameView::info(uint32_t index) const {
  HF_DCHECK(index < entry_count_);
  const char* const line = Line(index);
  EntryInfo info;
  info.stream = StreamId(base::LoadLittle<uint32_t>(line + kStream));
  info.base_offset = base::LoadLittle<int64_t>(line + kBaseOffset);
  info.record_count = base::LoadLittle<uint32_t>(line + kRecordCount);
  info.bytes = base::LoadLittle<uint32_t>(line + kLength);
  info.max_timestamp_ms = base::LoadLittle<int64_t>(line + kMaxTimestamp);
  std::memcpy(info.tag.data(), line + kTag, sizeof(Tag));
  info.commit = commit();
  info.commit_time_ms = commit_time_ms();
  return info;
}

base::Result<EntryView> FrameView::entry(uint32_t index, const SegmentKey* key,
                                         std::string* plain) const {
  HF_DCHECK(!table_);
  return entry(index, bytes_.substr(PayloadBegin() + position(index), stored_bytes(index)), key,
               plain);
}

uint32_t FrameView::position(uint32_t index) const {
  return base::LoadLittle<uint32_t>(Line(index) + kPosition);
}

size_t FrameView::stored_bytes(uint32_t index) const {
  return StoredBytes(base::LoadLittle<uint32_t>(Line(index) + kLength), sealed_);
}

base::Result<EntryView> FrameView::entry(uint32_t index, std::string_view stored,
                                         const SegmentKey* key, std::string* plain) const {
  const EntryInfo entry_info = info(index);
  if (!sealed_) return EntryView{entry_info, stored};
  const EntryContext context = ContextOf(bytes_.data(), Line(index));
  HF_RETURN_IF_ERROR(OpenSealed(key, index, View(context), stored, plain));
  return EntryView{entry_info, *plain};
}

uint32_t FrameView::checksum() const {
  return base::LoadLittle<uint32_t>(bytes_.data() + kChecksum);
}

uint32_t FrameView::previous() const {
  return base::LoadLittle<uint32_t>(bytes_.data() + kPrevious);
}

base::Result<std::string_view> FrameView::changes(const SegmentKey* key, std::string* plain) const {
  const std::string_view stored = bytes_.substr(PayloadBegin() - changes_bytes_, changes_bytes_);
  if (!sealed_ || stored.empty()) return stored;
  HF_RETURN_IF_ERROR(
      OpenSealed(key, kChangesPiece, bytes_.substr(kCommit, sizeof(uint64_t)), stored, plain));
  return std::string_view(*plain);
}

base::Result<void> FrameView::OpenSealed(const SegmentKey* key, uint32_t piece,
                                         std::string_view context, std::string_view sealed,
                                         std::string* plain) const {
  if (key == nullptr)
    return base::Unexpected(base::Code::kInvalid, "a sealed frame in a segment without a key");
  Salt salt;
  std::copy_n(bytes_.data() + kFrameHeaderBytes, salt.size(), salt.begin());
  return key->Open(salt, piece, context, sealed, plain);
}

}  // namespace holdfast::spool
