#include "spool/salvage.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/endian.h"
#include "spool/frame.h"

namespace holdfast::spool {
namespace {

// Every page size is a multiple. A value in pages of its own begins behind the first one's header.
constexpr size_t kBlockBytes = 4096;
constexpr size_t kPageHeaderBytes = 16;

constexpr std::array<char, 4> kMagicBytes = {'H', 'F', 'F', '1'};
static_assert(kFrameMagic == 0x31464648);

// A frame with the right checksum for its origin, whatever its number.
std::optional<FrameView> IntactFrame(uint32_t seed, std::string_view bytes) {
  const base::Result<FrameView> frame = FrameView::Parse(bytes);
  if (!frame || !frame->Verify(seed, frame->commit())) return std::nullopt;
  return *frame;
}

}  // namespace

struct Salvage::Candidates {
  std::map<CommitNumber, std::vector<FrameView>> frames;

  void Add(const FrameView& frame) {
    std::vector<FrameView>& twins = frames[frame.commit()];
    // LMDB leaves copies of small values behind.
    const bool known = std::any_of(twins.begin(), twins.end(), [&](const FrameView& twin) {
      return twin.bytes() == frame.bytes();
    });
    if (!known) twins.push_back(frame);
  }
};

base::Result<std::unique_ptr<Salvage>> Salvage::Scan(const std::string& path,
                                                     const Origin& origin) {
  HF_ASSIGN_OR_RETURN(MappedFile map, MappedFile::Open(path));
  std::unique_ptr<Salvage> salvage(new Salvage(std::move(map)));
  salvage->header_ = {.origin = origin, .state_pieces = 1};
  const std::string_view file = salvage->map_.bytes();
  const uint32_t seed = origin.Seed();
  Candidates candidates;
  size_t known_end = 0;  // Of the last frame or run.
  for (size_t block = 0; block + kPageHeaderBytes < file.size(); block += kBlockBytes) {
    const std::string_view value = file.substr(block + kPageHeaderBytes);
    if (const auto frame = IntactFrame(seed, value)) {
      candidates.Add(*frame);
      known_end = std::max(known_end, block + kPageHeaderBytes + frame->bytes().size());
    } else if (const auto run = DecodeRun(seed, value)) {
      salvage->runs_.emplace(run->position, *run);
      known_end =
          std::max(known_end, block + kPageHeaderBytes + kRunHeaderBytes + run->bytes.size());
    } else if (const auto piece = DecodePiece(origin, value)) {
      salvage->header_ = piece->header;
      salvage->pieces_.emplace(piece->index, piece->changes);
    } else if (block >= known_end) {
      // Small ones lie among others in a page of the tree.
      const std::string_view page = file.substr(block, kBlockBytes);
      const std::string_view magic(kMagicBytes.data(), kMagicBytes.size());
      for (size_t at = page.find(magic); at != std::string_view::npos;
           at = page.find(magic, at + 1))
        if (const auto small = IntactFrame(seed, file.substr(block + at))) candidates.Add(*small);
    }
  }
  if (salvage->pieces_.empty() && candidates.frames.empty())
    return base::Unexpected(base::Code::kCorrupt, path + ": nothing of the segment is left in it");
  if (salvage->pieces_.empty()) salvage->header_.first_commit = candidates.frames.begin()->first;
  salvage->Choose(candidates);
  return salvage;
}

void Salvage::Choose(const Candidates& candidates) {
  std::optional<FrameView> last;
  for (const auto& [commit, twins] : candidates.frames) {
    if (commit < header_.first_commit) continue;
    const bool follows = last && last->commit().next() == commit;
    const FrameView* chosen = nullptr;
    for (const FrameView& frame : twins) {
      if (follows && frame.previous() != 0 && frame.previous() != last->checksum()) continue;
      // Twins of one parent: the crash came between them.
      if (chosen == nullptr || frame.commit_time_ms() > chosen->commit_time_ms()) chosen = &frame;
    }
    if (chosen == nullptr) continue;
    frames_.emplace(commit, chosen->bytes());
    last = *chosen;
  }
}

}  // namespace holdfast::spool
