// clang's thread-safety analysis (https://clang.llvm.org/docs/ThreadSafetyAnalysis.html). The tidy
// preset turns violations into errors; under gcc the macros are empty.
#pragma once

#if defined(__clang__)
#define HF_ATTRIBUTE(x) __attribute__((x))
#else
#define HF_ATTRIBUTE(x)
#endif

#define HF_CAPABILITY(name) HF_ATTRIBUTE(capability(name))
#define HF_SCOPED_CAPABILITY HF_ATTRIBUTE(scoped_lockable)
#define HF_GUARDED_BY(x) HF_ATTRIBUTE(guarded_by(x))
#define HF_REQUIRES(...) HF_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define HF_EXCLUDES(...) HF_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define HF_ACQUIRE(...) HF_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define HF_RELEASE(...) HF_ATTRIBUTE(release_capability(__VA_ARGS__))
#define HF_ASSERT_CAPABILITY(x) HF_ATTRIBUTE(assert_capability(x))
#define HF_NO_THREAD_SAFETY_ANALYSIS HF_ATTRIBUTE(no_thread_safety_analysis)
