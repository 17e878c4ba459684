// The one error type of the project, and the result of work that may fail.
//
//   Result<Segment> segment = Segment::Open(path);
//   if (!segment) return Unexpected(segment.error());
//   HF_ASSIGN_OR_RETURN(auto index, segment->LoadIndex());
//
// An error's code is chosen by what the caller does next, so there are few; its message says what
// failed, where, and what to do; `event` (base/event.h) gives what has a remedy of its own a stable
// code, too. Nothing in the project throws, and `.value()` (which would) is banned: test, then
// dereference.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace holdfast::base {

enum class Code : uint8_t {
  kInvalid,      // The request, argument or configuration is wrong: tell who sent it.
  kCorrupt,      // Stored or received bytes are damaged: quarantine them and raise an alarm.
  kNotFound,     // Named, and not there.
  kFull,         // A limit or the disk is full: shed load or wait.
  kUnavailable,  // Not now: try again with backoff.
  kTimeout,      // No answer in time; whether it took effect is unknown.
  kIo,           // The operating system or LMDB refused: reopen once, then report.
  kClosed,       // Shut down: stop asking.
};

std::string_view CodeName(Code code);

// What can go wrong, as base/event.h lists it.
enum class Event : uint16_t;
// "HF2001".
[[nodiscard]] std::string EventCode(Event event);

struct Error {
  Code code;
  std::string message;
  Event event = {};  // Or nothing in particular.

  // Prefixes the message with where it happened, "<context>: <message>".
  Error Within(std::string_view context) && {
    return {code, std::string(context) + ": " + std::move(message), event};
  }
};

// A class of its own only so that the compiler complains about an ignored one.
template <class T = void>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
  void value() const = delete;  // It would throw.
};

inline tl::unexpected<Error> Unexpected(Error error) {
  return tl::unexpected<Error>(std::move(error));
}
inline tl::unexpected<Error> Unexpected(Code code, std::string message, Event event = {}) {
  return tl::unexpected<Error>(Error{code, std::move(message), event});
}

// An Error of a failed system call: "<what>: <strerror(error_number)>", with kFull for a full disk
// or quota and kIo for the rest.
Error ErrnoError(std::string_view what, int error_number);

}  // namespace holdfast::base

#define HF_CONCAT_INNER(a, b) a##b
#define HF_CONCAT(a, b) HF_CONCAT_INNER(a, b)

#define HF_RETURN_IF_ERROR(expression)                                   \
  do {                                                                   \
    if (auto hf_result = (expression); !hf_result)                       \
      return ::holdfast::base::Unexpected(std::move(hf_result).error()); \
  } while (false)

#define HF_ASSIGN_OR_RETURN(declaration, expression)                                         \
  auto HF_CONCAT(hf_result_, __LINE__) = (expression);                                       \
  if (!HF_CONCAT(hf_result_, __LINE__))                                                      \
    return ::holdfast::base::Unexpected(std::move(HF_CONCAT(hf_result_, __LINE__)).error()); \
  declaration = *std::move(HF_CONCAT(hf_result_, __LINE__))
