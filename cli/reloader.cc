#include "cli/reloader.h"

#include <fmt/format.h>

#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "config/changes.h"
#include "config/holdfast.pb.h"

namespace holdfast::cli {

void Reloader::SetApply(Apply apply) {
  base::MutexLock lock(mutex_);
  apply_ = std::move(apply);
}

base::Result<std::string> Reloader::Reload() {
  base::MutexLock lock(mutex_);
  supervisor_.Reloading();
  auto done = ReloadLocked();
  supervisor_.Reloaded();
  if (done) {
    base::Log(base::LogLevel::kInfo, "config", "reloaded: {}", *done);
  } else {
    base::Log(base::Event::kNotReloaded, "config", "not reloaded, nothing is changed: {}",
              done.error().message);
  }
  return done;
}

base::Result<std::string> Reloader::ReloadLocked() {
  HF_ASSIGN_OR_RETURN(Config loaded, config::Load(sources_));
  const config::Changes changes = config::Compare(*running_, *loaded);
  if (!changes.restart.empty()) {
    return base::Unexpected(base::Code::kInvalid, fmt::format("changing {} needs a restart",
                                                              fmt::join(changes.restart, ", ")));
  }
  if (!apply_)
    return base::Unexpected(base::Code::kUnavailable, "the process is starting or stopping");
  // Files that the configuration names may have changed though it did not.
  HF_RETURN_IF_ERROR(apply_(*loaded));
  base::SetLogLevel(static_cast<base::LogLevel>(loaded->log().level()));
  base::SetLogFormat(loaded->log().format() == config::Log::json ? base::LogFormat::kJson
                                                                 : base::LogFormat::kText);
  running_ = std::move(loaded);
  return changes.live.empty() ? std::string("no setting has changed")
                              : fmt::format("changed {}", fmt::join(changes.live, ", "));
}

std::string Reloader::Print() {
  base::MutexLock lock(mutex_);
  return config::PrintWithoutSecrets(*running_);
}

}  // namespace holdfast::cli
