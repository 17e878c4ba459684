#include "cli/top/command.h"

#include <fmt/format.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/event.h"
#include "base/log.h"
#include "cli/command_line.h"
#include "cli/complain.h"
#include "cli/output.h"
#include "cli/top/tty.h"
#include "cli/top/view.h"
#include "config/value.h"
#include "net/address.h"
#include "net/event_loop.h"
#include "net/url_fetch.h"

namespace holdfast::top {
namespace {

using cli::kExitFailed;
using cli::kExitFine;
using cli::kExitWrongUsage;

constexpr std::chrono::milliseconds kIntervalMin{100};
constexpr std::chrono::milliseconds kIntervalMax = std::chrono::hours(1);
constexpr base::Duration kPatience = std::chrono::seconds(5);
constexpr size_t kAnswerBytesMax = size_t{4} << 20;
// How soon the rest of a key follows its first byte.
constexpr base::Duration kKeyTime = std::chrono::milliseconds(50);

std::string_view Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

// What others said is in it.
int Fail(int code, std::string_view message) {
  return cli::Fail(code, {.code = base::Code::kUnavailable,
                          .message = Shown(message, Charset::kAscii),
                          .event = code == kExitWrongUsage ? base::Event::kWrongUsage
                                                           : base::Event::kUnavailable});
}

class Top {
 public:
  // Without a terminal it prints.
  Top(const TopCommand& command, net::EventLoop& loop, net::LoopThread& asking,
      std::unique_ptr<Tty> tty)
      : command_(command),
        loop_(loop),
        asking_(asking),
        tty_(std::move(tty)),
        view_(command.admin,
              CharsetOf(Environment("LC_ALL"), Environment("LC_CTYPE"), Environment("LANG"))),
        left_(command.batch ? command.count : 1),
        heard_(loop.Now()) {
    const auto stop = [this] { End(kExitFine, ""); };
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
      watches_.push_back(loop_.OnSignal(signal, stop));
    if (tty_) {
      watches_.push_back(loop_.OnSignal(SIGWINCH, [this] { Resize(); }));
      watches_.push_back(loop_.OnSignal(SIGTSTP, [this] { Suspend(); }));
      watches_.push_back(loop_.OnReadable(tty_->fd(), [this] { ReadKeys(); }));
      Resize();
    }
    Tick();
  }
  ~Top() {
    given_up_ = true;
    tty_.reset();
    asking_.Stop();
    if (!message_.empty()) Fail(code_, message_);
  }

  [[nodiscard]] int code() const { return code_; }

 private:
  void End(int code, std::string message) {
    code_ = code;
    message_ = std::move(message);
    loop_.Stop();
  }

  void Tick() {
    corrected_ = false;
    Ask();
    timer_ = loop_.After(command_.interval, [this] { Tick(); });
  }

  // One question at a time; what is wanted meanwhile is asked for behind it.
  void Ask() {
    if (waiting_) return;
    waiting_ = true;
    asked_ = Parameters();
    asking_.loop().Post([this, url = "http://" + command_.admin + "/overview" + asked_] {
      auto answer = net::AskUrl(url, {.timeout = kPatience,
                                      .bytes_max = kAnswerBytesMax,
                                      .redirections_max = 0,
                                      .give_up = &given_up_});
      // What is wrong, without what was asked.
      if (!answer && answer.error().message.starts_with(url + ": "))
        answer.error().message.erase(0, url.size() + 2);
      loop_.Post([this, answer = std::move(answer)]() mutable { Heard(std::move(answer)); });
    });
  }

  [[nodiscard]] std::string Parameters() const {
    return view_.Parameters(tty_ ? View::Purpose::kScreen : View::Purpose::kPrint);
  }

  base::Result<> Take(base::Result<net::Fetched> answer) {
    if (!answer) return base::Unexpected(std::move(answer).error());
    if (answer->status != 200) {
      return base::Unexpected(base::Code::kInvalid,
                              fmt::format("it answers with status {}: {}", answer->status,
                                          answer->body.substr(0, answer->body.find('\n'))));
    }
    HF_ASSIGN_OR_RETURN(Model model, ReadModel(answer->body, command_.admin));
    view_.Take(std::move(model));
    return {};
  }

  void Heard(base::Result<net::Fetched> answer) {
    waiting_ = false;
    const auto taken = Take(std::move(answer));
    malloc_trim(0);  // Of what the answer took.
    if (!taken) return Lost(taken.error().message);
    heard_ = loop_.Now();
    if (!std::exchange(chosen_, true)) {
      const auto chosen = view_.Choose(command_.sort, command_.filter);
      if (!chosen) return End(kExitWrongUsage, chosen.error().message);
    }
    // It was asked before it was known what for. Once: what answers may change its mind each time.
    const bool ask = Parameters() != asked_ && !std::exchange(corrected_, true);
    if (ask) Ask();
    if (tty_) {
      tty_->Show(view_.Draw());
    } else if (!ask) {
      Print(view_.Print());
    }
  }

  void Lost(const std::string& why) {
    if (!tty_ && !command_.batch)
      return End(kExitFailed, fmt::format("no answer from {}: {}", command_.admin, why));
    view_.Lose(why, std::chrono::duration_cast<std::chrono::seconds>(loop_.Now() - heard_));
    if (tty_) {
      tty_->Show(view_.Draw());
    } else {
      Fail(kExitFailed, fmt::format("no answer from {}: {}", command_.admin, why));
      CountDown(kExitFailed);
    }
  }

  void Print(const std::string& text) {
    if (printed_) cli::PrintText("\n");
    printed_ = true;
    cli::PrintText(text);
    // Whoever read it has gone, or a disk is full: what ends the process says so.
    if (!cli::FlushOutput()) return End(kExitFine, "");
    CountDown(kExitFine);
  }

  // What became of the last one is what became of all.
  void CountDown(int code) {
    if (left_ != 0 && --left_ == 0) End(code, "");
  }

  void Resize() {
    view_.Resize(tty_->size());
    tty_->Forget();
    tty_->Show(view_.Draw());
    Ask();  // There may be room for more.
  }

  void Suspend() {
    tty_->Leave();
    raise(SIGSTOP);
    tty_->Enter();
    Resize();
  }

  void ReadKeys() {
    const auto typed = tty_->Read();
    if (!typed) return End(kExitFine, "");
    Press(keys_.Take(*typed));
    key_timer_ = {};
    if (keys_.waits()) key_timer_ = loop_.After(kKeyTime, [this] { Press(keys_.TakeRest()); });
  }

  void Press(const std::vector<Key>& keys) {
    for (const Key& key : keys) {
      switch (view_.Press(key)) {
        case View::Deed::kNothing:
          break;
        case View::Deed::kRedraw:
          tty_->Forget();
          break;
        case View::Deed::kAsk:
          corrected_ = false;
          Ask();
          break;
        case View::Deed::kQuit:
          return End(kExitFine, "");
      }
    }
    tty_->Show(view_.Draw());
  }

  const TopCommand& command_;
  net::EventLoop& loop_;
  net::LoopThread& asking_;
  std::unique_ptr<Tty> tty_;
  View view_;
  KeyReader keys_;
  std::vector<base::Timer> watches_;
  base::Timer timer_;
  base::Timer key_timer_;

  std::atomic<bool> given_up_{false};
  bool waiting_ = false;    // For an answer
  std::string asked_;       // to this.
  bool corrected_ = false;  // It was asked once more since the last tick or key.
  bool chosen_ = false;     // What the command line says was.
  bool printed_ = false;
  uint64_t left_;  // To be printed, or not answered; 0: no end.
  base::TimePoint heard_;

  int code_ = kExitFine;
  std::string message_;
};

int Run(const TopCommand& command) {
  if (const auto address = net::HostPort::Parse(command.admin); !address)
    return Fail(kExitWrongUsage, "--admin " + address.error().message);
  base::SetLogLevel(base::LogLevel::kError);  // The screen is not the log's.
  mallopt(M_ARENA_MAX, 1);                    // Two threads that take turns need no two.
  auto loop = net::EventLoop::Create({.name = "top"});
  if (!loop) return Fail(kExitFailed, loop.error().message);
  auto asking = net::LoopThread::Start({.name = "asking"});
  if (!asking) return Fail(kExitFailed, asking.error().message);
  std::unique_ptr<Tty> tty;
  if (!command.once && !command.batch && Tty::Present()) {
    auto opened = Tty::Open(Environment("NO_COLOR").empty() ? Colors::kSixteen : Colors::kNone);
    if (!opened) return Fail(kExitFailed, opened.error().message);
    tty = *std::move(opened);
  }
  Top top(command, **loop, **asking, std::move(tty));
  (*loop)->Run();
  return top.code();
}

constexpr const char* kFooter =
    R"(What is held back, why, and what to do: docs/status-page.md in a terminal. ? lists its keys.
Where standard output is no terminal, it prints all of it once, as plain text.

Example:
  holdfast top
  holdfast top --admin 127.0.0.1:9190 --sort lag
  holdfast top --once --filter orders
  holdfast top --batch --interval 1m >>held-back.txt)";

}  // namespace

void AddTopOptions(CLI::App& top, TopCommand* command) {
  top.footer(kFooter);
  top.add_option("--admin", command->admin, "Admin address of an agent or broker [127.0.0.1:9090]")
      ->type_name("HOST:PORT");
  top.add_option_function<std::string>(
         "--interval",
         [command](const std::string& text) {
           command->interval = std::chrono::milliseconds(
               config::ParseNumber(text, config::Unit::kMilliseconds).value_or(0));
         },
         "How often it is asked: 500ms, 10s, 1m [2s]")
      ->type_name("TIME")
      ->check([](const std::string& text) -> std::string {
        const auto ms = config::ParseNumber(text, config::Unit::kMilliseconds);
        if (ms && *ms >= kIntervalMin.count() && *ms <= kIntervalMax.count()) return "";
        return "write a time from 100ms to 1h, such as 2s";
      });
  top.add_option("--sort", command->sort,
                 "The column to sort by: trouble, topic, backlog, oldest or drain of an agent's "
                 "topics; topic, records, start or end of a broker's partitions, lag, group, state "
                 "or members of its groups")
      ->type_name("COLUMN");
  top.add_option("--filter", command->filter,
                 "Only rows with this in their name or reason; of a broker, of its partitions, or "
                 "of its groups if --sort is a column of theirs")
      ->type_name("TEXT");
  top.add_flag("--once", command->once, "Print it once, as plain text");
  top.add_flag("-b,--batch", command->batch, "Print it again and again, as plain text");
  top.add_option("-n,--count", command->count, "How often, with --batch [without end]")
      ->type_name("N");
}

int RunTop(const TopCommand& command) { return Run(command); }

}  // namespace holdfast::top
