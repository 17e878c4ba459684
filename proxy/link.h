// One connection to one broker of the tier that is made again whenever it is lost, with a backoff
// that doubles and is spread at random. Says which versions the broker speaks before it is ready.
//
// Ownership: loop, resolver and metrics outlive it.
// Threads: everything on the loop's thread. Not to be destroyed from inside its callbacks.
// Shutdown: the destructor drops callbacks uncalled.
// Limits: an answer that takes longer than the timeout closes the connection: a link that drops
//   packets looks like that.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>

#include "base/buffer.h"
#include "base/executor.h"
#include "base/random.h"
#include "kafka/api/api_versions.h"
#include "metrics/catalogue.h"
#include "net/framed_client.h"
#include "proxy/tier.h"
#include "proxy/tier_connection.h"

namespace holdfast::proxy {

class Link {
 public:
  struct Options {
    base::Duration connect_timeout = std::chrono::seconds(10);
    base::Duration request_timeout = std::chrono::seconds(30);
    base::Duration backoff_min = std::chrono::milliseconds(100);
    base::Duration backoff_max = std::chrono::seconds(10);
  };
  struct Callbacks {
    base::UniqueFunction<void()> on_ready;
    // AskVersionsAgain has been answered.
    base::UniqueFunction<void()> on_versions;
    // Was ready, or could not become so. The next attempt is already planned.
    base::UniqueFunction<void()> on_lost;
  };
  struct Context {
    net::EventLoop& loop;
    net::Resolver& resolver;
    metrics::NetMetrics& net_metrics;
    metrics::AgentMetrics& metrics;
    base::Random& random;
    const TierSecurity* security = nullptr;  // None: in the clear, as nobody.
  };

  Link(Context context, const Options& options, net::HostPort peer, Callbacks callbacks);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] const net::HostPort& peer() const { return peer_; }
  // Why it is not ready, once an attempt has failed; empty while it is.
  [[nodiscard]] const std::string& trouble() const { return last_trouble_; }
  // What the broker told last; nothing before it was ready.
  [[nodiscard]] const kafka::ApiVersionsResponse& versions() const { return versions_; }
  // The finalized features change while a connection stands, such as after an upgrade. Does nothing
  // unless it is ready, and was told `after` ago or longer.
  void AskVersionsAgain(base::Duration after);
  void Send(base::Buffer frame, Tier::OnAnswer on_answer);
  // For a link that is about to be destroyed: answers what is out with errors, and calls back no
  // more.
  void Abandon();

 private:
  struct Pending {
    int32_t correlation_id;
    base::TimePoint deadline;
    Tier::OnAnswer on_answer;
  };

  void Connect();
  void AskVersions(int16_t version);
  void OnVersions(base::Result<std::string_view> frame, int16_t version);
  void OnFrame(base::Buffer frame);
  void Lose(std::string_view cause, std::string_view message, base::Event event);
  void FailPending(base::Code code, std::string_view message);
  void WatchDeadline();
  void SendRaw(base::Buffer frame, Tier::OnAnswer on_answer);

  const Context context_;
  const Options options_;
  const net::HostPort peer_;
  Callbacks callbacks_;

  std::unique_ptr<TierConnection> client_;
  std::deque<Pending> pending_;
  base::Buffer versions_frame_;
  kafka::ApiVersionsResponse versions_;  // Borrows from versions_frame_.
  int16_t asked_version_ = 0;
  base::TimePoint versions_told_;
  bool asking_versions_ = false;
  bool ready_ = false;
  bool abandoned_ = false;
  int32_t next_correlation_id_ = 0;
  uint32_t attempts_ = 0;  // In a row, without becoming ready.
  std::string last_trouble_;
  bool watching_ = false;  // deadline_timer_ is set.
  base::Timer deadline_timer_;
  base::Timer retry_timer_;
};

}  // namespace holdfast::proxy
