// The configuration of a running process: read once more on SIGHUP or POST /reload, compared with
// what runs, and put into effect when everything that changed can change without a restart. If
// anything cannot, nothing is changed, and the answer names the keys. The supervisor sees it begin
// and end.
//
// Ownership: what is called back outlives it. Threads: any; one reload at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "base/result.h"
#include "base/supervisor.h"
#include "config/config.h"

namespace holdfast::cli {

class Reloader {
 public:
  using Config = std::shared_ptr<const config::Config>;
  using Apply = std::function<base::Result<void>(const config::Config&)>;

  Reloader(config::Sources sources, Config running, const base::Supervisor& supervisor)
      : sources_(std::move(sources)), supervisor_(supervisor), running_(std::move(running)) {}

  // Who takes a new configuration. Null: it is not taken any more.
  void SetApply(Apply apply);
  // Reads, compares, applies; returns what changed, for a person. Also in the log.
  base::Result<std::string> Reload();
  // What runs, as JSON, without secrets.
  [[nodiscard]] std::string Print();

 private:
  base::Result<std::string> ReloadLocked() HF_REQUIRES(mutex_);

  const config::Sources sources_;
  const base::Supervisor& supervisor_;
  base::Mutex mutex_;
  Config running_ HF_GUARDED_BY(mutex_);
  Apply apply_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::cli
