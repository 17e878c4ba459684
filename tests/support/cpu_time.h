// What a test that counts work by time goes by: the time that its own thread was running, which is
// about the same on a machine that is busy with other things.
#pragma once

#include <ctime>

namespace holdfast::test {

inline double CpuSeconds() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return static_cast<double>(spent.tv_sec) + static_cast<double>(spent.tv_nsec) / 1e9;
}

}  // namespace holdfast::test
