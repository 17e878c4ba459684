// What the operations have in common that change several things for an administrator: each gets an
// outcome of its own, and what is durable is shown to everybody before the outcomes are told.
//
// Threads: made anywhere; everything else on the writer, where `done` runs, too.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_function.h"
#include "broker/log.h"
#include "kafka/error_code.h"
#include "spool/spool.h"

namespace holdfast::broker {

struct TopicOutcome {
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  std::string message;
};

// One outcome for each thing named, in their order.
using TopicsDone = base::UniqueFunction<void(std::vector<TopicOutcome>)>;

// Appends nothing, so it works when the spool is full.
class AdminChange : public spool::Operation {
 public:
  [[nodiscard]] size_t Bytes() const override { return 0; }
  void Done(const base::Result<spool::CommitNumber>& result) final;

 protected:
  // What clients are told when the commit failed; see kafka/error_map.h.
  using ToError = kafka::ErrorCode (*)(base::Code);
  AdminChange(Log& log, size_t things, ToError to_error, TopicsDone done)
      : log_(log), outcomes_(things), to_error_(to_error), done_(std::move(done)) {}

  // The change is durable: shows it to everybody.
  virtual void Publish() = 0;

  Log& log_;
  std::vector<TopicOutcome> outcomes_;

 private:
  const ToError to_error_;
  TopicsDone done_;
};

}  // namespace holdfast::broker
