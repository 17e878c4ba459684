// What a topic may be called.
//
// Threads: any; pure.
#pragma once

#include <string_view>

namespace holdfast::kafka {

// 1 to 249 of [a-zA-Z0-9._-], and neither "." nor "..".
bool ValidTopicName(std::string_view name);

}  // namespace holdfast::kafka
