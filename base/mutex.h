// std::mutex with the annotations that let clang check who holds it.
#pragma once

#include <mutex>

#include "base/thread_annotations.h"

namespace holdfast::base {

class HF_CAPABILITY("mutex") Mutex {
 public:
  void Lock() HF_ACQUIRE() { mutex_.lock(); }
  void Unlock() HF_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class HF_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HF_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() HF_RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace holdfast::base
