#include "agent/local_transactions.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "agent/forward_state.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using State = LocalProducerRecord::State;

constexpr int16_t kEpochMax = 32766;

bool Fits(std::string_view pattern, std::string_view id) {
  if (!pattern.ends_with('*')) return pattern == id;
  return id.starts_with(pattern.substr(0, pattern.size() - 1));
}

proxy::LocalTransactions::Producer ProducerOf(const LocalProducerRecord& record) {
  return {.id = record.id, .epoch = record.epoch};
}

// Who came to the present epoch by a renewal or an end.
proxy::LocalTransactions::Producer LastOf(const LocalProducerRecord& record) {
  return {.id = record.last_id, .epoch = record.last_epoch};
}

kafka::SequencedBatch SequencedOf(std::string_view batch,
                                  proxy::LocalTransactions::Protocol protocol) {
  auto sequenced = kafka::SequencedBatch::FromHeader(kafka::RecordBatchView(batch).header());
  sequenced.transactions_v2 = protocol == proxy::LocalTransactions::Protocol::kSecond;
  return sequenced;
}

void RefuseAll(std::unique_ptr<proxy::SinkRequest> request, ErrorCode error,
               const std::string& message) {
  for (proxy::SinkEntry& entry : request->entries) {
    entry.error = error;
    entry.message = message;
  }
  proxy::SinkRequest& target = *request;
  target.Complete(std::move(request));
}

// Why the spool had none for a commit.
enum class NoRoom : uint8_t {
  kNo,
  kFull,
  kForSize,  // Others would have found some.
};

NoRoom NoRoomBy(const base::Error& error) {
  if (error.code != base::Code::kFull || error.event == base::Event::kTooLargeForSpool)
    return NoRoom::kNo;
  return error.event == base::Event::kNoRoomForLarge ? NoRoom::kForSize : NoRoom::kFull;
}

}  // namespace

struct LocalTransactions::Batch {
  std::string topic;
  int32_t partition = 0;
  std::string bytes;
  uint32_t record_count = 0;
  int64_t max_timestamp_ms = -1;
  SpoolUsage::Room room;
};

struct LocalTransactions::Coordinated {
  using Partition = std::pair<std::string, int32_t>;

  std::string transactional_id;
  LocalProducerRecord record;
  bool lost = false;  // The open transaction's batches went with an earlier run.
  std::set<Partition> partitions;
  std::vector<Batch> batches;
  size_t bytes = 0;
  std::map<std::string, uint64_t, std::less<>> topic_bytes;  // Of the batches.
  NoRoom no_room = NoRoom::kNo;  // When the commit was tried the last time.
  // Against a client's retries within the open transaction, and for the order of what comes next.
  std::map<Partition, kafka::ProducerTable> sequences;
  base::Timer timer;

  bool writing = false;
  base::UniqueFunction<void(bool)> then;  // Of what is being written,
  LocalProducerRecord next;               // and what that makes of it.
  std::deque<Step> waiting;

  [[nodiscard]] bool open() const {
    return record.state == State::kOngoing || record.state == State::kLost;
  }
};

// The producer's new record, and a committed transaction with it.
class LocalTransactions::WriteOperation final : public spool::Operation {
 public:
  WriteOperation(LocalTransactions& owner, const std::string& transactional_id,
                 const LocalProducerRecord& record, std::vector<Batch> batches,
                 const Coordinated& producer)
      : loop_(owner.context_.loop),
        records_(owner.context_.records),
        owner_(owner.self_),
        transactional_id_(transactional_id),
        record_(record),
        batches_(std::move(batches)),
        bytes_(producer.bytes),
        before_(producer.no_room) {}

  [[nodiscard]] size_t Bytes() const override { return batches_.empty() ? 0 : bytes_; }

  void Apply(spool::Transaction& transaction) override {
    transaction.Put(std::string(kLocalProducerPrefix) + transactional_id_, record_.Serialize());
    if (batches_.empty()) return;
    committed_.number = ParseNumber(transaction.Get(kCommittedNextKey).value_or("")).value_or(0);
    transaction.Put(kCommittedNextKey, SerializeNumber(committed_.number + 1));
    // Of one stream all batches follow one another: nothing else is appended meanwhile.
    std::map<uint32_t, CommittedTransaction::Range> ranges;
    SpoolUsage& usage = records_.usage();
    for (const Batch& batch : batches_) {
      const spool::StreamId stream =
          transaction.OpenStream(StreamName(batch.topic, batch.partition));
      const OwnerId owner = usage.OwnerOf(transaction, batch.room.client);
      const int64_t base = transaction.Append({.stream = stream,
                                               .bytes = batch.bytes,
                                               .record_count = batch.record_count,
                                               .max_timestamp_ms = batch.max_timestamp_ms,
                                               .tag = TagOf(kafka::Producer(), owner)});
      usage.Topic(stream, batch.topic);
      SpoolUsage::Pin(batch.room);
      SpoolUsage::GiveBack(batch.room);
      usage.Append(stream, owner, batch.bytes.size());
      auto& range = ranges.try_emplace(stream.value(), stream, base, base).first->second;
      range.end = base + batch.record_count;
    }
    for (const auto& [id, range] : ranges) committed_.ranges.push_back(range);
    transaction.Put(committed_.Key(), committed_.Serialize());
    applied_ = true;
  }

  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (!result) {
      base::Log(base::Event::kTransactionNotRecorded, {"transaction", transactional_id_},
                "not recorded: {}", result.error().message);
      TakeRoomAgain(result.error());
    } else if (applied_) {
      records_.OnCommitStored(bytes_, before_ != NoRoom::kNo);
    }
    if (applied_) {
      for (const Batch& batch : batches_) SpoolUsage::Unpin(batch.room);
    }
    loop_.Post([owner = owner_, id = std::move(transactional_id_), ok = result.has_value(),
                no_room = result ? NoRoom::kNo : NoRoomBy(result.error()),
                batches = std::move(batches_), committed = std::move(committed_)]() mutable {
      const auto alive = owner.lock();
      if (!alive || *alive == nullptr) return;
      if (!batches.empty()) (*alive)->producers_.at(id)->no_room = no_room;
      Finish(**alive, id, ok, std::move(batches), std::move(committed));
    });
  }

  // On the loop.
  static void Finish(LocalTransactions& owner, const std::string& id, bool ok,
                     std::vector<Batch> batches, CommittedTransaction committed) {
    Coordinated& producer = *owner.producers_.at(id);
    if (!ok) {
      // Only a commit took them. Whatever else failed leaves the open transaction as it is.
      if (!batches.empty()) producer.batches = std::move(batches);
    } else if (!batches.empty()) {
      size_t records = 0;
      for (const Batch& batch : batches) records += batch.record_count;
      owner.context_.metrics.acknowledged_records.Add(records);
      owner.context_.metrics.acknowledged_bytes.Add(producer.bytes);
      owner.context_.lane.Add(std::move(committed));
    }
    owner.Written(producer, ok);
    owner.ForgetUnknown(id);
  }
  std::vector<Batch> TakeBack() { return std::move(batches_); }

 private:
  // The transaction stays open, and whoever ends it tries again.
  void TakeRoomAgain(const base::Error& error) {
    if (applied_) {
      for (const Batch& batch : batches_) SpoolUsage::Keep(batch.room);
    }
    const bool may_drop = std::ranges::any_of(batches_, [](const Batch& batch) {
      return batch.room.topic->topic.when_full == WhenFull::kDropOldest;
    });
    const NoRoom now = NoRoomBy(error);
    // What the spool can do for a large one by itself comes first.
    if (may_drop && (now == NoRoom::kFull || (now == NoRoom::kForSize && before_ == now)))
      records_.OnCommitRefused(bytes_);
  }

  base::Executor& loop_;
  RecordLog& records_;
  const std::weak_ptr<LocalTransactions*> owner_;
  std::string transactional_id_;
  const LocalProducerRecord record_;
  std::vector<Batch> batches_;
  const size_t bytes_;
  const NoRoom before_;
  bool applied_ = false;
  CommittedTransaction committed_;
};

LocalTransactions::LocalTransactions(const Context& context, Options options,
                                     const std::map<std::string, LocalProducerRecord>& kept)
    : context_(context),
      options_(std::move(options)),
      self_(std::make_shared<LocalTransactions*>(this)) {
  for (const auto& [id, record] : kept) {
    const bool lost_now = record.state == State::kOngoing;
    if (lost_now) {
      base::Log(base::Event::kTransactionLost, {"transaction", id},
                "its open transaction is lost, as the agent was restarted");
      context_.metrics.local_transactions.With("lost").Add();
    }
    if (record.used_ms + kForgetAfterMs < context_.loop.WallClockMs()) {
      context_.host.Forget(std::string(kLocalProducerPrefix) + id);
      continue;
    }
    auto& producer = producers_[id];
    producer = std::make_unique<Coordinated>();
    producer->transactional_id = id;
    producer->record = record;
    producer->lost = producer->open();
    if (!lost_now) continue;
    // So that the next start does not tell it again.
    LocalProducerRecord told = record;
    told.state = State::kLost;
    Write(*producer, told, /*commit=*/false, [](bool /*ok*/) {});
  }
}

LocalTransactions::~LocalTransactions() { *self_ = nullptr; }

bool LocalTransactions::Owns(std::string_view transactional_id) const {
  const auto rule = std::ranges::find_if(
      options_.rules, [&](const Rule& r) { return Fits(r.pattern, transactional_id); });
  return rule != options_.rules.end() && rule->local;
}

void LocalTransactions::Post(Target target, base::UniqueFunction<void(Coordinated&, bool)> post) {
  Step step = [principal = std::move(target.principal),
               post = std::move(post)](Coordinated& producer) mutable {
    const std::string& owner = producer.record.principal;
    post(producer, !owner.empty() && owner != principal);
  };
  context_.loop.Post([owner = std::weak_ptr<LocalTransactions*>(self_),
                      id = std::move(target.transactional_id), step = std::move(step)]() mutable {
    const auto alive = owner.lock();
    if (!alive || *alive == nullptr) return;
    auto& producer = (*alive)->producers_[id];
    if (!producer) {
      producer = std::make_unique<Coordinated>();
      producer->transactional_id = id;
    }
    (*alive)->Enqueue(*producer, std::move(step));
    (*alive)->ForgetUnknown(id);
  });
}

void LocalTransactions::ForgetUnknown(const std::string& transactional_id) {
  const auto found = producers_.find(transactional_id);
  if (found == producers_.end()) return;
  const Coordinated& producer = *found->second;
  if (producer.record.id == kafka::kNoProducerId && !producer.writing && producer.waiting.empty())
    producers_.erase(found);
}

void LocalTransactions::Enqueue(Coordinated& producer, Step step) {
  producer.waiting.push_back(std::move(step));
  RunWaiting(producer);
}

void LocalTransactions::RunWaiting(Coordinated& producer) {
  while (!producer.writing && !producer.waiting.empty()) {
    Step step = std::move(producer.waiting.front());
    producer.waiting.pop_front();
    step(producer);
  }
}

void LocalTransactions::Write(Coordinated& producer, const LocalProducerRecord& next, bool commit,
                              base::UniqueFunction<void(bool)> then) {
  HF_CHECK(!producer.writing);
  producer.writing = true;
  producer.next = next;
  producer.next.used_ms = context_.loop.WallClockMs();
  producer.then = std::move(then);
  std::vector<Batch> batches;
  if (commit) batches = std::move(producer.batches);
  auto operation = std::make_unique<WriteOperation>(*this, producer.transactional_id, producer.next,
                                                    std::move(batches), producer);
  std::unique_ptr<spool::Operation> submitted = std::move(operation);
  if (context_.spool.Submit(submitted)) return;
  if (commit) producer.batches = static_cast<WriteOperation&>(*submitted).TakeBack();
  Written(producer, /*ok=*/false);
}

void LocalTransactions::Written(Coordinated& producer, bool ok) {
  producer.writing = false;
  if (ok) producer.record = producer.next;
  std::exchange(producer.then, {})(ok);
  RunWaiting(producer);
}

ErrorCode LocalTransactions::Check(const Coordinated& producer, const Producer& who) const {
  if (producer.record.id == kafka::kNoProducerId || producer.record.id != who.id) {
    return ErrorCode::kInvalidProducerIdMapping;
  }
  return producer.record.epoch == who.epoch ? ErrorCode::kNone : ErrorCode::kProducerFenced;
}

// ---- A producer ----

void LocalTransactions::InitProducer(Target target, int32_t timeout_ms, Producer known,
                                     OnProducer done) {
  std::string principal = target.principal;
  Post(std::move(target), [this, principal = std::move(principal), timeout_ms, known,
                           done = std::move(done)](Coordinated& producer, bool foreign) mutable {
    if (foreign) return done(ErrorCode::kTransactionalIdAuthorizationFailed, {});
    DoInit(producer, std::move(principal), timeout_ms, known, std::move(done));
  });
}

void LocalTransactions::DoInit(Coordinated& producer, std::string principal, int32_t timeout_ms,
                               Producer known, OnProducer done) {
  if (TransactionsOf(*context_.cache.cluster()) == TierTransactions::kNone) {
    base::Log(base::Event::kTierWithoutTransactions, {"transaction", producer.transactional_id},
              "refused, since the tier has no transactions to deliver it in");
    return done(ErrorCode::kUnsupportedVersion, {});
  }
  if (timeout_ms <= 0 || timeout_ms > kTimeoutMaxMs) {
    return done(ErrorCode::kInvalidTransactionTimeout, {});
  }
  const LocalProducerRecord& now = producer.record;
  const bool fresh = now.id == kafka::kNoProducerId;
  const bool renews = !fresh && known.id != kafka::kNoProducerId;
  if (fresh && producers_.size() > kProducersMax) {
    base::Log(base::Event::kTransactionalIdsTooMany, {"transaction", producer.transactional_id},
              "refused, {} transactional ids are in use", kProducersMax);
    return done(ErrorCode::kCoordinatorNotAvailable, {});
  }
  if (renews && known != ProducerOf(now)) {
    if (known != LastOf(now)) return done(ErrorCode::kProducerFenced, {});
    // The answer to the first time was lost.
    if (now.state == State::kEmpty) return done(ErrorCode::kNone, ProducerOf(now));
  }
  LocalProducerRecord next = now;
  next.principal = std::move(principal);
  next.timeout_ms = timeout_ms;
  next.state = State::kEmpty;
  // What this answer is asked for with again, and that need not be the present epoch: the answer to
  // the end that led to it may be lost, too.
  next.last_id = renews ? known.id : kafka::kNoProducerId;
  next.last_epoch = renews ? known.epoch : kafka::kNoProducerEpoch;
  NewProducer(producer, next, [this, &producer, done = std::move(done)](ErrorCode error) mutable {
    if (error != ErrorCode::kNone) return done(error, {});
    Drop(producer, "fenced");
    done(error, ProducerOf(producer.record));
  });
}

// The next epoch, or a new id if there is none; `done` runs when that is durable.
void LocalTransactions::NewProducer(Coordinated& producer, LocalProducerRecord next,
                                    base::UniqueFunction<void(ErrorCode)> done) {
  auto written = [done = std::move(done)](bool ok) mutable {
    done(ok ? ErrorCode::kNone : ErrorCode::kCoordinatorNotAvailable);
  };
  if (next.id != kafka::kNoProducerId && next.epoch < kEpochMax) {
    ++next.epoch;
    return Write(producer, next, /*commit=*/false, std::move(written));
  }
  producer.writing = true;  // The id is asked of the spool, too.
  context_.records.NewProducerId(
      [&loop = context_.loop, owner = std::weak_ptr<LocalTransactions*>(self_),
       id = producer.transactional_id, next,
       written = std::move(written)](base::Result<int64_t> fresh) mutable {
        loop.Post([owner = std::move(owner), id = std::move(id), next, fresh,
                   written = std::move(written)]() mutable {
          const auto alive = owner.lock();
          if (!alive || *alive == nullptr) return;
          Coordinated& asked = *(*alive)->producers_.at(id);
          asked.writing = false;
          if (fresh) {
            next.id = *fresh;
            next.epoch = 0;
            (*alive)->Write(asked, next, /*commit=*/false, std::move(written));
          } else {
            written(false);
            (*alive)->RunWaiting(asked);
          }
          (*alive)->ForgetUnknown(id);
        });
      });
}

// ---- A transaction ----

void LocalTransactions::Begin(Coordinated& producer, base::UniqueFunction<void(ErrorCode)> then) {
  if (producer.lost) return then(ErrorCode::kTransactionAbortable);
  if (producer.open()) return then(ErrorCode::kNone);
  if (context_.lane.waiting_partitions() >= options_.waiting_max) {
    context_.metrics.local_transactions.With("refused").Add();
    return then(ErrorCode::kCoordinatorNotAvailable);
  }
  LocalProducerRecord next = producer.record;
  next.state = State::kOngoing;
  // Whoever begins a transaction knows the present epoch: what still names the last one is late.
  next.last_id = kafka::kNoProducerId;
  next.last_epoch = kafka::kNoProducerEpoch;
  Write(
      producer, next, /*commit=*/false, [this, &producer, then = std::move(then)](bool ok) mutable {
        if (!ok) return then(ErrorCode::kCoordinatorNotAvailable);
        producer.timer = context_.loop.After(
            std::chrono::milliseconds(producer.record.timeout_ms),
            [this, &producer] { Enqueue(producer, [this](Coordinated& late) { TimeOut(late); }); });
        then(ErrorCode::kNone);
      });
}

void LocalTransactions::AddPartitions(Target target, Producer who, Partitions partitions,
                                      Done done) {
  Post(std::move(target), [this, who, partitions = std::move(partitions), done = std::move(done)](
                              Coordinated& producer, bool foreign) mutable {
    if (foreign) return done(ErrorCode::kTransactionalIdAuthorizationFailed);
    if (const ErrorCode error = Check(producer, who); error != ErrorCode::kNone) {
      return done(error);
    }
    Begin(producer, [&producer, partitions = std::move(partitions),
                     done = std::move(done)](ErrorCode error) mutable {
      if (error == ErrorCode::kNone) {
        producer.partitions.insert(partitions.begin(), partitions.end());
      }
      done(error);
    });
  });
}

void LocalTransactions::Append(Target target, Protocol protocol,
                               std::unique_ptr<proxy::SinkRequest> request) {
  Post(std::move(target),
       [this, protocol, request = std::move(request)](Coordinated& producer, bool foreign) mutable {
         if (foreign) {
           return RefuseAll(std::move(request), ErrorCode::kTransactionalIdAuthorizationFailed,
                            "the transactional id is another client's");
         }
         DoAppend(producer, protocol, std::move(request));
       });
}

void LocalTransactions::DoAppend(Coordinated& producer, Protocol protocol,
                                 std::unique_ptr<proxy::SinkRequest> request) {
  for (const proxy::SinkEntry& entry : request->entries) {
    const kafka::Producer who = kafka::RecordBatchView(entry.batch).header().producer;
    const ErrorCode error = Check(producer, {.id = who.id, .epoch = who.epoch});
    if (error != ErrorCode::kNone) {
      return RefuseAll(std::move(request), error, "the producer was fenced, or is not known");
    }
  }
  if (protocol == Protocol::kFirst && !producer.open()) {
    return RefuseAll(std::move(request), ErrorCode::kInvalidTxnState, "no transaction is open");
  }
  Begin(producer,
        [this, &producer, protocol, request = std::move(request)](ErrorCode error) mutable {
          if (error == ErrorCode::kTransactionAbortable) {
            return RefuseAll(std::move(request), error, "the transaction was lost in a restart");
          }
          if (error != ErrorCode::kNone) {
            return RefuseAll(std::move(request), ErrorCode::kNotEnoughReplicas,
                             "no transaction is begun for now: too many wait for the tier, or the "
                             "spool takes no more");
          }
          KeepRoom(producer, protocol, std::move(request));
        });
}

// Nothing else happens to the producer until the answer is there, so what was checked stays true.
void LocalTransactions::KeepRoom(Coordinated& producer, Protocol protocol,
                                 std::unique_ptr<proxy::SinkRequest> request) {
  auto job = std::make_unique<AppendJob>(std::move(request));
  std::vector<size_t> admitted;
  for (size_t at = 0; at < job->entries.size(); ++at) {
    proxy::SinkEntry& entry = job->request->entries[at];
    if (!Admit(producer, protocol, entry)) {
      job->entries[at].step = AppendJob::Step::kDone;
      continue;
    }
    admitted.push_back(at);
    job->entries[at].client_has = producer.bytes - entry.batch.size();
    const auto has = producer.topic_bytes.find(entry.topic);
    if (has != producer.topic_bytes.end()) job->entries[at].topic_has = has->second;
  }
  if (admitted.empty()) return AppendJob::Complete(std::move(job));
  producer.writing = true;
  job->on_room = [&loop = context_.loop, owner = std::weak_ptr<LocalTransactions*>(self_),
                  id = producer.transactional_id, protocol,
                  admitted = std::move(admitted)](std::unique_ptr<AppendJob> judged) mutable {
    loop.Post([owner = std::move(owner), id = std::move(id), protocol,
               admitted = std::move(admitted), judged = std::move(judged)]() mutable {
      const auto alive = owner.lock();
      if (!alive || *alive == nullptr) return;
      Coordinated& asked = *(*alive)->producers_.at(id);
      asked.writing = false;
      (*alive)->TakeIn(asked, protocol, std::move(judged), admitted);
      (*alive)->RunWaiting(asked);
    });
  };
  context_.records.KeepRoom(std::move(job));
}

bool LocalTransactions::Admit(Coordinated& producer, Protocol protocol, proxy::SinkEntry& entry) {
  const auto refuse = [&](ErrorCode error, std::string message) {
    entry.error = error;
    entry.message = std::move(message);
    return false;
  };
  const Coordinated::Partition partition(entry.topic, entry.partition);
  if (protocol == Protocol::kFirst && !producer.partitions.contains(partition)) {
    return refuse(ErrorCode::kInvalidTxnState, "the partition was not added to the transaction");
  }
  kafka::ProducerVerdict verdict =
      producer.sequences[partition].Check(SequencedOf(entry.batch, protocol));
  if (verdict.kind == kafka::ProducerVerdict::Kind::kDuplicate) {
    context_.metrics.duplicate_batches.Add();
    return false;
  }
  if (verdict.kind == kafka::ProducerVerdict::Kind::kRefuse) {
    return refuse(verdict.error, std::move(verdict.message));
  }
  if (producer.bytes + entry.batch.size() > options_.transaction_bytes_max) {
    return refuse(ErrorCode::kRecordListTooLarge,
                  fmt::format("a local transaction is at most {} bytes "
                              "(agent.limits.transaction_bytes_max)",
                              options_.transaction_bytes_max));
  }
  // It is one operation of the spool.
  const uint64_t spool_max = context_.spool.GetStatus().operation_bytes_max;
  if (producer.bytes + entry.batch.size() > spool_max) {
    return refuse(ErrorCode::kRecordListTooLarge,
                  fmt::format("a local transaction of more than {} bytes does not fit into the "
                              "spool (agent.spool.bytes_max)",
                              spool_max));
  }
  if (bytes_ + entry.batch.size() > options_.memory_max) {
    return refuse(ErrorCode::kNotEnoughReplicas, "too much is in open transactions for now");
  }
  producer.bytes += entry.batch.size();
  bytes_ += entry.batch.size();
  return true;
}

// What has room becomes part of the transaction.
void LocalTransactions::TakeIn(Coordinated& producer, Protocol protocol,
                               std::unique_ptr<AppendJob> job,
                               const std::vector<size_t>& admitted) {
  for (const size_t at : admitted) {
    const proxy::SinkEntry& entry = job->request->entries[at];
    if (entry.error != ErrorCode::kNone) {
      producer.bytes -= entry.batch.size();
      bytes_ -= entry.batch.size();
      continue;
    }
    const kafka::SequencedBatch sequenced = SequencedOf(entry.batch, protocol);
    producer.sequences[{std::string(entry.topic), entry.partition}].Record(
        sequenced, {.base_offset = -1, .timestamp = context_.loop.WallClockMs()});
    producer.topic_bytes[std::string(entry.topic)] += entry.batch.size();
    producer.batches.push_back(
        {.topic = std::string(entry.topic),
         .partition = entry.partition,
         .bytes = std::string(entry.batch),
         .record_count = static_cast<uint32_t>(sequenced.record_count),
         .max_timestamp_ms = kafka::RecordBatchView(entry.batch).max_timestamp(),
         .room = job->entries[at].room});
  }
  context_.metrics.local_transaction_bytes.Set(static_cast<double>(bytes_));
  AppendJob::Complete(std::move(job));
}

void LocalTransactions::End(Target target, Producer who, bool commit, Protocol protocol,
                            OnProducer done) {
  Post(std::move(target), [this, who, commit, protocol, done = std::move(done)](
                              Coordinated& producer, bool foreign) mutable {
    if (foreign) return done(ErrorCode::kTransactionalIdAuthorizationFailed, {});
    DoEnd(producer, who, commit, protocol, std::move(done));
  });
}

void LocalTransactions::DoEnd(Coordinated& producer, const Producer& who, bool commit,
                              Protocol protocol, OnProducer done) {
  const LocalProducerRecord& now = producer.record;
  const State ended = commit ? State::kCommitted : State::kAborted;
  const bool second = protocol == Protocol::kSecond;
  // The answer to the first time was lost.
  const bool again = second ? who == LastOf(now) && now.last_id != kafka::kNoProducerId
                            : who == ProducerOf(now) && !producer.open();
  if (again && now.state == ended) return done(ErrorCode::kNone, ProducerOf(now));
  if (const ErrorCode error = Check(producer, who); error != ErrorCode::kNone) {
    return done(error, {});
  }
  // In the second form a client ends what it may not have begun, to have a new epoch.
  if (!producer.open() && (commit || !second)) return done(ErrorCode::kInvalidTxnState, {});
  if (producer.lost && commit) return done(ErrorCode::kTransactionAbortable, {});
  LocalProducerRecord next = now;
  next.state = ended;
  auto ending = [this, &producer, commit, done = std::move(done)](bool ok) mutable {
    if (!ok) return done(ErrorCode::kCoordinatorNotAvailable, {});
    Drop(producer, commit ? "committed" : "aborted");
    done(ErrorCode::kNone, ProducerOf(producer.record));
  };
  if (!second) return Write(producer, next, commit, std::move(ending));
  next.last_id = now.id;
  next.last_epoch = now.epoch;
  if (now.epoch < kEpochMax) {
    ++next.epoch;
    return Write(producer, next, commit, std::move(ending));
  }
  // A commit has to be one operation, so the id for it is fetched first.
  producer.writing = true;
  context_.records.NewProducerId([&loop = context_.loop,
                                  owner = std::weak_ptr<LocalTransactions*>(self_),
                                  id = producer.transactional_id, next, commit,
                                  ending = std::move(ending)](base::Result<int64_t> fresh) mutable {
    loop.Post([owner = std::move(owner), id = std::move(id), next, commit, fresh,
               ending = std::move(ending)]() mutable {
      const auto alive = owner.lock();
      if (!alive || *alive == nullptr) return;
      Coordinated& asked = *(*alive)->producers_.at(id);
      asked.writing = false;
      if (fresh) {
        next.id = *fresh;
        next.epoch = 0;
        return (*alive)->Write(asked, next, commit, std::move(ending));
      }
      ending(false);
      (*alive)->RunWaiting(asked);
    });
  });
}

// As Kafka's coordinator: aborted, and the producer that left it open is fenced.
void LocalTransactions::TimeOut(Coordinated& producer) {
  if (!producer.open() || producer.lost) return;
  base::Log(base::Event::kTransactionTimedOut, {"transaction", producer.transactional_id},
            "aborted, it was open for longer than {} ms", producer.record.timeout_ms);
  LocalProducerRecord next = producer.record;
  next.state = State::kAborted;
  next.last_id = kafka::kNoProducerId;
  next.last_epoch = kafka::kNoProducerEpoch;
  NewProducer(producer, next, [this, &producer](ErrorCode error) {
    if (error == ErrorCode::kNone) return Drop(producer, "timed out");
    producer.timer = context_.loop.After(std::chrono::seconds(1), [this, &producer] {
      Enqueue(producer, [this](Coordinated& late) { TimeOut(late); });
    });
  });
}

void LocalTransactions::Drop(Coordinated& producer, std::string_view outcome) {
  // `record` has moved on already; an open transaction shows in what it left.
  const bool had = !producer.partitions.empty() || producer.bytes > 0;
  if (had) context_.metrics.local_transactions.With(outcome).Add();
  producer.lost = false;
  producer.partitions.clear();
  std::vector<SpoolUsage::Room> rooms;
  for (const Batch& batch : producer.batches) rooms.push_back(batch.room);
  if (!rooms.empty()) context_.records.GiveBack(std::move(rooms));
  producer.batches.clear();
  producer.topic_bytes.clear();
  bytes_ -= std::exchange(producer.bytes, 0);
  producer.no_room = NoRoom::kNo;
  producer.timer.Cancel();
  context_.metrics.local_transaction_bytes.Set(static_cast<double>(bytes_));
}

}  // namespace holdfast::agent
