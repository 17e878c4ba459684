#include "tests/power_cut/file_history.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <iterator>
#include <string_view>

#include "base/check.h"
#include "tests/power_cut/real_calls.h"

namespace holdfast::power_cut {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;
constexpr char kZeros[kSectorBytes] = {};

off_t SizeOf(int fd) {
  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  return info.st_size;
}

uint64_t SectorsOf(uint64_t bytes) { return (bytes + kSectorBytes - 1) / kSectorBytes; }

// What is beyond the end reads as zeros.
void ReadAt(int fd, char* to, uint64_t offset, uint64_t size) {
  const ssize_t got = pread(fd, to, size, static_cast<off_t>(offset));
  HF_CHECK(got >= 0);
  std::memset(to + got, 0, size - static_cast<size_t>(got));
}

void WriteSector(int fd, uint64_t number, const char* bytes) {
  HF_CHECK(__real_pwrite(fd, bytes, kSectorBytes, static_cast<off_t>(number * kSectorBytes)) ==
           static_cast<ssize_t>(kSectorBytes));
}

bool IsZero(const char* sector) { return std::memcmp(sector, kZeros, kSectorBytes) == 0; }

// Of those that hold any of bytes [begin, end).
template <class Visit>  // (number, bytes)
void ForEachSector(int fd, uint64_t begin, uint64_t end, const Visit& visit) {
  char bytes[kReadBytes];
  const uint64_t last = SectorsOf(end);
  for (uint64_t number = begin / kSectorBytes; number < last;) {
    const uint64_t count = std::min(last - number, kReadBytes / kSectorBytes);
    ReadAt(fd, bytes, number * kSectorBytes, count * kSectorBytes);
    for (uint64_t i = 0; i < count; ++i, ++number) visit(number, bytes + i * kSectorBytes);
  }
}

uint64_t FingerprintOf(uint64_t number, const char* bytes) {
  if (IsZero(bytes)) return 0;
  const uint64_t content = std::hash<std::string_view>()(std::string_view(bytes, kSectorBytes));
  return base::Random(content ^ (number * 0x9e3779b97f4a7c15))();
}

}  // namespace

void FileHistory::Measure(int fd) {
  measured_ = true;
  off_t hole = 0;
  for (;;) {
    const off_t data = lseek(fd, hole, SEEK_DATA);
    if (data < 0) break;
    hole = lseek(fd, data, SEEK_HOLE);
    HF_CHECK(hole > data);
    ForEachSector(fd, static_cast<uint64_t>(data), static_cast<uint64_t>(hole),
                  [&](uint64_t number, const char* bytes) {
                    const uint64_t now = FingerprintOf(number, bytes);
                    fingerprint_ += now;
                    if (const auto found = sectors_.find(number); found != sectors_.end())
                      found->second.fingerprint = now;
                  });
  }
  HF_CHECK(errno == ENXIO);  // No data any more.
}

void FileHistory::Remember(int fd, uint64_t change, uint64_t begin, uint64_t end) {
  ForEachSector(fd, begin, end, [&](uint64_t number, const char* bytes) {
    const auto [at, added] = sectors_.try_emplace(number, memory_);
    Sector& sector = at->second;
    if (added && measured_) sector.fingerprint = FingerprintOf(number, bytes);
    sector.versions.push_back({change, Kept(bytes)});
    sector.forgotten = false;
  });
}

const char* FileHistory::Kept(const char* sector) {
  if (IsZero(sector)) return kZeros;  // Most are.
  return static_cast<char*>(std::memcpy(memory_->allocate(kSectorBytes, 1), sector, kSectorBytes));
}

void FileHistory::RememberSize(int fd, uint64_t change) { sizes_.emplace_back(change, SizeOf(fd)); }

void FileHistory::Changed(int fd, uint64_t begin, uint64_t end, const char* bytes) {
  if (!measured_) return;
  const auto change = [&](uint64_t number, const char* sector_bytes) {
    Sector& sector = sectors_.at(number);
    const uint64_t now = FingerprintOf(number, sector_bytes);
    fingerprint_ += now - sector.fingerprint;
    sector.fingerprint = now;
  };
  if (bytes == nullptr || begin % kSectorBytes != 0 || end % kSectorBytes != 0)
    return ForEachSector(fd, begin, end, change);
  for (uint64_t at = begin; at < end; at += kSectorBytes)
    change(at / kSectorBytes, bytes + (at - begin));
}

void FileHistory::RememberNothing(int fd, uint64_t change) {
  const auto size = static_cast<uint64_t>(SizeOf(fd));
  for (uint64_t number = 0; number < SectorsOf(size); ++number)
    sectors_.try_emplace(number, memory_).first->second.versions.push_back({change, kZeros});
  sizes_.emplace_back(change, 0);
  Changed(fd, 0, size);
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
    if (!before && !written && !forgotten) {
      const char* const bytes = sector.versions.front().before;
      WriteSector(fd, number, bytes);
      if (measured_) fingerprint_ += FingerprintOf(number, bytes) - sector.fingerprint;
    }
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

off_t FileHistory::SizeLeft(off_t size, const Dice& dice) const {
  for (size_t i = sizes_.size(); i-- != 0;) {
    if (dice.Survives(sizes_[i].first, 0)) break;
    size = sizes_[i].second;
  }
  return size;
}

void FileHistory::Cut(int fd, const Dice& dice) const {
  const off_t size = SizeOf(fd);
  for (const auto& [number, sector] : sectors_) {
    if (const char* const left = Left(number, sector, dice)) WriteSector(fd, number, left);
  }
  HF_CHECK(__real_ftruncate(fd, SizeLeft(size, dice)) == 0);
}

bool FileHistory::CutChanges(off_t size, const Dice& dice) const {
  return SizeLeft(size, dice) != size ||
         std::any_of(sectors_.begin(), sectors_.end(), [&](const auto& item) {
           return Left(item.first, item.second, dice) != nullptr;
         });
}

std::pair<uint64_t, off_t> FileHistory::FingerprintAfterCut(off_t size, const Dice& dice) const {
  const off_t size_left = SizeLeft(size, dice);
  uint64_t fingerprint = fingerprint_;
  for (const auto& [number, sector] : sectors_) {
    const char* const left = Left(number, sector, dice);
    const bool beyond = number >= SectorsOf(static_cast<uint64_t>(size_left));
    if (left == nullptr && !beyond) continue;
    fingerprint += (beyond ? 0 : FingerprintOf(number, left)) - sector.fingerprint;
  }
  return {fingerprint, size_left};
}

}  // namespace holdfast::power_cut
