// Bytes as hexadecimal digits, two for each.
//
// Threads: any.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace holdfast::base {

std::string ToHex(std::string_view bytes);  // With small letters.

// None: an odd number of digits, or something that is none. Letters may be small or large.
std::optional<std::string> FromHex(std::string_view text);

}  // namespace holdfast::base
