// Reads and writes the fields that a message names (kafka/message.h) in one version of it. Included
// by the few files that turn messages into bytes or back; everybody else needs kafka/codec.h only.
//
// Reader: one short or senseless read makes all later ones yield zeros and empty views; the caller
//   checks AtEnd() once. Views borrow from the input.
// Writer: appends to one growing buffer and leaves nothing behind the last field.
//   lost() tells whether something was set that the version has no place for.
//
// Limits: a string has at most 32767 bytes, as in Kafka: a longer one is not read, and written up
//   to there. A message has at most kMaxElements array elements, unless whoever reads it allows
//   more; memory grows with the elements that were really there, never with an announced count.
//   Nesting is that of the declared structs.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/buffer.h"
#include "base/check.h"
#include "base/endian.h"
#include "kafka/message.h"

namespace holdfast::kafka {

inline constexpr size_t kMaxElements = size_t{1} << 20;
inline constexpr size_t kMaxStringBytes = 32767;

constexpr bool Carries(int16_t version, const Versions& versions) {
  return versions.since <= version && version <= versions.last;
}

class Reader {
 public:
  explicit Reader(std::string_view in, int16_t version = 0, bool flexible = false)
      : begin_(in.data()), in_(in), version_(version), flexible_(flexible) {}

  void AllowElements(size_t most) { elements_max_ = most; }

  [[nodiscard]] bool ok() const { return error_ == nullptr; }
  [[nodiscard]] bool AtEnd() const { return ok() && in_.empty(); }
  [[nodiscard]] std::string_view rest() const { return in_; }
  // What went wrong first, or null, and how far reading had come by then.
  [[nodiscard]] const char* error() const { return error_; }
  // What went wrong is only that the input ends: a longer one may be readable.
  [[nodiscard]] bool ended_early() const { return error_ == kEndsEarly; }
  [[nodiscard]] size_t position() const { return ok() ? Consumed() : failed_at_; }

  std::string_view Take(size_t size) {
    if (size > in_.size()) {
      Fail(kEndsEarly);
      return {};
    }
    const std::string_view head = in_.substr(0, size);
    in_.remove_prefix(size);
    return head;
  }
  template <std::integral T>
  T Int() {
    const std::string_view bytes = Take(sizeof(T));
    return bytes.empty() ? T{} : base::LoadBig<T>(bytes.data());
  }
  uint32_t UnsignedVarint();

  template <class T>
  void operator()(T& field, const Versions& versions = {}) {
    if (!Carries(version_, versions)) return;
    if constexpr (requires { field.has_value(); }) {
      Nullable(field, version_ >= versions.nullable_since);
    } else {
      Value(field);
    }
  }
  void Bytes(std::string_view& field, const Versions& versions = {}) {
    if (Carries(version_, versions)) field = TakeCounted(LongLength());
  }
  void Bytes(std::optional<std::string_view>& field, const Versions& versions = {});

  template <class... T>
  void Tags(UnknownTags& unknown, const TaggedField<T>&... fields) {
    if (!flexible_) return;
    const uint32_t count = UnsignedVarint();
    int64_t previous = -1;
    for (uint32_t i = 0; i < count && ok(); ++i) {
      const uint32_t tag = UnsignedVarint();
      const std::string_view bytes = Take(UnsignedVarint());
      if (tag <= previous) Fail("tags are out of order");
      previous = tag;
      if (!ok() || (TakeTagged(tag, bytes, fields) || ...)) continue;
      CountElement();
      unknown.push_back({tag, bytes});
    }
  }
  template <class M>
  void Struct(M& message) {
    M::Fields(*this, message);
  }

 private:
  static constexpr int64_t kNull = -1;

  [[nodiscard]] size_t Consumed() const { return static_cast<size_t>(in_.data() - begin_); }
  void Fail(const char* why);
  void CountElement() {
    if (++elements_ > elements_max_) Fail("it has too many array elements");
  }
  // The length of what follows; kNull for null.
  int64_t StringLength();
  int64_t LongLength();
  std::string_view TakeCounted(int64_t length) {
    if (length == kNull) Fail("a field that is never null is null");
    return length < 0 ? std::string_view() : Take(static_cast<size_t>(length));
  }

  template <std::integral T>
  void Value(T& field) {
    if constexpr (std::same_as<T, bool>) {
      field = Int<int8_t>() != 0;
    } else {
      field = Int<T>();
    }
  }
  void Value(double& field) { field = std::bit_cast<double>(Int<uint64_t>()); }
  void Value(ErrorCode& field) { field = static_cast<ErrorCode>(Int<int16_t>()); }
  void Value(Uuid& field);
  void Value(std::string_view& field) { field = TakeCounted(StringLength()); }
  template <class T>
  void Value(std::vector<T>& field) {
    const int64_t length = LongLength();
    if (length == kNull) Fail("an array that is never null is null");
    Elements(length, field);
  }
  template <class M>
  requires std::is_class_v<M>
  void Value(M& field) { Struct(field); }

  void Nullable(std::optional<std::string_view>& field, bool nullable) {
    const int64_t length = StringLength();
    if (length != kNull || !nullable) {
      field = TakeCounted(length);
    } else {
      field.reset();
    }
  }
  template <class T>
  void Nullable(std::optional<std::vector<T>>& field, bool nullable) {
    const int64_t length = LongLength();
    if (length == kNull && !nullable) Fail("an array that is never null in this version is null");
    if (length == kNull) {
      field.reset();
    } else {
      Elements(length, field.emplace());
    }
  }
  template <class M>
  void Nullable(std::optional<M>& field, bool /*nullable*/) {
    if (Int<int8_t>() < 0) {
      field.reset();
    } else {
      Struct(field.emplace());
    }
  }

  template <class T>
  void Elements(int64_t count, std::vector<T>& field) {
    // Every element takes a byte at least, so a count beyond the bytes left is a lie.
    if (count > static_cast<int64_t>(in_.size())) Fail("an array is longer than the message");
    if (count <= 0 || !ok()) return;
    field.reserve(static_cast<size_t>(std::min<int64_t>(count, kReserve)));
    for (int64_t i = 0; i < count && ok(); ++i) {
      CountElement();
      Value(field.emplace_back());
    }
  }

  template <class T>
  bool TakeTagged(uint32_t tag, std::string_view bytes, const TaggedField<T>& known) {
    if (known.tag != tag || !Carries(version_, known.versions)) return false;
    const std::string_view behind = in_;
    in_ = bytes;
    (*this)(known.field);
    if (ok() && !in_.empty()) Fail("a tagged field has more bytes than it needs");
    if (ok()) in_ = behind;
    return true;
  }

  static constexpr int64_t kReserve = 64;
  // An array, so that there is one of it: literals that are alike may have several addresses.
  static constexpr char kEndsEarly[] = "it ends too early";

  const char* begin_;
  std::string_view in_;
  int16_t version_;
  bool flexible_;
  size_t elements_ = 0;
  size_t elements_max_ = kMaxElements;
  const char* error_ = nullptr;
  size_t failed_at_ = 0;
};

// A message as it is made: what its fields hold when nobody set them.
template <class M>
inline const M kDefaultMade{};

class Writer {
 public:
  explicit Writer(int16_t version = 0, bool flexible = false)
      : version_(version), flexible_(flexible) {}

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] std::string_view written() const { return {buffer_.data(), size_}; }
  [[nodiscard]] bool lost() const { return lost_; }
  // Of fields of bytes only the lengths are written from now on, and where the bytes belong.
  void LeaveGaps(std::vector<Gap>* gaps) { gaps_ = gaps; }
  [[nodiscard]] size_t gap_bytes() const { return gap_bytes_; }
  // Overwrites an int32 written before.
  void PatchInt32(size_t at, int32_t value) { base::StoreBig(buffer_.data() + at, value); }
  // What was written, and nothing else.
  [[nodiscard]] base::Buffer Finish() &&;

  void Raw(std::string_view bytes);
  template <std::integral T>
  void Int(T value) {
    base::StoreBig(Grow(sizeof(T)), value);
  }
  void UnsignedVarint(uint32_t value);
  // An int16 length and the characters, also in flexible versions.
  void OldString(std::optional<std::string_view> text);

  template <class T>
  void operator()(const T& field, const Versions& versions = {}) {
    if (!Carries(version_, versions)) {
      LoseUnless(versions.ignorable || HoldsDefault(field));
    } else if constexpr (requires { field.has_value(); }) {
      Nullable(field, version_ >= versions.nullable_since);
    } else {
      Value(field);
    }
  }
  void Bytes(std::string_view field, const Versions& versions = {}) {
    if (Carries(version_, versions)) LongBytes(field);
  }
  void Bytes(const std::optional<std::string_view>& field, const Versions& versions = {});

  template <class... T>
  void Tags(const UnknownTags& unknown, const TaggedField<T>&... fields) {
    (LoseUnless(flexible_ || fields.versions.ignorable || HoldsDefault(fields.field)), ...);
    if (!flexible_) return;
    UnsignedVarint(static_cast<uint32_t>(unknown.size() + (size_t{Due(fields)} + ... + size_t{0})));
    // Both lists are in the order of tags, and the section has to be.
    auto next = unknown.begin();
    ((Due(fields) ? (PutUnknown(next, unknown.end(), fields.tag), PutTag(fields)) : void()), ...);
    PutUnknown(next, unknown.end(), kAllTags);
  }
  template <class M>
  void Struct(const M& message) {
    const intptr_t outer = to_default_;
    to_default_ =
        reinterpret_cast<intptr_t>(&kDefaultMade<M>) - reinterpret_cast<intptr_t>(&message);
    M::Fields(*this, message);
    to_default_ = outer;
  }

 private:
  static constexpr int64_t kAllTags = std::numeric_limits<int64_t>::max();

  void LoseUnless(bool kept) { lost_ = lost_ || !kept; }
  // True if null cannot be written; then it becomes an empty value.
  bool LosesNull(bool nullable) {
    LoseUnless(nullable);
    return !nullable;
  }
  // Makes room for `size` bytes at the end and returns where they go.
  char* Grow(size_t size);
  void StringLength(int64_t length);
  void LongLength(int64_t length);
  void LongBytes(std::string_view bytes) {
    LongLength(static_cast<int64_t>(bytes.size()));
    if (gaps_ == nullptr || bytes.empty()) return Raw(bytes);
    gaps_->push_back({size_, bytes.size()});
    gap_bytes_ += bytes.size();
  }

  template <std::integral T>
  void Value(T field) {
    if constexpr (std::same_as<T, bool>) {
      Int<int8_t>(field ? 1 : 0);
    } else {
      Int(field);
    }
  }
  void Value(double field) { Int(std::bit_cast<uint64_t>(field)); }
  void Value(ErrorCode field) { Int(static_cast<int16_t>(field)); }
  void Value(const Uuid& field);
  void Value(std::string_view field);
  template <class T>
  void Value(const std::vector<T>& field) {
    LongLength(static_cast<int64_t>(field.size()));
    for (const T& element : field) Value(element);
  }
  template <class M>
  requires std::is_class_v<M>
  void Value(const M& field) { Struct(field); }

  void Nullable(const std::optional<std::string_view>& field, bool nullable) {
    if (field || LosesNull(nullable)) {
      Value(field.value_or(std::string_view()));
    } else {
      StringLength(-1);
    }
  }
  template <class T>
  void Nullable(const std::optional<std::vector<T>>& field, bool nullable) {
    if (field) {
      Value(*field);
    } else {
      LongLength(LosesNull(nullable) ? 0 : -1);
    }
  }
  template <class M>
  void Nullable(const std::optional<M>& field, bool /*nullable*/) {
    Int<int8_t>(field ? 1 : -1);
    if (field) Struct(*field);
  }

  template <class T>
  [[nodiscard]] bool Due(const TaggedField<T>& known) {
    if (HoldsDefault(known.field)) return false;
    const bool carried = Carries(version_, known.versions);
    LoseUnless(carried || known.versions.ignorable);
    return carried;
  }
  template <class T>
  void PutTag(const TaggedField<T>& known) {
    UnsignedVarint(known.tag);
    const size_t start = size_;
    (*this)(known.field);
    InsertLength(start);
  }
  void PutUnknown(UnknownTags::const_iterator& next, UnknownTags::const_iterator end,
                  int64_t before);
  // Puts the length of what was written since `start` in front of it.
  void InsertLength(size_t start);

  // The default of a field of the struct at hand is what the same member of a fresh struct holds,
  // so that it is written down once only, as the member's initialiser.
  template <class T>
  [[nodiscard]] bool HoldsDefault(const T& field) const {
    return Same(field,
                *reinterpret_cast<const T*>(reinterpret_cast<intptr_t>(&field) + to_default_));
  }
  template <class T>
  static bool Same(const T& a, const T& b) {
    return a == b;
  }
  template <class T>
  static bool Same(const std::vector<T>& a, const std::vector<T>& b) {
    return a.empty() && b.empty();  // No array of Kafka's has elements by default.
  }
  template <class T>
  static bool Same(const std::optional<T>& a, const std::optional<T>& b) {
    return a && b ? Same(*a, *b) : !a && !b;
  }

  int16_t version_;
  bool flexible_;
  base::Buffer buffer_;
  size_t size_ = 0;
  intptr_t to_default_ = 0;
  bool lost_ = false;
  std::vector<Gap>* gaps_ = nullptr;
  size_t gap_bytes_ = 0;
};

}  // namespace holdfast::kafka
