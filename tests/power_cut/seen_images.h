// Which images of a disk were seen before, by whichever process: a set of fingerprints in memory
// that forked processes share.
//
// Limits: kCapacity; beyond, everything counts as seen.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace holdfast::power_cut {

class SeenImages {
 public:
  SeenImages()
      : slots_(
            static_cast<uint64_t*>(mmap(nullptr, kSlots * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    HF_CHECK(slots_ != MAP_FAILED);
  }
  SeenImages(const SeenImages&) = delete;
  SeenImages& operator=(const SeenImages&) = delete;
  ~SeenImages() { munmap(slots_, kSlots * sizeof(uint64_t)); }

  // Says whether it is new.
  bool Add(uint64_t fingerprint) {
    if (fingerprint == 0) fingerprint = 1;
    // The first slot counts.
    for (uint64_t at = 1 + fingerprint % (kSlots - 1);; at = at % (kSlots - 1) + 1) {
      if (slots_[at] == fingerprint) return false;
      if (slots_[at] != 0) continue;
      if (slots_[0] == kCapacity) return false;
      slots_[at] = fingerprint;
      ++slots_[0];
      return true;
    }
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 20;
  static constexpr size_t kCapacity = kSlots / 2;

  uint64_t* const slots_;
};

}  // namespace holdfast::power_cut
