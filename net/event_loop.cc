#include "net/event_loop.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/thread.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <future>
#include <limits>
#include <mutex>

#include "base/check.h"
#include "base/event.h"
#include "base/log.h"

namespace holdfast::net {
namespace {

constexpr base::Duration kSlowTurn = std::chrono::milliseconds(50);
constexpr base::Duration kStatisticsWindow = std::chrono::seconds(30);

void LogLibevent(int severity, const char* message) {
  if (severity >= EVENT_LOG_WARN)
    base::Log(base::Event::kEventLoop, "net", "libevent: {}", message);
  else
    base::Log(base::LogLevel::kDebug, "net", "libevent: {}", message);
}

void PrepareProcess() {
  static std::once_flag once;
  std::call_once(once, [] {
    evthread_use_pthreads();
    event_set_log_callback(LogLibevent);
    // A peer that has gone is an error of write, not the end of the process.
    std::signal(SIGPIPE, SIG_IGN);
  });
}

timeval ToTimeval(base::Duration duration) {
  // Rounded up: a timer never fires early.
  const auto us =
      std::chrono::ceil<std::chrono::microseconds>(std::max(duration, base::Duration(0)));
  return {.tv_sec = static_cast<time_t>(us.count() / 1000000),
          .tv_usec = static_cast<suseconds_t>(us.count() % 1000000)};
}

int64_t WindowOf(base::TimePoint time) { return time.time_since_epoch() / kStatisticsWindow; }

// The eventfd is edge-triggered: that the wait has ended is all that is needed.
void OnWake(int /*fd*/, short /*what*/, void* /*loop*/) noexcept {}

}  // namespace

struct EventLoop::TimedTask {
  base::Task task;
  EventLoop* loop;  // Null once it has begun, was cancelled, or the loop has gone.
  std::pair<base::TimePoint, uint64_t> key;
};

struct EventLoop::Watched {
  base::Task task;
  EventLoop* loop;  // Null once it is no longer watched.
  event ev = {};
  bool running = false;
};

base::Result<std::unique_ptr<EventLoop>> EventLoop::Create(Options options) {
  PrepareProcess();
  event_config* config = event_config_new();
  HF_CHECK(config != nullptr);
  // Only the loop's own thread calls libevent; others use the mailbox.
  event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
  event_base* base = event_base_new_with_config(config);
  event_config_free(config);
  if (base == nullptr)
    return base::Unexpected(base::ErrnoError("cannot make an event loop", errno));
  const int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_fd < 0) {
    const int error = errno;
    event_base_free(base);
    return base::Unexpected(base::ErrnoError("cannot make an eventfd", error));
  }
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(options), base, wake_fd));
}

EventLoop::EventLoop(Options options, event_base* base, int wake_fd)
    : options_(std::move(options)),
      base_(base),
      wake_fd_(wake_fd),
      wake_event_(event_new(base, wake_fd, EV_READ | EV_PERSIST | EV_ET, OnWake, this)),
      timer_event_(event_new(base, -1, 0, &EventLoop::OnTimer, this)),
      owner_(std::this_thread::get_id()) {
  HF_CHECK(wake_event_ != nullptr && timer_event_ != nullptr);
  HF_CHECK(event_add(wake_event_, nullptr) == 0);
  if (options_.metrics == nullptr) return;
  longest_turn_gauge_ =
      options_.metrics->loop_turn_seconds_max.Bind([this] { return LongestTurnSeconds(); });
  mailbox_gauge_ =
      options_.metrics->mailbox_tasks.Bind([this] { return static_cast<double>(MailboxDepth()); });
}

EventLoop::~EventLoop() {
  longest_turn_gauge_ = {};
  mailbox_gauge_ = {};
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  RunTurnEnd();
  std::vector<base::Task> unrun;
  {
    const base::MutexLock lock(mutex_);
    closed_.store(true);
    unrun.swap(mailbox_);
  }
  unrun.clear();
  kept_.clear();
  // What a task holds may cancel other timers.
  while (!timers_.empty()) {
    const auto timed = timers_.extract(timers_.begin()).mapped();
    timed->loop = nullptr;
    timed->task = base::Task();
  }
  while (!watched_.empty()) Unwatch(*std::shared_ptr<Watched>(watched_.back()));
  event_free(timer_event_);
  event_free(wake_event_);
  event_base_free(base_);
  close(wake_fd_);
}

void EventLoop::Post(base::Task task) { Enqueue(task, std::numeric_limits<size_t>::max()); }

bool EventLoop::TryPost(base::Task task) { return Enqueue(task, options_.mailbox_max); }

bool EventLoop::Enqueue(base::Task& task, size_t limit) {
  bool wake;
  {
    const base::MutexLock lock(mutex_);
    if (closed_.load(std::memory_order_relaxed) || mailbox_.size() >= limit) return false;
    mailbox_.push_back(std::move(task));
    wake = std::exchange(polling_, false);
  }
  if (wake && !base::WakeBatch::Take(this)) Wake();
  return true;
}

void EventLoop::Wake() {
  const uint64_t one = 1;
  // It fails only when the counter is full, and then the loop is awake.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

bool EventLoop::InLoop() const {
  return owner_.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

base::TimePoint EventLoop::Now() const {
  return in_turn_ ? now_ : std::chrono::steady_clock::now();
}

int64_t EventLoop::WallClockMs() const {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

void EventLoop::Run() {
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  do {
    const bool more = RunMailbox();
    EndTurn();
    if (IsDone()) break;
    HF_CHECK(event_base_loop(base_, EVLOOP_ONCE | (more ? EVLOOP_NONBLOCK : 0)) >= 0);
  } while (true);
  owner_.store(std::thread::id(), std::memory_order_relaxed);
  ended_.store(true);
  ended_.notify_all();
}

void EventLoop::Stop() {
  {
    const base::MutexLock lock(mutex_);
    closed_.store(true);
  }
  Wake();
}

bool EventLoop::IsDone() {
  if (!closed_.load(std::memory_order_relaxed)) return false;
  const base::MutexLock lock(mutex_);
  return mailbox_.empty();
}

bool EventLoop::RunMailbox() {
  {
    const base::MutexLock lock(mutex_);
    polling_ = mailbox_.empty();
    if (polling_) return false;
    running_.swap(mailbox_);
  }
  BeginTurn();
  for (base::Task& task : running_) {
    task();
    task = base::Task();
  }
  running_.clear();
  const base::MutexLock lock(mutex_);
  polling_ = mailbox_.empty();
  return !polling_;
}

void EventLoop::BeginTurn() {
  if (in_turn_) return;
  in_turn_ = true;
  now_ = std::chrono::steady_clock::now();
}

void EventLoop::RunTurnEnd() {
  std::vector<base::Task> tasks;
  while (!turn_end_.empty()) {
    tasks.swap(turn_end_);
    for (base::Task& task : tasks) {
      task();
      task = base::Task();
    }
    tasks.clear();
    if (turn_end_.empty()) turn_end_.swap(tasks);  // Keeps the memory for the next turn.
  }
}

void EventLoop::EndTurn() {
  if (!turn_end_.empty()) BeginTurn();
  RunTurnEnd();
  if (!in_turn_) return;
  in_turn_ = false;
  const base::TimePoint end = std::chrono::steady_clock::now();
  const base::Duration turn = end - now_;
  if (turn > kSlowTurn && options_.metrics != nullptr) options_.metrics->slow_loop_turns.Add();
  const int64_t window = WindowOf(end);
  LongestTurn& longest = longest_turns_[static_cast<size_t>(window % 2)];
  if (longest.window.load(std::memory_order_relaxed) != window) {
    longest.nanoseconds.store(0, std::memory_order_relaxed);
    longest.window.store(window, std::memory_order_relaxed);
  }
  if (turn.count() > longest.nanoseconds.load(std::memory_order_relaxed))
    longest.nanoseconds.store(turn.count(), std::memory_order_relaxed);
}

double EventLoop::LongestTurnSeconds() const {
  const int64_t window = WindowOf(std::chrono::steady_clock::now());
  int64_t longest_ns = 0;
  for (const LongestTurn& longest : longest_turns_) {
    if (longest.window.load(std::memory_order_relaxed) >= window - 1)
      longest_ns = std::max(longest_ns, longest.nanoseconds.load(std::memory_order_relaxed));
  }
  return static_cast<double>(longest_ns) * 1e-9;
}

size_t EventLoop::MailboxDepth() {
  const base::MutexLock lock(mutex_);
  return mailbox_.size();
}

void EventLoop::RunAndWait(base::Task task) {
  if (InLoop()) return task();
  std::promise<void> promise;
  const std::future<void> done = promise.get_future();
  // Only after the turn: what was retired earlier in it and refers to the caller's objects is gone.
  base::Task wrapped = [this, &task, promise = std::move(promise)]() mutable {
    task();
    AtTurnEnd([promise = std::move(promise)]() mutable { promise.set_value(); });
  };
  if (Enqueue(wrapped, std::numeric_limits<size_t>::max())) {
    Wake();  // Whatever batch the caller may have.
    return done.wait();
  }
  ended_.wait(false);
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  task();
  RunTurnEnd();
  owner_.store(std::thread::id(), std::memory_order_relaxed);
}

void EventLoop::AtTurnEnd(base::Task task) {
  AssertInLoop();
  turn_end_.push_back(std::move(task));
}

void EventLoop::Keep(std::shared_ptr<void> kept) {
  AssertInLoop();
  kept_.push_back(std::move(kept));
}

base::Timer EventLoop::After(base::Duration delay, base::Task task) {
  AssertInLoop();
  auto timed = std::make_shared<TimedTask>();
  timed->task = std::move(task);
  timed->loop = this;
  timed->key = {Now() + std::max(delay, base::Duration(0)), next_timer_++};
  timers_.emplace(timed->key, timed);
  ArmTimer();
  return base::Timer([timed = std::move(timed)] {
    if (timed->loop == nullptr) return;
    std::exchange(timed->loop, nullptr)->timers_.erase(timed->key);
    timed->task = base::Task();
  });
}

void EventLoop::ArmTimer() {
  if (timers_.empty() || timers_.begin()->first.first >= armed_for_) return;
  armed_for_ = timers_.begin()->first.first;
  const timeval rest = ToTimeval(armed_for_ - Now());
  HF_CHECK(event_add(timer_event_, &rest) == 0);
}

void EventLoop::OnTimer(int /*fd*/, short /*what*/, void* loop) noexcept {
  auto* self = static_cast<EventLoop*>(loop);
  self->BeginTurn();
  self->armed_for_ = base::TimePoint::max();
  self->RunDueTimers();
  // There may be no due one: libevent's clock is coarse, and may be ahead of ours.
  self->ArmTimer();
}

// Not those that are set meanwhile, or a task that sets itself again would hold up the loop.
void EventLoop::RunDueTimers() {
  const uint64_t end = next_timer_;
  while (!timers_.empty()) {
    const auto first = timers_.begin();
    if (first->first.first > now_ || first->first.second >= end) return;
    const std::shared_ptr<TimedTask> timed = timers_.extract(first).mapped();
    timed->loop = nullptr;
    timed->task();
    timed->task = base::Task();
  }
}

base::Timer EventLoop::OnSignal(int signal, base::UniqueFunction<void()> task) {
  return Watch(signal, EV_SIGNAL | EV_PERSIST, std::move(task));
}

base::Timer EventLoop::OnReadable(int fd, base::UniqueFunction<void()> task) {
  return Watch(fd, EV_READ | EV_PERSIST, std::move(task));
}

base::Timer EventLoop::Watch(int fd, short what, base::UniqueFunction<void()> task) {
  AssertInLoop();
  auto watched = std::make_shared<Watched>();
  watched->task = std::move(task);
  watched->loop = this;
  HF_CHECK(event_assign(&watched->ev, base_, fd, what, OnWatched, watched.get()) == 0);
  HF_CHECK(event_add(&watched->ev, nullptr) == 0);
  watched_.push_back(watched);
  return base::Timer([watched = std::move(watched)] {
    if (watched->loop != nullptr) watched->loop->Unwatch(*watched);
  });
}

void EventLoop::Unwatch(Watched& watched) {
  event_del(&watched.ev);
  watched.loop = nullptr;
  // A task that runs is destroyed when it returns.
  if (!watched.running) watched.task = base::Task();
  std::erase_if(watched_, [&watched](const auto& each) { return each.get() == &watched; });
}

void EventLoop::OnWatched(int /*fd*/, short /*what*/, void* watched) noexcept {
  EventLoop* const loop = static_cast<Watched*>(watched)->loop;
  loop->BeginTurn();
  const auto found = std::ranges::find(loop->watched_, watched, &std::shared_ptr<Watched>::get);
  const std::shared_ptr<Watched> held = *found;
  held->running = true;
  held->task();
  held->running = false;
  if (held->loop == nullptr) held->task = base::Task();
}

base::Result<std::unique_ptr<LoopThread>> LoopThread::Start(EventLoop::Options options) {
  auto loop = EventLoop::Create(std::move(options));
  if (!loop) return base::Unexpected(std::move(loop).error());
  return std::unique_ptr<LoopThread>(new LoopThread(*std::move(loop)));
}

LoopThread::LoopThread(std::unique_ptr<EventLoop> loop) : loop_(std::move(loop)) {
  // From here on it is no longer the caller's, even before the thread has come to Run.
  loop_->owner_.store(std::thread::id(), std::memory_order_relaxed);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), loop_->name().substr(0, 15).c_str());
    loop_->Run();
  });
}

LoopThread::~LoopThread() { Stop(); }

void LoopThread::Stop() {
  if (!thread_.joinable()) return;
  loop_->Stop();
  thread_.join();
}

}  // namespace holdfast::net
