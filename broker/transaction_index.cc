#include "broker/transaction_index.h"

#include <algorithm>

#include "base/endian.h"

namespace holdfast::broker {
namespace {

using base::Code;
using base::Unexpected;

// The stored form, big-endian:
//   index       := i16 version, transaction*
//   transaction := i64 producer_id, i64 first_offset, i64 last_offset, i64 others_from
constexpr int16_t kVersion = 0;
constexpr size_t kEntryBytes = 4 * sizeof(int64_t);

template <class T>
void AppendBig(T value, std::string* out) {
  char bytes[sizeof(T)];
  base::StoreBig(bytes, value);
  out->append(bytes, sizeof(T));
}

constexpr auto kLastOffset = [](const auto& entry) { return entry.transaction.last_offset; };

}  // namespace

void TransactionIndex::End(const AbortedTransaction& transaction, bool aborted) {
  open_.erase(transaction.first_offset);
  decided_.push_back({transaction.first_offset, transaction.last_offset});
  if (!aborted) return;
  const base::MutexLock lock(mutex_);
  if (!aborted_.empty() && kLastOffset(aborted_.back()) >= transaction.last_offset) return;
  aborted_.push_back({transaction, open_.empty() ? transaction.last_offset : *open_.begin()});
  changed_ = true;
}

int64_t TransactionIndex::LastStableOffset(int64_t high_watermark) {
  std::erase_if(decided_, [high_watermark](const Decided& transaction) {
    return transaction.marker_offset < high_watermark;
  });
  int64_t stable = open_.empty() ? high_watermark : std::min(high_watermark, *open_.begin());
  for (const Decided& transaction : decided_) stable = std::min(stable, transaction.first_offset);
  return stable;
}

std::vector<AbortedTransaction> TransactionIndex::Aborted(int64_t from, int64_t to) const {
  std::vector<AbortedTransaction> found;
  const base::MutexLock lock(mutex_);
  for (auto at = std::ranges::lower_bound(aborted_, from, {}, kLastOffset); at != aborted_.end();
       ++at) {
    if (at->transaction.first_offset < to) found.push_back(at->transaction);
    if (at->others_from >= to) break;
  }
  return found;
}

void TransactionIndex::TrimBelow(int64_t offset) {
  const base::MutexLock lock(mutex_);
  const auto keep = std::ranges::lower_bound(aborted_, offset, {}, kLastOffset);
  if (keep == aborted_.begin()) return;
  aborted_.erase(aborted_.begin(), keep);
  changed_ = true;
}

// Readers look on meanwhile, so nothing that is durable may be missing for a moment.
void TransactionIndex::Rewind(int64_t high_watermark) {
  open_.clear();
  decided_.clear();
  changed_ = true;
  const base::MutexLock lock(mutex_);
  while (!aborted_.empty() && kLastOffset(aborted_.back()) >= high_watermark) aborted_.pop_back();
}

void TransactionIndex::Clear() {
  open_.clear();
  decided_.clear();
  changed_ = false;
  const base::MutexLock lock(mutex_);
  aborted_.clear();
}

std::string TransactionIndex::Serialize() {
  changed_ = false;
  std::string out;
  const base::MutexLock lock(mutex_);
  if (aborted_.empty()) return out;
  out.reserve(sizeof(kVersion) + kEntryBytes * aborted_.size());
  AppendBig(kVersion, &out);
  for (const auto& [transaction, others_from] : aborted_) {
    AppendBig(transaction.producer_id, &out);
    AppendBig(transaction.first_offset, &out);
    AppendBig(transaction.last_offset, &out);
    AppendBig(others_from, &out);
  }
  return out;
}

base::Result<void> TransactionIndex::Load(std::string_view bytes) {
  if (bytes.size() < sizeof(kVersion)) {
    return Unexpected(Code::kCorrupt, "a list of aborted transactions has no version");
  }
  if (const auto version = base::LoadBig<int16_t>(bytes.data()); version != kVersion) {
    return Unexpected(Code::kInvalid, "a list of aborted transactions has version " +
                                          std::to_string(version) +
                                          ": written by a newer holdfast, use that one");
  }
  bytes.remove_prefix(sizeof(kVersion));
  if (bytes.size() % kEntryBytes != 0) {
    return Unexpected(Code::kCorrupt, "a list of aborted transactions is damaged");
  }
  const base::MutexLock lock(mutex_);
  for (; !bytes.empty(); bytes.remove_prefix(kEntryBytes)) {
    const auto field = [bytes](size_t index) {
      return base::LoadBig<int64_t>(bytes.data() + index * sizeof(int64_t));
    };
    aborted_.push_back(
        {{.producer_id = field(0), .first_offset = field(1), .last_offset = field(2)}, field(3)});
  }
  return {};
}

}  // namespace holdfast::broker
