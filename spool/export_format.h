// The bytes of an export: sections with a kind, a length and a checksum each, and what stands in
// them. docs/spool-format.md has the grammar.
//
// Threads: one.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/endian.h"
#include "base/result.h"
#include "spool/segment_builder.h"
#include "spool/transfer.h"

namespace holdfast::spool {

enum class Section : uint32_t {
  kSpool = 1,
  kSegment = 2,
  kKey = 3,
  kCheckpoint = 4,
  kFrame = 5,
  kEnd = 6,
};

template <std::integral T>
void AppendInteger(T value, std::string* out) {
  char bytes[sizeof(T)];
  base::StoreLittle(bytes, value);
  out->append(bytes, sizeof bytes);
}

class SectionWriter {
 public:
  explicit SectionWriter(const WriteBytes& write) : write_(write) {}

  // What stands before the first section.
  base::Result<void> Begin();
  base::Result<void> Add(Section section, std::string_view payload);
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  base::Result<void> Put(std::string_view bytes);

  const WriteBytes& write_;
  uint64_t bytes_ = 0;
};

class SectionReader {
 public:
  explicit SectionReader(const ReadBytes& read) : read_(read) {}

  // kInvalid: it is no export, or one of a newer version.
  base::Result<void> Begin();
  // The payload is valid until the next call.
  base::Result<std::pair<Section, std::string_view>> Next();
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  base::Result<std::string_view> Take(size_t size);

  const ReadBytes& read_;
  std::string buffer_;
  uint64_t bytes_ = 0;
};

// What stands in a section, one after the other. ok() says whether it was all there, and no more.
class SectionFields {
 public:
  explicit SectionFields(std::string_view bytes) : rest_(bytes) {}
  template <std::integral T>
  T Integer() {
    const std::string_view bytes = Bytes(sizeof(T));
    return ok_ ? base::LoadLittle<T>(bytes.data()) : T{};
  }
  std::string_view Bytes(size_t size) {
    ok_ = ok_ && size <= rest_.size();
    if (!ok_) return {};
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  [[nodiscard]] bool ok() const { return ok_ && rest_.empty(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

struct ExportedSegment {
  uint64_t number = 0;
  CommitNumber first_commit;
  CommitNumber end_commit;
  uint64_t bytes = 0;  // Of its file, where it came from.
  bool open = false;
  SegmentPlan plan;

  [[nodiscard]] std::string Encode() const;
  static base::Result<ExportedSegment> Parse(std::string_view payload);
};

std::string EncodeEnd(const TransferReport& report);
// What a piece of an encrypted segment's checkpoint is bound to.
std::string CheckpointContext(uint64_t segment);
tl::unexpected<base::Error> DamagedExport(const std::string& what);

}  // namespace holdfast::spool
