#include "agent/dead_letter_replay.h"

#include <algorithm>
#include <utility>

#include "agent/dead_letter.h"
#include "agent/record_log.h"
#include "agent/spool_usage.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {

// Puts the batch at `begin` back and trims up to `end`, unless another replay has done that. With
// nothing to put back it only trims.
class DeadLetterReplay::PutBack final : public spool::Operation {
 public:
  PutBack(std::shared_ptr<DeadLetterReplay> owner, DeadLetters restored, int64_t begin, int64_t end)
      : owner_(std::move(owner)), restored_(std::move(restored)), begin_(begin), end_(end) {}

  [[nodiscard]] size_t Bytes() const override { return restored_.batch.size(); }
  void Apply(spool::Transaction& transaction) override {
    const bool first = transaction.StartOffset(owner_->dead_) <= begin_;
    transaction.Trim(owner_->dead_, end_);
    if (!first || restored_.batch.empty()) return;
    const spool::StreamId to = transaction.OpenStream(owner_->stream_);
    transaction.Append({.stream = to,
                        .bytes = restored_.batch,
                        .record_count = restored_.record_count,
                        .max_timestamp_ms = kafka::RecordBatchView(restored_.batch).max_timestamp(),
                        .tag = TagOf(kafka::Producer())});
    owner_->log_.usage().Append(to, 0, restored_.batch.size());
    records_ = restored_.record_count;
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    base::Executor& loop = owner_->loop_;
    loop.Post([owner = std::move(owner_), end = end_, records = records_, result]() mutable {
      if (!result) return owner->End(base::Unexpected(result.error()));
      owner->at_ = end;
      owner->replayed_.records += records;
      owner->Next();
    });
  }

 private:
  std::shared_ptr<DeadLetterReplay> owner_;
  const DeadLetters restored_;
  const int64_t begin_;
  const int64_t end_;
  uint64_t records_ = 0;  // That were put back.
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
  // Another replay may have gone further.
  at_ = std::max(at_, spool_.Range(dead_).start);
  if (at_ >= end_) return End();
  auto lease = spool_.ReadSound(dead_, at_, 1);
  if (IsLost(lease, at_)) return PassLost();
  if (!lease && at_ < spool_.Range(dead_).start) return Next();
  if (!lease) return End(base::Unexpected(lease.error()));
  if (lease->empty()) return End();
  const spool::EntryView& entry = lease->entries().front();
  auto restored = RestoreDeadLetters(entry.bytes);
  if (!restored) return End(base::Unexpected(std::move(restored).error().Within(stream_)));
  auto operation = std::make_unique<PutBack>(shared_from_this(), *std::move(restored),
                                             entry.info.base_offset, entry.info.end_offset());
  lease = spool::Lease();
  Submit(std::move(operation));
}

void DeadLetterReplay::PassLost() {
  const auto sound = spool_.NextReadable(dead_, at_);
  if (!sound) return End(base::Unexpected(sound.error()));
  const int64_t next = std::min(*sound, end_);
  replayed_.lost += static_cast<uint64_t>(next - at_);
  // What is put back after them trims them as well.
  if (next == end_) {
    return Submit(std::make_unique<PutBack>(shared_from_this(), DeadLetters{}, at_, end_));
  }
  at_ = next;
  Next();
}

void DeadLetterReplay::Submit(std::unique_ptr<spool::Operation> operation) {
  if (!spool_.Submit(operation)) {
    End(base::Unexpected(base::Code::kFull, "the spool takes no more for now"));
  }
}

void DeadLetterReplay::End(base::Result<> result) {
  if (replayed_.lost > 0) {
    base::Log(base::Event::kDeadLettersNotReplayed, {"forward", stream_},
              "{} dead letters are damaged, and not replayed", replayed_.lost);
  }
  if (!result) return done_(base::Unexpected(std::move(result).error()));
  done_(replayed_);
}

}  // namespace holdfast::agent
