#include "spool/spool.h"

#include <utility>

#include "base/event.h"
#include "metrics/catalogue.h"
#include "spool/catalog.h"
#include "spool/directory.h"
#include "spool/reader.h"
#include "spool/segment_store.h"
#include "spool/writer.h"

namespace holdfast::spool {
namespace {

class SpoolOnDisk final : public Spool {
 public:
  SpoolOnDisk(const Options& options, Directory directory, Owner& owner, base::Executor& writer,
              base::Executor& background)
      : own_registry_(options.metrics != nullptr ? nullptr : std::make_unique<metrics::Registry>()),
        metrics_(options.metrics != nullptr ? *options.metrics : *own_registry_),
        directory_(std::move(directory)),
        store_(std::make_shared<SegmentStore>(options, directory_, catalog_, background, metrics_)),
        writer_(std::make_shared<Writer>(options, directory_, owner, writer, catalog_, store_)),
        reader_(catalog_, store_, options.check_entry),
        room_(
            metrics_.room_bytes.Bind([this] { return static_cast<double>(store_->RoomBytes()); })) {
    store_->OnSpaceFreed([&writer, weak = std::weak_ptr<Writer>(writer_)] {
      if (std::shared_ptr<Writer> alive = weak.lock())
        writer.Post([alive = std::move(alive)] { alive->SpaceFreed(); });
    });
    store_->OnPrepared([&writer, weak = std::weak_ptr<Writer>(writer_)] {
      if (std::shared_ptr<Writer> alive = weak.lock())
        writer.Post([alive = std::move(alive)] { alive->Prepared(); });
    });
  }
  ~SpoolOnDisk() override { Close(); }

  base::Result<void> Load() { return writer_->Open(); }

  [[nodiscard]] bool Submit(std::unique_ptr<Operation>& operation) override {
    return writer_->Submit(operation);
  }
  [[nodiscard]] base::Result<Lease> Read(StreamId stream, int64_t from, size_t max_bytes) override {
    return reader_.Read(stream, from, max_bytes);
  }
  [[nodiscard]] base::Result<Lease> ReadSound(StreamId stream, int64_t from,
                                              size_t max_bytes) override {
    return reader_.ReadSound(stream, from, max_bytes);
  }
  [[nodiscard]] base::Result<std::vector<EntryInfo>> ListEntries(StreamId stream, int64_t from,
                                                                 size_t entries_max) override {
    return reader_.ListEntries(stream, from, entries_max);
  }
  [[nodiscard]] base::Result<int64_t> NextReadable(StreamId stream, int64_t from) override {
    return reader_.NextReadable(stream, from);
  }
  [[nodiscard]] OffsetRange Range(StreamId stream) const override { return catalog_.Range(stream); }
  [[nodiscard]] base::Result<std::optional<EntryInfo>> FindByTime(StreamId stream,
                                                                  int64_t timestamp_ms,
                                                                  int64_t from) override {
    return reader_.FindByTime(stream, timestamp_ms, from);
  }
  [[nodiscard]] std::optional<StreamId> FindStream(std::string_view name) const override {
    return catalog_.FindStream(name);
  }
  [[nodiscard]] std::vector<std::pair<std::string, StreamId>> Streams() const override {
    return catalog_.Streams();
  }
  [[nodiscard]] Status GetStatus() const override;
  [[nodiscard]] bool Wanted() const override { return directory_.Wanted(); }
  [[nodiscard]] int64_t SealedEnd(StreamId stream) const override {
    return catalog_.SealedEnd(stream);
  }
  void SealSoon() override { writer_->SealSoon(); }
  base::Result<RevisionReport> Revise(Revision& revision) override {
    return store_->Revise(revision);
  }
  base::Result<RevisionReport> Sort(base::TimePoint now, const Pace& pace) override {
    return store_->Sort(now, pace);
  }
  void Close() override {
    writer_->Close();
    store_->Close();
  }

 private:
  std::unique_ptr<metrics::Registry> own_registry_;
  metrics::SpoolMetrics metrics_;
  Directory directory_;
  Catalog catalog_;
  std::shared_ptr<SegmentStore> store_;
  std::shared_ptr<Writer> writer_;
  SpoolReader reader_;
  metrics::CallbackGauge::Binding room_;
};

Status SpoolOnDisk::GetStatus() const {
  Status status;
  status.id = directory_.id();
  const auto segments = catalog_.segments();
  for (const auto& segment : *segments) status.entry_bytes += segment->entry_bytes;
  status.segments = static_cast<uint32_t>(segments->size());
  status.streams = static_cast<uint32_t>(catalog_.stream_count());
  status.durable = catalog_.durable();
  status.disk_bytes = store_->disk_bytes();
  status.bytes_max = store_->bytes_max();
  const Writer::Intake intake = writer_->GetIntake();
  status.queued_bytes = intake.queued_bytes;
  status.accepting = intake.accepting;
  status.refusing_because = intake.refusing_because;
  status.space_freed = intake.space_freed;
  status.making_room = intake.making_room;
  status.operation_bytes_max = intake.operation_bytes_max;
  return status;
}

}  // namespace

std::string LostStreamName(StreamId stream) { return "?" + std::to_string(stream.value()); }

base::Result<std::unique_ptr<Spool>> Spool::Open(const Options& options, Owner& owner,
                                                 base::Executor& writer,
                                                 base::Executor& background) {
  if (options.bytes_max != 0 && options.bytes_max < Options::kBytesMaxMin)
    return base::Unexpected(base::Code::kInvalid,
                            options.directory + ": a limit of " +
                                std::to_string(options.bytes_max) +
                                " bytes is too small for a spool; give it at least 4 MiB",
                            base::Event::kBadConfiguration);
  HF_ASSIGN_OR_RETURN(Directory directory,
                      options.yields
                          ? Directory::OpenExisting(options.directory, Directory::Tenure::kYields)
                          : Directory::Open(options.directory));
  HF_RETURN_IF_ERROR(directory.CheckExported());
  auto spool =
      std::make_unique<SpoolOnDisk>(options, std::move(directory), owner, writer, background);
  HF_RETURN_IF_ERROR(spool->Load());
  return spool;
}

}  // namespace holdfast::spool
