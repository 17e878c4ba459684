// How thin to make a campaign of many cases that are alike.
#pragma once

namespace holdfast::test {

// ThreadSanitizer takes ten times as long, and has nothing to find where there is one thread: of
// each kind of case it gets every seventh.
#if defined(__SANITIZE_THREAD__)
inline constexpr int kEveryOf = 7;
#else
inline constexpr int kEveryOf = 1;
#endif

}  // namespace holdfast::test
