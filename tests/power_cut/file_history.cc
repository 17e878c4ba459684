#include "tests/power_cut/file_history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>

#include "base/check.h"
#include "tests/power_cut/real_calls.h"

namespace holdfast::power_cut {
namespace {

off_t SizeOf(int fd) {
  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  return info.st_size;
}

// What is beyond the end reads as zeros.
void ReadAt(int fd, char* to, uint64_t offset, uint64_t size) {
  ssize_t got = pread(fd, to, size, static_cast<off_t>(offset));
  if (got < 0) {
    // LMDB opens one that is only for writing.
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    const int readable = __real_open(path.c_str(), O_RDONLY | O_CLOEXEC);
    HF_CHECK(readable >= 0);
    got = pread(readable, to, size, static_cast<off_t>(offset));
    HF_CHECK(got >= 0);
    close(readable);
  }
  std::memset(to + got, 0, size - static_cast<size_t>(got));
}

void WriteSector(int fd, uint64_t number, const char* bytes) {
  HF_CHECK(__real_pwrite(fd, bytes, kSectorBytes, static_cast<off_t>(number * kSectorBytes)) ==
           static_cast<ssize_t>(kSectorBytes));
}

}  // namespace

void FileHistory::Remember(int fd, uint64_t change, uint64_t begin, uint64_t end) {
  const uint64_t first = begin / kSectorBytes;
  const uint64_t last = (end + kSectorBytes - 1) / kSectorBytes;
  if (first >= last) return;
  char* const before = static_cast<char*>(memory_->allocate((last - first) * kSectorBytes, 1));
  ReadAt(fd, before, first * kSectorBytes, (last - first) * kSectorBytes);
  for (uint64_t number = first; number < last; ++number) {
    Sector& sector = sectors_.try_emplace(number, memory_).first->second;
    sector.versions.push_back({change, before + (number - first) * kSectorBytes});
    sector.forgotten = false;
  }
}

void FileHistory::RememberSize(int fd, uint64_t change) { sizes_.emplace_back(change, SizeOf(fd)); }

void FileHistory::RememberNothing(int fd, uint64_t change) {
  const auto sectors = (static_cast<uint64_t>(SizeOf(fd)) + kSectorBytes - 1) / kSectorBytes;
  char* const zeros = static_cast<char*>(memory_->allocate(kSectorBytes, 1));
  std::memset(zeros, 0, kSectorBytes);
  for (uint64_t number = 0; number < sectors; ++number)
    sectors_.try_emplace(number, memory_).first->second.versions.push_back({change, zeros});
  sizes_.emplace_back(change, 0);
}

void FileHistory::Flushed() {
  std::erase_if(sectors_, [](const auto& item) { return !item.second.forgotten; });
  sizes_.clear();
}

void FileHistory::Flushed(uint64_t begin, uint64_t end) {
  for (uint64_t number = begin / kSectorBytes; number * kSectorBytes < end; ++number)
    sectors_.erase(number);
  sizes_.clear();
}

void FileHistory::FlushFailed(int fd, const Dice& dice, bool forgotten) {
  for (auto at = sectors_.begin(); at != sectors_.end();) {
    auto& [number, sector] = *at;
    const bool before = sector.forgotten;
    const bool written = !before && dice.Survives(sector.versions.back().change, number + 1);
    if (!before && !written) sector.forgotten = forgotten;
    if (!before && !written && !forgotten) WriteSector(fd, number, sector.versions.front().before);
    at = before || sector.forgotten ? std::next(at) : sectors_.erase(at);
  }
}

uint64_t FileHistory::OldestChange(uint64_t or_else) const {
  for (const auto& [number, sector] : sectors_)
    or_else = std::min(or_else, sector.versions.front().change);
  return sizes_.empty() ? or_else : std::min(or_else, sizes_.front().first);
}

const char* FileHistory::Left(uint64_t number, const Sector& sector, const Dice& dice) {
  if (sector.forgotten) return sector.versions.front().before;
  const char* left = nullptr;
  for (size_t i = sector.versions.size(); i-- != 0;) {
    if (dice.Survives(sector.versions[i].change, number + 1)) break;
    left = sector.versions[i].before;
  }
  return left;
}

void FileHistory::Cut(int fd, const Dice& dice) const {
  off_t size = SizeOf(fd);
  for (const auto& [number, sector] : sectors_) {
    if (const char* const left = Left(number, sector, dice)) WriteSector(fd, number, left);
  }
  for (size_t i = sizes_.size(); i-- != 0;) {
    if (dice.Survives(sizes_[i].first, 0)) break;
    size = sizes_[i].second;
  }
  HF_CHECK(__real_ftruncate(fd, size) == 0);
}

}  // namespace holdfast::power_cut
