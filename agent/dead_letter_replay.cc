#include "agent/dead_letter_replay.h"

#include <utility>

#include "agent/dead_letter.h"
#include "agent/record_log.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {

class DeadLetterReplay::PutBack final : public spool::Operation {
 public:
  PutBack(std::shared_ptr<DeadLetterReplay> owner, DeadLetters restored, int64_t end)
      : owner_(std::move(owner)), restored_(std::move(restored)), end_(end) {}

  [[nodiscard]] size_t Bytes() const override { return restored_.batch.size(); }
  void Apply(spool::Transaction& transaction) override {
    const spool::StreamId to = transaction.OpenStream(owner_->stream_);
    transaction.Append({.stream = to,
                        .bytes = restored_.batch,
                        .record_count = restored_.record_count,
                        .max_timestamp_ms = kafka::RecordBatchView(restored_.batch).max_timestamp(),
                        .tag = TagOf(kafka::Producer())});
    transaction.Trim(owner_->dead_, end_);
    owner_->log_.usage().Append(to, 0, restored_.batch.size());
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    base::Executor& loop = owner_->loop_;
    loop.Post([owner = std::move(owner_), end = end_, records = restored_.record_count,
               result]() mutable {
      if (!result) return owner->done_(base::Unexpected(result.error()));
      owner->at_ = end;
      owner->records_ += records;
      owner->Next();
    });
  }

 private:
  std::shared_ptr<DeadLetterReplay> owner_;
  const DeadLetters restored_;
  const int64_t end_;
};

DeadLetterReplay::DeadLetterReplay(spool::Spool& spool, RecordLog& records, base::Executor& loop,
                                   std::string stream, Done done)
    : spool_(spool),
      log_(records),
      loop_(loop),
      stream_(std::move(stream)),
      done_(std::move(done)) {}

void DeadLetterReplay::Start(spool::Spool& spool, RecordLog& records, base::Executor& loop,
                             std::string stream, Done done) {
  const auto dead = spool.FindStream(DeadLetterStreamName(stream));
  if (!dead || spool.Range(*dead).start == spool.Range(*dead).end) {
    return done(base::Unexpected(base::Code::kNotFound, stream + " has no dead letters"));
  }
  const std::shared_ptr<DeadLetterReplay> replay(
      new DeadLetterReplay(spool, records, loop, std::move(stream), std::move(done)));
  replay->dead_ = *dead;
  replay->at_ = spool.Range(*dead).start;
  replay->end_ = spool.Range(*dead).end;
  loop.Post([replay] { replay->Next(); });
}

void DeadLetterReplay::Next() {
  if (at_ >= end_) return done_(records_);
  auto lease = spool_.Read(dead_, at_, 1);
  if (!lease) return done_(base::Unexpected(lease.error()));
  if (lease->empty()) return done_(records_);
  const spool::EntryView& entry = lease->entries().front();
  auto restored = RestoreDeadLetters(entry.bytes);
  if (!restored) return done_(base::Unexpected(std::move(restored).error().Within(stream_)));
  std::unique_ptr<spool::Operation> operation =
      std::make_unique<PutBack>(shared_from_this(), *std::move(restored), entry.info.end_offset());
  lease = spool::Lease();
  if (!spool_.Submit(operation)) {
    done_(base::Unexpected(base::Code::kFull, "the spool takes no more for now"));
  }
}

}  // namespace holdfast::agent
