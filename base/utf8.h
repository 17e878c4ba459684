// Whether bytes are UTF-8 (RFC 3629).
//
// Threads: any.
#pragma once

#include <cstddef>
#include <string_view>

namespace holdfast::base {

inline constexpr size_t kUtf8LengthMax = 4;
// Of the well-formed character that `bytes` begins with, or 0.
size_t Utf8Length(std::string_view bytes);
bool IsUtf8(std::string_view bytes);  // Whole and well-formed.

}  // namespace holdfast::base
