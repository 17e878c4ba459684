#include "cli/top/keys.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/utf8.h"

namespace holdfast::top {
namespace {

struct Sequence {
  std::string_view bytes;  // Behind Escape.
  Key::Kind kind;
};
constexpr Sequence kSequences[] = {
    {"[A", Key::kUp},      {"[B", Key::kDown},      {"[C", Key::kRight},   {"[D", Key::kLeft},
    {"OA", Key::kUp},      {"OB", Key::kDown},      {"OC", Key::kRight},   {"OD", Key::kLeft},
    {"[H", Key::kHome},    {"[F", Key::kEnd},       {"OH", Key::kHome},    {"OF", Key::kEnd},
    {"[1~", Key::kHome},   {"[4~", Key::kEnd},      {"[7~", Key::kHome},   {"[8~", Key::kEnd},
    {"[5~", Key::kPageUp}, {"[6~", Key::kPageDown}, {"[Z", Key::kBackTab}, {"OP", Key::kHelp},
    {"[11~", Key::kHelp},
};
constexpr size_t kSequenceBytesMax = 32;

// Of what follows Escape: its length, 0 if its end has not come.
size_t SequenceLength(std::string_view bytes) {
  if (bytes.empty()) return 0;
  if (bytes[0] == 'O') return bytes.size() < 2 ? 0 : 2;
  if (bytes[0] != '[') return 1;  // Alt and a key.
  for (size_t i = 1; i < bytes.size(); ++i) {
    if (bytes[i] >= 0x40 && bytes[i] <= 0x7e) return i + 1;
    if (i == kSequenceBytesMax) return i;
  }
  return 0;
}

std::optional<Key::Kind> ControlKey(char byte) {
  switch (byte) {
    case '\r':
    case '\n':
      return Key::kEnter;
    case '\t':
      return Key::kTab;
    case '\b':
    case 0x7f:
      return Key::kBackspace;
    case 'L' & 0x1f:
      return Key::kRedraw;
    case 'U' & 0x1f:
      return Key::kErase;
    default:
      return std::nullopt;
  }
}

// With the bytes that are still to come.
bool MayBecomeText(std::string_view bytes) {
  return static_cast<uint8_t>(bytes[0]) >= 0xc2 && bytes.size() < base::kUtf8LengthMax &&
         std::ranges::all_of(bytes.substr(1),
                             [](char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; });
}

}  // namespace

std::vector<Key> KeyReader::Take(std::string_view bytes) {
  pending_ += bytes;
  return TakeKeys(/*whole=*/false);
}

std::vector<Key> KeyReader::TakeRest() { return TakeKeys(/*whole=*/true); }

std::vector<Key> KeyReader::TakeKeys(bool whole) {
  std::vector<Key> keys;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    if (rest[0] == '\x1b') {
      const size_t length = SequenceLength(rest.substr(1));
      if (length == 0 && !whole) break;
      const std::string_view sequence = rest.substr(1, length);
      if (length == 0) keys.push_back({Key::kEscape});
      for (const Sequence& known : kSequences) {
        if (known.bytes == sequence) keys.push_back({known.kind});
      }
      rest.remove_prefix(1 + length);
      continue;
    }
    const size_t length = base::Utf8Length(rest);
    if (length == 0 && !whole && MayBecomeText(rest)) break;
    if (const auto control = ControlKey(rest[0])) {
      keys.push_back({*control});
    } else if (length > 0 && static_cast<uint8_t>(rest[0]) >= 0x20) {
      keys.push_back({Key::kText, std::string(rest.substr(0, length))});
    }
    rest.remove_prefix(std::max<size_t>(length, 1));
  }
  pending_ = rest;
  return keys;
}

}  // namespace holdfast::top
