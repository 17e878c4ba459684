// What a directory may hold instead of what the kernel shows: its names at the last flush, and each
// change since then. After a power cut any of the changes may be undone.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory_resource>
#include <string>
#include <vector>

#include "tests/power_cut/dice.h"

namespace holdfast::power_cut {

class NameHistory {
 public:
  explicit NameHistory(std::pmr::memory_resource* memory)
      : memory_(memory), flushed_(memory), changes_(memory) {}

  using Names = std::map<std::string, ino_t>;

  void Adopt(const std::string& name, ino_t inode);  // It is there, flushed.
  void Make(uint64_t change, const std::string& name, ino_t inode);
  void Rename(uint64_t change, const std::string& from, const std::string& to, ino_t inode);
  void Remove(uint64_t change, const std::string& name);
  // The file is another one from here on, and always was.
  void Replace(ino_t inode, ino_t by);

  void Flushed();
  // As FileHistory's.
  [[nodiscard]] uint64_t OldestChange(uint64_t or_else) const {
    return changes_.empty() ? or_else : std::min(or_else, changes_.front().number);
  }
  [[nodiscard]] Names Now() const;
  [[nodiscard]] Names AfterCut(const Dice& dice) const;

 private:
  struct Change {
    Change(uint64_t number_in, std::pmr::memory_resource* memory)
        : number(number_in), from(memory), to(memory) {}
    uint64_t number;
    std::pmr::string from;  // Empty: the file is new.
    std::pmr::string to;    // Empty: it is gone.
    ino_t inode = 0;
  };
  static void Apply(const Change& change, Names* names);

  std::pmr::memory_resource* memory_;
  std::pmr::map<std::pmr::string, ino_t> flushed_;
  std::pmr::vector<Change> changes_;
};

}  // namespace holdfast::power_cut
