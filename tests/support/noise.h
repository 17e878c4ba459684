// Bytes of which no two stretches are the same, for tests of their order.
#pragma once

#include <random>
#include <string>

namespace holdfast::test {

inline std::string Noise(size_t bytes) {
  std::mt19937 random;
  std::string noise(bytes, '\0');
  for (char& byte : noise) byte = static_cast<char>(random());
  return noise;
}

}  // namespace holdfast::test
