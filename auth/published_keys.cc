#include "auth/published_keys.h"

#include <algorithm>

#include "base/event.h"
#include "base/log.h"

namespace holdfast::auth {

using base::LogLevel;

PublishedKeys::PublishedKeys(Options options, base::Executor& loop)
    : options_(std::move(options)), loop_(loop) {}

base::Result<std::shared_ptr<PublishedKeys>> PublishedKeys::Start(Options options,
                                                                  base::Executor& loop) {
  const std::shared_ptr<PublishedKeys> made(new PublishedKeys(std::move(options), loop));
  if (made->IsFile()) HF_RETURN_IF_ERROR(made->Read());
  loop.Post([made] {
    if (made->IsFile()) {
      made->GoOnAfter(kFileEvery);
    } else {
      made->ReadAndGoOn();
    }
  });
  return made;
}

std::shared_ptr<const JsonWebKeys> PublishedKeys::Get() const {
  const base::MutexLock lock(mutex_);
  return keys_;
}

void PublishedKeys::AskAnew() {
  if (IsFile() || asked_.exchange(true)) return;
  loop_.Post([self = shared_from_this()] {
    // Retries are on the way already.
    if (self->stopped_ || self->retry_ != kRetryFirst) {
      self->asked_ = false;
      return;
    }
    self->GoOnAfter(
        std::max(self->read_at_ + kAnewEvery - self->loop_.Now(), base::Duration::zero()));
  });
}

base::Result<> PublishedKeys::Read() {
  HF_ASSIGN_OR_RETURN(
      std::string text,
      net::FetchUrl(options_.url, {.ca_location = options_.ca_location, .give_up = &stopped_}));
  if (text == text_) return {};
  auto keys = JsonWebKeys::Parse(text);
  if (!keys) return base::Unexpected(std::move(keys).error().Within(options_.url));
  base::Log(LogLevel::kInfo, "sasl", "read {} keys for tokens from {}", (*keys)->size(),
            options_.url);
  text_ = std::move(text);
  const base::MutexLock lock(mutex_);
  keys_ = *std::move(keys);
  return {};
}

void PublishedKeys::ReadAndGoOn() {
  if (stopped_) return;
  const base::Result<> read = Read();
  asked_ = false;
  read_at_ = loop_.Now();
  if (read) {
    retry_ = kRetryFirst;
    return GoOnAfter(IsFile() ? kFileEvery : options_.refresh);
  }
  if (stopped_) return;
  if (retry_ == kRetryFirst) {
    base::Log(base::Event::kTokenKeysUnreadable, "sasl", "keys for tokens cannot be read, {}: {}",
              Get() ? "those read before stay" : "and until they can nobody logs in with one",
              read.error().message);
  }
  GoOnAfter(retry_);
  retry_ = std::min(2 * retry_, kRetryLast);
}

void PublishedKeys::GoOnAfter(base::Duration delay) {
  next_ = loop_.After(delay, [this] { ReadAndGoOn(); });
}

}  // namespace holdfast::auth
