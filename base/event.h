// What can go wrong, each named once: events of the log, and errors that end a command.
//
//   base::Log(base::Event::kStreamHeld, {"forward", stream}, "held: {}", why);
//   return base::Unexpected(base::Code::kInvalid, message, base::Event::kForeignDirectory);
//
// An event has a stable code, which is its number ("HF4102"), a level, a meaning and a remedy.
// docs/errors.md and `holdfast explain` have all of them.
//
// To add one: a line in base/events.def, at the next free number of its area. Then write the tables
// of docs/errors.md anew: HOLDFAST_PRINT=1 base_test --gtest_filter='ErrorsDoc*'. A number that was
// ever released is not used again for anything else.
//
// Only who names an event includes this header: base/log.h and base/result.h know the type alone,
// so that adding one does not rebuild everything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/log.h"
#include "base/result.h"

namespace holdfast::base {

enum class Event : uint16_t {
  kNone = 0,
#define HF_EVENT(number, name, level, meaning, remedy) name = number,
#include "base/events.def"
#undef HF_EVENT
};

struct EventInfo {
  Event event;
  std::string_view name;  // "kStreamHeld"
  LogLevel level;
  std::string_view meaning;  // One sentence.
  std::string_view remedy;
};

// By number.
[[nodiscard]] std::span<const EventInfo> Events();
// The place in Events(). The event is one of them.
[[nodiscard]] size_t EventIndex(Event event);
[[nodiscard]] const EventInfo& InfoOf(Event event);

// Numbers of one thousand belong together.
[[nodiscard]] std::string_view EventAreaName(Event event);

// Null if there is none. "HF4102", "hf4102" or "4102".
[[nodiscard]] const EventInfo* FindEvent(std::string_view code);

// What the error says it is, or else what its code says in general.
[[nodiscard]] Event EventOf(const Error& error);

}  // namespace holdfast::base
