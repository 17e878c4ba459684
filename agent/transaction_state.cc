#include "agent/transaction_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/endian.h"

namespace holdfast::agent {
namespace {

constexpr uint8_t kFormat = 1;
constexpr uint8_t kOwnedFormat = 2;  // Of a producer that is somebody's.
constexpr size_t kNumberSize = 1 + 8;
constexpr size_t kRangeSize = 4 + 8 + 8;
constexpr size_t kProducerSize = 1 + 8 + 2 + 8 + 2 + 4 + 1 + 8;

template <std::integral T>
void Put(std::string& to, T value) {
  std::array<char, sizeof(T)> bytes;
  base::StoreLittle(bytes.data(), value);
  to.append(bytes.data(), bytes.size());
}

// Takes a field off the front; the caller has checked the size.
template <std::integral T>
T Take(std::string_view& from) {
  const T value = base::LoadLittle<T>(from.data());
  from.remove_prefix(sizeof(T));
  return value;
}

base::Result<> CheckForm(std::string_view what, std::string_view bytes, bool right_size,
                         uint8_t format = kFormat) {
  if (bytes.empty() || static_cast<uint8_t>(bytes[0]) != format) {
    return base::Unexpected(base::Code::kInvalid,
                            fmt::format("{}: written by another version of the agent", what));
  }
  if (!right_size) {
    return base::Unexpected(base::Code::kCorrupt,
                            fmt::format("{}: {} bytes are no such record", what, bytes.size()));
  }
  return {};
}

}  // namespace

std::string CommittedTransaction::Key() const {
  std::array<char, sizeof(number)> bytes;
  base::StoreBig(bytes.data(), number);
  return std::string(kCommittedPrefix).append(bytes.data(), bytes.size());
}

std::string CommittedTransaction::Serialize() const {
  std::string bytes(1, static_cast<char>(kFormat));
  for (const Range& range : ranges) {
    Put(bytes, range.stream.value());
    Put(bytes, range.begin);
    Put(bytes, range.end);
  }
  if (given_up) Put(bytes, static_cast<uint8_t>(*given_up));
  return bytes;
}

const CommittedTransaction::Range* CommittedTransaction::RangeIn(spool::StreamId stream) const {
  const auto found = std::ranges::find(ranges, stream, &Range::stream);
  return found == ranges.end() ? nullptr : &*found;
}

base::Result<CommittedTransaction> CommittedTransaction::Parse(std::string_view key,
                                                               std::string_view bytes) {
  constexpr std::string_view kWhat = "committed transaction";
  HF_RETURN_IF_ERROR(
      CheckForm(kWhat, bytes,
                key.size() == kCommittedPrefix.size() + sizeof(number) &&
                    (bytes.size() % kRangeSize == 1 || bytes.size() % kRangeSize == 2)));
  CommittedTransaction parsed;
  parsed.number = base::LoadBig<uint64_t>(key.data() + kCommittedPrefix.size());
  bytes.remove_prefix(1);
  while (bytes.size() > 1) {
    Range& range = parsed.ranges.emplace_back();
    range.stream = spool::StreamId(Take<uint32_t>(bytes));
    range.begin = Take<int64_t>(bytes);
    range.end = Take<int64_t>(bytes);
  }
  if (!bytes.empty()) parsed.given_up = static_cast<DropCause>(Take<uint8_t>(bytes));
  return parsed;
}

std::string SerializeNumber(uint64_t number) {
  std::string bytes(1, static_cast<char>(kFormat));
  Put(bytes, number);
  return bytes;
}

std::optional<uint64_t> ParseNumber(std::string_view bytes) {
  if (!CheckForm("number", bytes, bytes.size() == kNumberSize)) return std::nullopt;
  bytes.remove_prefix(1);
  return Take<uint64_t>(bytes);
}

std::string LocalProducerRecord::Serialize() const {
  std::string bytes(1, static_cast<char>(principal.empty() ? kFormat : kOwnedFormat));
  Put(bytes, id);
  Put(bytes, epoch);
  Put(bytes, last_id);
  Put(bytes, last_epoch);
  Put(bytes, timeout_ms);
  Put(bytes, static_cast<uint8_t>(state));
  Put(bytes, used_ms);
  return bytes.append(principal);
}

base::Result<LocalProducerRecord> LocalProducerRecord::Parse(std::string_view bytes) {
  const bool owned = bytes.size() > kProducerSize;
  HF_RETURN_IF_ERROR(CheckForm("local transactional producer", bytes, bytes.size() >= kProducerSize,
                               owned ? kOwnedFormat : kFormat));
  bytes.remove_prefix(1);
  LocalProducerRecord parsed;
  parsed.id = Take<int64_t>(bytes);
  parsed.epoch = Take<int16_t>(bytes);
  parsed.last_id = Take<int64_t>(bytes);
  parsed.last_epoch = Take<int16_t>(bytes);
  parsed.timeout_ms = Take<int32_t>(bytes);
  parsed.state = static_cast<State>(Take<uint8_t>(bytes));
  parsed.used_ms = Take<int64_t>(bytes);
  parsed.principal = bytes;
  return parsed;
}

base::Result<KeptTransactions> LoadTransactions(const spool::StateView& state) {
  KeptTransactions kept;
  kept.name = state.Get(kTransactionsKey).value_or("");
  base::Result<> loaded;
  state.ForEach(kCommittedPrefix, [&](std::string_view key, std::string_view value) {
    auto transaction = CommittedTransaction::Parse(key, value);
    if (transaction) {
      kept.committed.push_back(*std::move(transaction));
    } else {
      loaded = base::Unexpected(transaction.error());
    }
  });
  state.ForEach(kLocalProducerPrefix, [&](std::string_view key, std::string_view value) {
    auto producer = LocalProducerRecord::Parse(value);
    if (producer) {
      kept.producers[std::string(key.substr(kLocalProducerPrefix.size()))] = *producer;
    } else {
      loaded = base::Unexpected(producer.error());
    }
  });
  HF_RETURN_IF_ERROR(std::move(loaded));
  return kept;
}

std::map<std::string, std::string> GiveUpWith(const std::vector<spool::StreamId>& dropped,
                                              const spool::State& state) {
  std::map<std::string, std::string> values;
  state.ForEach(kCommittedPrefix, [&](std::string_view key, std::string_view value) {
    auto transaction = CommittedTransaction::Parse(key, value);
    if (!transaction || transaction->given_up) return;
    size_t waiting = 0;
    size_t gone = 0;
    for (const CommittedTransaction::Range& range : transaction->ranges) {
      if (state.stream(range.stream).start >= range.end) continue;
      ++waiting;
      if (std::ranges::find(dropped, range.stream) != dropped.end()) ++gone;
    }
    if (gone == 0 || gone == waiting) return;
    transaction->given_up = DropCause::kByHand;
    values[std::string(key)] = transaction->Serialize();
  });
  return values;
}

}  // namespace holdfast::agent
