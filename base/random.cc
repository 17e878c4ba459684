#include "base/random.h"

#include <random>

namespace holdfast::base {

Random Random::FromSystem() {
  std::random_device device;
  return Random((static_cast<uint64_t>(device()) << 32) | device());
}

}  // namespace holdfast::base
