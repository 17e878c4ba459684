#include "agent/delivery_journal.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <iterator>

#include "base/endian.h"
#include "kafka/varint.h"

namespace holdfast::agent {
namespace {

constexpr char kFormat = 1;
constexpr size_t kHeadSize = 1 + 8;
constexpr size_t kTroubleHeadSize = 1 + 8 + 8 + 1;
constexpr size_t kTroubleTextMax = 500;

std::string BlockKey(uint64_t number) {
  std::array<char, sizeof(number)> bytes;
  base::StoreBig(bytes.data(), number);
  return std::string(kJournalPrefix).append(bytes.data(), bytes.size());
}

std::optional<uint64_t> ParseBlockKey(std::string_view key) {
  if (!key.starts_with(kJournalPrefix) || key.size() != kJournalPrefix.size() + sizeof(uint64_t))
    return std::nullopt;
  return base::LoadBig<uint64_t>(key.data() + kJournalPrefix.size());
}

void Put(std::string& to, int64_t value) {
  std::array<char, sizeof(value)> bytes;
  base::StoreLittle(bytes.data(), value);
  to.append(bytes.data(), bytes.size());
}

std::string EmptyBlock(int64_t time_ms) {
  std::string block(1, kFormat);
  Put(block, time_ms);
  return block;
}

void Encode(const Delivery& delivery, int64_t time_ms, std::string* out) {
  for (const int64_t field : std::initializer_list<int64_t>{
           delivery.stream.value(), delivery.begin, delivery.end - delivery.begin,
           delivery.tier_begin, delivery.node, delivery.confirmed_ms - time_ms,
           delivery.last_ms - delivery.confirmed_ms, delivery.confirmed_ms - delivery.sent_ms,
           static_cast<int64_t>(delivery.proof), delivery.attempts})
    kafka::AppendVarint(field, out);
  if (delivery.attempts == 0) return;
  kafka::AppendVarint(delivery.confirmed_ms - delivery.since_ms, out);
  kafka::AppendVarint(static_cast<int16_t>(delivery.first_error), out);
  kafka::AppendVarint(static_cast<int16_t>(delivery.last_error), out);
}

std::optional<Delivery> Decode(std::string_view* bytes, int64_t time_ms) {
  bool whole = true;
  const auto take = [&] {
    const auto value = kafka::TakeVarint(bytes);
    whole = whole && value;
    return value.value_or(0);
  };
  Delivery delivery;
  delivery.stream = spool::StreamId(static_cast<uint32_t>(take()));
  delivery.begin = take();
  delivery.end = delivery.begin + take();
  delivery.tier_begin = take();
  delivery.node = static_cast<int32_t>(take());
  delivery.confirmed_ms = time_ms + take();
  delivery.last_ms = delivery.confirmed_ms + take();
  delivery.sent_ms = delivery.confirmed_ms - take();
  delivery.proof = static_cast<DeliveryProof>(take());
  delivery.attempts = static_cast<uint32_t>(take());
  if (delivery.attempts != 0) {
    delivery.since_ms = delivery.confirmed_ms - take();
    delivery.first_error = static_cast<kafka::ErrorCode>(take());
    delivery.last_error = static_cast<kafka::ErrorCode>(take());
  }
  return whole ? std::optional(delivery) : std::nullopt;
}

// Worth being told apart from others.
bool Alone(const Delivery& delivery) {
  return delivery.attempts != 0 || delivery.proof == DeliveryProof::kReadBack ||
         delivery.proof == DeliveryProof::kRecognised;
}

// Whether `next` goes on where `open` ends, in the same way.
bool Continues(const Delivery& open, const Delivery& next) {
  const bool same_place = open.tier_begin < 0
                              ? next.tier_begin < 0
                              : next.tier_begin == open.tier_begin + (open.end - open.begin);
  return next.begin == open.end && same_place && next.node == open.node &&
         next.proof == open.proof && !Alone(next) &&
         next.last_ms - open.confirmed_ms < DeliveryJournal::kSpanMs;
}

}  // namespace

DeliveryJournal::DeliveryJournal(const Blocks& kept, size_t bytes_max) : bytes_max_(bytes_max) {
  for (const auto& [key, bytes] : kept) {
    const auto number = ParseBlockKey(key);
    if (!number) continue;
    blocks_.push_back({.number = *number, .bytes = key.size() + bytes});
    bytes_ += blocks_.back().bytes;
    next_ = *number + 1;
  }
}

void DeliveryJournal::Add(const Delivery& delivery) {
  const base::MutexLock lock(mutex_);
  const auto open = open_.find(delivery.stream.value());
  if (open != open_.end() && Continues(open->second, delivery)) {
    open->second.end = delivery.end;
    open->second.last_ms = delivery.last_ms;
    return;
  }
  if (open != open_.end()) {
    due_.push_back(open->second);
    open_.erase(open);
  }
  if (!Alone(delivery)) {
    open_.emplace(delivery.stream.value(), delivery);
  } else {
    due_.push_back(delivery);
  }
}

DeliveryJournal::Changes DeliveryJournal::Take(int64_t now_ms, bool all) {
  const base::MutexLock lock(mutex_);
  std::erase_if(open_, [&](const auto& open) HF_REQUIRES(mutex_) {
    const bool due = all || now_ms - open.second.confirmed_ms >= kSpanMs;
    if (due) due_.push_back(open.second);
    return due;
  });
  Changes changes;
  const auto put_block = [&]() HF_REQUIRES(mutex_) {
    std::string key = BlockKey(blocks_.back().number);
    const size_t bytes = key.size() + last_.size();
    bytes_ += bytes - std::exchange(blocks_.back().bytes, bytes);
    changes.emplace_back(std::move(key), last_);
  };
  bool changed = false;
  for (const Delivery& delivery : std::exchange(due_, {})) {
    if (last_.empty() || last_.size() >= kBlockBytes) {
      if (std::exchange(changed, false)) put_block();
      last_time_ms_ = now_ms;
      last_ = EmptyBlock(last_time_ms_);
      blocks_.push_back({.number = next_++, .bytes = 0});
    }
    Encode(delivery, last_time_ms_, &last_);
    changed = true;
  }
  if (changed) put_block();
  while (bytes_ > bytes_max_ && blocks_.size() > 1) {
    changes.emplace_back(BlockKey(blocks_.front().number), std::nullopt);
    bytes_ -= blocks_.front().bytes;
    blocks_.pop_front();
  }
  return changes;
}

std::string DeliveryJournal::Unwritten() const {
  const base::MutexLock lock(mutex_);
  std::string block = last_.empty() ? EmptyBlock(last_time_ms_) : last_;
  for (const Delivery& delivery : due_) Encode(delivery, last_time_ms_, &block);
  for (const auto& [stream, delivery] : open_) Encode(delivery, last_time_ms_, &block);
  return block;
}

std::vector<Delivery> ParseBlock(std::string_view block) {
  std::vector<Delivery> deliveries;
  if (block.size() < kHeadSize || block.front() != kFormat) return deliveries;
  const auto time_ms = base::LoadLittle<int64_t>(block.data() + 1);
  block.remove_prefix(kHeadSize);
  while (!block.empty()) {
    const auto delivery = Decode(&block, time_ms);
    if (!delivery) break;
    deliveries.push_back(*delivery);
  }
  return deliveries;
}

std::vector<Delivery> ReadJournal(const spool::StateView& state) {
  std::vector<Delivery> deliveries;
  state.ForEach(kJournalPrefix, [&](std::string_view, std::string_view value) {
    std::ranges::move(ParseBlock(value), std::back_inserter(deliveries));
  });
  return deliveries;
}

std::string Trouble::Serialize() const {
  std::string bytes(1, kFormat);
  Put(bytes, cursor);
  Put(bytes, since_ms);
  bytes.push_back(parked ? 1 : 0);
  return bytes.append(text, 0, kTroubleTextMax);
}

base::Result<Trouble> Trouble::Parse(std::string_view bytes) {
  if (bytes.size() < kTroubleHeadSize || bytes.front() != kFormat)
    return base::Unexpected(base::Code::kInvalid, "trouble: written by another version");
  return Trouble{.cursor = base::LoadLittle<int64_t>(bytes.data() + 1),
                 .since_ms = base::LoadLittle<int64_t>(bytes.data() + 9),
                 .parked = bytes[17] != 0,
                 .text = std::string(bytes.substr(kTroubleHeadSize))};
}

}  // namespace holdfast::agent
