// Memory that outlives the process using it: forked processes see one and the same, at the same
// address, so that what one of them noted before it died is there for the next.
//
//   SharedArena& arena = SharedArena::Map(size_t{64} << 20);
//   auto* list = arena.New<std::pmr::vector<int>>(&arena);   // In every process forked from here.
//
// A process that tries something out takes a copy (BecomePrivate): what it notes stays its own.
//
// Limits: nothing is given back before Reset, which forgets everything at once. One process at a
// time.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <memory_resource>
#include <new>
#include <utility>

#include "base/check.h"

namespace holdfast::power_cut {

class SharedArena final : public std::pmr::memory_resource {
 public:
  static SharedArena& Map(size_t bytes) {
    const int file = memfd_create("arena", MFD_CLOEXEC);
    HF_CHECK(file >= 0 && ftruncate(file, static_cast<off_t>(bytes)) == 0);
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    HF_CHECK(memory != MAP_FAILED);
    return *new (memory) SharedArena(bytes, file);
  }

  // Everything stays where it is, and is from now on this process's alone.
  void BecomePrivate() {
    HF_CHECK(mmap(this, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                  file_, 0) == this);
  }

  void Reset() { used_ = kBegin; }
  template <class T, class... Args>
  T* New(Args&&... args) {
    return new (allocate(sizeof(T), alignof(T))) T(std::forward<Args>(args)...);
  }

 private:
  static constexpr size_t kBegin = 256;  // Behind the arena itself.

  SharedArena(size_t bytes, int file) : bytes_(bytes), file_(file) {
    static_assert(sizeof(*this) <= kBegin);
  }

  void* do_allocate(size_t bytes, size_t alignment) override {
    used_ = (used_ + alignment - 1) / alignment * alignment;
    HF_CHECK(used_ + bytes <= bytes_);
    void* const memory = reinterpret_cast<char*>(this) + used_;
    used_ += bytes;
    return memory;
  }
  void do_deallocate(void*, size_t, size_t) override {}
  [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override {
    return this == &other;
  }

  const size_t bytes_;
  const int file_;
  size_t used_ = kBegin;
};

}  // namespace holdfast::power_cut
