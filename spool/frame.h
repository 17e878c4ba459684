// A frame: the bytes of one group commit. A header, a table of contents with one fixed-size line
// per entry, changes of state, then the entries' bytes in the order of the table. Pure: no I/O.
//
// The header's CRC-32C covers header, table and changes, and where the frame belongs. The entries'
// bytes are not covered unless the frame is small: record batches bring a checksum of their own,
// and damage to one costs only that. In a larger frame they have a checksum behind the last one,
// which tells a commit that reached the disk whole from one that a power cut tore
// (spool/segment_file.h).
// Each frame names the checksum of the one before it in its segment, so that frames can be put in
// order again without the B-tree. docs/spool-format.md has the grammar.
//
// A frame may be *sealed*: changes and each entry are encrypted by themselves (spool/cipher.h), so
// that reading one entry costs one decryption. Header and table stay readable, since index and
// repair need no key.
//
// Of a segment that is ordered by stream the entries' bytes lie in runs (spool/run.h): its frames
// are *tables*, which hold everything else, and say where in the runs each entry is.
//
//   EncodeFrame(draft, out);                            // out has draft.FrameBytes() bytes
//   HF_ASSIGN_OR_RETURN(FrameView frame, FrameView::Parse(bytes));
//   HF_RETURN_IF_ERROR(frame.Verify(seed, commit));     // once per frame and process
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "spool/cipher.h"
#include "spool/origin.h"
#include "spool/spool.h"

namespace holdfast::spool {

inline constexpr uint32_t kFrameMagic = 0x31464648;  // "HFF1" in file order.
inline constexpr uint16_t kFrameVersion = 1;
inline constexpr size_t kFrameHeaderBytes = 44;
inline constexpr size_t kTableLineBytes = 48;

// An entry of the frame that is being made.
struct DraftEntry {
  NewEntry entry;
  int64_t base_offset = 0;
};

struct FrameDraft {
  uint32_t seed = 0;      // Origin::Seed of its segment.
  uint32_t previous = 0;  // FrameView::checksum of the frame before; 0 if there is none.
  CommitNumber commit;
  int64_t commit_time_ms = 0;
  std::span<const DraftEntry> entries;
  std::string_view changes;
  SegmentKey* key = nullptr;  // Seals the frame.

  [[nodiscard]] uint64_t EntryBytes() const;
  [[nodiscard]] uint64_t FrameBytes() const;
};

uint64_t FrameBytes(uint64_t entries, uint64_t entry_bytes, uint64_t changes_bytes, bool sealed);
// Of a frame of so many bytes that is no table, see FrameView.
bool CoversEntries(uint64_t frame_bytes, bool sealed);

// Returns its checksum.
uint32_t EncodeFrame(const FrameDraft& draft, std::span<char> out);

// What a table says of an entry.
struct TableLine {
  EntryInfo info;         // Commit and time are the frame's.
  uint32_t position = 0;  // Of its first byte as stored, from the first run's first.
};

struct TableDraft {
  uint32_t seed = 0;
  uint32_t previous = 0;
  CommitNumber commit;
  int64_t commit_time_ms = 0;
  std::span<const TableLine> lines;
  std::string_view changes;
  SegmentKey* key = nullptr;  // Seals the changes.
  Salt salt{};                // With a key: that of the entries, see SealEntry.

  [[nodiscard]] uint64_t TableBytes() const;
};
uint32_t EncodeTable(const TableDraft& draft, std::span<char> out);

// Appends the entry's bytes as its run stores them, sealed for line `number` of the table.
void SealEntry(SegmentKey& key, const Salt& salt, uint32_t number, const TableLine& line,
               std::string_view bytes, std::string* out);

// Reads a frame in place.
class FrameView {
 public:
  // Takes as much of `bytes` as the header says; kCorrupt if that is more than there is. The rest
  // is to be believed after Verify only.
  static base::Result<FrameView> Parse(std::string_view bytes);
  // Checksum, version, commit number, and that every entry lies inside. kCorrupt otherwise.
  [[nodiscard]] base::Result<void> Verify(uint32_t seed, CommitNumber expected) const;
  // Of one that was verified: that its entries are as they were written, so far as it can tell; a
  // large one of an older version cannot. kCorrupt otherwise.
  [[nodiscard]] base::Result<void> VerifyEntries() const;

  [[nodiscard]] CommitNumber commit() const;
  [[nodiscard]] int64_t commit_time_ms() const;
  [[nodiscard]] uint32_t entry_count() const { return entry_count_; }
  [[nodiscard]] bool sealed() const { return sealed_; }
  // Its checksum covers its entries as well, or each of them is sealed.
  [[nodiscard]] bool covers_entries() const;
  // Its entries' bytes lie in runs.
  [[nodiscard]] bool table() const { return table_; }
  [[nodiscard]] EntryInfo info(uint32_t index) const;
  // Of a frame that is not sealed they lie in the frame, and no key is needed; otherwise they are
  // opened with the segment's key into `plain`. kInvalid without a key, kCorrupt if damaged. Not of
  // a table.
  [[nodiscard]] base::Result<EntryView> entry(uint32_t index, const SegmentKey* key,
                                              std::string* plain) const;
  // Of a table: where the entry's bytes begin, and how many are stored.
  [[nodiscard]] uint32_t position(uint32_t index) const;
  [[nodiscard]] size_t stored_bytes(uint32_t index) const;
  // As above, from what is stored there.
  [[nodiscard]] base::Result<EntryView> entry(uint32_t index, std::string_view stored,
                                              const SegmentKey* key, std::string* plain) const;
  [[nodiscard]] base::Result<std::string_view> changes(const SegmentKey* key,
                                                       std::string* plain) const;
  [[nodiscard]] uint32_t checksum() const;
  [[nodiscard]] uint32_t previous() const;
  [[nodiscard]] std::string_view bytes() const { return bytes_; }

 private:
  FrameView(std::string_view bytes, uint32_t entry_count, uint32_t changes_bytes, bool sealed,
            bool table)
      : bytes_(bytes),
        entry_count_(entry_count),
        changes_bytes_(changes_bytes),
        sealed_(sealed),
        table_(table) {}
  [[nodiscard]] size_t TableBegin() const { return kFrameHeaderBytes + (sealed_ ? kSaltBytes : 0); }
  [[nodiscard]] const char* Line(uint32_t index) const {
    return bytes_.data() + TableBegin() + size_t{index} * kTableLineBytes;
  }
  [[nodiscard]] size_t PayloadBegin() const {
    return TableBegin() + size_t{entry_count_} * kTableLineBytes + changes_bytes_;
  }
  [[nodiscard]] base::Result<void> OpenSealed(const SegmentKey* key, uint32_t piece,
                                              std::string_view context, std::string_view sealed,
                                              std::string* plain) const;

  std::string_view bytes_;
  uint32_t entry_count_;
  uint32_t changes_bytes_;  // As stored.
  bool sealed_;
  bool table_;
};

}  // namespace holdfast::spool
