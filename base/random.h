// Randomness with a seed one can print and give again. Not for secrets.
#pragma once

#include <cstdint>
#include <limits>

namespace holdfast::base {

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014); a UniformRandomBitGenerator for <random> and
// std::shuffle.
class Random {
 public:
  using result_type = uint64_t;

  explicit Random(uint64_t seed) : state_(seed) {}
  // Seeded from the operating system.
  static Random FromSystem();

  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return std::numeric_limits<uint64_t>::max(); }
  uint64_t operator()() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // Evenly from [0, limit); limit > 0.
  uint64_t Below(uint64_t limit) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>((*this)()) * limit) >> 64);
  }

 private:
  uint64_t state_;
};

}  // namespace holdfast::base
