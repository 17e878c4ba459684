#include "base/result.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace holdfast::base {

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kInvalid:
      return "invalid";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kNotFound:
      return "not_found";
    case Code::kFull:
      return "full";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kTimeout:
      return "timeout";
    case Code::kIo:
      return "io";
    case Code::kClosed:
      return "closed";
  }
  return "unknown";
}

std::string EventCode(Event event) {
  std::string digits = std::to_string(static_cast<unsigned>(event));
  digits.insert(0, 4 - std::min<size_t>(digits.size(), 4), '0');
  return "HF" + digits;
}

Error ErrnoError(std::string_view what, int error_number) {
  const bool full = error_number == ENOSPC || error_number == EDQUOT;
  return {full ? Code::kFull : Code::kIo, std::string(what) + ": " + std::strerror(error_number)};
}

}  // namespace holdfast::base
