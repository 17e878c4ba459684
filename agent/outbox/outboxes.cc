#include "agent/outbox/outboxes.h"

#include <algorithm>
#include <future>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "base/event.h"
#include "base/log.h"

namespace holdfast::outbox {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kGiveUpWithin(1);

json Describe(const Outboxes::Status& source) {
  const Drain::Status& status = source.drain;
  json parts = json::array();
  for (const Source::Lag::Part& part : status.lag.parts) {
    parts.push_back({{"partition", part.partition},
                     {"owned", part.owned},
                     {"rows", part.rows},
                     {"oldest_ms", part.oldest_ms ? json(*part.oldest_ms) : json()}});
  }
  return {{"name", source.name},
          {"connected", status.connected},
          {"trouble", status.trouble},
          {"taken_rows", status.taken_rows},
          {"quarantined_rows", status.quarantined_rows},
          {"quarantine_rows", status.lag.quarantined},
          {"rows_without_position", status.lag.without_position},
          {"stuck_rows", status.stuck_rows},
          {"stuck_reason", status.stuck_reason},
          {"waiting_for_topics_of", status.held},
          {"parts", std::move(parts)}};
}

}  // namespace

base::Result<std::unique_ptr<Outboxes>> Outboxes::Make(
    const Context& context, const std::vector<OutboxOptions>& options,
    std::vector<net::EventLoop*> loops, metrics::Registry& registry,
    const std::map<std::string, std::string, std::less<>>& kept) {
  HF_CHECK(loops.size() == options.size());
  std::unique_ptr<Outboxes> made(new Outboxes(registry));
  for (size_t at = 0; at < options.size(); ++at) {
    const OutboxOptions& one = options[at];
    HF_ASSIGN_OR_RETURN(Router router, Router::Make(one.router));
    // Streams do not tell who appended what they have.
    const bool new_spool = kept.empty();
    auto taken = std::make_shared<Drain::Taken>(
        context.undelivered, new_spool ? std::vector<agent::StreamEnd>() : context.waiting);
    const auto note = kept.find(Drain::NoteKey(one.drain.name));
    made->all_.push_back(
        {.loop = *loops[at],
         .drain = std::make_unique<Drain>(
             Drain::Context{.loop = *loops[at],
                            .cache = context.cache,
                            .metrics = made->metrics_,
                            .append = context.append,
                            .want_topic = context.want_topic,
                            .want_settings = context.want_settings,
                            .taken = taken},
             one.drain, std::move(router),
             one.make_source(
                 {.spool = context.spool, .delivered = [taken] { return taken->Delivered(); }}),
             note == kept.end() ? std::string_view() : note->second)});
  }
  return made;
}

// What is still posted to a loop looks there whether its drain is gone.
Outboxes::~Outboxes() {
  for (One& one : all_) one.loop.RunAndWait([&one] { one.drain.reset(); });
}

void Outboxes::Start() {
  for (const One& one : all_) one.drain->Start();
}

void Outboxes::Pause(std::vector<std::future<void>>& paused) {
  for (const One& one : all_) {
    auto done = std::make_shared<std::promise<void>>();
    paused.push_back(done->get_future());
    one.loop.Post([&one, done] {
      one.drain->Pause();
      done->set_value();
    });
  }
}

void Outboxes::AwaitDelivery(std::chrono::steady_clock::time_point until) {
  std::vector<std::future<void>> all;
  for (const One& one : all_) {
    auto delivered = std::make_shared<std::promise<void>>();
    all.push_back(delivered->get_future());
    one.loop.Post(
        [&one, delivered] { one.drain->WhenDelivered([delivered] { delivered->set_value(); }); });
  }
  for (std::future<void>& one : all) one.wait_until(until);
}

void Outboxes::Close(bool handed_over, std::chrono::steady_clock::time_point until) {
  if (!closing_.empty()) return;
  for (const One& one : all_) {
    auto closed = std::make_shared<std::promise<void>>();
    closing_.push_back(closed->get_future());
    one.loop.Post([&one, handed_over, closed] {
      one.drain->Close(handed_over);
      closed->set_value();
    });
  }
  const auto is_closed_by = [this](size_t at, std::chrono::steady_clock::time_point time) {
    return closing_[at].wait_until(time) == std::future_status::ready;
  };
  for (size_t at = 0; at < closing_.size(); ++at) {
    if (!is_closed_by(at, until)) all_[at].drain->GiveUp();
  }
  const auto end = std::chrono::steady_clock::now() + kGiveUpWithin;
  for (size_t at = 0; at < closing_.size(); ++at) {
    if (is_closed_by(at, end)) continue;
    base::Log(base::Event::kOutboxTrouble, {"outbox", all_[at].drain->name()},
              "still busy while the agent stops; rows in hand are removed at the next start");
  }
}

bool Outboxes::Blocked() const {
  return std::ranges::any_of(closing_, [](const std::future<void>& one) {
    return one.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
  });
}

void Outboxes::TellIfBusy() {
  for (const One& one : all_) one.drain->TellIfBusy();
}

std::vector<Outboxes::Status> Outboxes::GetStatus() const {
  std::vector<Status> all;
  for (const One& one : all_)
    all.push_back({.name = one.drain->name(), .drain = one.drain->GetStatus()});
  return all;
}

std::vector<net::AdminRoute> Outboxes::Routes() {
  using net::AdminRequest;
  using net::AdminResponse;
  std::vector<net::AdminRoute> routes;
  routes.push_back({net::HttpMethod::kGet, "/outbox",
                    "the outbox sources and how they are, as JSON", [this](const AdminRequest&) {
                      json sources = json::array();
                      for (const Status& source : GetStatus()) sources.push_back(Describe(source));
                      // Routes and what databases say may be no UTF-8.
                      return AdminResponse{
                          .content_type = "application/json",
                          .body = json{{"sources", sources}}.dump(2, ' ', false,
                                                                  json::error_handler_t::replace) +
                                  "\n"};
                    }});
  routes.push_back({net::HttpMethod::kPost, "/outbox/nudge",
                    "?source=NAME: a service has just committed an event there, look now",
                    [this](const AdminRequest& request) {
                      const auto name = request.query.find("source");
                      if (name == request.query.end()) {
                        for (const One& one : all_) one.drain->Nudge();
                        return AdminResponse{.status = 202};
                      }
                      const auto found = std::ranges::find_if(
                          all_, [&](const One& one) { return one.drain->name() == name->second; });
                      if (found == all_.end())
                        return AdminResponse{.status = 404,
                                             .body = "no outbox source is called that\n"};
                      found->drain->Nudge();
                      return AdminResponse{.status = 202};
                    }});
  return routes;
}

}  // namespace holdfast::outbox
