// A tier of librdkafka's own, in this process.
#pragma once

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <string>

#include "client/connection.h"

namespace holdfast::client {

class Tier {
 public:
  Tier()
      : handle_(rd_kafka_new(RD_KAFKA_PRODUCER, nullptr, nullptr, 0)),
        cluster_(rd_kafka_mock_cluster_new(handle_, 1)) {}
  ~Tier() {
    rd_kafka_mock_cluster_destroy(cluster_);
    rd_kafka_destroy(handle_);
  }
  Tier(const Tier&) = delete;
  Tier& operator=(const Tier&) = delete;

  [[nodiscard]] Connection::Options Options() const {
    return {.properties = {{"bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster_)}}};
  }

 private:
  rd_kafka_t* const handle_;
  rd_kafka_mock_cluster_t* const cluster_;
};

}  // namespace holdfast::client
