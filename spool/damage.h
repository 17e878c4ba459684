// What is told about damaged bytes. Reading goes on without them; somebody must say so.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <utility>

#include "base/mutex.h"
#include "base/result.h"
#include "spool/spool.h"

namespace holdfast::metrics {
struct SpoolMetrics;
}

namespace holdfast::spool {

class DamageObserver {
 public:
  virtual ~DamageObserver() = default;
  // A frame that cannot be read; without `commit` something about the segment as a whole. From any
  // thread, and again whenever it is met again.
  virtual void OnDamage(uint64_t segment, std::optional<CommitNumber> commit,
                        const base::Error& error) = 0;
};

// Logs and counts each damage once.
class DamageLog final : public DamageObserver {
 public:
  explicit DamageLog(metrics::SpoolMetrics& metrics) : metrics_(metrics) {}
  void OnDamage(uint64_t segment, std::optional<CommitNumber> commit,
                const base::Error& error) override;

 private:
  metrics::SpoolMetrics& metrics_;
  base::Mutex mutex_;
  std::set<std::pair<uint64_t, std::optional<CommitNumber>>> known_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::spool
