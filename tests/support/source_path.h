// Files of the source tree, which tests compare with.
#pragma once

#include <string>
#include <string_view>

namespace holdfast::test {

// Where `name`, relative to the project's root, is on this machine.
std::string SourcePath(std::string_view name);

}  // namespace holdfast::test
