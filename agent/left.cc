#include "agent/left.h"

#include <fmt/format.h>

#include "agent/spool_text.h"

namespace holdfast::agent {

std::string Left::Text() const {
  return fmt::format("{} record{} ({}) of {} partition{}",
                     CountText(static_cast<uint64_t>(records)), records == 1 ? "" : "s",
                     BytesText(bytes), CountText(streams), streams == 1 ? "" : "s");
}

}  // namespace holdfast::agent
