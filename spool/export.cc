// The half of spool/transfer.h that writes.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "spool/directory.h"
#include "spool/export_format.h"
#include "spool/offline.h"
#include "spool/segment_builder.h"
#include "spool/transfer.h"

namespace holdfast::spool {
namespace {

constexpr size_t kPieceBytes = size_t{256} << 10;

class Exporter {
 public:
  Exporter(const OfflineView& view, const ExportOptions& options, const WriteBytes& write)
      : view_(view), options_(options), writer_(write) {}

  base::Result<void> WriteAllButTheEnd(const Directory& directory) {
    HF_RETURN_IF_ERROR(writer_.Begin());
    std::string spool;
    AppendInteger(kFormatVersionMin, &spool);  // Its frames are not tables.
    spool.append(directory.id().data(), directory.id().size());
    AppendInteger(options_.time_ms, &spool);
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
    HF_ASSIGN_OR_RETURN(const auto file, SegmentFile::Open(path, {directory.id(), segment.number},
                                                           lmdb::Access::kRead, options_.keys,
                                                           nullptr, view_.EndOf(segment.number)));
    if (!file->header())
      return base::Unexpected(base::Code::kCorrupt, path + ": the segment has no header");
    ExportedSegment head{.number = segment.number,
                         .first_commit = file->header()->first_commit,
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
    const CopyTarget target{.sealed = key != nullptr, .check_entry = options_.check_entry};
    return RewriteFrames(*file, segment.end_commit, keep, target, [&](FrameDraft draft) {
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
        key->Seal(salt, i, CheckpointContext(checkpoint.header.origin.segment), pieces[i],
                  std::span(sealed).subspan(kSaltBytes));
        pieces[i] = std::move(sealed);
      }
      HF_RETURN_IF_ERROR(writer_.Add(Section::kCheckpoint, pieces[i]));
    }
    return {};
  }

  const OfflineView& view_;
  const ExportOptions& options_;
  SectionWriter writer_;
  TransferReport report_;
  uint64_t done_ = 0;
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

}  // namespace holdfast::spool
