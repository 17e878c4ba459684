// A value that one thread replaces and all read: an immutable snapshot behind an atomic number.
//
//   Published<Topics> topics;                       // Publish() by who changes it.
//   PublishedReader<Topics> reader(topics);         // One for each thread that reads often:
//   if (reader.Refresh()) { ... }                   // costs one load when nothing has changed.
//   reader->Find("orders");
//
// Threads: Published any. A PublishedReader belongs to one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/mutex.h"

namespace holdfast::broker {

template <class T>
class Published {
 public:
  Published() : value_(std::make_shared<const T>()) {}

  [[nodiscard]] std::shared_ptr<const T> Get() const {
    const base::MutexLock lock(mutex_);
    return value_;
  }
  void Publish(std::shared_ptr<const T> value) {
    {
      const base::MutexLock lock(mutex_);
      value_ = std::move(value);
    }
    version_.fetch_add(1, std::memory_order_release);
  }
  // Grows with each value.
  [[nodiscard]] uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  mutable base::Mutex mutex_;
  std::shared_ptr<const T> value_ HF_GUARDED_BY(mutex_);
  std::atomic<uint64_t> version_{1};
};

template <class T>
class PublishedReader {
 public:
  explicit PublishedReader(const Published<T>& published) : published_(published) {}

  // What Refresh saw last.
  [[nodiscard]] const T& operator*() const { return *value_; }
  [[nodiscard]] const T* operator->() const { return value_.get(); }
  [[nodiscard]] const std::shared_ptr<const T>& shared() const { return value_; }
  // Of that value; 0 before the first Refresh.
  [[nodiscard]] uint64_t version() const { return seen_; }
  // True: there is another value, and pointers into the one before may be left hanging.
  bool Refresh() {
    const uint64_t version = published_.version();
    if (version == seen_) return false;
    value_ = published_.Get();
    seen_ = version;
    return true;
  }

 private:
  const Published<T>& published_;
  std::shared_ptr<const T> value_ = std::make_shared<const T>();
  uint64_t seen_ = 0;
};

}  // namespace holdfast::broker
