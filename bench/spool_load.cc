#include "bench/spool_load.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace holdfast::bench {
namespace {

constexpr size_t kEntryBytesMax = size_t{16} << 10;
constexpr uint32_t kStreamsOpenedAtOnce = 1000;

}  // namespace

class SpoolLoad::NoOwner final : public spool::Owner {
 public:
  base::Result<void> Load(const spool::StateView&) override { return {}; }
  void Replay(const spool::EntryInfo&) override {}
  void Checkpoint(spool::Transaction&) override {}
  void OnDurable(std::span<const spool::StreamId>) override {}
};

class SpoolLoad::Append final : public spool::Operation {
 public:
  Append(SpoolLoad& load, uint32_t stream) : load_(load), stream_(stream), trim_(load.trimming) {}
  [[nodiscard]] size_t Bytes() const override { return load_.payload_.size(); }
  void Apply(spool::Transaction& transaction) override {
    const spool::StreamId stream = load_.ids_[stream_];
    const int64_t offset = transaction.Append(
        {.stream = stream, .bytes = load_.payload_, .record_count = 16, .max_timestamp_ms = 1});
    if (trim_) transaction.Trim(stream, offset);
  }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (!result) Die(result.error().message);
    load_.Answered(*result, load_.payload_.size());
  }

 private:
  SpoolLoad& load_;
  const uint32_t stream_;
  const bool trim_;
};

// No entries.
class SpoolLoad::Change final : public spool::Operation {
 public:
  using Function = std::function<void(spool::Transaction&)>;
  Change(SpoolLoad& load, Function apply) : load_(load), apply_(std::move(apply)) {}
  [[nodiscard]] size_t Bytes() const override { return 0; }
  void Apply(spool::Transaction& transaction) override { apply_(transaction); }
  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (!result) Die(result.error().message);
    load_.Answered(*result, 0);
  }

 private:
  SpoolLoad& load_;
  const Function apply_;
};

SpoolLoad::SpoolLoad(const Settings& settings)
    : settings_(settings),
      payload_(RandomBytes(std::min(settings.commit_bytes, kEntryBytesMax))),
      owner_(std::make_unique<NoOwner>()) {
  spool::Options options{.directory = settings.directory,
                         .commit_bytes_max = settings.commit_bytes,
                         .encryption_keys = settings.keys};
  auto opened = spool::Spool::Open(options, *owner_, writer_, background_);
  if (!opened) Die(opened.error().message);
  spool_ = *std::move(opened);
  OpenStreams();
}

void SpoolLoad::OpenStreams() {
  for (uint32_t begin = 0; begin < settings_.streams; begin += kStreamsOpenedAtOnce) {
    const uint32_t end = std::min(begin + kStreamsOpenedAtOnce, settings_.streams);
    SubmitAndWait(std::make_unique<Change>(*this, [=, this](spool::Transaction& transaction) {
      for (uint32_t i = begin; i < end; ++i)
        ids_.push_back(transaction.OpenStream("topic-" + std::to_string(i)));
    }));
  }
}

Samples SpoolLoad::Run(double seconds, uint64_t bytes) {
  samples_ = {};
  last_commit_ = spool::CommitNumber();
  const auto begun = Clock::now();
  // Three commits' worth: one being written, and two queued, so that the next is full however late
  // this thread wakes. With less the commits would be smaller than what stands beside them, or the
  // writer would find nothing to do.
  const size_t depth = 3 * settings_.commit_bytes / payload_.size();
  std::unique_lock lock(mutex_);
  while (Seconds(Clock::now() - begun) < seconds && samples_.bytes < bytes) {
    while (in_flight_ < depth) {
      lock.unlock();
      SubmitEntry();
      lock.lock();
    }
    answered_.wait(lock, [&] { return in_flight_ <= 3 * depth / 4; });
  }
  answered_.wait(lock, [&] { return in_flight_ == 0; });
  samples_.seconds = Seconds(Clock::now() - begun);
  return std::move(samples_);
}

std::vector<double> SpoolLoad::RunAlone(int count) {
  std::vector<double> waits_ms;
  for (int i = 0; i < count; ++i) {
    const auto begun = Clock::now();
    SubmitEntry();
    std::unique_lock lock(mutex_);
    answered_.wait(lock, [&] { return in_flight_ == 0; });
    waits_ms.push_back(Seconds(Clock::now() - begun) * 1e3);
  }
  return waits_ms;
}

Samples SpoolLoad::Drain(uint64_t step_bytes) {
  constexpr double kStepSeconds = 0.05;
  Samples samples;
  const spool::OffsetRange range = spool_->Range(spool::StreamId(0));
  const auto step = static_cast<int64_t>(step_bytes / payload_.size() / settings_.streams * 16);
  trimming = false;
  for (int64_t to = range.start; to < range.end;) {
    to = std::min(to + std::max<int64_t>(step, 1), range.end);
    Submit(std::make_unique<Change>(*this, [this, to](spool::Transaction& transaction) {
      for (const spool::StreamId stream : ids_) transaction.Trim(stream, to);
    }));
    samples.Add(Run(kStepSeconds));
  }
  trimming = true;
  return samples;
}

void SpoolLoad::SubmitEntry() {
  Submit(std::make_unique<Append>(*this, next_stream_));
  next_stream_ = (next_stream_ + 1) % settings_.streams;
}

void SpoolLoad::Submit(std::unique_ptr<spool::Operation> operation) {
  {
    const std::lock_guard lock(mutex_);
    ++in_flight_;
  }
  if (!spool_->Submit(operation)) Die("the queue is full");
}

void SpoolLoad::SubmitAndWait(std::unique_ptr<spool::Operation> operation) {
  Submit(std::move(operation));
  std::unique_lock lock(mutex_);
  answered_.wait(lock, [&] { return in_flight_ == 0; });
}

void SpoolLoad::Answered(spool::CommitNumber commit, size_t bytes) {
  const auto now = Clock::now();
  const std::lock_guard lock(mutex_);
  samples_.bytes += bytes;
  if (commit != last_commit_) {
    if (last_commit_.value() != 0)
      samples_.commit_ms.push_back(Seconds(now - last_commit_time_) * 1e3);
    last_commit_ = commit;
    last_commit_time_ = now;
  }
  --in_flight_;
  answered_.notify_one();
}

}  // namespace holdfast::bench
