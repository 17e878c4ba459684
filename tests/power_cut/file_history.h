// What the disk may hold of a file instead of what the kernel shows: for each sector that was
// written and not flushed, what it held before each of these writes, and likewise the size.
//
// A disk writes whole sectors, so what is left of one after a power cut is what it held at *some*
// time since the last flush. Each sector chooses on its own, which is how writes get torn and
// reordered.
//
// Fingerprints: a file's is the sum of its sectors', and a sector of zeros counts nothing. So, once
// measured, it is known at any time what a cut would leave, without looking at the file.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/power_cut/dice.h"

namespace holdfast::power_cut {

inline constexpr uint64_t kSectorBytes = 512;

class FileHistory {
 public:
  // `measured`: an empty file's fingerprint is known.
  FileHistory(std::pmr::memory_resource* memory, bool measured)
      : memory_(memory), sectors_(memory), sizes_(memory), measured_(measured) {}

  // Fingerprints are wanted from here on.
  void Measure(int fd);
  // Before bytes [begin, end) of the file change, or its size does.
  void Remember(int fd, uint64_t change, uint64_t begin, uint64_t end);
  void RememberSize(int fd, uint64_t change);
  // After bytes that were remembered have changed; `bytes` are what they are now, if known.
  void Changed(int fd, uint64_t begin, uint64_t end, const char* bytes = nullptr);
  // The whole file came to be unseen.
  void RememberNothing(int fd, uint64_t change);

  void Flushed();
  void Flushed(uint64_t begin, uint64_t end);  // By a write that is a flush as well.
  // Of the changes that are not flushed, those that `dice` likes got to the disk. The rest never
  // will; reads see it still, if `forgotten`, or what was there before.
  void FlushFailed(int fd, const Dice& dice, bool forgotten);

  // The number of the oldest change that is not flushed, if that is less.
  [[nodiscard]] uint64_t OldestChange(uint64_t or_else) const;

  // Leaves in the file, or in a copy of it, what the disk holds.
  void Cut(int fd, const Dice& dice) const;
  // Whether that changes a file of that size.
  [[nodiscard]] bool CutChanges(off_t size, const Dice& dice) const;
  // Of what Cut would leave of a file that has `size` now: that of its content, and its size.
  [[nodiscard]] std::pair<uint64_t, off_t> FingerprintAfterCut(off_t size, const Dice& dice) const;

 private:
  struct Version {
    uint64_t change;
    const char* before;
  };
  struct Sector {
    explicit Sector(std::pmr::memory_resource* memory) : versions(memory) {}
    std::pmr::vector<Version> versions;
    uint64_t fingerprint = 0;  // Of what the kernel shows.
    bool forgotten = false;    // The kernel takes it for flushed.
  };

  // Nothing if it is what the file holds already.
  [[nodiscard]] static const char* Left(uint64_t number, const Sector& sector, const Dice& dice);
  // As long as the memory lasts.
  [[nodiscard]] const char* Kept(const char* sector);
  [[nodiscard]] off_t SizeLeft(off_t size, const Dice& dice) const;

  std::pmr::memory_resource* memory_;
  std::pmr::unordered_map<uint64_t, Sector> sectors_;
  std::pmr::vector<std::pair<uint64_t, off_t>> sizes_;  // Before each change.
  bool measured_;
  uint64_t fingerprint_ = 0;  // Of what the kernel shows.
};

}  // namespace holdfast::power_cut
