// Moves the records of a topic to where each belongs, in transactions that also take down how far
// the topic was read, as offsets of a consumer group: each record is moved once, whenever the
// process dies, and a second process that moves the same topic stops the first.
//
//   HF_RETURN_IF_ERROR(MoveTopic(connection, {.topic = "orders.dlq", .group = "replay"}, router));
//
// What the tier refuses for good is routed once more, and must go somewhere else then.
//
// Threads: blocks its caller.
// Limits: the group's offsets are kept by the tier as long as it keeps those of groups without
//   members (offsets.retention.minutes). Records that are moved into the same topic meanwhile are
//   not read again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "client/connection.h"
#include "client/message.h"

namespace holdfast::client {

struct MoveOptions {
  std::string topic;
  std::string group;  // Also the transactional id.
};

struct Destination {
  std::string topic;
  int32_t partition = 0;
  std::vector<Header> headers;
};

// `refused`: none, or Kafka's code of the error with which the tier did not take the record where
// it was sent to at first.
class Router {
 public:
  virtual ~Router() = default;
  // Key, value and timestamp stay. May be asked more than once.
  virtual Destination Route(const Message& message, std::optional<int16_t> refused) = 0;
  // It is there now, and will not be moved again.
  virtual void Moved(const Message& message, std::optional<int16_t> refused) = 0;
};

base::Result<> MoveTopic(const Connection& connection, const MoveOptions& options, Router& router);

}  // namespace holdfast::client
