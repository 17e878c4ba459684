// Integers that cannot be mixed up: a PartitionId is not a ProducerId, and neither is a count.
//
//   using StreamId = base::StrongId<struct StreamIdTag, uint32_t>;
//   StreamId stream{7};  uint32_t raw = stream.value();
#pragma once

#include <compare>
#include <concepts>
#include <cstddef>
#include <functional>

namespace holdfast::base {

template <class Tag, std::integral T>
class StrongId {
 public:
  using Value = T;

  constexpr StrongId() = default;
  constexpr explicit StrongId(T value) : value_(value) {}
  [[nodiscard]] constexpr T value() const { return value_; }
  constexpr auto operator<=>(const StrongId&) const = default;
  [[nodiscard]] constexpr StrongId next() const { return StrongId(static_cast<T>(value_ + 1)); }

 private:
  T value_ = 0;
};

}  // namespace holdfast::base

template <class Tag, class T>
struct std::hash<holdfast::base::StrongId<Tag, T>> {
  size_t operator()(const holdfast::base::StrongId<Tag, T>& id) const noexcept {
    return std::hash<T>()(id.value());
  }
};
