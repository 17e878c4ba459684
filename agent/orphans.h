// Spools whose agents are gone for good: those of pods that were deleted, whose directories stay on
// the node. The node's own agent finds them, has them delivered, and removes what is empty.
//
//   DIRECTORY/NAME/spool    one agent's spool; NAME is what Kubernetes made of the pod's names
//
// An orphan is a spool that no process has had for Options::after. One at a time is drained by a
// child of this process (`holdfast spool drain --remove`), so that whatever is wrong with it stays
// in that process. ADR 18 says why. What the child says is in agent/drain_report.h; it decides
// under the spool's own lock whether the spool may go. A spool with records, dead letters, damage,
// or notes that somebody needs stays, and is told of. An empty one that was produced to lately
// waits for Options::remove_after: its agent may only be slow in coming back.
//
// If an orphan's agent comes back, it gets the spool: the child sees that it is wanted and ends.
// Whoever dies at whatever point, the spool itself says how far it was.
//
// Foreign files, symbolic links and what else is in the directory are left alone, with one line in
// the log. An empty directory named NAMESPACE_POD_UID that is older than Options::after is what a
// removal left that was cut off; it goes.
//
// Ownership: the loop and the registry outlive it.
// Threads: the loop, which may block on the file system; GetStatus from any thread; Pause, Stop and
//   the destructor from a thread that is not the loop's.
// Shutdown: Pause tells the child to end, Stop waits for it for kEndsWithin, and then kills it.
//   It dies with this process, however that dies.
// Limits: kDirectoriesMax are looked at; one child.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/drain_report.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "metrics/catalogue.h"
#include "net/event_loop.h"

namespace holdfast::agent {

class Orphans {
 public:
  static constexpr size_t kDirectoriesMax = 1000;
  static constexpr std::chrono::milliseconds kEndsWithin = std::chrono::seconds(5);

  struct Options {
    std::string directory;
    base::Duration after = std::chrono::seconds(60);
    // So long after the last batch of a producer that may repeat it.
    base::Duration remove_after = std::chrono::minutes(15);
    std::vector<std::string> settings;  // Arguments that give the child this agent's settings.
  };
  enum class State : uint8_t {
    kWaiting,  // For its time, its turn, or the tier.
    kDraining,
    kLeft,  // Something is left, and is tried again.
    kKept,  // Nothing is left that can be delivered, and yet it has to stay.
  };
  static std::string_view NameOf(State state);
  struct Status {
    std::string name;
    State state = State::kWaiting;
    int64_t left_records = 0;  // Once it was tried.
    std::string why;
  };

  // Begins to look.
  Orphans(net::EventLoop& loop, metrics::Registry& registry, Options options,
          std::function<bool()> tier_away);
  ~Orphans();
  Orphans(const Orphans&) = delete;
  Orphans& operator=(const Orphans&) = delete;

  void Pause();
  void Stop();
  // By name.
  [[nodiscard]] std::vector<Status> GetStatus();

 private:
  // Who had the spool last; changes whenever somebody takes it.
  struct Tenant {
    ino_t file = 0;
    int64_t since_ns = 0;
    bool operator==(const Tenant&) const = default;
  };
  struct Orphan {
    State state = State::kWaiting;
    Tenant tenant;
    base::TimePoint free_since;
    base::TimePoint not_before;
    base::Duration backoff{};
    DrainReport report;
    std::string why;
    bool seen = false;  // In this round.
  };
  struct Child {
    std::string name;
    pid_t pid = -1;
    int out = -1;
    std::string text;  // Of the line that has not come to its end.
    DrainReport report;
  };

  void Look();
  void LookAtAll();
  void LookInto(int directory, const std::string& name);
  void RemoveEmpty(int directory, const std::string& name);
  void Foreign(const std::string& name, std::string_view what);
  void Warn(std::string_view about, const std::string& message);
  void Next();
  void Begin(const std::string& name);
  void Watch();
  void ReadChild();
  void OnEnd(int status);
  void EndChild(std::chrono::milliseconds within);
  void Publish();
  [[nodiscard]] std::string PathOf(const std::string& name) const;

  net::EventLoop& loop_;
  metrics::OrphanMetrics metrics_;
  const Options options_;
  const std::function<bool()> tier_away_;
  std::map<std::string, Orphan> orphans_;
  std::optional<Child> child_;
  std::set<std::string> warned_;  // About what, so as to say it once.
  bool stopped_ = false;
  base::Timer look_timer_;
  base::Timer watch_timer_;

  base::Mutex mutex_;
  std::vector<Status> status_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::agent
