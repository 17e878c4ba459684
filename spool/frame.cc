#include "spool/frame.h"

#include <cstring>

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
constexpr size_t kChecksum = 36;
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

uint32_t Checksum(std::string_view bytes, size_t covered) {
  const uint32_t crc = base::Crc32c(bytes.substr(0, kChecksum));
  return base::Crc32c(bytes.substr(kFrameHeaderBytes, covered - kFrameHeaderBytes), crc);
}

tl::unexpected<base::Error> Corrupt(const char* what) {
  return base::Unexpected(base::Code::kCorrupt, std::string("damaged frame: ") + what);
}

}  // namespace

uint64_t FrameDraft::EntryBytes() const {
  uint64_t bytes = 0;
  for (const DraftEntry& draft : entries) bytes += draft.entry.bytes.size();
  return bytes;
}

void EncodeFrame(const FrameDraft& draft, std::span<char> out) {
  const uint64_t entry_bytes = draft.EntryBytes();
  HF_CHECK(out.size() == draft.FrameBytes() && out.size() <= UINT32_MAX);
  char* const header = out.data();
  base::StoreLittle(header + kMagic, kFrameMagic);
  base::StoreLittle(header + kVersion, kFrameVersion);
  base::StoreLittle(header + kFlags, uint16_t{0});
  base::StoreLittle(header + kCommit, draft.commit.value());
  base::StoreLittle(header + kCommitTime, draft.commit_time_ms);
  base::StoreLittle(header + kEntryCount, static_cast<uint32_t>(draft.entries.size()));
  base::StoreLittle(header + kChangesBytes, static_cast<uint32_t>(draft.changes.size()));
  base::StoreLittle(header + kEntryBytes, static_cast<uint32_t>(entry_bytes));

  char* line = header + kFrameHeaderBytes;
  char* const changes = line + draft.entries.size() * kTableLineBytes;
  std::memcpy(changes, draft.changes.data(), draft.changes.size());
  char* const payload = changes + draft.changes.size();
  size_t position = 0;
  for (const DraftEntry& entry : draft.entries) {
    const std::string_view bytes = entry.entry.bytes;
    base::StoreLittle(line + kStream, entry.entry.stream.value());
    base::StoreLittle(line + kRecordCount, entry.entry.record_count);
    base::StoreLittle(line + kBaseOffset, entry.base_offset);
    base::StoreLittle(line + kMaxTimestamp, entry.entry.max_timestamp_ms);
    base::StoreLittle(line + kPosition, static_cast<uint32_t>(position));
    base::StoreLittle(line + kLength, static_cast<uint32_t>(bytes.size()));
    std::memcpy(line + kTag, entry.entry.tag.data(), sizeof(Tag));
    if (!bytes.empty()) std::memcpy(payload + position, bytes.data(), bytes.size());
    position += bytes.size();
    line += kTableLineBytes;
  }
  const std::string_view frame(out.data(), out.size());
  base::StoreLittle(header + kChecksum, Checksum(frame, static_cast<size_t>(payload - header)));
}

base::Result<FrameView> FrameView::Parse(std::string_view bytes) {
  if (bytes.size() < kFrameHeaderBytes) return Corrupt("shorter than a header");
  const char* const header = bytes.data();
  if (base::LoadLittle<uint32_t>(header + kMagic) != kFrameMagic) return Corrupt("no magic number");
  const FrameView frame(bytes, base::LoadLittle<uint32_t>(header + kEntryCount),
                        base::LoadLittle<uint32_t>(header + kChangesBytes));
  const uint64_t entry_bytes = base::LoadLittle<uint32_t>(header + kEntryBytes);
  if (frame.PayloadBegin() + entry_bytes != bytes.size()) return Corrupt("lengths do not add up");
  return frame;
}

base::Result<void> FrameView::Verify(CommitNumber expected) const {
  const char* const header = bytes_.data();
  if (base::LoadLittle<uint32_t>(header + kChecksum) != Checksum(bytes_, PayloadBegin()))
    return Corrupt("wrong checksum");
  // The segment's format version says which frames it holds, so these are damage, not novelty.
  if (base::LoadLittle<uint16_t>(header + kVersion) != kFrameVersion ||
      base::LoadLittle<uint16_t>(header + kFlags) != 0)
    return Corrupt("unknown version or flags");
  if (commit() != expected) return Corrupt("another commit's number");
  const uint64_t entry_bytes = bytes_.size() - PayloadBegin();
  for (uint32_t i = 0; i < entry_count_; ++i) {
    const uint64_t position = base::LoadLittle<uint32_t>(Line(i) + kPosition);
    if (position + base::LoadLittle<uint32_t>(Line(i) + kLength) > entry_bytes)
      return Corrupt("an entry lies outside");
  }
  return {};
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

EntryView FrameView::entry(uint32_t index) const {
  const auto position = base::LoadLittle<uint32_t>(Line(index) + kPosition);
  const EntryInfo entry_info = info(index);
  return {entry_info, bytes_.substr(PayloadBegin() + position, entry_info.bytes)};
}

std::string_view FrameView::changes() const {
  return bytes_.substr(PayloadBegin() - changes_bytes_, changes_bytes_);
}

}  // namespace holdfast::spool
