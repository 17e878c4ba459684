// One client's own connection to a broker of the tier: what the agent does not answer itself goes
// over it byte for byte, with the client's correlation ids, and the answers come back with the
// agent's addresses in place of the tier's.
//
// It is made with the first request and again after it was lost. When it is lost, requests that the
// cache can answer are answered from there, and others close the client's connection, for the
// client to ask again. So does one that leads to another broker than the client takes it for,
// behind the answers that are due, and not in the middle of SASL: a detour
// (FrontDoor::Way::detour) once the right broker is there, one to an address that the broker has
// left, and one to another cluster than the tier is by now.
//
// Ownership: belongs to a session, and goes with it; the connection outlives it.
// Threads: the connection's loop.
// Limits: while more than kQueueHigh bytes wait for the tier the client is not read, and while
//   answers wait for the client the tier is not read. Answers of more than kPieceBytes pass while
//   they still come, so that a client that fetches 50 MB at a time costs a few pieces of memory,
//   and long stretches of records without being copied where neither side is in TLS;
//   only those that are made anew with other addresses (metadata, coordinators), or looked at by
//   the gate (proxy/intercepted.h), are taken whole. A
//   question that the cache can answer waits until the tier has kept silent for
//   FrontDoorOptions::local_answer_after, and for as long as the requests before it, whose answers
//   the client gets first, ask it to wait (proxy/patience.h); for other answers the tier may keep
//   silent for answer_within, and for as long as the request itself asks. Then the connection
//   counts as lost.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/executor.h"
#include "kafka/codec.h"
#include "kafka/endpoint_tail.h"
#include "net/framed_server.h"
#include "net/reply.h"
#include "proxy/front_door.h"
#include "proxy/shown_topics.h"
#include "proxy/tier_connection.h"

namespace holdfast::proxy {

class PassThrough {
 public:
  static constexpr size_t kQueueHigh = size_t{1} << 20;
  // Few enough to stay in a core's cache, and for the client to get the first while the tier sends.
  static constexpr size_t kPieceBytes = size_t{256} << 10;

  // `node`: the broker that the client's listener stands for, or kNoNode for the bootstrap
  // listener.
  PassThrough(FrontDoor& front, net::Connection& connection, int32_t node);
  ~PassThrough();
  PassThrough(const PassThrough&) = delete;
  PassThrough& operator=(const PassThrough&) = delete;

  // `frame` without its length.
  void Forward(base::Buffer frame, const kafka::RequestHeader& header, net::Reply reply);
  // A Produce with acks=0 gets no answer from the tier either.
  void ForwardUnanswered(base::Buffer frame, const kafka::RequestHeader& header, net::Reply reply);
  // The same for what the cache can answer.
  void ForwardOrAnswer(base::Buffer frame, const kafka::RequestHeader& header, net::Reply reply);

  // From the cache, in the version of the request. For APIs that are Away::kCache or Away::kRetry.
  void AnswerLocally(std::string_view frame, const kafka::RequestHeader& header, net::Reply reply);
  // Of topics, the cache answers only what the tier itself has shown here, and what is declared.
  void KeepToShown(bool keep);
  // Another client speaks from now on.
  void ForgetShown();

  // Whether there is a connection, and how many there were with it.
  [[nodiscard]] bool open() const { return client_ != nullptr; }
  [[nodiscard]] size_t connects() const { return connects_; }
  // The agent has no connection of its own to the tier, but this one was answered since: it is the
  // agent that is not let in.
  [[nodiscard]] bool answers_while_away() const {
    return client_ != nullptr && answered_in_absence_ != 0 &&
           answered_in_absence_ == front_.cache.absence();
  }
  // Whether what was sent waits for the connection to be made.
  [[nodiscard]] bool opening() const { return client_ != nullptr && !reached_; }

  // The client does not read its answers, or reads again.
  void PauseTier();
  void ResumeTier();

 private:
  struct Pending {
    kafka::RequestHeader header;  // client_id is not kept.
    net::Reply reply;             // Empty if it was answered from the cache meanwhile.
    base::Buffer question;        // Of what the cache can answer.
    base::TimePoint asked;        // Of the same.
    base::Duration own_wait{};    // What the request asks the tier to wait for, if it likes.
  };

  // The answer that comes in pieces.
  struct Passing {
    size_t bytes = 0;  // Of all of it, until the client was told.
    std::optional<kafka::EndpointTailFinder> finder;
    std::string tail;
  };

  void Send(base::Buffer frame, bool answered = true);
  void Connect();
  [[nodiscard]] bool LeadsAstray(const kafka::RequestHeader& header);
  void CheckWay();
  [[nodiscard]] bool AnswersTheNext(std::string_view frame) const;
  void OnFrame(base::Buffer frame);
  bool TakesPieces(size_t bytes, std::string_view opening);
  void OnPiece(base::Buffer piece, size_t left);
  [[nodiscard]] size_t OpaqueBytes() const;
  void OnPiped(net::Piped piped);
  std::vector<base::Buffer> PassingBegin();
  void FinishPassing(std::vector<base::Buffer> pieces);
  void Lose(const std::string& why);
  void Await(Pending pending);
  void WatchAt(base::TimePoint due);
  [[nodiscard]] base::TimePoint SilentSince() const;
  [[nodiscard]] base::TimePoint SilenceEnds() const;
  void CheckDeadlines();
  void AnswerFromCache(Pending& pending);
  [[nodiscard]] bool AsksForAllTopics(const Pending& pending) const;

  FrontDoor& front_;
  net::Connection& connection_;
  const int32_t node_;

  std::unique_ptr<TierConnection> client_;
  FrontDoor::Way way_;         // That client_ takes.
  uint64_t way_version_ = 0;   // Of the cache, when the way was looked at.
  std::string way_cluster_;    // Empty until it is confirmed.
  bool wrong_broker_ = false;  // The way leads to one.
  bool wrong_cluster_ = false;
  size_t connects_ = 0;
  bool reached_ = false;              // client_ was connected.
  uint64_t answered_in_absence_ = 0;  // As MetadataCache::absence, at the last answer.
  std::deque<Pending> pending_;       // In the order in which they were sent.
  std::optional<Passing> passing_;    // Of the first of them.
  bool client_paused_ = false;
  bool tier_paused_ = false;
  base::TimePoint silent_since_;  // The first of `pending_` is due since then.
  base::TimePoint watch_due_ = base::TimePoint::max();  // When the timer fires.
  base::Timer deadline_timer_;
  std::shared_ptr<ShownTopics> shown_;  // Null: that does not matter.
};

}  // namespace holdfast::proxy
