// One client connection: sorts each request into what the agent takes itself (Produce without a
// transaction, ApiVersions, producer ids), what it can answer if need be (Metadata,
// FindCoordinator, DescribeCluster), and the rest, which passes through to the tier.
//
// Before all of it stands the gate, which knows who the client is and what it may do.
//
// Produce is taken here whichever port it came in by, and answered when the sink has made it
// durable; transactional batches belong to the tier's coordinator and pass through. The first
// records for a topic wait for its settings (FrontDoorOptions::settings_wait), and what the client
// produces after them waits behind them, while the settings that it needs are asked for, too. A
// topic whose settings do not come is not waited for again for half a minute. Whatever the way,
// answers keep the order of the requests (net::Reply).
//
// What a client has sent before it closed its connection counts; with acks=0 it would hear nothing
// of it anyway. So the session stays until what waits, for settings, for what the client may
// produce, or for the first connection to the tier, has been handed on or refused, as if the client
// were still there.
//
// Ownership: the front door outlives it. Threads: the connection's loop.
// Limits: those of net::FramedServer; a client with wrong requests loses its connection.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kafka/api/produce.h"
#include "kafka/dispatch.h"
#include "net/framed_server.h"
#include "proxy/front_door.h"
#include "proxy/gate.h"
#include "proxy/pass_through.h"

namespace holdfast::proxy {

class Session final : public net::Session {
 public:
  // `node`: the broker that the listener stands for; kNoNode for the bootstrap listener.
  Session(FrontDoor& front, net::Connection& connection, int32_t node);
  ~Session() override;

  void OnFrame(base::Buffer frame, net::Reply reply) override;
  void OnOutputHigh() override { tier_.PauseTier(); }
  void OnOutputLow() override { tier_.ResumeTier(); }
  bool OutlivesPeer() override;

 private:
  struct WaitingVersions {
    kafka::Exchange exchange;
    base::TimePoint deadline;
  };

  struct HeldProduce {
    base::Buffer frame;
    kafka::RequestHeader header;
    kafka::ProduceRequest request;
    net::Reply reply;
    base::TimePoint deadline;
    base::TimePoint asked;  // For the settings that it misses.
  };

  void OnProduce(base::Buffer frame, const kafka::RequestHeader& header, net::Reply reply);
  void Produce(base::Buffer frame, const kafka::RequestHeader& header,
               kafka::ProduceRequest request, net::Reply reply);
  void OnMetadata(base::Buffer frame, const kafka::RequestHeader& header, net::Reply reply);
  void OnInitProducerId(base::Buffer frame, const kafka::RequestHeader& header, net::Reply reply);
  void OnApiVersions(base::Buffer frame, const kafka::RequestHeader& header, net::Reply reply);
  void AnswerVersions();
  std::vector<std::string> MissingSettings(const kafka::ProduceRequest& request, int16_t version);
  // And slows the connection down if it is over its rate.
  void BeginProduceNow(base::Buffer frame, const kafka::RequestHeader& header,
                       kafka::ProduceRequest request, net::Reply reply);
  void ReleaseHeld();
  [[nodiscard]] bool TierIsAway() const;  // For this client.
  [[nodiscard]] bool HasToHandOn() const;
  void EndOnceHandedOn();
  const Cluster& CurrentCluster();

  FrontDoor& front_;
  net::Connection& connection_;
  const int32_t node_;
  PassThrough tier_;
  Gate gate_;
  std::shared_ptr<const kafka::Peer> peer_;
  ClusterPtr cluster_;
  uint64_t cluster_version_ = 0;
  std::deque<WaitingVersions> waiting_versions_;
  base::Timer versions_timer_;
  std::deque<HeldProduce> held_;
  std::unordered_map<std::string, base::TimePoint> settings_given_up_until_;  // By topic.
  base::Timer held_timer_;
  base::Timer end_timer_;
};

}  // namespace holdfast::proxy
