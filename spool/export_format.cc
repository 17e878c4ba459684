#include "spool/export_format.h"

#include <algorithm>
#include <span>

#include "base/crc32c.h"

namespace holdfast::spool {
namespace {

constexpr std::string_view kMagic = "HFEXPORT";
constexpr uint32_t kVersion = 1;
constexpr size_t kSectionHeaderBytes = 12;  // Kind and length.
constexpr size_t kChecksumBytes = 4;
constexpr uint64_t kSectionBytesMax = uint64_t{4} << 30;  // As a frame.
constexpr size_t kReadAtOnce = size_t{1} << 20;

}  // namespace

base::Result<void> SectionWriter::Begin() {
  std::string bytes(kMagic);
  AppendInteger(kVersion, &bytes);
  return Put(bytes);
}

base::Result<void> SectionWriter::Add(Section section, std::string_view payload) {
  std::string header;
  AppendInteger(static_cast<uint32_t>(section), &header);
  AppendInteger(static_cast<uint64_t>(payload.size()), &header);
  std::string checksum;
  AppendInteger(base::Crc32c(payload, base::Crc32c(header)), &checksum);
  HF_RETURN_IF_ERROR(Put(header));
  HF_RETURN_IF_ERROR(Put(payload));
  return Put(checksum);
}

base::Result<void> SectionWriter::Put(std::string_view bytes) {
  bytes_ += bytes.size();
  return write_(bytes);
}

base::Result<void> SectionReader::Begin() {
  HF_ASSIGN_OR_RETURN(const std::string_view magic, Take(kMagic.size() + sizeof(uint32_t)));
  if (!magic.starts_with(kMagic))
    return base::Unexpected(base::Code::kInvalid, "this is not an exported spool");
  const auto version = base::LoadLittle<uint32_t>(magic.data() + kMagic.size());
  if (version != kVersion)
    return base::Unexpected(base::Code::kInvalid,
                            "the export has version " + std::to_string(version) +
                                ", this program knows " + std::to_string(kVersion) +
                                "; use the Holdfast that wrote it, or a newer one");
  return {};
}

base::Result<std::pair<Section, std::string_view>> SectionReader::Next() {
  HF_ASSIGN_OR_RETURN(const std::string_view header, Take(kSectionHeaderBytes));
  const auto section = static_cast<Section>(base::LoadLittle<uint32_t>(header.data()));
  const auto length = base::LoadLittle<uint64_t>(header.data() + sizeof(uint32_t));
  const uint32_t crc = base::Crc32c(header);
  if (length > kSectionBytesMax)
    return DamagedExport("a section claims " + std::to_string(length) + " bytes, at byte " +
                         std::to_string(bytes_));
  HF_ASSIGN_OR_RETURN(const std::string_view body,
                      Take(static_cast<size_t>(length) + kChecksumBytes));
  const std::string_view payload = body.substr(0, static_cast<size_t>(length));
  if (base::Crc32c(payload, crc) != base::LoadLittle<uint32_t>(body.data() + length))
    return DamagedExport("wrong checksum before byte " + std::to_string(bytes_));
  return std::pair(section, payload);
}

// Grows as bytes come, whatever was claimed.
base::Result<std::string_view> SectionReader::Take(size_t size) {
  size_t have = 0;
  while (have < size) {
    const size_t want = std::min(size - have, kReadAtOnce);
    if (buffer_.size() < have + want) buffer_.resize(have + want);
    HF_ASSIGN_OR_RETURN(const size_t got, read_(std::span(buffer_.data() + have, want)));
    if (got == 0) return DamagedExport("it ends early, after " + std::to_string(bytes_) + " bytes");
    have += got;
    bytes_ += got;
  }
  return std::string_view(buffer_.data(), size);
}

std::string ExportedSegment::Encode() const {
  std::string out;
  AppendInteger(number, &out);
  AppendInteger(first_commit.value(), &out);
  AppendInteger(end_commit.value(), &out);
  AppendInteger(bytes, &out);
  AppendInteger(static_cast<uint8_t>(open), &out);
  AppendInteger(plan.frames, &out);
  AppendInteger(plan.frame_bytes, &out);
  return out;
}

base::Result<ExportedSegment> ExportedSegment::Parse(std::string_view payload) {
  ExportedSegment head;
  SectionFields fields(payload);
  head.number = fields.Integer<uint64_t>();
  head.first_commit = CommitNumber(fields.Integer<uint64_t>());
  head.end_commit = CommitNumber(fields.Integer<uint64_t>());
  head.bytes = fields.Integer<uint64_t>();
  head.open = fields.Integer<uint8_t>() != 0;
  head.plan.frames = fields.Integer<uint64_t>();
  head.plan.frame_bytes = fields.Integer<uint64_t>();
  if (!fields.ok() || head.first_commit > head.end_commit)
    return DamagedExport("a segment's head makes no sense");
  return head;
}

std::string EncodeEnd(const TransferReport& report) {
  std::string out;
  AppendInteger(report.segments, &out);
  AppendInteger(report.commits, &out);
  AppendInteger(report.entries, &out);
  AppendInteger(report.entry_bytes, &out);
  return out;
}

std::string CheckpointContext(uint64_t segment) { return "export " + std::to_string(segment); }

tl::unexpected<base::Error> DamagedExport(const std::string& what) {
  return base::Unexpected(base::Code::kCorrupt, "the export is damaged: " + what);
}

}  // namespace holdfast::spool
