// The half of spool/transfer.h that reads.
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "spool/directory.h"
#include "spool/export_format.h"
#include "spool/segment_builder.h"
#include "spool/transfer.h"

namespace holdfast::spool {
namespace {

class Importer {
 public:
  Importer(const Directory& directory, const ImportOptions& options, const ReadBytes& read)
      : directory_(directory), options_(options), reader_(read) {}

  // Everything up to the end is on the disk, and was checked, when it returns.
  base::Result<SpoolId> Run() {
    HF_RETURN_IF_ERROR(reader_.Begin());
    HF_ASSIGN_OR_RETURN(const auto first, reader_.Next());
    if (first.first != Section::kSpool)
      return DamagedExport("it does not begin with the spool's id");
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
    SectionFields fields(payload);
    const auto format = fields.Integer<uint32_t>();
    const std::string_view bytes = fields.Bytes(sizeof(SpoolId));
    fields.Integer<int64_t>();  // When it was exported.
    if (!fields.ok()) return DamagedExport("the spool's id is not whole");
    if (format != kFormatVersionMin)
      return base::Unexpected(base::Code::kInvalid,
                              "the exported spool has format " + std::to_string(format) +
                                  ", this program knows " + std::to_string(kFormatVersionMin) +
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
        return DamagedExport("a section of unknown kind");
    }
  }

  base::Result<void> BeginSegment(std::string_view payload) {
    HF_RETURN_IF_ERROR(FinishSegment());
    HF_ASSIGN_OR_RETURN(ExportedSegment head, ExportedSegment::Parse(payload));
    if (head_ && (head_->open || head.number <= head_->number))
      return DamagedExport("its segments are out of order");
    // How many entries there are is not told, only what a line takes. It is but address space,
    // except of the open one, which is as large as it was.
    if (!head.open)
      head.plan.kept_entries = head.plan.kept_streams = head.plan.frame_bytes / kTableLineBytes;
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
    if (!head_ || pieces_ != 0) return DamagedExport("a key in the wrong place");
    HF_ASSIGN_OR_RETURN(key_, SegmentKey::Unwrap(options_.keys, payload));
    return {};
  }

  base::Result<void> TakeCheckpoint(std::string_view payload) {
    if (!head_ || builder_) return DamagedExport("a checkpoint in the wrong place");
    std::string plain;
    if (key_) {
      if (payload.size() < kSaltBytes) return DamagedExport("a checkpoint is too short");
      Salt salt;
      std::memcpy(salt.data(), payload.data(), salt.size());
      HF_RETURN_IF_ERROR(key_->Open(salt, pieces_, CheckpointContext(head_->number),
                                    payload.substr(kSaltBytes), &plain));
      payload = plain;
    }
    ++pieces_;
    ChangeReader changes(payload);
    Change change;
    while (changes.Next(&change)) HF_RETURN_IF_ERROR(checkpoint_.Apply(change));
    if (!changes.AtEnd()) return DamagedExport("a checkpoint holds what is not a change of state");
    return {};
  }

  base::Result<void> TakeFrame(std::string_view payload) {
    if (!head_ || pieces_ == 0) return DamagedExport("a frame in the wrong place");
    HF_RETURN_IF_ERROR(BeginBuilding());
    HF_ASSIGN_OR_RETURN(const FrameView frame, FrameView::Parse(payload));
    if (frame.commit() < next_commit_ || frame.commit() >= head_->end_commit)
      return DamagedExport("its commits are out of order");
    HF_RETURN_IF_ERROR(frame.Verify(0, frame.commit()));
    next_commit_ = frame.commit().next();
    if (frame.table()) return DamagedExport("a frame without its entries");
    const EntryReader read = [&](uint32_t line, std::string* plain) {
      return frame.entry(line, key_.get(), plain);
    };
    HF_ASSIGN_OR_RETURN(const auto copy, FrameCopy::Of(frame, read, key_.get(), nullptr,
                                                       {.sealed = !options_.keys.empty(),
                                                        .check_entry = options_.check_entry}));
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
    if (payload != EncodeEnd(report_)) return DamagedExport("some of it is missing");
    if (head_ && !head_->open) return DamagedExport("its newest segment is missing");
    return id_;
  }

  const Directory& directory_;
  const ImportOptions& options_;
  SectionReader reader_;
  SpoolId id_{};
  TransferReport report_;
  // Of the segment that is being taken.
  std::optional<ExportedSegment> head_;
  SegmentCheckpoint checkpoint_;
  std::shared_ptr<SegmentKey> key_;
  uint32_t pieces_ = 0;
  CommitNumber next_commit_;
  std::string draft_path_;
  std::unique_ptr<SegmentBuilder> builder_;
};

}  // namespace

base::Result<TransferReport> Import(const std::string& path, const ImportOptions& options,
                                    const ReadBytes& read) {
  HF_ASSIGN_OR_RETURN(Directory directory, Directory::OpenEmpty(path));
  Importer importer(directory, options, read);
  HF_ASSIGN_OR_RETURN(const SpoolId id, importer.Run());
  HF_RETURN_IF_ERROR(directory.Establish(id));
  return importer.report();
}

}  // namespace holdfast::spool
