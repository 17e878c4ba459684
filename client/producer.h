// Produces records as fast as the tier takes them, and says of each what became of it.
//
//   HF_ASSIGN_OR_RETURN(const auto producer, Producer::Open(connection, options));
//   while (!producer->Send("orders", Producer::kAnyPartition, record)) {}
//   HF_RETURN_IF_ERROR(producer->Finish());
//
// Ownership: the connection outlives it.
// Threads: one, on which `delivered` is called too, from inside these calls.
// Shutdown: the destructor drops what is not sent; a transaction ends by its timeout then.
// Limits: 128 MiB wait to be sent, then Send has no room; a record that alone is larger fails. What
//   the tier does not take within the connection's timeout, or the transaction's if that is
//   shorter, is given up.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "client/connection.h"
#include "client/record_format.h"

namespace holdfast::client {

class Producer {
 public:
  static constexpr int32_t kAnyPartition = -1;  // By the key, as Java's client does it.

  struct Delivery {
    uint64_t number = 0;  // Of the record: the first that was sent is 1.
    std::string topic;
    int32_t partition = 0;
    int64_t offset = 0;
    std::string error = {};  // Empty: delivered.
    int16_t code = 0;        // Kafka's, or 0 if it was not the tier that refused.
    bool timed_out = false;  // The connection may know why: Connection::Failed.
  };
  struct Options {
    Connection::Properties properties;  // By librdkafka's names; they win.
    std::string transactional_id = {};  // Empty: no transaction. Else everything is one.
    std::function<void(const Delivery&)> delivered;
  };

  static base::Result<std::unique_ptr<Producer>> Open(const Connection& connection,
                                                      Options options);
  ~Producer();
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;

  // False: there is no room, also after a little waiting.
  bool Send(const std::string& topic, int32_t partition, const Record& record);
  // Reports what has been delivered, and waits so long for something.
  void Poll(std::chrono::milliseconds wait);
  // Sends what is there and waits so long. True: everything was delivered or given up.
  bool Flush(std::chrono::milliseconds wait);
  // Until everything was delivered or given up; then commits the transaction, or aborts it if
  // anything was given up.
  base::Result<> Finish() { return End(/*complete=*/true); }
  // The same, but never commits: not all that belongs to the transaction was sent.
  base::Result<> Abort() { return End(/*complete=*/false); }

  [[nodiscard]] uint64_t sent() const { return sent_; }
  [[nodiscard]] uint64_t failed() const;

 private:
  class Reports;

  Producer(const Connection& connection, Options options);
  base::Result<> Begin();
  base::Result<> End(bool complete);

  const Connection& connection_;
  const Options options_;
  const std::unique_ptr<Reports> reports_;
  std::unique_ptr<RdKafka::Producer> producer_;
  uint64_t sent_ = 0;
  bool open_transaction_ = false;
};

}  // namespace holdfast::client
