#include "broker/producer_ids.h"

#include "base/endian.h"
#include "broker/records.h"
#include "broker/topic_changes.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

constexpr int64_t kBlock = 1000;

}  // namespace

int64_t TakeProducerIds(spool::Transaction& transaction, int64_t count) {
  const auto stored = transaction.Get(kProducerIdKey);
  const int64_t first =
      stored && stored->size() == sizeof(int64_t) ? base::LoadBig<int64_t>(stored->data()) : 0;
  char bytes[sizeof(int64_t)];
  base::StoreBig(bytes, first + count);
  transaction.Put(kProducerIdKey, {bytes, sizeof(bytes)});
  return first;
}

void ProducerIds::Next(Answer answer) {
  loop_.AssertInLoop();
  if (next_ < end_) return answer(kafka::ErrorCode::kNone, next_++);
  waiting_.push_back(std::move(answer));
  if (waiting_.size() == 1) TakeBlock();
}

void ProducerIds::TakeBlock() {
  auto first = std::make_shared<int64_t>(0);
  submitter_.Submit(std::make_unique<StateChange>(
      [first](spool::Transaction& transaction) { *first = TakeProducerIds(transaction, kBlock); },
      [this, first](const auto& result) {
        const kafka::ErrorCode error =
            result ? kafka::ErrorCode::kNone : kafka::ToCoordinatorError(result.error().code);
        loop_.Post([this, error, first] { OnBlock(error, *first); });
      }));
}

void ProducerIds::OnBlock(kafka::ErrorCode error, int64_t first) {
  if (error == kafka::ErrorCode::kNone) {
    next_ = first;
    end_ = first + kBlock;
  }
  for (Answer& answer : std::exchange(waiting_, {})) {
    if (error != kafka::ErrorCode::kNone) {
      answer(error, -1);
    } else {
      Next(std::move(answer));
    }
  }
}

}  // namespace holdfast::broker
