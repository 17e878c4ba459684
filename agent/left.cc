#include "agent/left.h"

#include <fmt/format.h>

#include "agent/spool_text.h"

namespace holdfast::agent {

std::string Left::Text() const {
  if (none()) return NamelessText();
  std::string text = fmt::format("{} record{} ({}) of {} partition{}",
                                 CountText(static_cast<uint64_t>(records)), records == 1 ? "" : "s",
                                 BytesText(bytes), CountText(streams), streams == 1 ? "" : "s");
  if (!trouble.empty()) text += "; " + trouble;
  if (nameless_records != 0) text += "; " + NamelessText();
  return text;
}

std::string Left::NamelessText() const {
  if (nameless_records == 0) return {};
  return fmt::format(
      "{} record{} of {} partition{} without a name (HF2110), which nobody can deliver: "
      "`holdfast spool cat` shows them; produce them to where they belong, then `holdfast spool "
      "drop`",
      CountText(static_cast<uint64_t>(nameless_records)), nameless_records == 1 ? "" : "s",
      CountText(nameless_streams), nameless_streams == 1 ? "" : "s");
}

}  // namespace holdfast::agent
