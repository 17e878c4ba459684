// The keys of who issues tokens, read from where they are published and kept up to date.
//
// A file is read every kFileEvery. What has an address in the net is asked for every
// `refresh`, and at once (at most every kAnewEvery) when a token asks for a key that is not
// there. If that fails, the old keys stay, and it is tried again after kRetryFirst, which doubles
// up to kRetryLast.
//
// Threads: any. The loop is one whose tasks may block; nothing else that is urgent belongs there.
// Shutdown: Stop, then the end of the loop, before it and who may call AskAnew are destroyed. A
//   request that is under way is given up within a second.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "auth/json_web_keys.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "base/result.h"
#include "net/url_fetch.h"

namespace holdfast::auth {

class PublishedKeys : public std::enable_shared_from_this<PublishedKeys> {
 public:
  static constexpr base::Duration kFileEvery = std::chrono::seconds(10);
  static constexpr base::Duration kAnewEvery = std::chrono::seconds(10);
  static constexpr base::Duration kRetryFirst = std::chrono::milliseconds(100);
  static constexpr base::Duration kRetryLast = std::chrono::seconds(10);

  struct Options {
    std::string url;  // file, http or https.
    std::string ca_location = {};
    base::Duration refresh = std::chrono::hours(1);
  };

  // Reads a file before it returns, and fails if that does. Waits for nothing else.
  static base::Result<std::shared_ptr<PublishedKeys>> Start(Options options, base::Executor& loop);

  // Null before they were read for the first time.
  [[nodiscard]] std::shared_ptr<const JsonWebKeys> Get() const;
  // A key is missing.
  void AskAnew();
  void Stop() { stopped_ = true; }

 private:
  PublishedKeys(Options options, base::Executor& loop);

  base::Result<> Read();
  void ReadAndGoOn();
  void GoOnAfter(base::Duration delay);
  [[nodiscard]] bool IsFile() const { return net::IsFileUrl(options_.url); }

  const Options options_;
  base::Executor& loop_;
  std::atomic<bool> stopped_{false};
  std::atomic<bool> asked_{false};

  mutable base::Mutex mutex_;
  std::shared_ptr<const JsonWebKeys> keys_ HF_GUARDED_BY(mutex_);

  // Of the loop.
  std::string text_;  // That the keys were made of.
  base::Timer next_;
  base::TimePoint read_at_;
  base::Duration retry_ = kRetryFirst;
};

}  // namespace holdfast::auth
