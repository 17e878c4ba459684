#include "broker/admin_change.h"

namespace holdfast::broker {

void AdminChange::Done(const base::Result<spool::CommitNumber>& result) {
  if (result) {
    Publish();
  } else {
    const TopicOutcome failed{to_error_(result.error().code), result.error().message};
    outcomes_.assign(outcomes_.size(), failed);
  }
  done_(std::move(outcomes_));
}

}  // namespace holdfast::broker
