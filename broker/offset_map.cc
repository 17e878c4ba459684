#include "broker/offset_map.h"

#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "base/random.h"

namespace holdfast::broker {
namespace {

constexpr size_t kSlotsMin = size_t{1} << 12;

// SipHash-2-4 with 128 bits of output, by Aumasson and Bernstein.
class SipHash {
 public:
  explicit SipHash(const std::array<uint64_t, 2>& key)
      : v0_(key[0] ^ 0x736f6d6570736575),
        v1_(key[1] ^ 0x646f72616e646f6d ^ 0xee),
        v2_(key[0] ^ 0x6c7967656e657261),
        v3_(key[1] ^ 0x7465646279746573) {}

  void Add(uint64_t word) {
    v3_ ^= word;
    Round();
    Round();
    v0_ ^= word;
  }
  std::array<uint64_t, 2> Finish() {
    v2_ ^= 0xee;
    const uint64_t low = Last();
    v1_ ^= 0xdd;
    return {low, Last()};
  }

 private:
  void Round() {
    v0_ += v1_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v3_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ += v3_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ += v1_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v2_ = std::rotl(v2_, 32);
  }
  uint64_t Last() {
    for (int i = 0; i < 4; ++i) Round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

  uint64_t v0_, v1_, v2_, v3_;
};

}  // namespace

OffsetMap::OffsetMap(size_t bytes_max)
    : slots_max_(std::max(std::bit_floor(bytes_max / sizeof(Slot)), kSlotsMin)),
      secret_{base::Random::FromSystem()(), base::Random::FromSystem()()},
      slots_(kSlotsMin) {}

OffsetMap::Slot OffsetMap::HashOf(spool::StreamId stream, std::string_view key) const {
  SipHash hash(secret_);
  hash.Add(uint64_t{stream.value()} << 32 | static_cast<uint32_t>(key.size()));
  for (; key.size() >= sizeof(uint64_t); key.remove_prefix(sizeof(uint64_t))) {
    hash.Add(base::LoadLittle<uint64_t>(key.data()));
  }
  uint64_t rest = 0;
  for (size_t i = 0; i < key.size(); ++i) {
    rest |= uint64_t{static_cast<unsigned char>(key[i])} << (8 * i);
  }
  hash.Add(rest);
  const auto [low, high] = hash.Finish();
  return {low, high, -1};
}

// Where it is, or where it would go.
size_t OffsetMap::Locate(const Slot& wanted) const {
  for (size_t at = wanted.low;; ++at) {
    const Slot& slot = slots_[at & (slots_.size() - 1)];
    if (slot.offset < 0 || (slot.low == wanted.low && slot.high == wanted.high)) {
      return at & (slots_.size() - 1);
    }
  }
}

bool OffsetMap::Grow() {
  if (slots_.size() >= slots_max_) return false;
  std::vector<Slot> before(slots_.size() * 2);
  before.swap(slots_);
  for (const Slot& slot : before) {
    if (slot.offset >= 0) slots_[Locate(slot)] = slot;
  }
  return true;
}

bool OffsetMap::Put(spool::StreamId stream, std::string_view key, int64_t offset) {
  Slot put = HashOf(stream, key);
  put.offset = offset;
  size_t at = Locate(put);
  if (slots_[at].offset < 0) {
    // Three quarters full, searches stay short.
    if (size_ + 1 > slots_.size() / 4 * 3) {
      if (!Grow()) return false;
      at = Locate(put);
    }
    ++size_;
  }
  slots_[at] = put;
  return true;
}

int64_t OffsetMap::Find(spool::StreamId stream, std::string_view key) const {
  return slots_[Locate(HashOf(stream, key))].offset;
}

}  // namespace holdfast::broker
