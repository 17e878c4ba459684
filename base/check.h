// Checks of invariants. A broken invariant means that the program no longer knows what it is doing:
// it stops with file, line and condition before it can write anything wrong to disk.
//
// HF_CHECK is on in every build. HF_DCHECK is for hot loops and off in release builds.
#pragma once

namespace holdfast::base {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);
}  // namespace holdfast::base

#define HF_CHECK(condition)                                          \
  do {                                                               \
    if (!(condition)) [[unlikely]]                                   \
      ::holdfast::base::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

#ifdef NDEBUG
#define HF_DCHECK(condition) ((void)sizeof(!(condition)))
#else
#define HF_DCHECK(condition) HF_CHECK(condition)
#endif
