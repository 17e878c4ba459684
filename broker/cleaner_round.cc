#include "broker/cleaner_round.h"

#include <algorithm>

#include "base/log.h"
#include "kafka/record_filter.h"
#include "kafka/record_reader.h"

namespace holdfast::broker {
namespace {

using kafka::BatchHeader;
using kafka::Record;
using kafka::RecordBatchView;

constexpr size_t kReadBytes = size_t{1} << 20;
// What has to be written must be no more than so many times what is saved, or little.
constexpr uint64_t kWrittenPerSaved = 8;
constexpr uint64_t kWrittenLittle = uint64_t{8} << 20;

}  // namespace

CompactionRound::CompactionRound(Context& context, const Terms& terms, StopSignal& stop)
    : context_(context),
      terms_(terms),
      pacer_(context.options.compaction.bytes_per_second_max, stop),
      map_(context.options.compaction.memory_bytes_max) {}

base::Result<bool> CompactionRound::Add(Partition& partition, const TopicConfig& config,
                                        int64_t from, int64_t to) {
  spool::Spool& spool = context_.log->spool();
  int64_t reached = from;
  bool full = false;
  while (reached < to && !full) {
    const auto lease = spool.ReadSound(partition.stream, reached, kReadBytes);
    if (!lease) {
      HF_ASSIGN_OR_RETURN(reached, PastUnreadable(partition, reached, lease.error()));
      continue;
    }
    if (lease->empty()) break;
    size_t bytes = 0;
    for (const spool::EntryView& entry : lease->entries()) {
      if (entry.info.base_offset >= to || full) break;
      full = !Map(partition, entry);
      if (full) break;
      bytes += entry.bytes.size();
      reached = entry.info.end_offset();
    }
    if (!Pace(bytes)) return false;
  }
  if (!full) reached = to;
  if (reached == from) return !full;
  streams_.push_back(partition.stream);
  jobs_.emplace(partition.stream, Job{.partition = &partition,
                                      .delete_retention_ms = config.delete_retention_ms(),
                                      .to = reached,
                                      .last_batch = -1,
                                      .edits = {},
                                      .committing = {}});
  return !full;
}

// False if the map is full. Records that are damaged say nothing, and stay.
bool CompactionRound::Map(const Partition& partition, const spool::EntryView& entry) {
  const auto batch = RecordBatchView::Front(entry.bytes);
  if (!batch) return true;
  const BatchHeader header = batch->header();
  if (header.control() || Aborted(partition, header)) return true;
  const auto records = kafka::UncompressedRecords::Of(*batch);
  if (!records) return true;
  kafka::RecordReader reader(header, records->bytes());
  Record record;
  while (reader.Next(&record)) {
    if (record.key && !map_.Put(partition.stream, *record.key, record.offset)) return false;
  }
  return true;
}

base::Result<spool::RevisionReport> CompactionRound::Run() {
  std::ranges::sort(streams_);
  for (const spool::StreamId stream : streams_) HF_RETURN_IF_ERROR(JudgeAll(jobs_.at(stream)));
  HF_ASSIGN_OR_RETURN(const spool::RevisionReport report, context_.log->spool().Revise(*this));
  if (!report.done) return report;
  for (const auto& [stream, job] : jobs_) {
    compacted_.push_back({.partition = job.partition,
                          .to = job.last_batch < 0 ? job.to : job.last_batch,
                          .last_batch = job.last_batch});
  }
  return report;
}

base::Result<void> CompactionRound::JudgeAll(Job& job) {
  spool::Spool& spool = context_.log->spool();
  Partition& partition = *job.partition;
  const int64_t end = partition.high_watermark.load();
  int64_t offset = partition.log_start.load();
  while (offset < job.to) {
    const auto lease = spool.ReadSound(partition.stream, offset, kReadBytes);
    if (!lease) {
      HF_ASSIGN_OR_RETURN(offset, PastUnreadable(partition, offset, lease.error()));
      continue;
    }
    if (lease->empty()) return {};
    size_t bytes = 0;
    for (const spool::EntryView& entry : lease->entries()) {
      const spool::EntryInfo& info = entry.info;
      if (info.base_offset >= job.to) return {};
      offset = info.end_offset();
      bytes += entry.bytes.size();
      // So that a consumer sees an end that moves on, as with Kafka's active segment.
      if (offset == end) {
        job.last_batch = info.base_offset;
        continue;
      }
      HF_ASSIGN_OR_RETURN(const Fate fate, JudgeBatch(job, entry));
      if (fate == Fate::kKeep) continue;
      if (fate == Fate::kEmpty) saved_bytes_ += entry.bytes.size();
      if (fate == Fate::kEmpty && !job.edits.empty() && job.edits.back().fate == fate &&
          job.edits.back().end_offset == info.base_offset) {
        job.edits.back().end_offset = info.end_offset();
      } else {
        job.edits.push_back({info.base_offset, info.end_offset(), fate});
      }
    }
    if (!Pace(bytes)) return base::Unexpected(base::Code::kClosed, "told to stop");
  }
  return {};
}

// What is trimmed meanwhile, and what is damaged, is passed over: what lies behind it is judged all
// the same, for all up to the job's end is noted as compacted.
base::Result<int64_t> CompactionRound::PastUnreadable(const Partition& partition, int64_t offset,
                                                      const base::Error& error) {
  if (error.code != base::Code::kNotFound && error.code != base::Code::kCorrupt) {
    return base::Unexpected(error);
  }
  spool::Spool& spool = context_.log->spool();
  HF_ASSIGN_OR_RETURN(const int64_t next, spool.NextReadable(partition.stream, offset));
  if (next <= offset) return base::Unexpected(error);
  return next;
}

base::Result<spool::Revision::Fate> CompactionRound::JudgeBatch(Job& job,
                                                                const spool::EntryView& entry) {
  const auto batch = RecordBatchView::Front(entry.bytes);
  if (!batch) return Fate::kKeep;
  const BatchHeader header = batch->header();
  if (header.control()) return JudgeMarker(job, *batch);
  if (Aborted(*job.partition, header)) return Fate::kEmpty;
  HF_ASSIGN_OR_RETURN(const Fate fate, JudgeRecords(job, *batch));
  if (fate != Fate::kEmpty && header.transactional()) job.committing.insert(header.producer.id);
  return fate;
}

// A commit's marker goes when nothing is left of its transaction, and an abort's stays.
spool::Revision::Fate CompactionRound::JudgeMarker(Job& job, const RecordBatchView& batch) const {
  const BatchHeader header = batch.header();
  const auto end = kafka::ReadTransactionEnd(batch);
  if (!end || *end != kafka::TransactionEnd::kCommit) return Fate::kKeep;
  if (job.committing.erase(header.producer.id) != 0) return Fate::kKeep;
  if (!header.delete_horizon()) return Fate::kReplace;
  return HorizonPassed(header) ? Fate::kEmpty : Fate::kKeep;
}

base::Result<spool::Revision::Fate> CompactionRound::JudgeRecords(const Job& job,
                                                                  const RecordBatchView& batch) {
  const BatchHeader header = batch.header();
  const auto records = kafka::UncompressedRecords::Of(batch);
  if (!records) return Fate::kKeep;
  kafka::RecordReader reader(header, records->bytes());
  Record record;
  size_t kept = 0;
  size_t dropped = 0;
  bool tombstones = false;
  while (reader.Next(&record)) {
    const bool keep = Keeps(job, header, record);
    ++(keep ? kept : dropped);
    tombstones = tombstones || (keep && !record.value);
  }
  if (!reader.status()) return Fate::kKeep;
  if (kept == 0) return Fate::kEmpty;
  const bool needs_horizon = tombstones && !header.delete_horizon();
  if (dropped == 0 && !needs_horizon) return Fate::kKeep;
  saved_bytes_ += batch.size() * dropped / (kept + dropped);
  return Fate::kReplace;
}

bool CompactionRound::Keeps(const Job& job, const BatchHeader& header, const Record& record) const {
  if (!record.key || map_.Find(job.partition->stream, *record.key) > record.offset) return false;
  return record.value || !HorizonPassed(header);
}

bool CompactionRound::HorizonPassed(const BatchHeader& header) const {
  return header.delete_horizon() && header.base_timestamp <= terms_.now_ms;
}

bool CompactionRound::Aborted(const Partition& partition, const BatchHeader& header) {
  if (!header.transactional()) return false;
  const std::vector<AbortedTransaction> aborted =
      partition.transactions.Aborted(header.base_offset, header.next_offset());
  return std::ranges::any_of(aborted, [&](const AbortedTransaction& transaction) {
    return transaction.producer_id == header.producer.id &&
           transaction.first_offset <= header.base_offset &&
           transaction.last_offset > header.base_offset;
  });
}

spool::Revision::Fate CompactionRound::Judge(const spool::EntryInfo& entry) const {
  const auto job = jobs_.find(entry.stream);
  if (job == jobs_.end()) return Fate::kKeep;
  const std::vector<Edit>& edits = job->second.edits;
  const auto behind = std::ranges::upper_bound(edits, entry.base_offset, {}, &Edit::base_offset);
  if (behind == edits.begin()) return Fate::kKeep;
  const Edit& edit = *std::prev(behind);
  return entry.base_offset < edit.end_offset ? edit.fate : Fate::kKeep;
}

base::Result<spool::Revision::Replacement> CompactionRound::Replace(const spool::EntryView& entry) {
  const Job& job = jobs_.at(entry.info.stream);
  // The new checksum is not to vouch for damage.
  HF_RETURN_IF_ERROR(kafka::CheckStored(entry.bytes));
  const RecordBatchView batch(entry.bytes);
  const BatchHeader header = batch.header();
  HF_ASSIGN_OR_RETURN(const auto records, kafka::UncompressedRecords::Of(batch));
  bool horizon = header.control();
  kafka::RecordReader reader(header, records.bytes());
  Record record;
  while (!horizon && reader.Next(&record)) horizon = !record.value && Keeps(job, header, record);
  const auto keep = [&](const Record& one) { return header.control() || Keeps(job, header, one); };
  HF_ASSIGN_OR_RETURN(
      std::string bytes,
      kafka::FilterRecords(batch, records.bytes(), keep,
                           horizon && !header.delete_horizon()
                               ? std::optional(terms_.now_ms + job.delete_retention_ms)
                               : std::nullopt));
  if (bytes.empty())
    return base::Unexpected(base::Code::kCorrupt, "a batch that nothing is left of");
  const int64_t max_timestamp = RecordBatchView(bytes).max_timestamp();
  return Replacement{std::move(bytes), std::min(max_timestamp, entry.info.max_timestamp_ms)};
}

bool CompactionRound::Worth(uint64_t /*freed*/, uint64_t written) {
  return terms_.at_any_price || written <= kWrittenLittle ||
         written <= kWrittenPerSaved * saved_bytes_;
}

}  // namespace holdfast::broker
