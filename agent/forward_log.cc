#include "agent/forward_log.h"

#include "agent/record_log.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {
namespace {

constexpr base::Duration kRetryAfter = std::chrono::milliseconds(500);

}  // namespace

class ForwardLog::WriteOperation final : public spool::Operation {
 public:
  WriteOperation(base::Executor& loop, RecordLog* records, std::weak_ptr<ForwardLog*> owner,
                 std::shared_ptr<Batch> batch)
      : loop_(loop), records_(records), owner_(std::move(owner)), batch_(std::move(batch)) {}

  [[nodiscard]] size_t Bytes() const override { return 0; }
  void Apply(spool::Transaction& transaction) override {
    for (const auto& [id, cursor] : batch_->cursors) {
      const spool::StreamId stream(id);
      transaction.Put(StreamKey(kForwardPrefix, stream), cursor.record.Serialize());
      transaction.Trim(stream, cursor.record.confirmed);
      if (records_ == nullptr) continue;
      records_->usage().Apply(transaction, stream, cursor.record.confirmed, cursor.release);
    }
    for (const auto& [key, value] : batch_->values) {
      if (value) {
        transaction.Put(key, *value);
      } else {
        transaction.Erase(key);
      }
    }
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (!result) {
      base::Log(base::Event::kProgressNotRecorded, "forward",
                "progress not recorded, trying again: {}", result.error().message);
    } else if (records_ != nullptr) {
      records_->OnRoom();
    }
    loop_.Post([owner = owner_, ok = result.has_value(), batch = std::move(batch_)]() mutable {
      const auto alive = owner.lock();
      if (alive && *alive != nullptr) (*alive)->Written(ok, std::move(batch));
    });
  }

 private:
  base::Executor& loop_;
  RecordLog* const records_;
  const std::weak_ptr<ForwardLog*> owner_;
  std::shared_ptr<Batch> batch_;
};

class ForwardLog::AsideOperation final : public spool::Operation {
 public:
  // `pending`: released before, and not written down so far.
  AsideOperation(base::Executor& loop, RecordLog* records, std::weak_ptr<ForwardLog*> owner,
                 spool::StreamId stream, const ForwardRecord& record, Aside aside, Release pending,
                 AsideDone done)
      : loop_(loop),
        records_(records),
        owner_(std::move(owner)),
        stream_(stream),
        record_(record),
        aside_(std::move(aside)),
        pending_(std::move(pending)),
        done_(std::move(done)) {}

  [[nodiscard]] size_t Bytes() const override { return aside_.batch.size(); }
  void Apply(spool::Transaction& transaction) override {
    const spool::StreamId to = transaction.OpenStream(aside_.stream_name);
    transaction.Append({.stream = to,
                        .bytes = aside_.batch,
                        .record_count = aside_.record_count,
                        .max_timestamp_ms = kafka::RecordBatchView(aside_.batch).max_timestamp(),
                        .tag = TagOf(kafka::Producer())});
    transaction.Put(StreamKey(kForwardPrefix, stream_), record_.Serialize());
    transaction.Trim(stream_, record_.confirmed);
    for (const auto& [key, value] : aside_.values) transaction.Put(key, value);
    if (records_ == nullptr) return;
    Release release = aside_.release;
    release.Add(pending_);
    records_->usage().Append(to, 0, aside_.batch.size());
    records_->usage().Apply(transaction, stream_, record_.confirmed, release);
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (result && records_ != nullptr) records_->OnRoom();
    base::Result<> outcome;
    if (!result) outcome = base::Unexpected(result.error());
    Finish(std::move(outcome));
  }
  void Finish(base::Result<> outcome) {
    loop_.Post([owner = owner_, done = std::move(done_), outcome = std::move(outcome),
                stream = stream_, record = record_, pending = std::move(pending_)]() mutable {
      const auto alive = owner.lock();
      if (!alive || *alive == nullptr) return;
      (*alive)->OnAside(stream, record, outcome.has_value(), std::move(pending));
      done(std::move(outcome));
    });
  }

 private:
  base::Executor& loop_;
  RecordLog* const records_;
  const std::weak_ptr<ForwardLog*> owner_;
  const spool::StreamId stream_;
  const ForwardRecord record_;
  const Aside aside_;
  Release pending_;
  AsideDone done_;
};

ForwardLog::ForwardLog(spool::Spool& spool, base::Executor& loop, RecordLog* records,
                       base::Duration interval)
    : spool_(spool),
      loop_(loop),
      records_(records),
      interval_(interval),
      self_(std::make_shared<ForwardLog*>(this)) {}

ForwardLog::~ForwardLog() { *self_ = nullptr; }

void ForwardLog::Note(spool::StreamId stream, const ForwardRecord& record, const Release& release) {
  Cursor& cursor = batch_.cursors[stream.value()];
  cursor.record = record;
  cursor.release.Add(release);
  Plan(interval_);
}

void ForwardLog::Note(std::string key, std::optional<std::string> value) {
  batch_.values[std::move(key)] = std::move(value);
  Plan(interval_);
}

void ForwardLog::SetAside(spool::StreamId stream, const ForwardRecord& record, Aside aside,
                          AsideDone done) {
  // What was noted of it is older, and must not be written later.
  Release pending;
  if (auto noted = batch_.cursors.extract(stream.value()); !noted.empty()) {
    pending = std::move(noted.mapped().release);
  }
  Superseded& superseded = asides_[stream.value()];
  for (const auto& [key, value] : aside.values) {
    superseded.keys.insert(key);
    superseded.values.insert(batch_.values.extract(key));
  }
  std::unique_ptr<spool::Operation> operation =
      std::make_unique<AsideOperation>(loop_, records_, self_, stream, record, std::move(aside),
                                       std::move(pending), std::move(done));
  if (spool_.Submit(operation)) return;
  static_cast<AsideOperation&>(*operation)
      .Finish(base::Unexpected(base::Code::kFull, "the spool takes no more for now"));
}

void ForwardLog::OnAside(spool::StreamId stream, const ForwardRecord& record, bool stored,
                         Release pending) {
  Superseded superseded = std::move(asides_.extract(stream.value()).mapped());
  if (stored) {
    // Of a write that failed meanwhile.
    if (!superseded.release.empty()) Note(stream, record, superseded.release);
    return;
  }
  batch_.values.merge(superseded.values);
  // The stream is noted once more now, and this with it.
  superseded.release.Add(pending);
  batch_.cursors[stream.value()].release.Add(superseded.release);
}

// Not before this turn is over: others may want the same.
void ForwardLog::Flush(base::Task done) {
  batch_.waiting.push_back(std::move(done));
  if (writing_ || batch_.waiting.size() > 1) return;
  loop_.Post([owner = std::weak_ptr<ForwardLog*>(self_)] {
    const auto alive = owner.lock();
    if (alive && *alive != nullptr) (*alive)->Submit();
  });
}

void ForwardLog::Plan(base::Duration delay) {
  if (writing_ || std::exchange(planned_, true)) return;
  timer_ = loop_.After(delay, [this] { Submit(); });
}

void ForwardLog::Submit() {
  planned_ = false;
  timer_.Cancel();
  if (writing_ || batch_.empty()) return;
  auto batch = std::make_shared<Batch>(std::exchange(batch_, {}));
  std::unique_ptr<spool::Operation> operation =
      std::make_unique<WriteOperation>(loop_, records_, self_, batch);
  writing_ = true;
  if (!spool_.Submit(operation)) Written(/*ok=*/false, std::move(batch));
}

void ForwardLog::Written(bool ok, std::shared_ptr<Batch> batch) {
  writing_ = false;
  if (ok) {
    const bool urgent = !batch_.waiting.empty();
    for (base::Task& task : batch->waiting) task();
    if (urgent) {
      Submit();
    } else if (!batch_.empty()) {
      Plan(interval_);
    }
    return;
  }
  // What was noted meanwhile is newer, and so is what is being set aside.
  for (auto& [id, superseded] : asides_) {
    for (const std::string& key : superseded.keys) {
      superseded.values.insert(batch->values.extract(key));
    }
  }
  for (auto& [id, cursor] : batch->cursors) {
    if (const auto aside = asides_.find(id); aside != asides_.end()) {
      aside->second.release.Add(cursor.release);
      continue;
    }
    const auto [newer, alone] = batch_.cursors.try_emplace(id, cursor);
    if (!alone) newer->second.release.Add(cursor.release);
  }
  batch_.values.merge(batch->values);
  for (base::Task& task : batch_.waiting) batch->waiting.push_back(std::move(task));
  batch_.waiting = std::move(batch->waiting);
  Plan(kRetryAfter);
}

}  // namespace holdfast::agent
