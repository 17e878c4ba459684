// Base64 as RFC 4648 has it, with padding.
//
// Threads: any.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace holdfast::base {

std::string ToBase64(std::string_view bytes);

// None: it is not Base64, or has blanks or lines in it.
std::optional<std::string> FromBase64(std::string_view text);

}  // namespace holdfast::base
