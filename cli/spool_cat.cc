// `holdfast spool cat`: from batches to records, in the format that was asked for.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include "agent/dead_letter.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/record_text.h"
#include "cli/spool_verbs.h"
#include "cli/stream_names.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"
#include "spool/offline.h"

namespace holdfast::cli {
namespace {

class Cat {
 public:
  Cat(CatFormat format, int64_t from, uint64_t count)
      : format_(format), from_(from), left_(count) {}

  // Says whether there may be more to show.
  base::Result<bool> Show(const spool::EntryInfo& info, std::string_view bytes) {
    HF_ASSIGN_OR_RETURN(const kafka::RecordBatchView batch, kafka::RecordBatchView::Front(bytes));
    if (!batch.CrcMatches())
      return base::Unexpected(base::Code::kCorrupt, "the record batch's CRC does not match");
    return format_ == CatFormat::kRaw ? ShowBatch(info, batch) : ShowRecords(info, batch);
  }
  [[nodiscard]] bool more() const { return left_ != 0; }

 private:
  // An agent's batches still have the offsets that the client gave them.
  bool ShowBatch(const spool::EntryInfo& info, const kafka::RecordBatchView& batch) {
    std::string copy(batch.bytes());
    kafka::SetBaseOffset(std::span(copy.data(), copy.size()), info.base_offset);
    PrintText(copy);
    left_ -= std::min<uint64_t>(left_, info.record_count);
    return more();
  }

  base::Result<bool> ShowRecords(const spool::EntryInfo& info,
                                 const kafka::RecordBatchView& batch) {
    HF_ASSIGN_OR_RETURN(const auto uncompressed, kafka::UncompressedRecords::Of(batch));
    const kafka::BatchHeader header = batch.header();
    kafka::RecordReader reader(header, uncompressed.bytes());
    kafka::Record record;
    while (more() && reader.Next(&record)) {
      const int64_t offset = info.base_offset + (record.offset - header.base_offset);
      if (offset < from_) continue;
      std::string line =
          format_ == CatFormat::kJson ? JsonLine(record, offset, header) : TextOf(record);
      line += '\n';
      PrintText(line);
      --left_;
    }
    if (more()) HF_RETURN_IF_ERROR(reader.status());
    return more();
  }

  static std::string JsonLine(const kafka::Record& record, int64_t offset,
                              const kafka::BatchHeader& header) {
    nlohmann::ordered_json json =
        JsonOf(record, offset, header.log_append_time() ? header.max_timestamp : record.timestamp);
    if (header.has_producer()) {
      json["producer_id"] = header.producer.id;
      json["producer_epoch"] = header.producer.epoch;
      json["sequence"] = kafka::AdvanceSequence(
          header.producer.base_sequence, static_cast<int32_t>(record.offset - header.base_offset));
    }
    if (header.control()) json["control"] = true;
    return json.dump();
  }

  const CatFormat format_;
  const int64_t from_;
  uint64_t left_;
};

}  // namespace

base::Result<int> CatStream(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const auto view, OpenView(command));
  const std::string name = command.dead_letters
                               ? agent::DeadLetterStreamName(command.streams.front())
                               : command.streams.front();
  HF_ASSIGN_OR_RETURN(const spool::StreamId id, StreamNames(view->state()).Find(name));
  const spool::StreamState& stream = view->state().stream(id);
  const int64_t from = command.from.value_or(stream.start);
  if (from < stream.start || from > stream.end)
    return base::Unexpected(
        base::Code::kNotFound,
        fmt::format("{} has offsets from {} up to, not including, {}; {} is {}", name, stream.start,
                    stream.end, from,
                    from < stream.start ? "delivered or dropped" : "not there yet"));
  Cat cat(command.format, from, command.count.value_or(std::numeric_limits<uint64_t>::max()));
  bool damaged = false;
  const auto damage = [&](const std::string& message) {
    damaged = true;
    Complain(message);
  };
  if (!cat.more()) return kExitFine;
  HF_RETURN_IF_ERROR(view->Read(
      id, from,
      [&](const spool::EntryInfo& info, std::string_view bytes) {
        const base::Result<bool> more = cat.Show(info, bytes);
        if (!more)
          damage(fmt::format("{}: offsets [{}, {}): {}", name, info.base_offset, info.end_offset(),
                             more.error().message));
        // Nobody reads any more if the pipe is broken.
        return !OutputFailed() && (more ? *more : cat.more());
      },
      [&](const base::Error& error) { damage(error.message); }));
  return damaged ? kExitFailed : kExitFine;
}

}  // namespace holdfast::cli
