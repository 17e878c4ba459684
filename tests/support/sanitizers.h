// How thin to make a campaign of many cases that are alike, and what cannot run under which.
#pragma once

namespace holdfast::test {

// ThreadSanitizer takes ten times as long, and has nothing to find where there is one thread: of
// each kind of case it gets every seventh.
#if defined(__SANITIZE_THREAD__)
inline constexpr int kEveryOf = 7;
// librdkafka makes its threads with C11's thrd_create, which gcc's ThreadSanitizer does not know:
// it crashes in the first of them.
inline constexpr bool kLibrdkafkaRuns = false;
#else
inline constexpr int kEveryOf = 1;
inline constexpr bool kLibrdkafkaRuns = true;
#endif

}  // namespace holdfast::test
