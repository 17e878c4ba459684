#include "agent/record_log.h"

#include <fmt/format.h>

#include "base/endian.h"
#include "base/log.h"
#include "base/random.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {
namespace {

using base::Code;
using kafka::ErrorCode;
using kafka::ProducerVerdict;
using kafka::RecordBatchView;
using kafka::SequencedBatch;

// Where local producer ids of a new spool begin: far from those that any tier gives out, and not
// again where the ids of a spool began that was deleted while its producers live on.
constexpr int64_t kFirstIdLeast = int64_t{1} << 40;
constexpr uint64_t kFirstIdRange = uint64_t{1} << 61;

kafka::Producer ProducerOf(const spool::Tag& tag) {
  return {.id = base::LoadLittle<int64_t>(tag.data()),
          .epoch = base::LoadLittle<int16_t>(tag.data() + 8),
          .base_sequence = base::LoadLittle<int32_t>(tag.data() + 10)};
}

void Refuse(proxy::SinkEntry& entry, ErrorCode error, std::string message) {
  entry.error = error;
  entry.base_offset = -1;
  entry.message = std::move(message);
}

// Nothing of the request is stored.
void RefuseAll(std::unique_ptr<proxy::SinkRequest> request, const base::Error& error) {
  for (proxy::SinkEntry& entry : request->entries) {
    if (entry.error != ErrorCode::kNone) continue;
    Refuse(entry, ErrorCode::kNotEnoughReplicas, error.message);
  }
  proxy::SinkRequest& target = *request;
  target.Complete(std::move(request));
}

std::string EncodeId(int64_t id) {
  std::string bytes(8, '\0');
  base::StoreLittle(bytes.data(), id);
  return bytes;
}

}  // namespace

spool::Tag TagOf(const kafka::Producer& producer) {
  spool::Tag tag{};
  base::StoreLittle(tag.data(), producer.id);
  base::StoreLittle(tag.data() + 8, producer.epoch);
  base::StoreLittle(tag.data() + 10, producer.base_sequence);
  return tag;
}

class RecordLog::AppendOperation final : public spool::Operation {
 public:
  AppendOperation(RecordLog& log, std::unique_ptr<proxy::SinkRequest> request)
      : log_(log), request_(std::move(request)) {
    for (const proxy::SinkEntry& entry : request_->entries) bytes_ += entry.batch.size();
  }

  [[nodiscard]] size_t Bytes() const override { return bytes_; }
  void Apply(spool::Transaction& transaction) override {
    for (proxy::SinkEntry& entry : request_->entries) log_.ApplyEntry(transaction, entry);
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (!result) return RefuseAll(std::move(request_), result.error());
    proxy::SinkRequest& target = *request_;
    target.Complete(std::move(request_));
  }
  std::unique_ptr<proxy::SinkRequest> TakeBack() { return std::move(request_); }

 private:
  RecordLog& log_;
  std::unique_ptr<proxy::SinkRequest> request_;
  size_t bytes_ = 0;
};

// Notes durably that a block of producer ids is taken, before the first of them is given out.
class RecordLog::ReserveOperation final : public spool::Operation {
 public:
  explicit ReserveOperation(RecordLog& log) : log_(log) {}

  [[nodiscard]] size_t Bytes() const override { return 0; }
  void Apply(spool::Transaction& transaction) override {
    const std::optional<std::string_view> kept = transaction.Get(kProducerIdsKey);
    if (kept && kept->size() == sizeof(int64_t)) {
      first_ = base::LoadLittle<int64_t>(kept->data());
    } else {
      base::Random random = base::Random::FromSystem();
      first_ = kFirstIdLeast + static_cast<int64_t>(random.Below(kFirstIdRange));
    }
    transaction.Put(kProducerIdsKey, EncodeId(first_ + kIdsPerBlock));
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (result) {
      log_.Reserved(first_);
    } else {
      log_.Reserved(base::Unexpected(result.error()));
    }
  }

 private:
  RecordLog& log_;
  int64_t first_ = 0;
};

RecordLog::RecordLog(metrics::AgentMetrics& metrics, DurableObserver on_durable)
    : metrics_(metrics), on_durable_(std::move(on_durable)) {}

RecordLog::~RecordLog() = default;

void RecordLog::Append(std::unique_ptr<proxy::SinkRequest> request) {
  std::unique_ptr<spool::Operation> operation =
      std::make_unique<AppendOperation>(*this, std::move(request));
  if (spool_->Submit(operation)) return;
  RefuseAll(static_cast<AppendOperation&>(*operation).TakeBack(),
            {Code::kFull, "the spool takes no more for now: its queue is full, or it is closing"});
}

void RecordLog::ApplyEntry(spool::Transaction& transaction, proxy::SinkEntry& entry) {
  const RecordBatchView batch(entry.batch);
  const kafka::BatchHeader header = batch.header();
  const spool::StreamId stream = transaction.OpenStream(StreamName(entry.topic, entry.partition));
  kafka::ProducerTable* table = nullptr;
  const SequencedBatch sequenced = SequencedBatch::FromHeader(header);
  if (header.has_producer()) {
    table = &producers_[stream.value()];
    ProducerVerdict verdict = table->Check(sequenced);
    if (verdict.kind == ProducerVerdict::Kind::kDuplicate) {
      metrics_.duplicate_batches.Add();
      entry.base_offset = verdict.base_offset;
      return;
    }
    if (verdict.kind == ProducerVerdict::Kind::kRefuse) {
      return Refuse(entry, verdict.error, std::move(verdict.message));
    }
  }
  entry.base_offset =
      transaction.Append({.stream = stream,
                          .bytes = entry.batch,
                          .record_count = static_cast<uint32_t>(sequenced.record_count),
                          .max_timestamp_ms = header.max_timestamp,
                          .tag = TagOf(header.producer)});
  if (table != nullptr) {
    table->Record(sequenced,
                  {.base_offset = entry.base_offset, .timestamp = transaction.commit_time_ms()});
  }
}

void RecordLog::NewProducerId(ProducerIdDone done) {
  int64_t id = 0;
  {
    base::MutexLock lock(mutex_);
    if (ids_left_ == 0) {
      waiting_.push_back(std::move(done));
      if (std::exchange(reserving_, true)) return;
    } else {
      --ids_left_;
      id = next_id_++;
    }
  }
  if (id != 0) return done(id);
  Reserve();
}

void RecordLog::Reserve() {
  std::unique_ptr<spool::Operation> operation = std::make_unique<ReserveOperation>(*this);
  if (!spool_->Submit(operation)) {
    Reserved(base::Unexpected(Code::kFull, "the spool takes no more for now"));
  }
}

void RecordLog::Reserved(base::Result<int64_t> first) {
  std::vector<ProducerIdDone> waiting;
  bool again = false;
  int64_t id = 0;
  {
    base::MutexLock lock(mutex_);
    reserving_ = false;
    waiting = std::exchange(waiting_, {});
    if (first) {
      while (waiting.size() > static_cast<size_t>(kIdsPerBlock)) {
        waiting_.push_back(std::move(waiting.back()));
        waiting.pop_back();
      }
      id = *first;
      next_id_ = *first + static_cast<int64_t>(waiting.size());
      ids_left_ = kIdsPerBlock - static_cast<int64_t>(waiting.size());
      reserving_ = !waiting_.empty();
    }
    again = reserving_;
  }
  for (ProducerIdDone& done : waiting) {
    if (first) {
      done(id++);
    } else {
      done(base::Unexpected(first.error()));
    }
  }
  if (again) Reserve();
}

base::Result<> RecordLog::Load(const spool::StateView& state) {
  producers_.clear();
  base::Result<> loaded;
  state.ForEach(kDedupePrefix, [&](std::string_view key, std::string_view value) {
    const auto stream = ParseStreamKey(kDedupePrefix, key);
    auto table = kafka::ProducerTable::Parse(value);
    if (stream && table) {
      producers_[stream->value()] = *std::move(table);
    } else if (!table) {
      loaded = base::Unexpected(std::move(table.error()).Within("memory of local producers"));
    }
  });
  HF_RETURN_IF_ERROR(std::move(loaded));
  if (std::exchange(opened_, true)) return {};  // A failed commit: the rest lives elsewhere.
  return LoadKept(state);
}

base::Result<> RecordLog::LoadKept(const spool::StateView& state) {
  kept_.cluster = state.Get(kClusterKey).value_or("");
  kept_.ports = state.Get(kPortsKey).value_or("");
  if (const auto upstream = state.Get(kUpstreamKey)) {
    HF_ASSIGN_OR_RETURN(kept_.upstream, UpstreamProducer::Parse(*upstream));
  }
  base::Result<> loaded;
  state.ForEach(kForwardPrefix, [&](std::string_view key, std::string_view value) {
    const auto stream = ParseStreamKey(kForwardPrefix, key);
    auto record = ForwardRecord::Parse(value);
    if (stream && record) {
      kept_.forward[stream->value()] = *record;
    } else if (!record) {
      loaded = base::Unexpected(record.error());
    }
  });
  return loaded;
}

void RecordLog::Replay(const spool::EntryInfo& entry) {
  const kafka::Producer producer = ProducerOf(entry.tag);
  if (producer.id == kafka::kNoProducerId) return;
  producers_[entry.stream.value()].Record(
      {.producer = producer, .record_count = static_cast<int32_t>(entry.record_count)},
      {.base_offset = entry.base_offset, .timestamp = entry.commit_time_ms});
}

void RecordLog::Checkpoint(spool::Transaction& transaction) {
  for (auto table = producers_.begin(); table != producers_.end();) {
    table->second.ExpireBefore(transaction.commit_time_ms() - kProducerExpiryMs);
    const std::string key = StreamKey(kDedupePrefix, spool::StreamId(table->first));
    if (table->second.size() == 0) {
      transaction.Erase(key);
      table = producers_.erase(table);
    } else {
      transaction.Put(key, table->second.Serialize());
      ++table;
    }
  }
}

void RecordLog::OnDurable(std::span<const spool::StreamId> streams) { on_durable_(streams); }

}  // namespace holdfast::agent
