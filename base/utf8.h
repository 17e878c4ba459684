// Whether bytes are UTF-8 (RFC 3629), and how they are shown to people.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace holdfast::base {

inline constexpr size_t kUtf8LengthMax = 4;
// Of the well-formed character that `bytes` begins with, or 0.
size_t Utf8Length(std::string_view bytes);
bool IsUtf8(std::string_view bytes);  // Whole and well-formed.
// Of one character: those of ASCII, and those of Unicode between 0x80 and 0x9f.
bool IsControl(std::string_view character);
// What others chose, so that it stays in its line and does nothing to a terminal: the bytes of
// control characters, and those that are not UTF-8, are \xNN.
std::string Printable(std::string_view bytes);

}  // namespace holdfast::base
