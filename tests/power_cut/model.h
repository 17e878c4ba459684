// What a spool must hold after some operations: the same operations on plain containers.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spool/spool.h"

namespace holdfast::power_cut {

class Model final : public spool::Transaction {
 public:
  struct Entry {
    int64_t base_offset = 0;
    uint32_t records = 0;
    int64_t timestamp_ms = 0;
    size_t bytes = 0;
    spool::Tag tag{};
  };
  struct Stream {
    std::string name;
    int64_t start = 0;
    int64_t end = 0;
    std::vector<Entry> entries;  // Trimmed ones, too.
  };

  spool::StreamId OpenStream(std::string_view name) override;
  int64_t Append(const spool::NewEntry& entry) override;
  [[nodiscard]] int64_t EndOffset(spool::StreamId stream) const override;
  [[nodiscard]] int64_t StartOffset(spool::StreamId stream) const override;
  void Trim(spool::StreamId stream, int64_t offset) override;
  void Put(std::string_view key, std::string_view value) override;
  void Erase(std::string_view key) override;
  [[nodiscard]] std::optional<std::string_view> Get(std::string_view key) const override;
  [[nodiscard]] int64_t commit_time_ms() const override { return 0; }

  std::vector<Stream> streams;
  std::map<std::string, std::string, std::less<>> keys;
};

}  // namespace holdfast::power_cut
