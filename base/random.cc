#include "base/random.h"

#include <unistd.h>

#include "base/check.h"

namespace holdfast::base {

// std::random_device asks the processor each time, which costs tens of microseconds in a virtual
// machine.
Random Random::FromSystem() {
  uint64_t seed = 0;
  HF_CHECK(getentropy(&seed, sizeof(seed)) == 0);
  return Random(seed);
}

}  // namespace holdfast::base
