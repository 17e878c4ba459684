#include "base/log_limit.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/event.h"

namespace holdfast::base {
namespace {

uint64_t HashOf(size_t event, std::string_view subject) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  return (std::hash<std::string_view>{}(subject) ^ (event + 1) * kOdd) * kOdd;
}

}  // namespace

LogLimit::LogLimit() : events_(Events().size()), subjects_(kSubjects / kWays) {}

void LogLimit::Reset() {
  const MutexLock lock(mutex_);
  events_.assign(events_.size(), {});
  subjects_.assign(subjects_.size(), {});
}

// Where it is or may be: in place of the one of its set that is full again soonest, which is a loss
// only if it is not full yet.
LogLimit::OfSubject& LogLimit::Find(uint64_t hash) {
  Set& set = subjects_[(hash >> 32) % subjects_.size()];
  const auto known = std::ranges::find(set, hash, &OfSubject::hash);
  if (known != set.end()) return *known;
  OfSubject& oldest =
      *std::ranges::min_element(set, {}, [](const OfSubject& one) { return one.bucket.full_at; });
  oldest = {.hash = hash, .bucket = {}};
  return oldest;
}

std::optional<uint64_t> LogLimit::Admit(Event event, std::string_view subject, TimePoint now) {
  const size_t index = EventIndex(event);
  const MutexLock lock(mutex_);
  OfEvent& of_event = events_[index];
  OfSubject* const of_subject = subject.empty() ? nullptr : &Find(HashOf(index, subject));
  if ((of_subject != nullptr &&
       !of_subject->bucket.HasToken(now, kSubjectBurst, kSubjectInterval)) ||
      !of_event.bucket.HasToken(now, kBurst, kInterval)) {
    ++of_event.left_out;
    return std::nullopt;
  }
  if (of_subject != nullptr) of_subject->bucket.Take(now, kSubjectInterval);
  of_event.bucket.Take(now, kInterval);
  return std::exchange(of_event.left_out, 0);
}

}  // namespace holdfast::base
