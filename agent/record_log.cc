#include "agent/record_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <utility>

#include "agent/delivery_journal.h"
#include "base/endian.h"
#include "base/event.h"
#include "base/log.h"
#include "base/random.h"
#include "kafka/record_batch.h"
#include "spool/offline.h"

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

constexpr std::string_view kTakesNoMore =
    "the spool takes no more for now: its queue is full, or it is closing";
constexpr std::string_view kTopicFull =
    "the topic has as much waiting in the spool as its bytes_max allows";
constexpr std::string_view kClientFull =
    "the client has as much waiting in the spool as its bytes_max allows";

kafka::Producer ProducerOf(const spool::Tag& tag) {
  return {.id = base::LoadLittle<int64_t>(tag.data()),
          .epoch = base::LoadLittle<int16_t>(tag.data() + 8),
          .base_sequence = base::LoadLittle<int32_t>(tag.data() + 10)};
}

// Nothing of what is not answered yet is stored.
void RefuseRest(AppendJob& job, const base::Error& error) {
  // On the one clients send less at once or give up, which is for a batch of which that is true.
  const bool alone = job.Count(AppendJob::Step::kTry) == 1;
  const ErrorCode code = error.event == base::Event::kTooLargeForSpool && alone
                             ? ErrorCode::kMessageTooLarge
                             : ErrorCode::kNotEnoughReplicas;
  for (size_t at = 0; at < job.entries.size(); ++at) {
    if (job.entries[at].step != AppendJob::Step::kTry) continue;
    job.Refuse(at, code, error.message);
  }
}

std::string EncodeId(int64_t id) {
  std::string bytes(8, '\0');
  base::StoreLittle(bytes.data(), id);
  return bytes;
}

}  // namespace

base::Result<std::optional<int64_t>> LastProducedMs(const spool::OfflineView& view) {
  std::optional<int64_t> last;
  const auto note = [&last](int64_t at_ms) { last = std::max(last.value_or(at_ms), at_ms); };
  base::Result<> read;
  view.state().ForEach(kDedupePrefix, [&](std::string_view, std::string_view value) {
    const auto table = kafka::ProducerTable::Parse(value);
    if (!table) read = base::Unexpected(table.error());
    if (!table) return;
    for (const kafka::ActiveProducer& producer : table->List()) note(producer.last_timestamp);
  });
  view.state().ForEach(kLocalProducerPrefix, [&](std::string_view, std::string_view value) {
    const auto producer = LocalProducerRecord::Parse(value);
    if (!producer) read = base::Unexpected(producer.error());
    if (producer) note(producer->used_ms);
  });
  HF_RETURN_IF_ERROR(std::move(read));
  if (view.segments().empty()) return last;
  // The tables are as of the newest segment's beginning.
  HF_RETURN_IF_ERROR(view.WalkCommits(
      view.segments().back().first_commit,
      [&](const spool::FrameView& frame, std::string_view) {
        for (uint32_t at = 0; at < frame.entry_count(); ++at) {
          if (ProducerOf(frame.info(at).tag).id != kafka::kNoProducerId)
            note(frame.commit_time_ms());
        }
        return true;
      },
      [](const base::Error&) {}, {}));
  return last;
}

spool::Tag TagOf(const kafka::Producer& producer, OwnerId owner) {
  spool::Tag tag{};
  base::StoreLittle(tag.data(), producer.id);
  base::StoreLittle(tag.data() + 8, producer.epoch);
  base::StoreLittle(tag.data() + 10, producer.base_sequence);
  base::StoreLittle(tag.data() + kOwnerInTag, owner);
  return tag;
}

class RecordLog::AppendOperation final : public spool::Operation {
 public:
  AppendOperation(RecordLog& log, std::unique_ptr<AppendJob> job)
      : log_(log), job_(std::move(job)), bytes_(job_->BytesToTry()) {}

  [[nodiscard]] size_t Bytes() const override { return bytes_; }
  void Apply(spool::Transaction& transaction) override {
    for (size_t at = 0; at < job_->entries.size(); ++at) {
      if (job_->entries[at].step != AppendJob::Step::kTry) continue;
      log_.waiting_appends_->OnApply(*job_, at);
      if (job_->on_room) {
        log_.ApplyRoom(*job_, at);
      } else {
        log_.ApplyEntry(transaction, *job_, at);
      }
      applied_.push_back(at);
    }
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (!result) UndoApply();
    log_.Finish(std::move(job_), result);
  }
  std::unique_ptr<AppendJob> TakeBack() { return std::move(job_); }

 private:
  // What was stored is not, and what was found wrong stays wrong.
  void UndoApply() {
    for (const size_t at : applied_) {
      AppendJob::Entry& entry = job_->entries[at];
      if (entry.step != AppendJob::Step::kDone ||
          job_->request->entries[at].error != ErrorCode::kNone) {
        continue;
      }
      entry.step = AppendJob::Step::kTry;
      entry.end = -1;
      if (entry.room.topic != nullptr) SpoolUsage::GiveBack(std::exchange(entry.room, {}));
    }
  }

  RecordLog& log_;
  std::unique_ptr<AppendJob> job_;
  const size_t bytes_;
  std::vector<size_t> applied_;
};

class RecordLog::NotedOperation final : public spool::Operation {
 public:
  NotedOperation(RecordLog& log, NotedAppend append, NotedDone done)
      : log_(log), append_(std::move(append)), done_(std::move(done)) {
    for (const NewBatch& batch : append_.batches) bytes_ += batch.bytes.size();
  }

  [[nodiscard]] size_t Bytes() const override { return bytes_; }
  void Apply(spool::Transaction& transaction) override {
    outcome_ = log_.LookForRoom(append_);
    if (!outcome_.result) return;
    for (const NewBatch& batch : append_.batches)
      outcome_.ends.push_back(log_.AppendOwn(transaction, append_.client, batch));
    if (append_.note) {
      transaction.Put(append_.key, *append_.note);
    } else {
      transaction.Erase(append_.key);
    }
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (!result) return done_({.result = base::Unexpected(result.error())});
    if (outcome_.result) Count();
    done_(std::move(outcome_));
  }
  NotedDone TakeBack() { return std::move(done_); }

 private:
  // Who appends this way stands for a client.
  void Count() const {
    uint64_t records = 0;
    for (const NewBatch& batch : append_.batches)
      records += static_cast<uint64_t>(RecordBatchView(batch.bytes).record_count());
    log_.metrics_.accepted_records.Add(records);
    log_.metrics_.accepted_bytes.Add(bytes_);
    log_.metrics_.acknowledged_records.Add(records);
    log_.metrics_.acknowledged_bytes.Add(bytes_);
  }

  RecordLog& log_;
  const NotedAppend append_;
  NotedDone done_;
  size_t bytes_ = 0;
  NotedOutcome outcome_;
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

// Notes durably what the accounts do not hold any more. If that fails, the segment that begins then
// has it.
class RecordLog::EmptyOperation final : public spool::Operation {
 public:
  explicit EmptyOperation(const SpoolUsage& usage) : usage_(usage) {}

  [[nodiscard]] size_t Bytes() const override { return 0; }
  void Apply(spool::Transaction& transaction) override { usage_.PutEmpty(transaction); }
  void Done(const base::Result<spool::CommitNumber>& /*result*/) override {}

 private:
  const SpoolUsage& usage_;
};

// Likewise.
class RecordLog::DestinationOperation final : public spool::Operation {
 public:
  DestinationOperation(RecordLog& log, Destination destination)
      : log_(log), destination_(std::move(destination)) {}

  [[nodiscard]] size_t Bytes() const override { return 0; }
  void Apply(spool::Transaction& transaction) override {
    log_.destination_ = destination_;
    transaction.Put(kDestinationKey, destination_.Serialize());
  }
  void Done(const base::Result<spool::CommitNumber>& /*result*/) override {}

 private:
  RecordLog& log_;
  const Destination destination_;
};

RecordLog::RecordLog(metrics::AgentMetrics& metrics, DurableObserver on_durable)
    : metrics_(metrics), on_durable_(std::move(on_durable)) {}

RecordLog::~RecordLog() = default;

void RecordLog::Bind(spool::Spool& spool, base::Executor& writer, WaitingBytes& waiting,
                     Sinks sinks) {
  spool_ = &spool;
  writer_ = &writer;
  sinks_ = std::move(sinks);
  waiting_bytes_ = &waiting;
  waiting_appends_ = std::make_unique<WaitingAppends>(
      WaitingAppends::Context{
          .writer = writer,
          .usage = usage_,
          .metrics = metrics_,
          .submit = [this](std::unique_ptr<AppendJob> job) { Submit(std::move(job)); },
          .settle = [this](std::unique_ptr<AppendJob> job) { Settle(std::move(job)); },
          .drop_oldest =
              [this](std::string topic, uint64_t bytes) {
                if (sinks_.drop_oldest) sinks_.drop_oldest(std::move(topic), bytes);
              },
          .segment_bytes =
              [&spool] {
                const spool::Status status = spool.GetStatus();
                return status.disk_bytes / std::max(status.segments, uint32_t{1});
              },
          .space_freed = [&spool] { return spool.GetStatus().space_freed; },
          .making_room = [&spool] { return spool.GetStatus().making_room; }},
      waiting);
  bool all_empty = true;
  for (const auto& [name, id] : spool.Streams()) {
    const auto parsed = ParseStreamName(name);
    if (parsed || name == spool::LostStreamName(id)) {
      usage_.Topic(id, parsed ? parsed->first : name);
    }
    if (const spool::OffsetRange range = spool.Range(id); range.start == range.end) {
      usage_.SetEmpty(id);
    } else {
      all_empty &= !parsed;
    }
  }
  if (all_empty) usage_.SetAllEmpty();
  // Before anybody looks: what waits already is no growth.
  metrics_.backlog_bytes.Set(static_cast<double>(usage_.held()));
  // Before anything else is appended: later nobody can tell.
  if (!usage_.set_empty()) return;
  std::unique_ptr<spool::Operation> operation = std::make_unique<EmptyOperation>(usage_);
  (void)spool.Submit(operation);
}

void RecordLog::NoteDestination(const Destination& destination) {
  std::unique_ptr<spool::Operation> operation =
      std::make_unique<DestinationOperation>(*this, destination);
  (void)spool_->Submit(operation);
}

void RecordLog::SetPolicies(PoliciesPtr policies) {
  rates_.SetPolicies(policies);
  writer_->Post([this, policies = std::move(policies)]() mutable {
    usage_.SetPolicies(std::move(policies));
    waiting_appends_->OnRoom();
  });
}

uint64_t RecordLog::HeldBytes() {
  auto told = std::make_shared<std::promise<uint64_t>>();
  auto bytes = told->get_future();
  writer_->Post([this, told] { told->set_value(usage_.held()); });
  return bytes.get();
}

void RecordLog::ReportHeldBytes() {
  writer_->Post([this] { metrics_.backlog_bytes.Set(static_cast<double>(usage_.held())); });
}

void RecordLog::Close() {
  writer_->Post([this] { waiting_appends_->Close(); });
}

void RecordLog::Append(std::unique_ptr<proxy::SinkRequest> request) {
  Submit(std::make_unique<AppendJob>(std::move(request)));
}

void RecordLog::Submit(std::unique_ptr<AppendJob> job) {
  std::unique_ptr<spool::Operation> operation =
      std::make_unique<AppendOperation>(*this, std::move(job));
  if (spool_->Submit(operation)) return;
  std::unique_ptr<AppendJob> back = static_cast<AppendOperation&>(*operation).TakeBack();
  RefuseRest(*back, {Code::kFull, std::string(kTakesNoMore)});
  // Only the writer tries once more; the first time is anybody's.
  if (back->ticket != 0) waiting_appends_->OnTried(*back);
  Settle(std::move(back));
}

// On the writer, once the job's entries that were tried are durable, or none of them is.
void RecordLog::Finish(std::unique_ptr<AppendJob> job,
                       const base::Result<spool::CommitNumber>& result) {
  waiting_appends_->OnTried(*job);
  if (result) {
    waiting_appends_->OnStored(*job);
  } else if (result.error().code == Code::kFull &&
             result.error().event != base::Event::kTooLargeForSpool) {
    waiting_appends_->OnSpoolFull(*job, result.error());
  } else {
    RefuseRest(*job, result.error());
  }
  Settle(std::move(job));
}

void RecordLog::Settle(std::unique_ptr<AppendJob> job) {
  const bool wants_room = job->Has(AppendJob::Step::kWaiting);
  const bool wants_tier = job->WantsTier() && sinks_.wait_for_tier;
  if (!wants_room && !wants_tier) return AppendJob::Complete(std::move(job));
  // Only on the writer has anything of it been tried.
  if (job->ticket == 0) job->deadline = writer_->Now() + job->request->timeout;
  if (wants_room) {
    job->request->OnWait();
    return waiting_appends_->Park(std::move(job));
  }
  // Here, since the loop of those that wait may be long in coming to it. What waited before may go
  // on with that; what finds no room stays a request in flight until it is answered there.
  job->counted = job->ticket != 0 || waiting_bytes_->Fits(job->memory);
  if (job->counted) {
    waiting_bytes_->Add(job->memory);
    job->request->OnWait();
  }
  sinks_.wait_for_tier(std::move(job));
}

void RecordLog::GiveBack(std::vector<SpoolUsage::Room> rooms) {
  writer_->Post([this, rooms = std::move(rooms)] {
    for (const SpoolUsage::Room& room : rooms) SpoolUsage::GiveBack(room);
    waiting_appends_->OnRoom();
  });
}

void RecordLog::OnCommitRefused(uint64_t bytes) { waiting_appends_->OnCommitRefused(bytes); }

void RecordLog::OnCommitStored(uint64_t bytes, bool was_refused) {
  waiting_appends_->OnCommitStored(bytes, was_refused);
}

void RecordLog::ApplyRoom(AppendJob& job, size_t at) {
  const proxy::SinkEntry& entry = job.request->entries[at];
  AppendJob::Entry& own = job.entries[at];
  SpoolUsage::Account& topic = usage_.Topic(entry.topic);
  SpoolUsage::Account* const client = usage_.Client(job.request->client);
  const uint64_t bytes = entry.batch.size();
  own.step = AppendJob::Step::kDone;
  // Waiting does not help a transaction that fills its account by itself.
  const auto alone = [bytes](uint64_t has, uint64_t bytes_max) {
    return bytes_max != 0 && has > 0 && has + bytes > bytes_max;
  };
  if (alone(own.topic_has, topic.topic.bytes_max) ||
      (client != nullptr && alone(own.client_has, client->client.bytes_max))) {
    metrics_.full.With("refused").Add();
    return job.Refuse(at, ErrorCode::kRecordListTooLarge,
                      "the transaction has more than the bytes_max of its topic or client");
  }
  if (!HasRoom(job, at, topic, client)) return;
  own.room = {.topic = &topic, .client = client, .bytes = bytes};
  SpoolUsage::Keep(own.room);
}

bool RecordLog::HasRoom(AppendJob& job, size_t at, const SpoolUsage::Account& topic,
                        const SpoolUsage::Account* client) {
  const uint64_t bytes = job.request->entries[at].batch.size();
  const auto behind = [&](const SpoolUsage::Account& account) {
    return job.ticket == 0 ? account.waiting > 0 : waiting_appends_->LargeBefore(job, account);
  };
  if (behind(topic) || !topic.FitsTopic(bytes)) {
    waiting_appends_->OnNoRoom(job, at, topic.topic.when_full, /*for_client=*/false, kTopicFull);
    return false;
  }
  if (client != nullptr && (behind(*client) || !client->FitsClient(bytes))) {
    waiting_appends_->OnNoRoom(job, at, client->client.when_full, /*for_client=*/true, kClientFull);
    return false;
  }
  return true;
}

void RecordLog::ApplyEntry(spool::Transaction& transaction, AppendJob& job, size_t at) {
  proxy::SinkEntry& entry = job.request->entries[at];
  const RecordBatchView batch(entry.batch);
  const kafka::BatchHeader header = batch.header();
  const spool::StreamId stream = transaction.OpenStream(StreamName(entry.topic, entry.partition));
  const SpoolUsage::Account& topic = usage_.Topic(stream, entry.topic);
  job.entries[at].stream = stream;
  job.entries[at].acks = std::max(topic.topic.acks, job.request->acks);
  job.entries[at].step = AppendJob::Step::kDone;
  SpoolUsage::Account* const client = usage_.Client(job.request->client);
  kafka::ProducerTable* table = nullptr;
  const SequencedBatch sequenced = SequencedBatch::FromHeader(header);
  if (header.has_producer()) {
    table = &producers_[stream.value()];
    ProducerVerdict verdict = table->Check(sequenced);
    if (verdict.kind == ProducerVerdict::Kind::kDuplicate) {
      metrics_.duplicate_batches.Add();
      entry.base_offset = verdict.base_offset;
      job.entries[at].end = entry.base_offset + sequenced.record_count;
      return;
    }
    if (verdict.kind == ProducerVerdict::Kind::kRefuse) {
      // The batch before it may be one of those that wait.
      const bool for_topic = topic.WaitsBefore(job.ticket);
      const bool for_client = !for_topic && client != nullptr && client->WaitsBefore(job.ticket);
      if ((for_topic || for_client) && verdict.error == ErrorCode::kOutOfOrderSequenceNumber) {
        return waiting_appends_->OnNoRoom(
            job, at, for_client ? client->client.when_full : topic.topic.when_full, for_client,
            verdict.message);
      }
      return job.Refuse(at, verdict.error, std::move(verdict.message));
    }
  }
  if (!HasRoom(job, at, topic, client)) return;
  const OwnerId owner = usage_.OwnerOf(transaction, client);
  entry.base_offset =
      transaction.Append({.stream = stream,
                          .bytes = entry.batch,
                          .record_count = static_cast<uint32_t>(sequenced.record_count),
                          .max_timestamp_ms = header.max_timestamp,
                          .tag = TagOf(header.producer, owner),
                          .summed = {{.begin = kafka::kBatchCrcBegin, .crc = header.crc}}});
  job.entries[at].end = entry.base_offset + sequenced.record_count;
  usage_.Append(stream, owner, entry.batch.size());
  if (table != nullptr) {
    table->Record(sequenced,
                  {.base_offset = entry.base_offset, .timestamp = transaction.commit_time_ms()});
  }
}

void RecordLog::AppendNoted(NotedAppend append, NotedDone done) {
  std::unique_ptr<spool::Operation> operation =
      std::make_unique<NotedOperation>(*this, std::move(append), std::move(done));
  if (spool_->Submit(operation)) return;
  static_cast<NotedOperation&>(*operation)
      .TakeBack()({.result = base::Unexpected(Code::kFull, std::string(kTakesNoMore))});
}

NotedOutcome RecordLog::LookForRoom(const NotedAppend& append) {
  NotedOutcome outcome;
  const SpoolUsage::Account* const client = usage_.Client(append.client);
  std::map<std::string_view, uint64_t> of_topics;
  uint64_t all = 0;
  for (const NewBatch& batch : append.batches) {
    const SpoolUsage::Account& topic = usage_.Topic(batch.topic);
    uint64_t& before = of_topics[batch.topic];
    if (topic.waiting > 0 || !topic.FitsTopic(batch.bytes.size(), before)) {
      outcome.topics.emplace(batch.topic, topic.HeadroomUpTo(topic.topic.bytes_max));
    }
    if (client != nullptr &&
        (client->waiting > 0 || !client->FitsClient(batch.bytes.size(), all))) {
      outcome.client = client->HeadroomUpTo(client->client.bytes_max);
    }
    before += batch.bytes.size();
    all += batch.bytes.size();
  }
  if (!outcome.topics.empty()) {
    outcome.result = base::Unexpected(
        Code::kFull, fmt::format("topic {}: {}", outcome.topics.begin()->first, kTopicFull));
  } else if (outcome.client) {
    outcome.result =
        base::Unexpected(Code::kFull, fmt::format("{}: {}", append.client, kClientFull));
  }
  return outcome;
}

StreamEnd RecordLog::AppendOwn(spool::Transaction& transaction, std::string_view client_name,
                               const NewBatch& batch) {
  const kafka::BatchHeader header = RecordBatchView(batch.bytes).header();
  const spool::StreamId stream = transaction.OpenStream(StreamName(batch.topic, batch.partition));
  usage_.Topic(stream, batch.topic);
  const OwnerId owner = usage_.OwnerOf(transaction, usage_.Client(client_name));
  const int32_t records = SequencedBatch::FromHeader(header).record_count;
  const int64_t begin = transaction.Append({.stream = stream,
                                            .bytes = batch.bytes,
                                            .record_count = static_cast<uint32_t>(records),
                                            .max_timestamp_ms = header.max_timestamp,
                                            .tag = TagOf(header.producer, owner)});
  usage_.Append(stream, owner, batch.bytes.size());
  return {.stream = stream, .end = begin + records};
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
  usage_.Load(state);
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
  state.ForEach(kOutboxPrefix, [&](std::string_view key, std::string_view value) {
    kept_.outbox.emplace(key, value);
  });
  state.ForEach(kHalfPrefix, [&](std::string_view key, std::string_view value) {
    kept_.half.emplace(key, value);
  });
  state.ForEach(kJournalPrefix, [&](std::string_view key, std::string_view value) {
    kept_.journal.emplace(key, value.size());
  });
  state.ForEach(kPortsKey, [&](std::string_view key, std::string_view value) {
    kept_.ports.emplace(key, value);
  });
  if (const auto upstream = state.Get(kUpstreamKey)) {
    HF_ASSIGN_OR_RETURN(kept_.upstream, UpstreamProducer::Parse(*upstream));
  }
  if (const auto destination = state.Get(kDestinationKey)) {
    HF_ASSIGN_OR_RETURN(kept_.destination, Destination::Parse(*destination));
  }
  HF_ASSIGN_OR_RETURN(kept_.transactions, LoadTransactions(state));
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
  state.ForEach(kDropsPrefix, [&](std::string_view key, std::string_view value) {
    const auto stream = ParseStreamKey(kDropsPrefix, key);
    auto drops = Drops::Parse(value);
    if (stream && drops) {
      kept_.drops[stream->value()] = *std::move(drops);
    } else if (!drops) {
      loaded = base::Unexpected(drops.error());
    }
  });
  state.ForEach(kLeftOutPrefix, [&](std::string_view key, std::string_view value) {
    const auto stream = ParseStreamKey(kLeftOutPrefix, key);
    auto left_out = ParseLeftOut(value);
    if (stream && left_out) {
      kept_.left_out[stream->value()] = *std::move(left_out);
    } else if (!left_out) {
      loaded = base::Unexpected(left_out.error());
    }
  });
  state.ForEach(kInLanePrefix, [&](std::string_view key, std::string_view value) {
    const auto stream = ParseStreamKey(kInLanePrefix, key);
    auto tag = ParseClusterTag(value);
    if (stream && tag) {
      kept_.in_lane[stream->value()] = *tag;
    } else if (!tag) {
      loaded = base::Unexpected(tag.error());
    }
  });
  return loaded;
}

void RecordLog::Replay(const spool::EntryInfo& entry) {
  usage_.Replay(entry, OwnerOfTag(entry.tag));
  const kafka::Producer producer = ProducerOf(entry.tag);
  if (producer.id == kafka::kNoProducerId) return;
  producers_[entry.stream.value()].Record(
      {.producer = producer, .record_count = static_cast<int32_t>(entry.record_count)},
      {.base_offset = entry.base_offset, .timestamp = entry.commit_time_ms});
}

void RecordLog::Checkpoint(spool::Transaction& transaction) {
  usage_.Checkpoint(transaction);
  if (destination_) transaction.Put(kDestinationKey, destination_->Serialize());
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
