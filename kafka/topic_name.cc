#include "kafka/topic_name.h"

#include <algorithm>

namespace holdfast::kafka {

bool ValidTopicName(std::string_view name) {
  constexpr size_t kNameBytesMax = 249;
  if (name.empty() || name.size() > kNameBytesMax || name == "." || name == "..") return false;
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

}  // namespace holdfast::kafka
