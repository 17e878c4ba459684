#include "spool/damage.h"

#include "base/event.h"
#include "base/log.h"
#include "metrics/catalogue.h"

namespace holdfast::spool {

void DamageLog::OnDamage(uint64_t segment, std::optional<CommitNumber> commit,
                         const base::Error& error) {
  {
    const base::MutexLock lock(mutex_);
    if (!known_.emplace(segment, commit).second) return;
  }
  (commit ? metrics_.damaged_frames : metrics_.damaged_segments).Add();
  if (commit) {
    base::Log(base::Event::kCommitLost, "spool", "commit {} is damaged, the rest is not: {}",
              commit->value(), error.message);
  } else {
    base::Log(base::Event::kSegmentDamaged, "spool", "{}", error.message);
  }
}

}  // namespace holdfast::spool
