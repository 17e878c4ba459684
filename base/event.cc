#include "base/event.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <system_error>

#include "base/check.h"

namespace holdfast::base {
namespace {

constexpr std::array kEvents{
#define HF_EVENT(number, name, level, meaning, remedy) \
  EventInfo{Event::name, #name, LogLevel::level, meaning, remedy},
#include "base/events.def"
#undef HF_EVENT
};

static_assert(std::ranges::is_sorted(kEvents, std::ranges::less_equal{}, &EventInfo::event),
              "the events are in the order of their numbers, each of which is there once");

constexpr std::array<std::string_view, 10> kAreas{
    "Any command",           "Configuration and start",    "Spool",  "Tier",     "Delivery",
    "Listeners and clients", "Outboxes and half messages", "Broker", "Injector", "Doctor"};

}  // namespace

std::span<const EventInfo> Events() { return kEvents; }

size_t EventIndex(Event event) {
  const auto found = std::ranges::lower_bound(kEvents, event, {}, &EventInfo::event);
  HF_CHECK(found != kEvents.end() && found->event == event);
  return static_cast<size_t>(found - kEvents.begin());
}

const EventInfo& InfoOf(Event event) { return kEvents[EventIndex(event)]; }

std::string_view EventAreaName(Event event) { return kAreas[static_cast<uint16_t>(event) / 1000]; }

const EventInfo* FindEvent(std::string_view code) {
  if (code.size() > 4 && (code[0] | 0x20) == 'h' && (code[1] | 0x20) == 'f') code.remove_prefix(2);
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(code.data(), code.data() + code.size(), number);
  if (code.size() != 4 || error != std::errc() || end != code.data() + code.size()) return nullptr;
  const auto found = std::ranges::find(kEvents, Event{number}, &EventInfo::event);
  return found == kEvents.end() ? nullptr : &*found;
}

Event EventOf(const Error& error) {
  if (error.event != Event::kNone) return error.event;
  switch (error.code) {
    case Code::kInvalid:
      return Event::kInvalid;
    case Code::kCorrupt:
      return Event::kCorrupt;
    case Code::kNotFound:
      return Event::kNotFound;
    case Code::kFull:
      return Event::kFull;
    case Code::kUnavailable:
      return Event::kUnavailable;
    case Code::kTimeout:
      return Event::kTimeout;
    case Code::kIo:
      return Event::kIo;
    case Code::kClosed:
      return Event::kClosed;
  }
  return Event::kInvalid;
}

}  // namespace holdfast::base
