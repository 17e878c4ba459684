// What each answer of the tier to a forwarded batch means, sorted once and for all.
//
// The question behind every row: may the batch be in the tier's log? If that is certain, the
// forwarder goes on or sends the same bytes again; if it is not, the tier is asked (reconciled)
// before anything is sent again.
//
// Threads: any; plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"

namespace holdfast::agent {

enum class Outcome : uint8_t {
  kDelivered,  // In the log: advance.
  kRetry,      // The same bytes again after a backoff: not stored, or a repeat is recognised.
  kRefresh,    // Not stored here: find the leader (or make the topic), then send again.
  kReconcile,  // May be stored: find the leader and ask what arrived before sending again.
  kNewEpoch,  // Not stored, and the tier no longer takes this producer epoch: reconcile, then a new
              // one.
  kRefused,   // Not stored, and this batch never will be: dead letter.
  kParked,    // Not stored until somebody changes rights, settings or software: hold the stream
              // and try rarely.
};

// What the tier said to one batch.
struct TierAnswer {
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  int64_t tier_offset = -1;
  bool lost = false;                  // It said nothing.
  std::string message = {};           // With an error, if there is more to say.
  std::vector<int32_t> refused = {};  // Which records the error is about, if it named some.
};

// An unknown code may mean anything: kReconcile.
Outcome OutcomeOf(kafka::ErrorCode code);

std::string_view OutcomeName(Outcome outcome);

// Whether this attempt has put the batch into the log of the leader that answered. One that it
// refused for its sequence may be there since an earlier attempt.
enum class Stored : uint8_t { kNo, kMaybe, kYes };
Stored StoredBy(Outcome outcome, kafka::ErrorCode error);

}  // namespace holdfast::agent
