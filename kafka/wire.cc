#include "kafka/wire.h"

#include <cstring>
#include <limits>

namespace holdfast::kafka {

void Reader::Fail(const char* why) {
  if (!ok()) return;
  failed_at_ = Consumed();
  error_ = why;
  in_ = {};
}

uint32_t Reader::UnsignedVarint() {
  uint32_t value = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    const auto byte = Int<uint8_t>();
    if (shift == 28 && byte > 0x0f) break;
    value |= static_cast<uint32_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  Fail("a variable-length integer has more than 32 bits");
  return 0;
}

int64_t Reader::StringLength() {
  const int64_t length = flexible_ ? int64_t{UnsignedVarint()} - 1 : Int<int16_t>();
  if (!ok()) return 0;
  if (length < kNull) Fail("a string has a negative length");
  if (length > static_cast<int64_t>(kMaxStringBytes)) Fail("a string is longer than 32767 bytes");
  return ok() ? length : 0;
}

int64_t Reader::LongLength() {
  const int64_t length = flexible_ ? int64_t{UnsignedVarint()} - 1 : Int<int32_t>();
  if (!ok()) return 0;
  if (length < kNull) Fail("an array or a byte field has a negative length");
  return ok() ? length : 0;
}

void Reader::Bytes(std::optional<std::string_view>& field, const Versions& versions) {
  if (!Carries(version_, versions)) return;
  const int64_t length = LongLength();
  if (length == kNull && version_ >= versions.nullable_since) {
    field.reset();
  } else {
    field = TakeCounted(length);
  }
}

void Reader::Value(Uuid& field) {
  const std::string_view bytes = Take(field.bytes.size());
  if (!bytes.empty()) std::memcpy(field.bytes.data(), bytes.data(), bytes.size());
}

char* Writer::Grow(size_t size) {
  if (buffer_.size() - size_ < size) {
    base::Buffer larger(std::max({size_t{256}, 2 * buffer_.size(), size_ + size}));
    if (size_ > 0) std::memcpy(larger.data(), buffer_.data(), size_);
    buffer_ = std::move(larger);
  }
  char* const place = buffer_.data() + size_;
  size_ += size;
  return place;
}

base::Buffer Writer::Finish() && {
  buffer_.Truncate(size_);
  return std::move(buffer_);
}

void Writer::Raw(std::string_view bytes) {
  if (!bytes.empty()) std::memcpy(Grow(bytes.size()), bytes.data(), bytes.size());
}

void Writer::UnsignedVarint(uint32_t value) {
  for (; value >= 0x80; value >>= 7) Int(static_cast<uint8_t>(value | 0x80));
  Int(static_cast<uint8_t>(value));
}

void Writer::OldString(std::optional<std::string_view> text) {
  HF_CHECK(!text || text->size() <= kMaxStringBytes);
  Int(text ? static_cast<int16_t>(text->size()) : int16_t{-1});
  if (text) Raw(*text);
}

void Writer::StringLength(int64_t length) {
  if (flexible_) {
    UnsignedVarint(static_cast<uint32_t>(length + 1));
  } else {
    Int(static_cast<int16_t>(length));
  }
}

void Writer::LongLength(int64_t length) {
  HF_CHECK(length < std::numeric_limits<int32_t>::max());
  if (flexible_) {
    UnsignedVarint(static_cast<uint32_t>(length + 1));
  } else {
    Int(static_cast<int32_t>(length));
  }
}

void Writer::Bytes(const std::optional<std::string_view>& field, const Versions& versions) {
  if (!Carries(version_, versions)) return;
  if (field || LosesNull(version_ >= versions.nullable_since)) {
    LongBytes(field.value_or(std::string_view()));
  } else {
    LongLength(-1);
  }
}

void Writer::Value(std::string_view field) {
  // What was read is within the limit. Only a text for people can be longer, say an error message
  // that quotes a name.
  LoseUnless(field.size() <= kMaxStringBytes);
  field = field.substr(0, kMaxStringBytes);
  StringLength(static_cast<int64_t>(field.size()));
  Raw(field);
}

void Writer::Value(const Uuid& field) {
  Raw({reinterpret_cast<const char*>(field.bytes.data()), field.bytes.size()});
}

void Writer::PutUnknown(UnknownTags::const_iterator& next, UnknownTags::const_iterator end,
                        int64_t before) {
  for (; next != end && next->tag < before; ++next) {
    UnsignedVarint(next->tag);
    UnsignedVarint(static_cast<uint32_t>(next->bytes.size()));
    Raw(next->bytes);
  }
}

void Writer::InsertLength(size_t start) {
  const size_t length = size_ - start;
  UnsignedVarint(static_cast<uint32_t>(length));
  char* const bytes = buffer_.data();
  std::rotate(bytes + start, bytes + start + length, bytes + size_);
}

}  // namespace holdfast::kafka
