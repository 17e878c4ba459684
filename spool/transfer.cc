#include "spool/transfer.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/endian.h"
#include "spool/directory.h"
#include "spool/offline.h"
#include "spool/segment_builder.h"

namespace holdfast::spool {
namespace {

constexpr std::string_view kMagic = "HFEXPORT";
constexpr uint32_t kVersion = 1;
constexpr size_t kSectionHeaderBytes = 12;  // Kind and length.
constexpr size_t kChecksumBytes = 4;
constexpr uint64_t kSectionBytesMax = uint64_t{4} << 30;  // As a frame.
constexpr size_t kReadAtOnce = size_t{1} << 20;
constexpr size_t kPieceBytes = size_t{256} << 10;

enum class Section : uint32_t {
  kSpool = 1,
  kSegment = 2,
  kKey = 3,
  kCheckpoint = 4,
  kFrame = 5,
  kEnd = 6,
};

// A checkpoint piece of an encrypted segment is bound to its segment.
std::string PieceContext(uint64_t segment) { return "export " + std::to_string(segment); }

class Writer {
 public:
  explicit Writer(const WriteBytes& write) : write_(write) {}

  base::Result<void> Begin() {
    std::string bytes(kMagic);
    AppendInteger(kVersion, &bytes);
    return Put(bytes);
  }
  base::Result<void> Add(Section section, std::string_view payload) {
    std::string header;
    AppendInteger(static_cast<uint32_t>(section), &header);
    AppendInteger(static_cast<uint64_t>(payload.size()), &header);
    std::string checksum;
    AppendInteger(base::Crc32c(payload, base::Crc32c(header)), &checksum);
    HF_RETURN_IF_ERROR(Put(header));
    HF_RETURN_IF_ERROR(Put(payload));
    return Put(checksum);
  }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

  template <std::integral T>
  static void AppendInteger(T value, std::string* out) {
    char bytes[sizeof(T)];
    base::StoreLittle(bytes, value);
    out->append(bytes, sizeof bytes);
  }

 private:
  base::Result<void> Put(std::string_view bytes) {
    bytes_ += bytes.size();
    return write_(bytes);
  }

  const WriteBytes& write_;
  uint64_t bytes_ = 0;
};

tl::unexpected<base::Error> Damaged(const std::string& what) {
  return base::Unexpected(base::Code::kCorrupt, "the export is damaged: " + what);
}

// Integers of a section, one after the other.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : rest_(bytes) {}
  template <std::integral T>
  T Integer() {
    if (rest_.size() < sizeof(T)) {
      ok_ = false;
      return T{};
    }
    const T value = base::LoadLittle<T>(rest_.data());
    rest_.remove_prefix(sizeof(T));
    return value;
  }
  std::string_view Bytes(size_t size) {
    ok_ = ok_ && size <= rest_.size();
    if (!ok_) return {};
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  [[nodiscard]] bool ok() const { return ok_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

class Reader {
 public:
  explicit Reader(const ReadBytes& read) : read_(read) {}

  base::Result<void> Begin() {
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
  // The payload is valid until the next call.
  base::Result<std::pair<Section, std::string_view>> Next() {
    HF_ASSIGN_OR_RETURN(const std::string_view header, Take(kSectionHeaderBytes));
    const auto section = static_cast<Section>(base::LoadLittle<uint32_t>(header.data()));
    const auto length = base::LoadLittle<uint64_t>(header.data() + sizeof(uint32_t));
    const uint32_t crc = base::Crc32c(header);
    if (length > kSectionBytesMax)
      return Damaged("a section claims " + std::to_string(length) + " bytes, at byte " +
                     std::to_string(bytes_));
    HF_ASSIGN_OR_RETURN(const std::string_view body,
                        Take(static_cast<size_t>(length) + kChecksumBytes));
    const std::string_view payload = body.substr(0, static_cast<size_t>(length));
    if (base::Crc32c(payload, crc) != base::LoadLittle<uint32_t>(body.data() + length))
      return Damaged("wrong checksum before byte " + std::to_string(bytes_));
    return std::pair(section, payload);
  }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  // Grows as bytes come, whatever was claimed.
  base::Result<std::string_view> Take(size_t size) {
    size_t have = 0;
    while (have < size) {
      const size_t want = std::min(size - have, kReadAtOnce);
      if (buffer_.size() < have + want) buffer_.resize(have + want);
      HF_ASSIGN_OR_RETURN(const size_t got, read_(std::span(buffer_.data() + have, want)));
      if (got == 0) return Damaged("it ends early, after " + std::to_string(bytes_) + " bytes");
      have += got;
      bytes_ += got;
    }
    return std::string_view(buffer_.data(), size);
  }

  const ReadBytes& read_;
  std::string buffer_;
  uint64_t bytes_ = 0;
};

struct SegmentHead {
  uint64_t number = 0;
  CommitNumber first_commit;
  CommitNumber end_commit;
  uint64_t bytes = 0;  // Of its file, where it came from.
  bool open = false;
  SegmentPlan plan;

  [[nodiscard]] std::string Encode() const {
    std::string out;
    Writer::AppendInteger(number, &out);
    Writer::AppendInteger(first_commit.value(), &out);
    Writer::AppendInteger(end_commit.value(), &out);
    Writer::AppendInteger(bytes, &out);
    Writer::AppendInteger(static_cast<uint8_t>(open), &out);
    Writer::AppendInteger(plan.frames, &out);
    Writer::AppendInteger(plan.frame_bytes, &out);
    return out;
  }
  static base::Result<SegmentHead> Parse(std::string_view payload) {
    SegmentHead head;
    Fields fields(payload);
    head.number = fields.Integer<uint64_t>();
    head.first_commit = CommitNumber(fields.Integer<uint64_t>());
    head.end_commit = CommitNumber(fields.Integer<uint64_t>());
    head.bytes = fields.Integer<uint64_t>();
    head.open = fields.Integer<uint8_t>() != 0;
    head.plan.frames = fields.Integer<uint64_t>();
    head.plan.frame_bytes = fields.Integer<uint64_t>();
    if (!fields.ok() || head.first_commit > head.end_commit)
      return Damaged("a segment's head makes no sense");
    return head;
  }
};

std::string EncodeEnd(const TransferReport& report) {
  std::string out;
  Writer::AppendInteger(report.segments, &out);
  Writer::AppendInteger(report.commits, &out);
  Writer::AppendInteger(report.entries, &out);
  Writer::AppendInteger(report.entry_bytes, &out);
  return out;
}

class Exporter {
 public:
  Exporter(const OfflineView& view, const ExportOptions& options, const WriteBytes& write)
      : view_(view), options_(options), writer_(write) {}

  base::Result<void> WriteAllButTheEnd(const Directory& directory) {
    HF_RETURN_IF_ERROR(writer_.Begin());
    std::string spool;
    Writer::AppendInteger(kFormatVersion, &spool);
    spool.append(directory.id().data(), directory.id().size());
    Writer::AppendInteger(options_.time_ms, &spool);
    HF_RETURN_IF_ERROR(writer_.Add(Section::kSpool, spool));
    for (const OfflineView::SegmentInfo& segment : view_.segments()) {
      HF_RETURN_IF_ERROR(WriteSegment(directory, segment));
      done_ += segment.disk_bytes;
    }
    return {};
  }
  base::Result<void> WriteEnd() { return writer_.Add(Section::kEnd, EncodeEnd(report_)); }
  [[nodiscard]] TransferReport report() const {
    TransferReport report = report_;
    report.bytes = writer_.bytes();
    return report;
  }

 private:
  base::Result<void> WriteSegment(const Directory& directory,
                                  const OfflineView::SegmentInfo& segment) {
    const std::string path = directory.SegmentPath(segment.number);
    HF_ASSIGN_OR_RETURN(const auto file,
                        SegmentFile::Open(path, {directory.id(), segment.number},
                                          lmdb::Access::kRead, options_.keys, nullptr));
    if (!file->header())
      return base::Unexpected(base::Code::kCorrupt, path + ": the segment has no header");
    SegmentHead head{.number = segment.number,
                     .first_commit = segment.first_commit,
                     .end_commit = segment.end_commit,
                     .bytes = segment.disk_bytes,
                     .open = segment.number == view_.segments().back().number,
                     .plan = {}};
    // What the owner keeps follows from all entries of the newest segment.
    const EntryFilter keep =
        head.open ? EntryFilter() : [this](const EntryInfo& info) { return view_.Needed(info); };
    HF_ASSIGN_OR_RETURN(head.plan, SegmentPlan::Make(*file, segment.end_commit, keep));
    if (!head.open && head.plan.kept_entries == 0) return {};
    HF_RETURN_IF_ERROR(writer_.Add(Section::kSegment, head.Encode()));
    std::shared_ptr<SegmentKey> key;
    if (file->key() != nullptr) {
      key = SegmentKey::Make(options_.keys);
      HF_RETURN_IF_ERROR(writer_.Add(Section::kKey, key->wrapped()));
    }
    HF_RETURN_IF_ERROR(WriteCheckpoint(*file, key.get()));
    ++report_.segments;
    std::string frame;
    return RewriteFrames(*file, segment.end_commit, keep, [&](FrameDraft draft) {
      draft.key = key.get();
      frame.resize(draft.FrameBytes());
      EncodeFrame(draft, frame);
      ++report_.commits;
      report_.entries += draft.entries.size();
      report_.entry_bytes += draft.EntryBytes();
      if (options_.progress)
        options_.progress(done_ + std::min(writer_.bytes(), segment.disk_bytes),
                          view_.disk_bytes());
      return writer_.Add(Section::kFrame, frame);
    });
  }

  base::Result<void> WriteCheckpoint(SegmentFile& file, SegmentKey* key) {
    HF_ASSIGN_OR_RETURN(const SegmentCheckpoint checkpoint, SegmentCheckpoint::Read(file));
    std::vector<std::string> pieces = checkpoint.state.Checkpoint(kPieceBytes);
    pieces.push_back(checkpoint.older_segments);
    for (uint32_t i = 0; i < pieces.size(); ++i) {
      if (key != nullptr) {
        const Salt salt = NewSalt();
        std::string sealed(salt.begin(), salt.end());
        sealed.resize(kSaltBytes + pieces[i].size() + kSealBytes);
        key->Seal(salt, i, PieceContext(checkpoint.header.origin.segment), pieces[i],
                  std::span(sealed).subspan(kSaltBytes));
        pieces[i] = std::move(sealed);
      }
      HF_RETURN_IF_ERROR(writer_.Add(Section::kCheckpoint, pieces[i]));
    }
    return {};
  }

  const OfflineView& view_;
  const ExportOptions& options_;
  Writer writer_;
  TransferReport report_;
  uint64_t done_ = 0;
};

class Importer {
 public:
  Importer(const Directory& directory, const ImportOptions& options, const ReadBytes& read)
      : directory_(directory), options_(options), reader_(read) {}

  // Everything up to the end is on the disk, and was checked, when it returns.
  base::Result<SpoolId> Run() {
    HF_RETURN_IF_ERROR(reader_.Begin());
    HF_ASSIGN_OR_RETURN(const auto first, reader_.Next());
    if (first.first != Section::kSpool) return Damaged("it does not begin with the spool's id");
    HF_ASSIGN_OR_RETURN(id_, ParseSpool(first.second));
    for (;;) {
      HF_ASSIGN_OR_RETURN(const auto section, reader_.Next());
      if (section.first == Section::kEnd) return Finish(section.second);
      HF_RETURN_IF_ERROR(Take(section.first, section.second));
      if (options_.progress) options_.progress(reader_.bytes(), 0);
    }
  }
  [[nodiscard]] TransferReport report() const {
    TransferReport report = report_;
    report.bytes = reader_.bytes();
    return report;
  }

 private:
  static base::Result<SpoolId> ParseSpool(std::string_view payload) {
    Fields fields(payload);
    const auto format = fields.Integer<uint32_t>();
    const std::string_view bytes = fields.Bytes(sizeof(SpoolId));
    fields.Integer<int64_t>();  // When it was exported.
    if (!fields.ok()) return Damaged("the spool's id is not whole");
    if (format > kFormatVersion)
      return base::Unexpected(base::Code::kInvalid,
                              "the exported spool has format " + std::to_string(format) +
                                  ", this program knows " + std::to_string(kFormatVersion) +
                                  "; use the Holdfast that wrote it, or a newer one");
    SpoolId id;
    std::memcpy(id.data(), bytes.data(), id.size());
    return id;
  }

  base::Result<void> Take(Section section, std::string_view payload) {
    switch (section) {
      case Section::kSegment:
        return BeginSegment(payload);
      case Section::kKey:
        return TakeKey(payload);
      case Section::kCheckpoint:
        return TakeCheckpoint(payload);
      case Section::kFrame:
        return TakeFrame(payload);
      default:
        return Damaged("a section of unknown kind");
    }
  }

  base::Result<void> BeginSegment(std::string_view payload) {
    HF_RETURN_IF_ERROR(FinishSegment());
    HF_ASSIGN_OR_RETURN(SegmentHead head, SegmentHead::Parse(payload));
    if (head_ && (head_->open || head.number <= head_->number))
      return Damaged("its segments are out of order");
    head_ = head;
    checkpoint_ = {};
    checkpoint_.header.origin.segment = head.number;
    checkpoint_.header.origin.spool = id_;
    checkpoint_.header.first_commit = head.first_commit;
    key_ = nullptr;
    pieces_ = 0;
    next_commit_ = head.first_commit;
    return {};
  }

  base::Result<void> TakeKey(std::string_view payload) {
    if (!head_ || pieces_ != 0) return Damaged("a key in the wrong place");
    HF_ASSIGN_OR_RETURN(key_, SegmentKey::Unwrap(options_.keys, payload));
    return {};
  }

  base::Result<void> TakeCheckpoint(std::string_view payload) {
    if (!head_ || builder_) return Damaged("a checkpoint in the wrong place");
    std::string plain;
    if (key_) {
      if (payload.size() < kSaltBytes) return Damaged("a checkpoint is too short");
      Salt salt;
      std::memcpy(salt.data(), payload.data(), salt.size());
      HF_RETURN_IF_ERROR(key_->Open(salt, pieces_, PieceContext(head_->number),
                                    payload.substr(kSaltBytes), &plain));
      payload = plain;
    }
    ++pieces_;
    ChangeReader changes(payload);
    Change change;
    while (changes.Next(&change)) HF_RETURN_IF_ERROR(checkpoint_.Apply(change));
    if (!changes.AtEnd()) return Damaged("a checkpoint holds what is not a change of state");
    return {};
  }

  base::Result<void> TakeFrame(std::string_view payload) {
    if (!head_ || pieces_ == 0) return Damaged("a frame in the wrong place");
    HF_RETURN_IF_ERROR(BeginBuilding());
    HF_ASSIGN_OR_RETURN(const FrameView frame, FrameView::Parse(payload));
    if (frame.commit() < next_commit_ || frame.commit() >= head_->end_commit)
      return Damaged("its commits are out of order");
    HF_RETURN_IF_ERROR(frame.Verify(0, frame.commit()));
    next_commit_ = frame.commit().next();
    HF_ASSIGN_OR_RETURN(const auto copy, FrameCopy::Of(frame, key_.get(), nullptr));
    ++report_.commits;
    report_.entries += copy->draft().entries.size();
    report_.entry_bytes += copy->draft().EntryBytes();
    return builder_->Add(copy->draft());
  }

  base::Result<void> BeginBuilding() {
    if (builder_) return {};
    draft_path_ = directory_.SegmentPath(head_->number) + ".new";
    HF_ASSIGN_OR_RETURN(
        auto builder,
        SegmentBuilder::Begin(
            draft_path_, head_->open ? SegmentBuilder::Kind::kOpen : SegmentBuilder::Kind::kSealed,
            head_->open ? head_->bytes : 0, head_->plan, checkpoint_, options_.keys));
    builder_ = std::make_unique<SegmentBuilder>(std::move(builder));
    return {};
  }

  base::Result<void> FinishSegment() {
    if (!head_) return {};
    HF_RETURN_IF_ERROR(BeginBuilding());  // One without a frame is there all the same.
    HF_RETURN_IF_ERROR(builder_->Finish());
    builder_.reset();
    ++report_.segments;
    return directory_.AdoptSegment(draft_path_, head_->number);
  }

  base::Result<SpoolId> Finish(std::string_view payload) {
    HF_RETURN_IF_ERROR(FinishSegment());
    if (payload != EncodeEnd(report_)) return Damaged("some of it is missing");
    if (head_ && !head_->open) return Damaged("its newest segment is missing");
    return id_;
  }

  const Directory& directory_;
  const ImportOptions& options_;
  Reader reader_;
  SpoolId id_{};
  TransferReport report_;
  // Of the segment that is being taken.
  std::optional<SegmentHead> head_;
  SegmentCheckpoint checkpoint_;
  std::shared_ptr<SegmentKey> key_;
  uint32_t pieces_ = 0;
  CommitNumber next_commit_;
  std::string draft_path_;
  std::unique_ptr<SegmentBuilder> builder_;
};

}  // namespace

base::Result<TransferReport> Export(const std::string& path, const ExportOptions& options,
                                    const WriteBytes& write) {
  HF_ASSIGN_OR_RETURN(Directory directory, Directory::OpenExisting(path));
  HF_RETURN_IF_ERROR(directory.CheckExported());
  HF_ASSIGN_OR_RETURN(const auto view, OfflineView::Open(path, options.keys));
  Exporter exporter(*view, options, write);
  if (auto written = exporter.WriteAllButTheEnd(directory); !written) {
    base::Error error = std::move(written).error();
    if (error.code == base::Code::kCorrupt)
      error.message += "; repair the spool first (holdfast spool repair)";
    return base::Unexpected(std::move(error));
  }
  if (options.hand_over) HF_RETURN_IF_ERROR(directory.MarkExported(*options.hand_over));
  HF_RETURN_IF_ERROR(exporter.WriteEnd());
  return exporter.report();
}

base::Result<TransferReport> Import(const std::string& path, const ImportOptions& options,
                                    const ReadBytes& read) {
  HF_ASSIGN_OR_RETURN(Directory directory, Directory::OpenEmpty(path));
  Importer importer(directory, options, read);
  HF_ASSIGN_OR_RETURN(const SpoolId id, importer.Run());
  HF_RETURN_IF_ERROR(directory.Establish(id));
  return importer.report();
}

}  // namespace holdfast::spool
