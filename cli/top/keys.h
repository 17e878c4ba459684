// From the bytes that a terminal sends to the keys that were pressed.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::top {

struct Key {
  enum Kind : uint8_t {
    kText,  // What it typed, one character.
    kEnter,
    kEscape,
    kBackspace,
    kTab,
    kBackTab,
    kUp,
    kDown,
    kLeft,
    kRight,
    kPageUp,
    kPageDown,
    kHome,
    kEnd,
    kRedraw,  // Ctrl-L.
    kErase,   // Ctrl-U.
    kHelp,    // F1.
  };
  Kind kind = kText;
  std::string text = {};

  bool operator==(const Key&) const = default;
};

class KeyReader {
 public:
  // The keys that are complete; what is not waits for its rest.
  std::vector<Key> Take(std::string_view bytes);
  // Something waits; if nothing follows within a moment it is whole: Escape begins other keys.
  [[nodiscard]] bool waits() const { return !pending_.empty(); }
  std::vector<Key> TakeRest();

 private:
  std::vector<Key> TakeKeys(bool whole);

  std::string pending_;
};

}  // namespace holdfast::top
