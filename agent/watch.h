// Tells who supervises the process that it lives, and how it is: a beat for the watchdog, once
// every watched loop has run a task since the beat before. A loop that hangs ends the beats,
// whatever the others do, and so does this one.
//
// Not watched are loops whose single tasks may last as long as somebody else likes: those that ask
// databases, and those that rewrite files in the background.
//
// Ownership: all in the context outlives it. Threads: the loop, but the constructor.
// Shutdown: destroyed on the loop, before the watched loops stop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/supervisor.h"

namespace holdfast::agent {

class Watch {
 public:
  struct Context {
    base::Executor& loop;
    const base::Supervisor& supervisor;
    std::vector<base::Executor*> watched;
    std::function<std::string()> status;  // How the process is, in one line.
  };
  static constexpr base::Duration kStatusEvery = std::chrono::seconds(5);

  explicit Watch(Context context);
  void Start();

 private:
  struct Round;

  void Beat();
  void ShowStatus();

  const Context context_;
  const base::Duration beat_every_;
  // Of those who still have to answer; they may do so when this is gone.
  std::shared_ptr<Round> round_;
  std::string shown_;
  base::Timer beat_timer_;
  base::Timer status_timer_;
};

}  // namespace holdfast::agent
