#include "agent/watch.h"

#include <atomic>
#include <utility>

namespace holdfast::agent {
namespace {

// Of the time after which a missing beat counts: one round has to be asked and seen to be complete
// with time to spare.
constexpr int kBeatsInPeriod = 4;

}  // namespace

struct Watch::Round {
  explicit Round(size_t loops) : missing(loops) {}
  std::atomic<size_t> missing;
};

Watch::Watch(Context context)
    : context_(std::move(context)),
      beat_every_(context_.supervisor.watchdog() / kBeatsInPeriod),
      round_(std::make_shared<Round>(0)) {}

void Watch::Start() {
  if (beat_every_ > base::Duration::zero()) Beat();
  ShowStatus();
}

void Watch::Beat() {
  if (round_->missing == 0) {
    context_.supervisor.Beat();
    round_ = std::make_shared<Round>(context_.watched.size());
    for (base::Executor* const watched : context_.watched) {
      watched->Post([round = round_] { --round->missing; });
    }
  }
  beat_timer_ = context_.loop.After(beat_every_, [this] { Beat(); });
}

void Watch::ShowStatus() {
  if (std::string status = context_.status(); status != shown_) {
    context_.supervisor.Status(status);
    shown_ = std::move(status);
  }
  status_timer_ = context_.loop.After(kStatusEvery, [this] { ShowStatus(); });
}

}  // namespace holdfast::agent
