#include "agent/orphans.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "spool/directory.h"

namespace holdfast::agent {
namespace {

using base::LogLevel;

constexpr base::Duration kLookEvery = std::chrono::seconds(1);
constexpr base::Duration kWatchEvery = std::chrono::milliseconds(50);
constexpr base::Duration kBackoffMin = std::chrono::seconds(5);
constexpr base::Duration kBackoffMax = std::chrono::minutes(10);
// Then the next one has its turn, and this one another.
constexpr std::string_view kTurn = "2m";
constexpr int kEndPollMs = 10;
constexpr std::array kStates = {Orphans::State::kWaiting, Orphans::State::kDraining,
                                Orphans::State::kLeft, Orphans::State::kKept};

// <namespace>_<pod>_<uid>: names in Kubernetes have no `_`.
bool IsOfPod(std::string_view name) {
  constexpr size_t kUidSize = 36;
  const size_t uid = name.rfind('_');
  return std::ranges::count(name, '_') == 2 && name.size() - uid - 1 == kUidSize &&
         name.find_first_not_of("0123456789abcdef-", uid + 1) == std::string_view::npos;
}

// In the child, between fork and exec: nothing but system calls.
[[noreturn]] void BecomeDrain(pid_t parent, int out, char* const* arguments) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);  // It died before that.
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0) _exit(1);
  close_range(STDERR_FILENO + 1, ~0U, 0);
  execv("/proc/self/exe", arguments);
  _exit(1);
}

}  // namespace

std::string_view Orphans::NameOf(State state) {
  switch (state) {
    case State::kWaiting:
      return "waiting";
    case State::kDraining:
      return "draining";
    case State::kLeft:
      return "left";
    case State::kKept:
      return "kept";
  }
  return "";
}

Orphans::Orphans(net::EventLoop& loop, metrics::Registry& registry, Options options,
                 std::function<bool()> tier_away)
    : loop_(loop),
      metrics_(registry),
      options_(std::move(options)),
      tier_away_(std::move(tier_away)) {
  loop_.RunAndWait([this] {
    Publish();
    look_timer_ = loop_.After({}, [this] { Look(); });
  });
}

Orphans::~Orphans() { Stop(); }

void Orphans::Pause() {
  loop_.RunAndWait([this] {
    stopped_ = true;
    look_timer_.Cancel();
    if (child_) kill(child_->pid, SIGTERM);
  });
}

void Orphans::Stop() {
  Pause();
  loop_.RunAndWait([this] {
    watch_timer_.Cancel();
    if (child_) EndChild(kEndsWithin);
  });
}

std::vector<Orphans::Status> Orphans::GetStatus() {
  base::MutexLock lock(mutex_);
  return status_;
}

std::string Orphans::PathOf(const std::string& name) const {
  return options_.directory + "/" + name + "/spool";
}

void Orphans::Look() {
  look_timer_ = loop_.After(kLookEvery, [this] { Look(); });
  for (auto& [name, orphan] : orphans_) orphan.seen = false;
  LookAtAll();
  std::erase_if(orphans_, [this](const auto& one) {
    return !one.second.seen && (!child_ || child_->name != one.first);
  });
  if (!child_) Next();
  Publish();
}

void Orphans::LookAtAll() {
  const int fd = open(options_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const entries = fd < 0 ? nullptr : fdopendir(fd);
  if (entries == nullptr) {
    Warn("directory", fmt::format("{}: cannot look for orphaned spools: {}", options_.directory,
                                  std::strerror(errno)));
    if (fd >= 0) close(fd);
    return;
  }
  warned_.erase("directory");
  size_t directories = 0;
  while (const dirent* entry = readdir(entries)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (++directories > kDirectoriesMax) {
      Warn("many", fmt::format("{}: only {} directories are looked at for orphaned spools",
                               options_.directory, kDirectoriesMax));
      break;
    }
    LookInto(fd, name);
  }
  closedir(entries);
}

void Orphans::LookInto(int directory, const std::string& name) {
  if (child_ && child_->name == name) {
    orphans_[name].seen = true;
    return;
  }
  struct stat info {};
  if (fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return;
  if (!S_ISDIR(info.st_mode)) return Foreign(name, "is no directory");
  if (fstatat(directory, (name + "/spool").c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return RemoveEmpty(directory, name);
  if (!S_ISDIR(info.st_mode)) return Foreign(name + "/spool", "is no directory");

  const std::string path = PathOf(name);
  const auto view = spool::Directory::Look(path);
  if (view && view->live) {
    orphans_.erase(name);
    return;
  }
  // Without a file HOLDFAST it may be one that was removed but for the rest.
  const bool none = !view && view.error().code == base::Code::kNotFound;
  struct stat lock {};
  if (fstatat(directory, (name + "/spool/LOCK").c_str(), &lock, AT_SYMLINK_NOFOLLOW) != 0) {
    if (none && !IsOfPod(name)) return Foreign(name + "/spool", "is no spool");
    lock = info;
  }
  const Tenant tenant{.file = lock.st_ino,
                      .since_ns = lock.st_mtim.tv_sec * 1'000'000'000 + lock.st_mtim.tv_nsec};
  auto [at, is_new] = orphans_.try_emplace(name);
  Orphan& orphan = at->second;
  orphan.seen = true;
  if (is_new || orphan.tenant != tenant) {
    orphan = {.tenant = tenant, .free_since = loop_.Now(), .seen = true};
    orphan.not_before = orphan.free_since + options_.after;
  }
  if (!view && !none) {
    orphan.state = State::kLeft;
    orphan.why = view.error().message;
  } else if (view && view->exported && !view->being_removed) {
    orphan.state = State::kKept;
    orphan.why = *view->exported;
  }
}

// Only an empty one goes. One that a pod is about to use was made lately, or is in use.
void Orphans::RemoveEmpty(int directory, const std::string& name) {
  if (!IsOfPod(name)) return Foreign(name, "has no spool in it");
  struct stat info {};
  if (fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return;
  const auto age =
      std::chrono::milliseconds(loop_.WallClockMs() - int64_t{info.st_mtim.tv_sec} * 1000);
  if (age < options_.after) return;
  if (unlinkat(directory, name.c_str(), AT_REMOVEDIR) == 0) return;
  if (errno == ENOTEMPTY || errno == EEXIST) return Foreign(name, "has no spool in it");
  Warn("remove", fmt::format("{}/{}: cannot be removed: {}; its owner, or that of the directory "
                             "above, has to be the user of this process",
                             options_.directory, name, std::strerror(errno)));
}

void Orphans::Foreign(const std::string& name, std::string_view what) {
  Warn("foreign", fmt::format("{}/{} {}, and is left alone as is everything foreign here",
                              options_.directory, name, what));
}

void Orphans::Warn(std::string_view about, const std::string& message) {
  if (!warned_.emplace(about).second) return;
  base::Log(base::Event::kOrphansNotSeen, "orphans", "{}", message);
}

// The one that has waited longest.
void Orphans::Next() {
  if (stopped_ || tier_away_()) return;
  const std::string* next = nullptr;
  base::TimePoint since;
  for (const auto& [name, orphan] : orphans_) {
    if (orphan.state == State::kKept || orphan.not_before > loop_.Now()) continue;
    if (next != nullptr && orphan.not_before >= since) continue;
    next = &name;
    since = orphan.not_before;
  }
  if (next != nullptr) Begin(*next);
}

void Orphans::Begin(const std::string& name) {
  std::vector<std::string> command = {"holdfast", "spool",    "drain",     PathOf(name),
                                      "--json",   "--remove", "--timeout", std::string(kTurn)};
  const auto remove_after =
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.remove_after);
  command.insert(command.end(), {"--remove-after", fmt::format("{}ms", remove_after.count())});
  command.insert(command.end(), options_.settings.begin(), options_.settings.end());
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);

  std::array<int, 2> pipe_ends{};
  if (pipe2(pipe_ends.data(), O_CLOEXEC | O_NONBLOCK) != 0)
    return Warn("pipe", fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) BecomeDrain(parent, pipe_ends[1], arguments.data());
  close(pipe_ends[1]);
  if (pid < 0) {
    close(pipe_ends[0]);
    Warn("fork", fmt::format("cannot start a process: {}", std::strerror(errno)));
    return;
  }
  child_ = Child{.name = name, .pid = pid, .out = pipe_ends[0]};
  Orphan& orphan = orphans_[name];
  orphan.state = State::kDraining;
  orphan.why.clear();
  base::Log(LogLevel::kInfo, {"orphans", PathOf(name)},
            "its agent is gone; process {} delivers what waits", pid);
  watch_timer_ = loop_.After(kWatchEvery, [this] { Watch(); });
}

void Orphans::Watch() {
  ReadChild();
  int status = 0;
  if (waitpid(child_->pid, &status, WNOHANG) == child_->pid) return OnEnd(status);
  watch_timer_ = loop_.After(kWatchEvery, [this] { Watch(); });
}

void Orphans::ReadChild() {
  std::array<char, 4096> part{};
  for (ssize_t size = 0; (size = read(child_->out, part.data(), part.size())) > 0;)
    child_->text.append(part.data(), static_cast<size_t>(size));
  for (size_t end = 0; (end = child_->text.find('\n')) != std::string::npos;) {
    const auto report = DrainReport::Parse(child_->text.substr(0, end));
    child_->text.erase(0, end + 1);
    if (!report) continue;
    const DrainReport& before = child_->report;
    const auto count = [](metrics::Counter& counter, int64_t more) {
      if (more > 0) counter.Add(static_cast<uint64_t>(more));
    };
    count(metrics_.drained_records, report->delivered_records - before.delivered_records);
    count(metrics_.dropped_records, report->dropped_records - before.dropped_records);
    child_->report = *report;
    orphans_[child_->name].report = *report;
    Publish();
  }
}

void Orphans::OnEnd(int status) {
  ReadChild();
  close(child_->out);
  const Child child = *std::exchange(child_, std::nullopt);
  const DrainReport& report = child.report;
  Orphan& orphan = orphans_[child.name];
  const std::string path = PathOf(child.name);
  const auto moved = [&] {
    return fmt::format("{} records delivered, {} refused for good, {} dropped",
                       report.delivered_records, report.dead_letter_records,
                       report.dropped_records);
  };
  if (report.dropped_records > 0) {
    base::Log(base::Event::kRecordsDropped, {"orphans", path},
              "{} records dropped: too old for their topics, or damaged", report.dropped_records);
  }
  if (report.done && report.removed) {
    metrics_.removed.Add();
    base::Log(LogLevel::kInfo, {"orphans", path}, "{}; removed", moved());
    orphans_.erase(child.name);
    // If its pod is back, it is not empty; if it cannot go yet, Look tries later.
    rmdir((options_.directory + "/" + child.name).c_str());
  } else if (report.done && report.wanted) {
    base::Log(LogLevel::kInfo, {"orphans", path}, "{}; its agent is back and has it", moved());
    orphans_.erase(child.name);
  } else if (report.done && report.removable_in_ms > 0) {
    orphan.state = State::kWaiting;
    orphan.why = report.kept;
    orphan.not_before = loop_.Now() + std::chrono::milliseconds(report.removable_in_ms);
    base::Log(LogLevel::kInfo, {"orphans", path}, "{}; {}", moved(), report.kept);
  } else if (report.done && WIFEXITED(status) &&
             (WEXITSTATUS(status) == 0 || !report.kept.empty())) {
    orphan.state = State::kKept;
    orphan.why = report.kept;
    base::Log(base::Event::kOrphanKept, {"orphans", path}, "{}; kept: {}", moved(), report.kept);
  } else {
    orphan.state = State::kLeft;
    orphan.why = report.done ? report.why
                 : WIFSIGNALED(status)
                     ? fmt::format("its drain was ended by signal {}", WTERMSIG(status))
                     : fmt::format("its drain ended with {}", WEXITSTATUS(status));
    const bool progress = report.delivered_records > 0;
    orphan.backoff =
        progress ? base::Duration{} : std::clamp(orphan.backoff * 2, kBackoffMin, kBackoffMax);
    orphan.not_before = loop_.Now() + orphan.backoff;
    base::Log(base::Event::kOrphanLeft, {"orphans", path}, "{}; {} are left: {}", moved(),
              report.left_records, orphan.why);
  }
  // It had the spool itself: what is seen next is no news.
  if (const auto at = orphans_.find(child.name); at != orphans_.end()) {
    struct stat lock {};
    if (stat((path + "/LOCK").c_str(), &lock) == 0)
      at->second.tenant = {.file = lock.st_ino,
                           .since_ns = lock.st_mtim.tv_sec * 1'000'000'000 + lock.st_mtim.tv_nsec};
  }
  if (!stopped_) Next();
  Publish();
}

void Orphans::EndChild(std::chrono::milliseconds within) {
  const auto end = std::chrono::steady_clock::now() + within;
  int status = 0;
  while (waitpid(child_->pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= end) {
      kill(child_->pid, SIGKILL);
      waitpid(child_->pid, &status, 0);
      break;
    }
    poll(nullptr, 0, kEndPollMs);
  }
  OnEnd(status);
}

void Orphans::Publish() {
  std::vector<Status> status;
  std::map<State, size_t> counts;
  int64_t left = 0;
  for (const auto& [name, orphan] : orphans_) {
    ++counts[orphan.state];
    left += orphan.report.left_records;
    status.push_back({.name = name,
                      .state = orphan.state,
                      .left_records = orphan.report.left_records,
                      .why = orphan.why});
  }
  for (const State state : kStates)
    metrics_.spools.With(NameOf(state)).Set(static_cast<double>(counts[state]));
  metrics_.left_records.Set(static_cast<double>(left));
  base::MutexLock lock(mutex_);
  status_ = std::move(status);
}

}  // namespace holdfast::agent
